"""When curves fall to a target, how that grows with the dimension, and how curves lie together.

Curves are arrays (S, P): S seeds, recorded at P iterations, as in `adlab.optimize.rates`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from adlab.optimize import Interval, interval_of, log_linear_interval, slope
from adlab.optimize.intervals import NUM_RESAMPLES, exponential

__all__ = ["collapse", "dimension_slope", "hitting_interval", "hitting_time"]


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
