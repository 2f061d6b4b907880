"""Descent: the loop around any optimiser and gradient, and fits of rates with their intervals."""

from adlab.optimize.intervals import (
    ENOUGH,
    Interval,
    farthest,
    interval_of,
    log_linear_interval,
    mean_interval,
    mean_ratio_interval,
    ratio_interval,
)
from adlab.optimize.loop import minimize
from adlab.optimize.rates import log_grid, slope, slope_interval
from adlab.optimize.steps import prescribed_step
from adlab.optimize.trajectory import Trajectory
from adlab.optimize.zero_order import zero_order_step

__all__ = [
    "ENOUGH",
    "Interval",
    "Trajectory",
    "farthest",
    "interval_of",
    "log_grid",
    "log_linear_interval",
    "mean_interval",
    "mean_ratio_interval",
    "minimize",
    "prescribed_step",
    "ratio_interval",
    "slope",
    "slope_interval",
    "zero_order_step",
]
