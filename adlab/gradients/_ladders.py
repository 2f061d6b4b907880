"""Values of a function over displacements of many lengths: what measurements of steps look at."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks
from adlab.core._programs import as_program, one_program
from adlab.core.types import AnyArray, Array, ChunkSize, PyTree, ValueFn
from adlab.gradients._chunks import chunk_length, in_chunks
from adlab.gradients.host import searching

__all__ = [
    "LENGTHS",
    "RUNGS",
    "along_ladder",
    "directions",
    "largest",
    "measurable",
    "powers_of",
    "rungs",
    "sample",
    "small",
    "spread",
    "unit",
]

# Minus the binary logarithms of the widths, about. They are dense where functions without a scale
# of their own have their best steps. Where all of x is below 2^-7, single precision holds shorter
# displacements of x than it does near 1.
_EXPONENTS: dict[str, list[tuple[int, ...]]] = {
    "float32": [
        (21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 2, 1),
        (28, 27, 26, 25, 24, 23, 22, 21, 20, 18, 16, 14, 12, 10, 8, 6, 4, 3, 2, 1),
    ],
    "float64": [(50, 47, 44, 41, 38, 35, 32, 29, 26, 23, 20, 17, 14, 11, 9, 7, 5, 3, 2, 1)],
}
RUNGS = 20
"""Widths of a ladder."""

LENGTHS = (1.0, 0.25, 0.5)
"""Parts of the displacement that one coordinate after the other takes."""

_GRIDS = {"float32": 2.0**-17, "float64": 2.0**-36}  # of long displacements
_SMALL = 2.0**-7
_GOLDEN = (5**0.5 - 1) / 2


def rungs(dtype: str) -> list[np.ndarray]:
    """Return the ladders of widths for x of that dtype, over max(1, |x_i|): the second is finer.

    Widths aren't powers of two, lest all of them be periods of a periodic function. But like steps
    they have few digits: x moves by them without rounding, and what rounding there is of c x, for a
    constant c, is mostly the same at both ends.
    """
    found = []
    for exponents in _EXPONENTS[dtype]:
        powers = 2.0 ** -np.array(exponents, np.float64)
        factors = 1 - 0.4 * np.mod(_GOLDEN * np.arange(RUNGS), 1)
        grid = np.maximum(np.minimum(powers / 8, _GRIDS[dtype]), powers[0])
        found.append(np.rint(powers * factors / grid) * grid)
    return found


def largest(x: PyTree) -> AnyArray:
    """Return the largest |x_i|, in the coarsest dtype of 32 bits or more that x has."""
    leaves = [leaf for leaf in jax.tree.leaves(jax.lax.stop_gradient(x)) if measurable(leaf)]
    dtype = max((leaf.dtype for leaf in leaves), key=lambda dtype: jnp.finfo(dtype).eps)
    if checks.concrete(leaves):
        on_host = [np.max(np.abs(np.asarray(leaf)), initial=0) for leaf in leaves]
        return np.asarray(np.max(on_host), dtype)
    sizes = [jnp.max(jnp.abs(leaf), initial=0).astype(dtype) for leaf in leaves]
    return jnp.max(jnp.stack(sizes))


def small(size: AnyArray) -> AnyArray:
    """Tell whether x, of which this is `largest`, is so small that it holds the finer ladder."""
    return size <= _SMALL


def measurable(x: PyTree) -> bool:
    """Tell whether x has a leaf of 32 bits or more: shorter ones hold too few displacements."""
    return any(leaf.dtype.name in _EXPONENTS for leaf in jax.tree.leaves(x))


@one_program()
def unit(x: PyTree) -> PyTree:
    """Return the power of two in max(1, |x_i|); 0 in leaves of less than 32 bits.

    Displacements are in these units.
    """

    def leaf_unit(leaf: Array) -> Array:
        size = jnp.exp2(jnp.floor(jnp.log2(jnp.maximum(jnp.abs(leaf), 1))))
        return size if measurable(leaf) else jnp.zeros_like(leaf)

    return jax.tree.map(leaf_unit, jax.lax.stop_gradient(x))


@one_program(1)
def directions(x: PyTree, seed: int = 0) -> PyTree:
    """Return +-1, 1/4 and 1/2 in turn, in units of x, with signs in no order.

    So parts of `fun` seldom cancel, and x + w u is exact, without rounding like noise. The signs
    are bits of the hash by Wellons (2018), "lowbias32", of the index.
    """
    start = 0

    def leaf_direction(size: Array) -> Array:
        nonlocal start
        index = jnp.arange(start, start + size.size, dtype=jnp.uint32).reshape(size.shape)
        start += size.size
        bits = index + jnp.uint32(1 + 0x9E3779B9 * seed & 0xFFFFFFFF)
        for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
            bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
        signs = 1 - 2 * ((bits >> 16) & 1).astype(jnp.float32)
        parts = signs * jnp.asarray(LENGTHS, jnp.float32)[index % len(LENGTHS)]
        found: Array = size * parts.astype(size.dtype)
        return found

    return jax.tree.map(leaf_direction, unit(x))


def sample(fun: ValueFn, x: PyTree, chunk_size: ChunkSize) -> tuple[jax.Array, Array]:
    """Return fun(x + w u) and fun(x - w u) for all widths w of the ladder of x, u its direction.

    They are NaN where a function of the host raises.
    """
    fixed = jax.lax.stop_gradient(x)
    with searching():
        found: tuple[jax.Array, Array] = as_program(
            lambda fun: _values(fun, fixed, chunk_size), fun, x
        )
    return found


def _values(fun: ValueFn, x: PyTree, chunk_size: ChunkSize) -> tuple[jax.Array, Array]:
    u, size = directions(x), largest(x)
    coarse, *finer = [jnp.asarray(widths, size.dtype) for widths in rungs(size.dtype.name)]
    widths = jnp.where(small(size), finer[0], coarse) if finer else coarse
    ends = jnp.concatenate([widths, -widths])
    chunk = chunk_length(chunk_size, fun, x, ends.size)

    def value(t: Array) -> Array:
        return fun(jax.tree.map(lambda a, b: a + t.astype(a.dtype) * b, x, u))

    values = in_chunks(value, ends, chunk)
    ahead, behind = jnp.split(values, 2)
    return ahead, behind


def powers_of(u: Array, order: int) -> Array:
    """Return the part of a leaf, or of a piece of it, in the sum that `spread` asks for."""
    return jnp.sum(jnp.abs(u) ** _power(order))


def spread(total: Array, order: int) -> Array:
    """Return by how much the derivative of order p + 1 along u exceeds that along one coordinate.

    For a sum of functions of one coordinate each it is that of one times sum_i |u_i|^(p + 1) if
    p + 1 is even, and about times the root of sum_i u_i^(2p + 2) if it is odd, as signs are in no
    order. That of a function of the sum of all coordinates is larger: its step comes out short,
    which costs accuracy by that factor; too long a step would cost the power p of it.

    Args:
      total: the sum of `powers_of`.
      order: p.
    """
    return total if order % 2 else jnp.sqrt(total)


def _power(order: int) -> int:
    return (order + 1) * (1 if order % 2 else 2)


def along_ladder(dim: int, order: int) -> float:
    """Return `spread` of the direction along which `fun` is sampled, known from its size."""
    power, lengths = _power(order), LENGTHS
    counts = [len(range(k, dim, len(lengths))) for k in range(len(lengths))]
    total = sum(n * length**power for n, length in zip(counts, lengths, strict=True))
    return total if order % 2 else math.sqrt(total)
