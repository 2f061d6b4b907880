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

_LENGTHS = (1.0, 0.25, 0.5)  # of the displacement, for one coordinate after the other
_QUIET = math.log(1000.0)  # noise doesn't vary by more from width to width
_AGREE = math.log(3.0)  # nor a derivative by more than this, where no width shows noise
_DOUBT = 1e4  # more than logarithms of errors differ by
_FLOOR = math.log(30.0)  # rounding may reach so far above what is expected of it
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
    value = None if value is None else value.astype(ahead.dtype)
    errors, gains = _errors(widths, stencil.order, ahead, behind, value)
    rounding = float(jnp.finfo(jax.eval_shape(fun, x).dtype).eps) * _ROUNDING
    floor = jnp.maximum(rounding * jnp.abs(ahead[0] + behind[0]) / 2, _grain(widths, ahead, behind))
    found = _split(errors, gains, widths[-len(gains) :], stencil, spread, floor)
    # Where all cancels in odd parts and not in even ones, truncation along x_i remains unseen.
    odd, even = jnp.abs(ahead - behind), jnp.abs(ahead + behind - (ahead[0] + behind[0]))
    odd, even = (jnp.where(jnp.isfinite(part), part, 0) for part in (odd, even))
    blind = (jnp.max(odd) <= 8 * floor) & (jnp.max(even) > 8 * floor)
    seen = jnp.any(odd > 0) & ~blind
    least = 4 * float(jnp.finfo(dtype).eps)
    step = jnp.where(seen, jnp.clip(found.step, least, float(widths[-1])), jnp.nan)
    return jax.lax.stop_gradient(found._replace(step=step))


def measurable(x: PyTree) -> bool:
    """Tell whether x has a leaf of 32 bits or more: shorter ones hold too few displacements."""
    return any(leaf.dtype.name in _WIDTHS for leaf in jax.tree.leaves(x))


def _coordinates(dim: int, order: int) -> float:
    """Return by how much the derivative along all coordinates exceeds that along one.

    For a sum of functions of one coordinate each it is that of one times sum_i |u_i|^(p + 1) if
    p + 1 is even, and about times the root of sum_i u_i^(2p + 2) if it is odd, as signs are in no
    order. That of a function of the sum of all coordinates is larger: its step comes out short,
    which costs accuracy by that factor; too long a step would cost the power p of it.
    """
    power = (order + 1) * (1 if order % 2 else 2)
    counts = [len(range(k, dim, len(_LENGTHS))) for k in range(len(_LENGTHS))]
    total = sum(n * length**power for n, length in zip(counts, _LENGTHS, strict=True))
    return total if order % 2 else math.sqrt(total)


def _sample(
    fun: Callable, x: PyTree, widths: np.ndarray, chunk_size: ChunkSize
) -> tuple[jax.Array, jax.Array]:
    """Return fun(x + w u) and fun(x - w u), each for all widths; |u_i| is at most max(1, |x_i|).

    Its entries are powers of two: x + w u then is exact, without rounding like noise.
    """
    flat = jax.lax.stop_gradient(trees.ravel(x))

    def scale(leaf: jax.Array) -> jax.Array:
        size = jnp.exp2(jnp.floor(jnp.log2(jnp.maximum(jnp.abs(leaf), 1))))
        return size if measurable(leaf) else jnp.zeros_like(leaf)

    u = jax.lax.stop_gradient(trees.ravel(jax.tree.map(scale, x)))
    u = u * _directions(u.size).astype(u.dtype)
    ends = jnp.asarray(np.concatenate([widths, -widths]), u.dtype)
    chunk = chunk_length(chunk_size, fun, x, ends.size)
    values = jax.lax.map(
        lambda t: fun(trees.unravel(flat + t * u, x)), ends, batch_size=chunk if chunk > 1 else None
    )
    ahead, behind = jnp.split(values.astype(trees.wide_dtype(values)), 2)
    return ahead, behind


def _directions(dim: int) -> jax.Array:
    """Return +-1, 1/4 and 1/2 in turn, with signs in no order, so that parts seldom cancel.

    The signs are bits of the hash by Wellons (2018), "lowbias32", of the index.
    """
    index = jnp.arange(dim, dtype=jnp.uint32)
    bits = index + jnp.uint32(1)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
    signs = 1 - 2 * ((bits >> 16) & 1).astype(jnp.float32)
    return signs * jnp.asarray(_LENGTHS, jnp.float32)[index % len(_LENGTHS)]


def _errors(
    widths: np.ndarray, order: int, ahead: jax.Array, behind: jax.Array, value: Any
) -> tuple[jax.Array, np.ndarray]:
    """Return |D_j| w_j^p, where D_j estimates the derivative of order p + 1, and gains of noise.

    Quotients [f(w) - f(-w)]/2w are f' + f''' w^2/6 + f^(5) w^4/120 + ..., and divided differences
    in w^2 single out f''' and f^(5). Those of [f(w) - f(0)]/w in w give f'', on either side: f(w) -
    2 f(0) + f(-w) wouldn't see what an odd function does to a forward difference.
    """
    if order == 1:
        nodes, weights = _weights(widths, widths, order)
        runs = widths.astype(ahead.dtype)
        sides = [_combined(weights, (end - value) / runs) for end in (ahead, behind)]
        parts = weights / nodes
        gains = np.sqrt(np.sum(parts**2, axis=1) + np.sum(parts, axis=1) ** 2)
        return jnp.sqrt((sides[0] ** 2 + sides[1] ** 2) / 2), gains
    nodes, weights = _weights(widths, widths**2, order)
    errors = _combined(weights, (ahead - behind) / (2 * widths).astype(ahead.dtype))
    return jnp.abs(errors), np.sqrt(np.sum((weights / nodes) ** 2, axis=1) / 2)


