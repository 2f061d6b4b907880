"""Rates from curves: slopes on log-log axes with their intervals, and where curves are recorded.

Curves are arrays (S, P): S seeds, recorded at P iterations. A rate is a statement on the mean over
seeds, so that an interval comes from whole seeds: points of one curve aren't independent. How
intervals are made, and how often they hold the truth: see `adlab.optimize.intervals`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from adlab.core import checks
from adlab.optimize.intervals import NUM_RESAMPLES, Interval, log_linear_interval

__all__ = ["log_grid", "slope", "slope_interval"]


def log_grid(num_steps: int, num_points: int, start: int = 1) -> np.ndarray:
    """Return about `num_points` integers from `start` to `num_steps`, evenly spaced in logarithm.

    Both ends belong to it. Small integers that coincide after rounding are kept once, so that
    there may be fewer.

    Raises:
      ValueError: start < 1, num_steps < start, or num_points < 2 where they differ.

    >>> log_grid(1000, 4)
    array([   1,   10,  100, 1000])
    """
    checks.at_least("start", start, 1)
    checks.at_least("num_steps", num_steps, start)
    checks.at_least("num_points", num_points, 1 if num_steps == start else 2)
    return np.unique(np.rint(np.geomspace(start, num_steps, num_points)).astype(np.int64))


def slope(x: ArrayLike, y: ArrayLike) -> np.ndarray | np.float64:
    """Return the least-squares slope of log y on log x, over the last axis of y.

    A y that isn't positive and finite makes the slope NaN.

    Raises:
      ValueError: fewer than two points, an x that isn't positive, or shapes that don't agree.

    >>> round(float(slope([1, 2, 4], [3.0, 1.5, 0.75])), 12)
    -1.0
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 1 or x.size < 2 or np.any(x <= 0):
        raise ValueError(
            f"x must be at least two positive numbers (leave iteration 0 out), got {x!r}"
        )
    if y.shape[-1:] != x.shape:
        raise ValueError(f"y must end in {x.size} points as x does, got shape {y.shape}")
    logs = np.log(np.where((y > 0) & np.isfinite(y), y, np.nan))
    centred = np.log(x) - np.log(x).mean()
    found: np.ndarray | np.float64 = logs @ centred / (centred @ centred)
    return found


def slope_interval(
    x: ArrayLike, samples: ArrayLike, *, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> Interval:
    """Return the slope of log(mean over seeds) on log x, from samples (S, ..., P) at P points x.

    Its interval covers as `mean_interval`'s does.

    Args:
      x: (P,) positive points.
      samples: (S, ..., P) independent along the first axis.
      seed: of the resampling.
      num_resamples: number of resamples.

    Raises:
      ValueError: fewer than two seeds or points, an x that isn't positive, or no resample.
    """
    weights = slope(x, np.exp(np.eye(np.size(x))))
    return log_linear_interval(samples, weights, seed=seed, num_resamples=num_resamples)
