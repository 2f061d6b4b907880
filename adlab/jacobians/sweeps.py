"""Jacobians by columns (forward mode) and by rows (reverse mode), a chunk at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import _shardings
from adlab.core.types import PyTree
from adlab.jacobians.selection import Selection

__all__ = ["chunked", "forward", "pulled", "pushed", "reverse"]


def pushed(chosen: Selection, x: PyTree, tangents: PyTree) -> PyTree:
    """Return the Jacobian times tangents, stacked along a first axis; products along the last."""

    def push(tangent: PyTree) -> PyTree:
        return jax.jvp(chosen.fun, (x,), (tangent,))[1]

    return jax.vmap(push, out_axes=-1)(tangents)


def pulled(chosen: Selection, x: PyTree, cotangents: PyTree) -> PyTree:
    """Return cotangents that are stacked along a first axis times the Jacobian."""
    pull = jax.vjp(chosen.fun, x)[1]
    return jax.vmap(lambda cotangent: pull(cotangent)[0])(cotangents)


def forward(chosen: Selection, chunk: int) -> tuple[PyTree, Any]:
    """Return the Jacobian column by column, `chunk` columns at a time, and what is auxiliary.

    Intermediates take memory O(chunk) times what one evaluation takes at its widest.
    """
    x, count = chosen.x, chosen.inputs

    def push(index: jax.Array) -> PyTree:
        return jax.jvp(chosen.fun, (x,), (_unit(index, x),))[1]

    if chunk >= count:
        columns = jax.vmap(push, out_axes=-1)(jnp.arange(count))
    else:
        stacked = chunked(push, count, chunk)
        columns = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -1), stacked)
    aux = chosen.full(x)[1] if chosen.has_aux else None
    ends = _ends(jax.tree.leaves(x))
    rows = [jnp.split(leaf, ends, axis=-1) for leaf in jax.tree.leaves(columns)]
    return chosen.assemble(rows), aux


def reverse(chosen: Selection, chunk: int) -> tuple[PyTree, Any]:
    """Return the Jacobian row by row, `chunk` rows at a time, and what is auxiliary.

    Keeps the intermediates of one evaluation, and O(chunk) of its widest cotangents.
    """
    count = chosen.outputs
    if chosen.has_aux:
        _, pull, aux = jax.vjp(chosen.full, chosen.x, has_aux=True)
    else:
        (_, pull), aux = jax.vjp(chosen.full, chosen.x), None

    def row(index: jax.Array) -> PyTree:
        return pull(_unit(index, chosen.shape))[0]

    stacked = chunked(row, count, chunk)
    ends = _ends(jax.tree.leaves(chosen.shape))
    cut = [jnp.split(leaf, ends) for leaf in jax.tree.leaves(stacked)]
    return chosen.assemble(list(zip(*cut, strict=True))), aux


def chunked(one: Callable[[jax.Array], PyTree], count: int, chunk: int) -> PyTree:
    """Return `one` of every index, stacked along a first axis; without a loop in a single chunk."""
    if chunk >= count:
        return jax.vmap(one)(jnp.arange(count))
    return jax.lax.map(one, jnp.arange(count), batch_size=chunk if chunk > 1 else None)


def _unit(index: jax.Array, like: PyTree) -> PyTree:
    """Return the tree of zeros with a one in place `index` of its numbers laid end to end."""
    leaves, structure = jax.tree.flatten(like)
    units, start = [], 0
    for leaf in leaves:
        shape = np.shape(leaf)
        places = start + jnp.arange(math.prod(shape), dtype=index.dtype)
        unit = (places == index).reshape(shape).astype(jnp.result_type(leaf))
        units.append(_shardings.like_type(unit, leaf))
        start += math.prod(shape)
    return jax.tree.unflatten(structure, units)


def _ends(leaves: Sequence[Any]) -> list[int]:
    """Return where each leaf but the last ends among the numbers laid end to end."""
    return [int(end) for end in np.cumsum([math.prod(np.shape(leaf)) for leaf in leaves])[:-1]]