def _weights(widths: np.ndarray, points: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Return neighbouring widths, and the weights of quotients over them in D_j w_j^p.

    They are divided differences in `points`, which are some power of the widths.
    """
    count = max(2, order // 2 + 1)
    near = np.lib.stride_tricks.sliding_window_view(points, count)
    gaps = near[:, :, None] - near[:, None, :] + np.eye(count)
    scales = math.factorial(order + 1) * widths[count - 1 :, None] ** order
    nodes = np.lib.stride_tricks.sliding_window_view(widths, count)
    return nodes, scales / np.prod(gaps, axis=2)


def _combined(weights: np.ndarray, quotients: jax.Array) -> jax.Array:
    """Return the weighted sums over neighbouring quotients."""
    count, nodes = weights.shape
    columns = jnp.asarray(weights, quotients.dtype).T
    return sum(
        (columns[i] * quotients[i : i + count] for i in range(1, nodes)),
        columns[0] * quotients[:count],
    )


def _grain(widths: np.ndarray, ahead: jax.Array, behind: jax.Array) -> jax.Array:
    """Return the noise of a function that is constant over short displacements.

    Its values are then rounded more coarsely than their dtype tells, to about what they change by
    between the longest such displacement and the next one.
    """
    rises = jnp.abs(ahead - behind) / 2
    first = jnp.argmax(rises > 0)
    shares = jnp.asarray(np.append(0, np.sqrt(widths[:-1] / widths[1:])), rises.dtype)
    return (rises * shares)[first]


def _split(
    errors: jax.Array,
    gains: np.ndarray,
    widths: np.ndarray,
    stencil: Stencil,
    spread: float,
    floor: jax.Array,
) -> Balance:
    """Return the best of all splits of the widths into those of noise and those of the derivative.

    A split is in doubt when noise isn't about the same at all widths that show any, or shows at few
    of them, as a kink does, and when the errors above it fall again; one in less doubt goes first.
    The noise is its root mean square over those widths. Where even the least width is above it, it
    is taken for the floor, but then three widths must agree on the derivative.
    """
    count, order, dtype = len(gains), stencil.order, errors.dtype
    splits = np.arange(count + 1)
    lower = np.arange(count) < splits[:, None]  # (split, width): is that of noise
    log_gains = jnp.asarray(np.log(gains), dtype)
    log_scales = jnp.asarray(order * np.log(widths), dtype)
    usable = jnp.all(jnp.isfinite(errors) | ~lower[1:], axis=1)
    top = jnp.sum(usable) - 1
    log_floor = jnp.log(jnp.maximum(floor, jnp.finfo(dtype).tiny))
    least = log_floor + log_gains
    logs = jnp.log(jnp.where(usable, errors, 0))
    shown, logs = logs > least, jnp.maximum(logs, least)
    derivative = jnp.where(usable, logs - log_scales, -jnp.inf)

    seen = lower & shown
    noise = jnp.where(seen, logs - log_gains, -jnp.inf)
    below = jnp.maximum(jnp.max(noise, axis=1), log_floor)
    further = jnp.append(derivative, jnp.full(2, -jnp.inf, dtype))
    hidden = jnp.sum(jnp.where(np.arange(count) == top, log_gains - log_scales, 0))
    above = jnp.maximum(jnp.maximum(further[:-1], further[1:]), below + hidden)

    loud = jnp.sum(seen & (noise < below[:, None] - _QUIET), axis=1) > 1
    falling = jnp.append(jnp.diff(logs) < 0, jnp.zeros(2, bool)) & (splits < top)
    varies = jnp.any(jnp.abs(jnp.diff(derivative[:3])) > _AGREE)
    rare = (below > log_floor + _FLOOR) & (2 * jnp.sum(seen, axis=1) < splits)
    doubts = loud.astype(dtype) + falling.astype(dtype) + 2 * rare.astype(dtype)
    doubts = jnp.where(splits == 0, 3 * varies.astype(dtype), doubts)
    scores = order * below + above + _DOUBT * doubts
    best = jnp.argmin(jnp.where(jnp.append(True, usable), scores, jnp.inf))

    number = jnp.maximum(jnp.sum(seen, axis=1), 1).astype(dtype)
    squares = jnp.sum(jnp.exp(2 * (noise - below[:, None])), axis=1)
    typical = below + jnp.where(jnp.any(seen, axis=1), jnp.log(squares / number) / 2, 0)
    log_s, log_d = jnp.stack([typical, above - math.log(spread)])[:, best]
    noise_gain, truncation = constants(stencil)
    log_step = math.log(noise_gain / (order * truncation)) + log_s - log_d
    step = jnp.where(usable[0], jnp.exp(log_step / (order + 1)), jnp.nan)
    return Balance(step, jnp.exp(log_s), jnp.exp(log_d))


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
