"""Rates from curves: slopes on log-log axes, hitting times and ratios, with their intervals.

Curves are arrays (S, P): S seeds, recorded at P iterations. A rate is a statement on the mean over
seeds, so that an interval comes from whole seeds: points of one curve aren't independent. How, and
how often it holds the truth, is told in `adlab.optimize.intervals`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from adlab.core import checks
from adlab.optimize.intervals import (
    NUM_RESAMPLES,
    Interval,
    exponential,
    interval_of,
    log_linear_interval,
    mean_interval,
)

__all__ = [
    "Interval",
    "collapse",
    "dimension_slope",
    "hitting_interval",
    "hitting_time",
    "log_grid",
    "mean_interval",
    "slope",
    "slope_interval",
]


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


def slope(x: Any, y: Any) -> Any:
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
    return logs @ centred / (centred @ centred)


def hitting_time(x: Any, y: Any, target: float) -> Any:
    """Return the first x at which y falls to `target`, interpolated linearly in both logarithms.

    Over the last axis of y. NaN where the curve starts below the target or never falls to it.

    >>> round(float(hitting_time([1, 10, 100], [1.0, 0.1, 0.01], 0.03)), 6)
    33.333333
    """
    x = np.log(np.asarray(x, np.float64))
    y = np.log(np.maximum(np.asarray(y, np.float64), np.finfo(np.float64).tiny))
    goal = np.log(target)
    below = y <= goal
    after = np.argmax(below, axis=-1)
    hit = below.any(axis=-1) & (after > 0)
    after = np.where(hit, after, 1)
    y1 = np.take_along_axis(y, after[..., None], -1)[..., 0]
    y0 = np.take_along_axis(y, after[..., None] - 1, -1)[..., 0]
    share = (y0 - goal) / np.where(y0 > y1, y0 - y1, 1)
    return np.where(hit, np.exp(x[after - 1] + share * (x[after] - x[after - 1])), np.nan)


def slope_interval(
    x: Any, samples: Any, *, seed: int = 0, num_resamples: int = NUM_RESAMPLES
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


def hitting_interval(
    x: Any, samples: Any, target: float, *, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> Interval:
    """Return the hitting time of the mean over seeds, from samples (S, ..., P) at P points x.

    The interval is that of its logarithm; NaN where the mean without some seed misses the target.
    """
    logs = interval_of(
        lambda mean: np.log(hitting_time(x, mean, target)), [samples],
        seed=seed, num_resamples=num_resamples,
    )  # fmt: skip
    return exponential(logs)


def dimension_slope(
    dims: Sequence[float],
    record_at: Sequence[Any],
    samples: Sequence[Any],
    target: float,
    *,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> Interval:
    """Return the slope in the dimension of the iterations that it takes to reach `target`.

    The slope of log(hitting time of the mean curve) on log(dim). The seeds of each dimension are
    independent of the others'.

    Args:
      dims: D dimensions, or what is to take their place, as n + 2 for Gaussian probes.
      record_at: per dimension, the (P,) iterations; in oracle calls the slope is of these.
      samples: per dimension, the (S, P) curves.
      target: one value for all dimensions; take one that lies inside every window.
      seed: of the resampling.
      num_resamples: number of resamples.

    Raises:
      ValueError: lengths that differ, or a mean curve that doesn't cross the target.
    """
    if not len(dims) == len(record_at) == len(samples):
        raise ValueError(
            "dims, record_at and samples must be of one length, got "
            f"{len(dims)}, {len(record_at)} and {len(samples)}"
        )
    for dim, grid, curves in zip(dims, record_at, samples, strict=True):
        if np.isnan(hitting_time(grid, np.mean(curves, axis=0), target)):
            raise ValueError(
                f"target must be crossed by every mean curve, got {target} at dim = {dim}"
            )

    def statistic(*means: np.ndarray) -> Any:
        pairs = zip(record_at, means, strict=True)
        return slope(dims, np.stack([hitting_time(*pair, target) for pair in pairs], axis=-1))

    return interval_of(statistic, samples, seed=seed, num_resamples=num_resamples)


def collapse(
    samples: Any, reference: Any, *, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> Interval:
    """Return the geometric mean over points of mean(samples)/reference.

    With `samples` random descent at iterations k and `reference` gradient descent at k/n, it is 1
    when the dimension does nothing but stretch the time.

    Args:
      samples: (S, P) curves.
      reference: (P,) positive values at the corresponding points.
      seed: of the resampling.
      num_resamples: number of resamples.

    Raises:
      ValueError: shapes that don't agree.
    """
    samples, reference = np.asarray(samples, np.float64), np.asarray(reference, np.float64)
    if reference.shape != samples.shape[1:]:
        raise ValueError(
            f"reference must have the points of samples, {samples.shape[1:]}, got {reference.shape}"
        )

    shares = np.full(reference.size, 1 / reference.size)
    return exponential(
        log_linear_interval(samples / reference, shares, seed=seed, num_resamples=num_resamples)
    )
