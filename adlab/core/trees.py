"""Vector algebra on pytrees, which are treated as one long vector."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import _shardings, checks
from adlab.core.types import Array, PyTree

__all__ = [
    "add_scaled",
    "as_array",
    "cast_like",
    "common_dtype",
    "first_axis",
    "probe_like",
    "ravel",
    "same_shapes",
    "size",
    "unravel",
    "vdot",
    "wide_dtype",
    "zeros_like",
]


def as_array(leaf: Any) -> Array:
    """Return `jnp.asarray(leaf)`, for which an array of NumPy needs no program outside of a trace.

    The array is a copy: what becomes of NumPy's later doesn't matter.
    """
    if (
        not isinstance(leaf, np.ndarray)
        or checks.in_trace()
        or not jax.sharding.get_abstract_mesh().empty
    ):
        return jnp.asarray(leaf)
    array: Array = jax.device_put(np.array(leaf))  # NumPy copies now, JAX later
    return array


def size(tree: PyTree) -> int:
    """Count the numbers in `tree`, from shapes alone.

    >>> size({"a": np.zeros((2, 3)), "b": 1.0})
    7
    """
    return sum(map(math.prod, map(np.shape, jax.tree.leaves(tree))))


def same_shapes(a: PyTree, b: PyTree) -> bool:
    """Tell whether two trees of arrays or shapes have one structure and the same shapes."""
    first: Any = jax.tree.structure(a)
    shapes = [[np.shape(leaf) for leaf in jax.tree.leaves(tree)] for tree in (a, b)]
    return bool(first == jax.tree.structure(b)) and shapes[0] == shapes[1]


def first_axis(tree: PyTree, must: str, *, length: int | None = None, scalars: bool = False) -> int:
    """Return the length of the first axis that all arrays of `tree` share.

    >>> first_axis({"x": np.zeros((3, 2)), "y": np.zeros(3)}, "data must have one first axis")
    3

    Args:
      tree: arrays or shapes.
      must: how an error begins: what must be, to which the lengths that were met are added.
      length: what the length must be, where it is known.
      scalars: whether arrays without axes are left out of account.

    Raises:
      ValueError: there isn't one length.
    """
    met: dict[int | None, str] = {} if length is None else {length: "length"}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        shape = np.shape(leaf)
        if shape or not scalars:
            met.setdefault(shape[0] if shape else None, jax.tree_util.keystr(path))
    if len(met) != 1 or None in met:
        ordered = sorted(met, key=lambda size: -1 if size is None else size)
        places = ", ".join(met[size] or "the array" for size in ordered)
        said = ", ".join("none" if size is None else str(size) for size in ordered)
        raise ValueError(f"{must}, got lengths [{said}]{f' at {places}' if met else ''}")
    return int(next(iter(met)) or 0)


def wide_dtype(leaf: Any) -> np.dtype:
    """Return the dtype that sums over `leaf` are taken in: its own, but at least float32."""
    return np.promote_types(jnp.result_type(leaf), np.float32)


def common_dtype(tree: PyTree) -> np.dtype:
    """Return the widest dtype among the leaves of `tree`, but at least float32."""
    return functools.reduce(np.promote_types, map(wide_dtype, jax.tree.leaves(tree)))


def probe_like(tree: PyTree) -> PyTree:
    """Return shapes and dtypes of a probe for `tree`: its own shapes, dtypes at least float32.

    On a mesh with explicit axes they hold its shardings, too.
    """
    return jax.tree.map(lambda leaf: _shardings.struct(leaf, wide_dtype(leaf)), tree)


def vdot(a: PyTree, b: PyTree) -> Array:
    """Return the inner product of two real trees of one structure, summed in at least float32."""
    dtype = common_dtype((a, b))
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return functools.reduce(
        jnp.add, (_leaf_vdot(jnp.asarray(u, dtype), jnp.asarray(v, dtype)) for u, v in pairs)
    )


def _leaf_vdot(u: Array, v: Array) -> Array:
    if _shardings.explicit(u) is None and _shardings.explicit(v) is None:
        return jnp.vdot(u, v)
    return jnp.sum(u * v)  # a product of what is sharded would have to be told where it goes


def add_scaled(x: PyTree, scale: Any, u: PyTree) -> PyTree:
    """Return x + scale * u, computed in the dtype of `u` and rounded to the dtype of `x`."""

    def leaf_add(a: Any, b: Any) -> Array:
        b = jnp.asarray(b)
        moved: Array = jnp.asarray(a, b.dtype) + jnp.asarray(scale, b.dtype) * b
        return moved.astype(jnp.result_type(a))

    return jax.tree.map(leaf_add, x, u)


def cast_like(tree: PyTree, like: PyTree) -> PyTree:
    """Round every leaf of `tree` to the dtype of its counterpart in `like`, and lay it out so."""

    def leaf_like(leaf: Array, other: Any) -> Array:
        return _shardings.like_type(leaf.astype(jnp.result_type(other)), other)

    return jax.tree.map(leaf_like, tree, like)


def zeros_like(like: PyTree) -> PyTree:
    """Return zeros of the shapes, dtypes and layout of `like`, a tree of arrays or shapes."""
    return jax.tree.map(
        lambda leaf: _shardings.like_type(jnp.zeros(np.shape(leaf), jnp.result_type(leaf)), leaf),
        like,
    )


def ravel(tree: PyTree) -> Array:
    """Lay the leaves of `tree` end to end in one vector of their common (wide) dtype.

    On a mesh with explicit axes every device then holds the whole vector.
    """
    dtype = common_dtype(tree)
    leaves = [_shardings.gathered(jnp.asarray(leaf, dtype)) for leaf in jax.tree.leaves(tree)]
    if len(leaves) == 1:
        return leaves[0].reshape(-1)
    return jnp.concatenate([leaf.reshape(-1) for leaf in leaves])


def unravel(vector: Array, like: PyTree) -> PyTree:
    """Cut `vector` into leaves of the shapes, dtypes and layout of `like`; inverts `ravel`."""
    leaves, structure = jax.tree.flatten(like)
    parts, start = [], 0
    for leaf in leaves:
        shape = np.shape(leaf)
        stop = start + math.prod(shape)
        part = vector if stop - start == vector.shape[0] else vector[start:stop]
        parts.append(_shardings.like_type(part.reshape(shape).astype(jnp.result_type(leaf)), leaf))
        start = stop
    return jax.tree.unflatten(structure, parts)
