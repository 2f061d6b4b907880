"""The error that a difference quotient is expected to have, from what a measurement told.

The quotient of a coordinate is a sum of w_k f(x + r_k e_i), whose weights add up to 0. With the
size s of the noise of `fun` and the size D of its derivative of order p + 1, of which
`measured_steps` tells how they are found, its two errors are about

    noise        s sqrt(sum_k w_k^2),
    truncation   D |sum_k w_k r_k^(p + 1)| / (p + 1)!,

and the result is rounded. The D of a measurement is of one direction, typical of the coordinates;
what one of them has of its own shows as twice the step changes its estimate, and the larger of the
two counts. s is of a few values, so that 95 % of the errors by noise are within
Student's quantile for as many degrees of freedom; truncation isn't random, and both are added in
quadrature. A value of `fun` also has the rounding of what x_i is multiplied with, about
eps |x_i f'| / sqrt(12), which displacements of few digits, as those of a measurement are, don't
show.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
from scipy import stats

from adlab.core import trees
from adlab.core._programs import one_program
from adlab.core.types import Array, PyTree
from adlab.gradients.measured_steps import SAMPLES, Balance

__all__ = ["GradientWithError", "expected", "stencil_sums", "weighted"]

_QUANTILE = float(stats.t.ppf(0.975, SAMPLES))  # 2.3
_MARGIN = 1.25  # for the terms of truncation beyond the first, which are small where it matters


class GradientWithError(NamedTuple):
    """An estimate with the error it is expected to have.

    Attributes:
      gradient: a tree like x.
      error: a tree like x: about 95 of 100 estimates are within that of the derivative.
    """

    gradient: PyTree
    error: PyTree


@one_program(0)
def stencil_sums(order: int, displacements: Array, weights: Array) -> tuple[Array, Array]:
    """Return sqrt(sum w^2) and sum w r^(p + 1) / (p + 1)! of every coordinate.

    Args:
      order: p.
      displacements: r_k, (points, d), without the one that is 0.
      weights: w_k, (points, d); that of fun(x) is what makes them add up to 0.
    """
    rest = jnp.sum(weights, axis=0)
    # Central weights add up to 0 but for rounding, which isn't a weight of fun(x).
    rest = jnp.where(jnp.abs(rest) > 1e-3 * jnp.max(jnp.abs(weights), axis=0), rest, 0)
    gain = jnp.sqrt(jnp.sum(weights**2, axis=0) + rest**2)
    moment = jnp.sum(weights * displacements ** (order + 1), axis=0)
    return gain, moment / math.factorial(order + 1)


@one_program(2)
def expected(
    x: PyTree,
    found: Balance,
    order: int,
    sums: tuple[Array, Array],
    slopes: Array,
    wider: tuple[Array, Array],
) -> Array:
    """Return a bound for each coordinate's error, (d,), that holds for about 95 of 100.

    Args:
      x: the point.
      found: noise, and the derivative, in units of the power of two in max(1, |x_i|).
      order: p.
      sums: gain of noise and what D is multiplied by, see `stencil_sums`.
      slopes: the estimates.
      wider: estimates of twice the step, and what D is multiplied by in them.
    """
    dtype = slopes.dtype
    eps = float(jnp.finfo(dtype).eps)
    flat = trees.ravel(x).astype(dtype)
    unit = jnp.exp2(jnp.floor(jnp.log2(jnp.maximum(jnp.abs(flat), 1))))
    rounded = eps / math.sqrt(12) * jnp.abs(flat * slopes)
    gain, moment = sums
    noise = _QUANTILE * gain * jnp.hypot(found.noise.astype(dtype), rounded)
    typical = found.derivative.astype(dtype) * jnp.abs(moment) / unit ** (order + 1)
    # Of this coordinate: D times the difference of both moments is that of both estimates.
    more = wider[1] - moment
    apart = jnp.abs(more) > jnp.abs(moment) / 2
    own = jnp.abs((wider[0] - slopes) * moment / jnp.where(apart, more, 1))
    own = jnp.where(apart & jnp.isfinite(own), own, 0)
    return jnp.hypot(noise, _MARGIN * jnp.maximum(typical, own)) + eps * jnp.abs(slopes)


@one_program(2)
def weighted(
    flat: Array, pairs: list[tuple[Array, Array]], shares: tuple[float, ...]
) -> tuple[Array, Array]:
    """Return displacements and weights of the values at both ends of each quotient."""
    moves, weights = [], []
    for (ahead, behind), share in zip(pairs, shares, strict=True):
        moves += [ahead - flat, behind - flat]
        weights += [share / (ahead - behind), -share / (ahead - behind)]
    return jnp.stack(moves), jnp.stack(weights)
