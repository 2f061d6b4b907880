"""Descent: the loop around any optimiser and gradient, exact reductions, and fits of rates."""

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
from adlab.optimize.mean_square import MeanSquare, mean_square
from adlab.optimize.radial import simulate, simulate_norm
from adlab.optimize.rates import (
    collapse,
    dimension_slope,
    hitting_interval,
    hitting_time,
    log_grid,
    slope,
    slope_interval,
)
from adlab.optimize.steps import prescribed_step
from adlab.optimize.trajectory import Trajectory

__all__ = [
    "ENOUGH",
    "Interval",
    "MeanSquare",
    "Trajectory",
    "collapse",
    "dimension_slope",
    "farthest",
    "hitting_interval",
    "hitting_time",
    "interval_of",
    "log_grid",
    "log_linear_interval",
    "mean_interval",
    "mean_ratio_interval",
    "mean_square",
    "minimize",
    "prescribed_step",
    "ratio_interval",
    "simulate",
    "simulate_norm",
    "slope",
    "slope_interval",
]
