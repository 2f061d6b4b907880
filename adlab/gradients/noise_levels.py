"""How noisy a function is: from differences of high order of values that lie close together."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks
from adlab.core.calls import real_scalar
from adlab.core.types import PyTree, ValueFn
from adlab.gradients import _ladders
from adlab.gradients.host import own_errors, searching

__all__ = ["NoiseLevel", "noise_level"]

_SPACINGS = {"float32": 2.0**-14, "float64": 2.0**-28}  # of points, at first
_FARTHER, _CLOSER = 2.0**6, 2.0**-8  # where `fun` doesn't change, and where it isn't smooth
_TRIES = 4
_ORDERS = 6  # differences of higher order leave too few values
_AGREE = 1.5  # between three orders, where no smooth part is left
_Z = 1.959964  # of a normal variable, 95 %


@dataclass(frozen=True)
class NoiseLevel:
    """The size of the noise of a function near a point.

    Attributes:
      level: its standard deviation; 0 where `fun` is constant.
      low: lower end of the 95 % interval.
      high: upper end.
      evaluations: values of `fun` that were taken.
    """

    level: float
    low: float
    high: float
    evaluations: int


def noise_level(fun: ValueFn, x: PyTree, *, num_evaluations: int = 40) -> NoiseLevel:
    """Estimate how noisy `fun` is near x: the standard deviation of its values from smooth ones.

    Noise is what a simulator draws, what an iteration leaves when it stops, or round-off. `fun` is
    evaluated at equally spaced points around x, along one direction in which every coordinate
    moves. A difference of order k is then sum_j (-1)^j C(k, j) f_j: it has variance C(2k, k) s^2 if
    the noise has s^2, and nothing is left in it of the smooth part when k is large. The order is
    the third of three in a row that agree on s within 50 %; where none do, the points move closer
    together, and where most values are the same, further apart.

    The interval is exact for normal noise that is independent from value to value, up to the
    approximation of the mean of m correlated squares by a chi-square variable: it covers 95 % for
    normal and more for uniform noise, and too little for noise with long tails. Round-off of a
    function without noise isn't quite independent, nor are values that a simulator writes with few
    digits: take their intervals for a guide.

    Costs `num_evaluations` evaluations, up to four times as many where points must move. It calls
    `fun` as it is, outside of `jit`.

    >>> noise = noise_level(lambda x: jnp.sum(jnp.exp(x)), jnp.ones(3))
    >>> 1e-8 < noise.low < noise.level < noise.high < 1e-5  # round-off of float32
    True

    Args:
      fun: returns a real scalar.
      x: a point, with leaves of 32 or 64 bits; shorter ones stay where they are.
      num_evaluations: how many points; at least 16.

    Returns:
      A NoiseLevel.

    Raises:
      ValueError: num_evaluations < 16; no spacing of points lets noise be told from the rest of
        `fun`; `fun` isn't finite near x.
      TypeError: x isn't real floating-point, is traced, or has leaves of 16 bits only; `fun` isn't
        scalar.

    Source: Moré & Wild (2011), doi:10.1137/100786125, who stop at fewer values.
    """
    checks.at_least("num_evaluations", num_evaluations, 16)
    checks.require_inexact("noise_level", x)
    if checks.in_trace(x):
        raise TypeError("noise_level reads values: call it outside jit, vmap and grad")
    x = jax.tree.map(jnp.asarray, x)
    wide = [leaf.dtype for leaf in jax.tree.leaves(x) if _ladders.measurable(leaf)]
    if not wide:
        raise TypeError("noise_level: x must have leaves of 32 or 64 bits, got 16 bits only")
    dtype = max(wide, key=lambda dtype: jnp.finfo(dtype).eps)
    direction, spacing = _ladders.directions(x), _SPACINGS[dtype.name]
    places = np.arange(num_evaluations) - num_evaluations // 2
    for tries in range(1, _TRIES + 1):
        values = own_errors(lambda: _values(fun, x, direction, places * spacing))  # noqa: B023
        finite = bool(np.all(np.isfinite(values)))
        idle = finite and np.mean(np.diff(values) == 0) > 0.5
        if idle and spacing * num_evaluations * _FARTHER <= 1 and tries < _TRIES:
            spacing *= _FARTHER
            continue
        found = _level(values) if finite else None
        if found is not None:
            return NoiseLevel(*found, evaluations=tries * num_evaluations)
        spacing *= _CLOSER
    raise ValueError(
        "noise_level: fun must be finite near x, and smooth but for its noise over some distance, "
        f"got neither at spacings down to {spacing:.1g} max(1, |x|)"
    )


def _values(fun: ValueFn, x: PyTree, u: PyTree, ends: np.ndarray) -> np.ndarray:
    def at(t: float) -> float:
        with searching():
            value = fun(_moved(x, t, u))
        return float(real_scalar("noise_level", value, x))

    return np.array([at(float(t)) for t in ends])


@jax.jit
def _moved(x: PyTree, t: float, u: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: a + jnp.asarray(t, a.dtype) * b, x, u)


def _level(values: np.ndarray) -> tuple[float, float, float] | None:
    """Return the level of the noise and its interval; None where orders don't agree on it."""
    if np.all(values == values[0]):
        return 0.0, 0.0, 0.0
    levels = []
    for order in range(1, _ORDERS + 1):
        squares = np.diff(values, order) ** 2
        levels.append(math.sqrt(np.mean(squares) / math.comb(2 * order, order)))
    for order in range(3, _ORDERS + 1):
        near = levels[order - 3 : order]
        if max(near) <= _AGREE * min(near):
            level = near[-1]
            low, high = _factors(order, len(values) - order)
            return level, level * low, level * high
    return None


def _factors(order: int, count: int) -> tuple[float, float]:
    """Return the ends of the interval over the estimate from `count` differences.

    The mean of their squares varies like a chi-square variable of count^2 / sum_ij r_ij^2 degrees
    of freedom, r the correlation of two of them; its quantiles are those of Wilson & Hilferty
    (1931), doi:10.1073/pnas.17.12.684.
    """
    lags = np.arange(1, min(order, count - 1) + 1)
    middle = math.comb(2 * order, order)
    correlations = np.array([math.comb(2 * order, order + lag) / middle for lag in lags])
    total = count + 2 * float(np.sum((count - lags) * correlations**2))
    part = 2 / (9 * count**2 / total)
    high, low = (1 - part + sign * _Z * math.sqrt(part) for sign in (-1, 1))
    return low**-1.5, high**-1.5
