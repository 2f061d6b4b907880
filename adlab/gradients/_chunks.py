"""How many probes or coordinates are evaluated at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from adlab.core import jaxprs, trees
from adlab.core._programs import as_program
from adlab.core.types import Array, ChunkSize, PyTree

__all__ = ["chunk_length", "in_chunks", "over_coordinates"]

# Measured on CPU. Products with matrices gain from being taken together, until the points leave
# the cache; elementwise functions gain while the loop's own overhead counts; a call back to Python
# costs the same for one point as for many.
_PRODUCTS = frozenset(["dot_general", "conv_general_dilated"])
_PRODUCT_CHUNK = 8
_PLAIN_CHUNK, _PLAIN_DIM = 2, 2048
_CALLBACK_CHUNK, _MOST_NUMBERS = 64, 1 << 20


def chunk_length(chunk_size: ChunkSize, fun: Callable[[PyTree], Any], x: PyTree, count: int) -> int:
    """Return how many of `count` points to evaluate at a time; "auto" looks at what `fun` does."""
    if count == 1:
        return 1
    if chunk_size == "auto":
        chunks = -(-count // _automatic(fun, x))
        return -(-count // chunks)  # of equal length, so that often nothing is left over
    return min(int(chunk_size), count)


def in_chunks(fun: Callable[[Any], PyTree], points: PyTree, chunk: int) -> Any:
    """Return `fun` of every point along the first axis, `chunk` of them at a time."""
    # One at a time is a plain loop: a batch of one would still make products of batches.
    return jax.lax.map(fun, points, batch_size=chunk if chunk > 1 else None)


def over_coordinates(
    prepare: Callable[[], tuple[Callable[[Array], Array], int]], x: PyTree
) -> PyTree:
    """Return the tree of slope(i) over the coordinates i of x, so many of them at a time.

    `prepare` returns both; what it computes for all coordinates is of the same program.
    """

    def every() -> PyTree:
        slope, chunk = prepare()
        slopes = in_chunks(slope, jnp.arange(trees.size(x)), chunk)
        return trees.unravel(slopes, trees.probe_like(x))

    return as_program(lambda _: every(), None, x)


def _automatic(fun: Callable[[PyTree], Any], x: PyTree) -> int:
    dim = trees.size(x)
    names, matrices = set(), False
    for eqn in jaxprs.equations(jax.make_jaxpr(fun)(x).jaxpr):
        name = eqn.primitive.name
        names.add(name)
        ranks = [len(getattr(atom.aval, "shape", ())) for atom in eqn.invars]
        matrices |= name in _PRODUCTS and max(ranks) > 1
    if "pure_callback" in names:
        return max(1, min(_CALLBACK_CHUNK, _MOST_NUMBERS // dim))
    if matrices:
        return max(1, min(_PRODUCT_CHUNK, _MOST_NUMBERS // dim))
    return _PLAIN_CHUNK if dim <= _PLAIN_DIM else 1
