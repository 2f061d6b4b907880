"""Sparse Jacobians: columns or rows that share no entry are coloured alike, and swept together.

One product with the sum of the unit vectors of a colour holds the entries of all its columns: each
row has at most one of them. As many products as colours give the whole matrix. Of one that is
symmetric it is enough that an entry is alone in one of its two places.

Source: Curtis, Powell & Reid (1974), On the estimation of sparse Jacobian matrices,
doi:10.1093/imamat/13.1.117.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jax.experimental.sparse import BCOO

from adlab.core import _shardings
from adlab.core.types import PyTree
from adlab.jacobians import patterns
from adlab.jacobians.coloring import colored, read_off, star_colored
from adlab.jacobians.given import entries_of, verified
from adlab.jacobians.selection import Selection
from adlab.jacobians.sweeps import chunked

__all__ = ["sparse"]

_KEPT = 8  # coloured patterns


@dataclass(frozen=True, eq=False)
class _Plan:
    """A coloured pattern.

    rows, cols: of its entries, by rows, then by columns. colors: of the columns, in reverse mode of
    the rows. places, sweeps: at which number of the product with which colour each entry is read
    off. either: whether that may be in a row of another leaf than the entry's. blocks: for each
    leaf of y, for each of x: which entries are in it, and its first row and column.
    """

    rows: np.ndarray
    cols: np.ndarray
    colors: np.ndarray
    reverse: bool
    places: np.ndarray
    sweeps: np.ndarray
    either: bool
    blocks: list[list[tuple[np.ndarray, int, int]]]


def sparse(
    chosen: Selection,
    chunk: int | None,
    plans: dict[Any, Any],
    pattern: Any = None,
    *,
    symmetric: bool = False,
) -> tuple[PyTree, Any]:
    """Return the Jacobian as BCOO matrices, and what is auxiliary.

    chunk: how many colours are swept at a time, None for all. plans: the patterns coloured so far;
    one that is new is added. pattern: one that the user gave, else None. symmetric: whether the
    Jacobian is so, as that of a gradient.
    """
    if pattern is None:  # found at each call: what the function closes over may have changed
        found, forward = patterns.find(chosen)
    else:
        found, forward = entries_of(pattern, chosen), patterns.has_mode(chosen, "forward")
        symmetric = symmetric and (found != found.T).nnz == 0
    if symmetric:
        found = sp.csr_array(found.multiply(found.T))  # the others are zero, as their mirrors are
    key = _digest(found, forward, symmetric, chosen)
    if key not in plans:
        plans[key] = _planned(chosen, found, forward, symmetric)
        if len(plans) > _KEPT:
            del plans[next(iter(plans))]  # the oldest
    plan = plans[key]
    data = _swept(chosen, plan, chunk)
    if pattern is not None:
        data = verified(chosen, plan, _product(chosen, reverse=plan.reverse), data)
    aux = chosen.full(chosen.x)[1] if chosen.has_aux else None
    return _assembled(chosen, plan, data), aux


def _digest(found: sp.csr_array, forward: bool, symmetric: bool, chosen: Selection) -> str:
    """Return what two calls have in common if and only if one plan serves both."""
    parts = hashlib.sha256(found.indptr.tobytes() + found.indices.tobytes())
    types = jax.tree.map(lambda leaf: (np.shape(leaf), str(leaf.dtype)), (chosen.x, chosen.shape))
    parts.update(repr((forward, symmetric, found.shape, types)).encode())
    return parts.hexdigest()


def _planned(chosen: Selection, found: sp.csr_array, forward: bool, symmetric: bool) -> _Plan:
    """Colour the columns of a pattern, or its rows.

    Rows are swept where they take fewer colours, and where JAX hasn't got forward mode. Of a
    symmetric matrix stars are taken where they take fewer.
    """
    rows, cols = found.nonzero()
    order = np.lexsort((cols, rows))
    rows, cols = rows[order], cols[order]
    blocks = _blocks(chosen, rows, cols)
    colors, reverse = _sides(chosen, found, forward)
    if symmetric and colors.max() > 1 and len({leaf.dtype for leaf in _leaves(chosen)}) == 1:
        stars = star_colored(found)
        if stars.max() < colors.max():
            places, sweeps = read_off(rows, cols, stars)
            return _Plan(rows, cols, stars, reverse, places, sweeps, True, blocks)
    places, swept = (cols, rows) if reverse else (rows, cols)
    return _Plan(rows, cols, colors, reverse, places, colors[swept], False, blocks)


def _leaves(chosen: Selection) -> list[Any]:
    return jax.tree.leaves(chosen.shape)


def _sides(chosen: Selection, found: sp.csr_array, forward: bool) -> tuple[np.ndarray, bool]:
    """Return colours of the columns, or of the rows, and whether it is those."""
    across = None
    if forward:
        along = colored(found)
        # rows that share a column differ: no colouring of rows has fewer colours
        least = np.bincount(found.indices, minlength=1).max()
        if along.max() < least:
            return along, False
        across = colored(found.T)
        if across.max() >= along.max() or not patterns.has_mode(chosen, "reverse"):
            return along, False
    return (colored(found.T) if across is None else across), True


def _blocks(
    chosen: Selection, rows: np.ndarray, cols: np.ndarray
) -> list[list[tuple[np.ndarray, int, int]]]:
    found = []
    for top, bottom in _ranges(chosen.shape):
        inside = np.flatnonzero((rows >= top) & (rows < bottom))
        line = []
        for left, right in _ranges(chosen.x):
            kept = (cols[inside] >= left) & (cols[inside] < right)
            line.append((inside[kept], top, left))
        found.append(line)
    return found


def _ranges(tree: PyTree) -> list[tuple[int, int]]:
    """Return where each leaf begins and ends among the numbers laid end to end."""
    sizes = [int(np.prod(np.shape(leaf))) for leaf in jax.tree.leaves(tree)]
    ends = np.cumsum(sizes)
    return [(int(end) - size, int(end)) for size, end in zip(sizes, ends, strict=True)]


def _swept(chosen: Selection, plan: _Plan, chunk: int | None) -> list[list[jax.Array]]:
    """Return the entries of each block, one product per colour taken."""
    count = int(plan.colors.max()) + 1
    seeded = chosen.shape if plan.reverse else chosen.x
    product = _product(chosen, reverse=plan.reverse)
    stacked = chunked(lambda c: product(_of_color(c, plan.colors, seeded)), count, chunk or count)
    leaves = jax.tree.leaves(stacked)
    if plan.either:
        whole = jnp.concatenate([leaf.reshape(count, -1) for leaf in leaves], axis=1)
    found = []
    for a, line in enumerate(plan.blocks):
        row = []
        for b, (entries, top, left) in enumerate(line):
            leaf, start = (leaves[b], left) if plan.reverse else (leaves[a], top)
            if plan.either:
                leaf, start = whole, 0
            places = (plan.places[entries] - start).astype(np.int32)
            row.append(_taken(leaf, plan.sweeps[entries], places))
        found.append(row)
    return found


@jax.jit
def _taken(leaf: jax.Array, colors: Any, places: Any) -> jax.Array:
    """Return numbers by the colours of their products and their places in these."""
    rows = leaf.reshape(len(leaf), -1)
    return rows.at[colors, places].get(mode="promise_in_bounds")


def _product(chosen: Selection, *, reverse: bool) -> Callable[[PyTree], PyTree]:
    """Return v -> J v, or in reverse mode v -> v^T J."""
    if reverse:
        pull = jax.vjp(chosen.fun, chosen.x)[1]
        return lambda seed: pull(seed)[0]
    return lambda seed: jax.jvp(chosen.fun, (chosen.x,), (seed,))[1]


def _of_color(color: jax.Array, colors: np.ndarray, like: PyTree) -> PyTree:
    """Return ones where a number has the colour, and zeros elsewhere."""
    leaves, structure = jax.tree.flatten(like)
    colors = colors.astype(color.dtype)
    ones = [
        _shardings.like_type(
            _ones(color, colors[start:end].reshape(np.shape(leaf)), jnp.result_type(leaf)), leaf
        )
        for leaf, (start, end) in zip(leaves, _ranges(like), strict=True)
    ]
    return jax.tree.unflatten(structure, ones)


@functools.partial(jax.jit, static_argnums=2)
def _ones(color: jax.Array, colors: Any, dtype: Any) -> jax.Array:
    ones: jax.Array = (colors == color).astype(dtype)
    return ones


def _assembled(chosen: Selection, plan: _Plan, data: list[list[jax.Array]]) -> PyTree:
    """Return the tree of y, each leaf of it a tree of x, of BCOO matrices."""
    outs, tree = jax.tree.flatten(chosen.shape)
    ins, structure = jax.tree.flatten(chosen.x)
    lines = []
    for out, line, values in zip(outs, plan.blocks, data, strict=True):
        row = []
        for leaf, (entries, top, left), block in zip(ins, line, values, strict=True):
            shape = (*out.shape, *np.shape(leaf))
            places = (
                *np.unravel_index(plan.rows[entries] - top, out.shape or (1,))[: len(out.shape)],
                *np.unravel_index(plan.cols[entries] - left, np.shape(leaf) or (1,))[
                    : np.ndim(leaf)
                ],
            )
            indices = np.stack(places, axis=1) if places else np.zeros((len(entries), 0), int)
            made = (block.astype(out.dtype), jnp.asarray(indices.astype(np.int32)))
            row.append(BCOO(made, shape=shape, indices_sorted=True, unique_indices=True))
        lines.append(jax.tree.unflatten(structure, row))
    return jax.tree.unflatten(tree, lines)
