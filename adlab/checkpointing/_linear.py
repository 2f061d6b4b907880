"""A linear map with a transpose of its own, both differentiable in what they depend on.

The system

    [[-N, 1], [1, 0]] (p, q) = (0, b),     N = [[0, M^T], [M, 0]],     b = (t, 0)

is symmetric, and solved by p = (t, 0), q = (0, M t). `jax.lax.custom_linear_solve` transposes it by
another solve, from which M^T c is read, and differentiates N where derivatives of the solution are
asked for: dq = dN p. One half of p is zero, and what N makes of it isn't computed.

In `jax.shard_map` all sides of a system vary along the same axes. A vector that doesn't is sent in
as copies, one for each device, and read as their mean; the transpose of that is a sum over devices
of n-th parts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from adlab.core import _shardings, trees

__all__ = ["linear", "number_of"]

Map = Callable[[Any], Any]


def linear(forward: Map, transpose: Map, moved: Any, like: Any) -> Any:
    """Return forward(moved), a tree of the types of `like`, with `transpose` as its transpose.

    Both are linear, of trees of inexact arrays, and differentiable in what they close over.
    """
    leaves = jax.tree.leaves((moved, like))
    if not jax.tree.leaves(like) or not any(leaf.size for leaf in jax.tree.leaves(moved)):
        return trees.zeros_like(like)
    axes = tuple(sorted(frozenset[str]().union(*map(_shardings.varying, leaves))))
    types = jax.tree.map(lambda leaf: _shardings.struct(leaf, leaf.dtype), (moved, like))
    push, pull = _of_copies(forward, transpose, types, axes)

    def matvec(unknown: Any) -> Any:
        (t, c), last = unknown
        products = (_unless_zero(pull, c, t, axes), _unless_zero(push, t, c, axes))
        return _tied((jax.tree.map(jnp.subtract, last, products), (t, c)))

    def solve(_: Any, sides: Any) -> Any:
        (first, second), (t, c) = sides  # where c is zero
        return (t, c), (first, _sum(second, push(t)))

    def transpose_solve(_: Any, sides: Any) -> Any:
        (first, second), (t, c) = sides  # where t is zero
        return (t, c), (_sum(first, pull(c)), second)

    t = _tied(jax.tree.map(lambda leaf: _varied(leaf, axes), moved))
    none, zeros = (_zeros(t, like, axes) for like in types)
    sides = ((none, zeros), (t, zeros))
    _, (_, result) = lax.custom_linear_solve(matvec, sides, solve, transpose_solve, symmetric=True)
    return jax.tree.map(_mean, result, types[1])


def _of_copies(
    forward: Map, transpose: Map, types: tuple[Any, Any], axes: tuple[str, ...]
) -> tuple[Map, Map]:
    """Return both maps for vectors that vary along all axes: widen M mean, and its transpose."""

    def push(t: Any) -> Any:
        found = forward(jax.tree.map(_mean, t, types[0]))
        return jax.tree.map(lambda leaf: _varied(leaf, axes), found)

    def pull(c: Any) -> Any:
        found = transpose(jax.tree.map(_total, c, types[1]))
        return jax.tree.map(lambda leaf: _part(leaf, axes), found)

    return push, pull


def _varied(leaf: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    more = tuple(axis for axis in axes if axis not in _shardings.varying(leaf))
    return lax.pcast(leaf, more, to="varying") if more else leaf


def _part(leaf: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    more = tuple(axis for axis in axes if axis not in _shardings.varying(leaf))
    return lax.pcast(leaf / lax.axis_size(more), more, to="varying") if more else leaf


def _mean(leaf: jax.Array, like: Any) -> jax.Array:
    less = tuple(sorted(_shardings.varying(leaf) - _shardings.varying(like)))
    return lax.pmean(leaf, less) if less else leaf


def _total(leaf: jax.Array, like: Any) -> jax.Array:
    less = tuple(sorted(_shardings.varying(leaf) - _shardings.varying(like)))
    return lax.psum(leaf, less) if less else leaf


def _zeros(t: Any, like: Any, axes: tuple[str, ...]) -> Any:
    """Return zeros that depend on t, linearly."""
    zero = _zero(t)
    return jax.tree.map(
        lambda leaf: _varied(
            _shardings.like_type(jnp.broadcast_to(zero.astype(leaf.dtype), leaf.shape), leaf), axes
        ),
        like,
    )


def _tied(tree: Any) -> Any:
    """Return the tree; each leaf depends on all, linearly, which changes nothing.

    JAX transposes a solve only if no leaf of its right side is known before.
    """
    zero = _zero(tree)
    return jax.tree.map(lambda leaf: leaf + zero.astype(leaf.dtype), tree)


def _zero(tree: Any) -> jax.Array:
    """Return a zero that depends on all leaves, linearly: their sum, over none of their numbers."""
    sums = [jnp.real(jnp.sum(_none_of(leaf))) for leaf in jax.tree.leaves(tree)]
    return functools.reduce(jnp.add, [one.astype(jnp.float32) for one in sums])


def _none_of(leaf: jax.Array) -> jax.Array:
    if _shardings.explicit(leaf) is None:
        return leaf.ravel()[:0]
    return jnp.where(False, leaf, 0)  # an axis that is split can't be cut


def number_of(leaf: jax.Array) -> jax.Array:
    """Return one number that isn't known before the leaf; the first may lie on one device."""
    return leaf.ravel()[0] if _shardings.explicit(leaf) is None else jnp.sum(leaf)


def _sum(a: Any, b: Any) -> Any:
    return jax.tree.map(jnp.add, a, b)


def _unless_zero(function: Map, vector: Any, like: Any, axes: tuple[str, ...]) -> Any:
    """Return function(vector), or zeros where the vector holds nothing else.

    All devices decide alike: there may be collectives in the function.
    """
    found = [jnp.any(leaf != 0) for leaf in jax.tree.leaves(vector)]
    some = functools.reduce(jnp.logical_or, found)
    if axes:
        some = lax.psum(some.astype(jnp.int32), axes) > 0
    return lax.cond(some, function, lambda _: trees.zeros_like(like), vector)
