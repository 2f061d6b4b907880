"""How an interval becomes a verdict: tolerances, and arithmetic with intervals."""

from __future__ import annotations

from typing import Any

import numpy as np

from adlab.lab import Text, Verdict
from adlab.lab.verdict import Basis, Kind
from adlab.optimize import Interval

from . import fits

SLOPE = 0.05  # tolerance of an exponent
EXACT = 0.01  # tolerance of an exponent that no noise blurs
REAL = 0.35  # tolerance of what a step costs beside the effective dimension
COLLAPSE = 0.15  # tolerance of a constant


def judged(
    claim: Text, interval: Interval, expected: float, tolerance: float, *,
    control: bool = False, kind: Kind = "interval", basis: Basis = "measured",
) -> Verdict:  # fmt: skip
    """Return the verdict on a claim from the interval that was measured."""
    # equal runs differ by round-off
    estimate, low, high = (round(end, 12) + 0.0 for end in interval.ends)
    ends = (estimate, low, high)
    return Verdict(claim, *ends, expected, tolerance, control, kind=kind, basis=basis)


def exactly(value: float) -> Interval:
    """Return the interval of a number that no noise blurs."""
    return Interval(value, value, value)


def slope_in_dimension(*args: Any, seed: int) -> Interval:
    """Return the slope of hitting times; NaN, hence undecided, where a curve misses the target."""
    try:
        return fits.dimension_slope(*args, seed=seed)
    except ValueError:
        return exactly(np.nan)


def scaled(interval: Interval, by: float) -> Interval:
    """Return the interval in another unit."""
    estimate, low, high = (end * by for end in (interval.estimate, interval.low, interval.high))
    return Interval(estimate, low, high, interval.enough)


def over(above: Interval, below: Interval) -> Interval:
    """Return the ratio of two independent positive estimates, within the ends of both."""
    ends = (above.estimate / below.estimate, above.low / below.high, above.high / below.low)
    return Interval(*ends, above.enough and below.enough)
