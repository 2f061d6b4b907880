"""What the slowdown is expected to be."""

from __future__ import annotations

import numpy as np

CONTROL = 0.1
"""Share of the largest step on the quadratic: as it goes to 0, the slowdown goes to n + 2."""


def effective_dimension(trace: float, largest: float) -> float:
    """Return (tr H + 2 lambda_max)/lambda_max: gradient descent's step over the two-point one."""
    return (trace + 2 * largest) / largest


def isotropic_slowdown(dim: int, fraction: float) -> float:
    """Return iterations of two-point descent over those of gradient descent on |x|^2/2.

    With steps a and a/(n + 2), a the fraction, and probes of length sqrt(n): a step s has
    |x+|^2 = |x|^2 - (2 s - s^2 n) (u . x)^2, of mean 1 - 2 s + s^2 n over |x|^2. Gradient descent
    has (1 - a)^2. Both losses fall geometrically, so that the ratio is that of the logarithms.
    """
    step = fraction / (dim + 2)
    return float(2 * np.log1p(-fraction) / np.log1p(-2 * step + step**2 * dim))


def hitting_time(k: np.ndarray, curve: np.ndarray, level: float) -> float:
    """Return where a curve first reaches a level, between records along a line; inf if never."""
    below = np.flatnonzero(curve <= level)
    if not below.size:
        return float("inf")
    place = int(below[0])
    if place == 0:
        return float(k[0])
    before, after = curve[place - 1], curve[place]
    share = (before - level) / (before - after)
    return float(k[place - 1] + share * (k[place] - k[place - 1]))
