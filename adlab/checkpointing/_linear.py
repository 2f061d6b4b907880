"""A linear map with a transpose of its own, both differentiable in what they depend on.

The system

    [[-N, 1], [1, 0]] (p, q) = (0, b),     N = [[0, M^T], [M, 0]],     b = (t, 0)

is symmetric, and solved by p = (t, 0), q = (0, M t). `jax.lax.custom_linear_solve` transposes it by
another solve, from which M^T c is read, and differentiates N where derivatives of the solution are
asked for: dq = dN p. One half of p is zero, and what N makes of it isn't computed.
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
    if not jax.tree.leaves(like) or not any(leaf.size for leaf in jax.tree.leaves(moved)):
        return trees.zeros_like(like)

    def matvec(unknown: Any) -> Any:
        (t, c), last = unknown
        products = (_unless_zero(transpose, c, t), _unless_zero(forward, t, c))
        return _tied((jax.tree.map(jnp.subtract, last, products), (t, c)))

    def solve(_: Any, sides: Any) -> Any:
        (first, second), (t, c) = sides  # where c is zero
        return (t, c), (first, _sum(second, forward(t)))

    def transpose_solve(_: Any, sides: Any) -> Any:
        (first, second), (t, c) = sides  # where t is zero
        return (t, c), (_sum(first, transpose(c)), second)

    t = _tied(moved)
    none, zeros = _zeros(t, moved), _zeros(t, like)
    sides = ((none, zeros), (t, zeros))
    _, (_, result) = lax.custom_linear_solve(matvec, sides, solve, transpose_solve, symmetric=True)
    return result


def _zeros(t: Any, like: Any) -> Any:
    """Return zeros that depend on t, linearly."""
    zero = _zero(t)
    return jax.tree.map(
        lambda leaf: _shardings.like_type(
            jnp.broadcast_to(zero.astype(leaf.dtype), leaf.shape), leaf
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


def _unless_zero(function: Map, vector: Any, like: Any) -> Any:
    """Return function(vector), or zeros where the vector holds nothing else.

    In `jax.shard_map` it is computed always: some devices alone can't enter its collectives.
    """
    leaves = jax.tree.leaves(vector)
    if any(map(_shardings.varying, leaves)):
        return function(vector)
    some = functools.reduce(jnp.logical_or, [jnp.any(leaf != 0) for leaf in leaves])
    return lax.cond(some, function, lambda _: trees.zeros_like(like), vector)
