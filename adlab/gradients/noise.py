"""Steps that are measured: from the noise of a function, and the derivative that truncates.

`fun` is sampled along one direction in which every coordinate moves, at the displacements +-w_1 <
... < +-w_n. Divided differences of neighbouring widths estimate the derivative of order p + 1,
with which a scheme of order p errs. In what they give at w_j, noise of size s shows as s times a
known gain, and the derivative as itself. So noise is read off the widths below some w_k and the
derivative off those above, and of all such splits the one counts that promises the least error

    a s / h + b D h^p,   at h = [a s / (p b D)]^(1/(p + 1)),

where a and b belong to the scheme. The best steps for given noise and derivative are those of Moré
& Wild (2012), doi:10.1145/2168773.2168777; that differences of high order tell noise from a smooth
function, of Moré & Wild (2011), doi:10.1137/100786125.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import trees
from adlab.gradients.base import ChunkSize, PyTree
from adlab.gradients.chunks import chunk_length
from adlab.gradients.stencils import Stencil

__all__ = ["EVALUATIONS", "Balance", "constants", "measurable", "measure"]

# Minus the binary logarithms of the widths, over max(1, |x_i|). They are dense where functions
# without a scale of their own have their best steps, and end above the spacing of x.
_WIDTHS = {
    "float32": (21, 19, 17, 14, 11, 8, 6, 4, 2, 1),
    "float64": (38, 32, 26, 20, 15, 11, 7, 4, 2, 1),
}
EVALUATIONS = 2 * len(_WIDTHS["float64"])
"""Evaluations of one measurement."""

_QUIET = math.log(1000.0)  # noise doesn't vary by more from width to width
_AGREE = math.log(3.0)  # by how much a derivative may, where no width shows noise
_ROUNDING = 0.25  # rounding of a value, in units of its round-off


class Balance(NamedTuple):
    """What a measurement found.

    Attributes:
      step: the best one, over max(1, |x_i|); NaN where nothing can be told.
      noise: size s of the noise of `fun`.
      derivative: size D of the derivative of order p + 1 along a coordinate, in the same units.
    """

    step: jax.Array
    noise: jax.Array
    derivative: jax.Array


def measure(
    fun: Callable[[PyTree], jax.Array],
    x: PyTree,
    value: Any,
    stencil: Stencil,
    chunk_size: ChunkSize,
) -> Balance:
    """Return noise, derivative and best step of `fun` near x for a stencil.

    Leaves of less than 32 bits stay where they are, so that x must have others. Costs
    `EVALUATIONS` evaluations; `value` is fun(x), which stencils of order 1 need besides.
    """
    wide = [leaf.dtype for leaf in jax.tree.leaves(x) if measurable(leaf)]
    dtype = max(wide, key=lambda dtype: jnp.finfo(dtype).eps)
    widths = 2.0 ** -np.array(_WIDTHS[dtype.name], np.float64)
    ahead, behind = _sample(fun, x, widths, chunk_size)
    dim = sum(leaf.size for leaf in jax.tree.leaves(x) if measurable(leaf))
    spread = _coordinates(dim, stencil.order)
    errors, gains = _errors(widths, stencil.order, ahead, behind, value)
    rounding = float(jnp.finfo(jax.eval_shape(fun, x).dtype).eps) * _ROUNDING
    floor = rounding * jnp.abs(ahead[0] + behind[0]) / 2
    found = _split(errors, gains, widths[-len(gains) :], stencil, spread, floor)
    seen = jnp.any((ahead != behind) & jnp.isfinite(ahead - behind))
    least = 4 * float(jnp.finfo(dtype).eps)
    step = jnp.where(seen, jnp.clip(found.step, least, float(widths[-1])), jnp.nan)
    return jax.lax.stop_gradient(found._replace(step=step))


def measurable(x: PyTree) -> bool:
    """Tell whether x has a leaf of 32 bits or more: shorter ones hold too few displacements."""
    return any(leaf.dtype.name in _WIDTHS for leaf in jax.tree.leaves(x))


def _coordinates(dim: int, order: int) -> float:
    """Return by how much the derivative along all coordinates exceeds that along one.

    Along random signs, the derivative of order p + 1 of a sum of functions of one coordinate each
    is d times that of one if p + 1 is even, and about sqrt(d) times if it is odd. That of a
    function of the sum of all coordinates is larger, d^((p + 1)/2) times: its step comes out short
    by d^(p/2/(p + 1)) for p > 1, which costs accuracy by the same factor; too long a step would
    cost the power p of it.
    """
    return float(dim) if order % 2 else math.sqrt(dim)


def _sample(
    fun: Callable, x: PyTree, widths: np.ndarray, chunk_size: ChunkSize
) -> tuple[jax.Array, jax.Array]:
    """Return fun(x + w u) and fun(x - w u), each for all widths; u_i = +-2^k, just <= max(1, |x|).

    Powers of two: x + w u then is exact, without rounding that would look like noise.
    """
    flat = jax.lax.stop_gradient(trees.ravel(x))

    def scale(leaf: jax.Array) -> jax.Array:
        size = jnp.exp2(jnp.floor(jnp.log2(jnp.maximum(jnp.abs(leaf), 1))))
        return size if measurable(leaf) else jnp.zeros_like(leaf)

    u = jax.lax.stop_gradient(trees.ravel(jax.tree.map(scale, x)))
    u = u * _signs(u.size).astype(u.dtype)
    ends = jnp.asarray(np.concatenate([widths, -widths]), u.dtype)
    chunk = chunk_length(chunk_size, fun, x, ends.size)
    values = jax.lax.map(
        lambda t: fun(trees.unravel(flat + t * u, x)), ends, batch_size=chunk if chunk > 1 else None
    )
    ahead, behind = jnp.split(values.astype(trees.wide_dtype(values)), 2)
    return ahead, behind


def _signs(dim: int) -> jax.Array:
    """Return +-1 in no order: bits of the hash by Wellons (2018), "lowbias32", of the index."""
    bits = jnp.arange(dim, dtype=jnp.uint32) + jnp.uint32(1)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
    return 1 - 2 * ((bits >> 16) & 1).astype(jnp.int32)


def _errors(
    widths: np.ndarray, order: int, ahead: jax.Array, behind: jax.Array, value: Any
) -> tuple[jax.Array, np.ndarray]:
    """Return |D_j| w_j^p, where D_j estimates the derivative of order p + 1, and gains of noise.

    Odd parts [f(w) - f(-w)]/2w are f' + f''' w^2/6 + f^(5) w^4/120 + ...: their divided
    differences in w^2 single out f''' and f^(5). Of even order, there is only f''.
    """
    factorial = math.factorial(order + 1)
    if order == 1:
        weights = (factorial / widths)[:, None]
        parts = ((ahead - value.astype(ahead.dtype)) + (behind - value.astype(ahead.dtype))) / 2
        noise = np.full((len(widths), 1), math.sqrt(1.5))
    else:
        nodes, squares = order // 2 + 1, widths**2
        groups = np.lib.stride_tricks.sliding_window_view(squares, nodes)
        gaps = groups[:, :, None] - groups[:, None, :] + np.eye(nodes)
        scales = widths[nodes - 1 :, None] ** order
        weights = factorial * scales / np.prod(gaps, axis=2)
        parts = (ahead - behind) / jnp.asarray(2 * widths, ahead.dtype)
        noise = math.sqrt(0.5) / np.sqrt(np.lib.stride_tricks.sliding_window_view(squares, nodes))
    nodes = weights.shape[1]
    count = len(widths) - nodes + 1
    terms = [jnp.asarray(weights[:, i], parts.dtype) * parts[i : i + count] for i in range(nodes)]
    return jnp.abs(sum(terms)), np.sqrt(np.sum((weights * noise) ** 2, axis=1))


def _split(
    errors: jax.Array,
    gains: np.ndarray,
    widths: np.ndarray,
    stencil: Stencil,
    spread: float,
    floor: jax.Array,
) -> Balance:
    """Return the best of all splits of the widths into those of noise and those of the derivative.

    A split is believed when noise is about the same at all widths that show any, and the errors
    above it don't fall again. The noise is then its root mean square over those widths; where even
    the least one is above it, it is taken for the rounding of values, and three widths must agree
    on the derivative.
    """
    count, order, dtype = len(gains), stencil.order, errors.dtype
    log_gains, log_scales = jnp.asarray(np.log(gains), dtype), order * np.log(widths)
    usable = jnp.cumprod(jnp.isfinite(errors)).astype(bool)
    top = jnp.maximum(jnp.sum(usable) - 1, 0)
    log_floor = jnp.log(jnp.maximum(floor, jnp.finfo(dtype).tiny))
    shown = jnp.log(jnp.where(usable, errors, 0)) > log_floor + log_gains
    logs = jnp.where(shown, jnp.log(errors), log_floor + log_gains)
    noise = jnp.where(usable, logs - log_gains, log_floor)
    derivative = jnp.where(usable, logs - jnp.asarray(log_scales, dtype), -jnp.inf)

    below = jax.lax.cummax(jnp.concatenate([log_floor[None], noise]))
    ahead = jnp.concatenate([derivative, jnp.full(2, -jnp.inf, dtype)])
    hidden = (log_gains - jnp.asarray(log_scales, dtype))[top]  # what noise may hide at the top
    above = jnp.maximum(jnp.maximum(ahead[:-1], ahead[1:]), below + hidden)

    splits = np.arange(count + 1)
    seen = (np.arange(count) < splits[:, None]) & shown
    second = jnp.sort(jnp.where(seen, noise, jnp.inf), axis=1)[:, 1]
    quiet = below <= second + _QUIET
    following = jnp.concatenate([logs, jnp.full(2, jnp.inf, dtype)])
    rising = (following[1:] >= following[:-1]) | (splits + 1 > top)
    agree = jnp.all(jnp.abs(jnp.diff(derivative[:3])) < _AGREE)
    believed = quiet & rising & jnp.concatenate([agree[None], usable])

    best = jnp.argmin(jnp.where(believed, order * below + above, jnp.inf))
    noise_gain, truncation = constants(stencil)
    log_d = above[best] - math.log(spread)
    squares = jnp.where(seen[best], jnp.exp(2 * (noise - below[best])), 0)
    number = jnp.sum(seen[best], dtype=dtype)
    share = jnp.log(jnp.sum(squares) / jnp.maximum(number, 1)) / 2
    typical = below[best] + jnp.where(number > 0, share, 0)
    log_step = math.log(noise_gain / (order * truncation)) + typical - log_d
    told = believed[best] & usable[0]
    step = jnp.where(told, jnp.exp(log_step / (order + 1)), jnp.nan)
    return Balance(step, jnp.exp(typical), jnp.exp(log_d))


def constants(stencil: Stencil) -> tuple[float, float]:
    """Return a and b: noise s and the derivative D give an error of a s / h + b D h^p."""
    weights: dict[Any, Any] = {}
    moment: Any = 0
    power = stencil.order + 1
    for ahead, behind, weight in stencil.quotients:
        share = weight / (ahead - behind)
        weights[ahead] = weights.get(ahead, 0) + share
        weights[behind] = weights.get(behind, 0) - share
        moment += share * (ahead**power - behind**power)
    noise = math.sqrt(sum(weight**2 for weight in weights.values()))
    return noise, abs(float(moment)) / math.factorial(power)
