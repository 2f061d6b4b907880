"""Operators that are given: as an array, as a function, or as an object of another library."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks, trees
from adlab.core.nodes import as_data, register
from adlab.core.types import Array, Matvec, PyTree
from adlab.curvature.operators import Operator, shapes_of
from adlab.curvature.products import vector

__all__ = ["HasMatvec", "Linear", "Matrix", "OperatorLike", "as_operator"]


class HasMatvec(Protocol):
    """A symmetric map of another library, or of the user's own."""

    @property
    def like(self) -> PyTree:
        """Shapes and dtypes of the vectors."""

    def matvec(self, v: PyTree, /) -> PyTree:
        """Return the product with `v`."""


@register("array")
@dataclass(frozen=True, eq=False, repr=False)
class Matrix(Operator):
    """A symmetric matrix of shape (d, d) that is there in full.

    Raises:
      ValueError: the array isn't square.
      TypeError: it isn't real floating-point.

    Attributes:
      array: (d, d).

    >>> Matrix(jnp.diag(jnp.array([1.0, 2.0]))).matvec(jnp.array([1.0, 1.0]))
    Array([1., 2.], dtype=float32)
    """

    array: Any

    def __post_init__(self) -> None:
        if np.ndim(self.array) != 2 or len(set(np.shape(self.array))) != 1:
            raise ValueError(f"array must be square, got shape {np.shape(self.array)}")
        checks.require_inexact("Matrix", self.array)

    @functools.cached_property
    def like(self) -> PyTree:
        """One vector of d numbers."""
        return jax.ShapeDtypeStruct(np.shape(self.array)[:1], jnp.result_type(self.array))

    def matvec(self, v: PyTree) -> PyTree:
        """Return array @ v."""
        v = vector(v, self.like, "like")
        array = jnp.asarray(self.array)
        return (array @ v.astype(array.dtype)).astype(v.dtype)


@register("fun")
@dataclass(frozen=True, eq=False, init=False, repr=False)
class Linear(Operator):
    """A symmetric linear function of the user's own, v -> A v, on vectors shaped as `like`.

    Args:
      fun: the function. A pytree callable, such as `jax.tree_util.Partial`, carries its arrays
        as data; a plain function is static.
      like: a tree of arrays or shapes.

    Attributes:
      fun: as given.
      shapes, structure: the leaves of `like`, and its structure.

    >>> Linear(lambda v: 2 * v, jnp.zeros(3)).matvec(jnp.ones(3))
    Array([2., 2., 2.], dtype=float32)
    """

    fun: Matvec
    shapes: tuple[Any, ...]
    structure: Any

    def __init__(self, fun: Matvec, like: PyTree) -> None:
        checks.require_inexact("Linear", like)
        leaves, structure = jax.tree.flatten(shapes_of(like))
        object.__setattr__(self, "fun", as_data(fun))
        object.__setattr__(self, "shapes", tuple(leaves))
        object.__setattr__(self, "structure", structure)

    @functools.cached_property
    def like(self) -> PyTree:
        """Shapes and dtypes, as given."""
        return jax.tree.unflatten(self.structure, self.shapes)

    def matvec(self, v: PyTree) -> PyTree:
        """Return fun(v)."""
        v = vector(v, self.like, "like")
        out = self.fun(trees.cast_like(v, self.like))
        if not trees.same_shapes(out, v):
            raise ValueError(
                f"matvec must return what is shaped as v, {jax.tree.map(jnp.shape, v)}, "
                f"got {jax.tree.map(jnp.shape, out)}"
            )
        return trees.cast_like(out, v)


OperatorLike: TypeAlias = Operator | HasMatvec | Array | np.ndarray[Any, Any]
"""An operator, whatever has `matvec` and `like`, or a symmetric array (d, d)."""


def _matvec(operator: HasMatvec, v: PyTree) -> PyTree:
    return operator.matvec(v)


def as_operator(operator: OperatorLike) -> Operator:
    """Return an operator: itself, a square array, or whatever has `matvec` and `like`.

    An object that is a pytree has its arrays passed as data. Any other is compiled again at every
    call, for nobody can tell whether it has changed since the last.

    Raises:
      TypeError: none of these.
      ValueError: labels that can't be those of the model, see `Fisher`.
    """
    if isinstance(operator, Operator):
        operator.require_labels()
        return operator
    if hasattr(operator, "matvec") and hasattr(operator, "like"):
        if jax.tree_util.all_leaves([operator]):
            return Linear(functools.partial(operator.matvec), operator.like)
        return Linear(jax.tree_util.Partial(_matvec, operator), operator.like)
    if hasattr(operator, "shape") and hasattr(operator, "dtype"):
        return Matrix(operator)
    raise TypeError(
        f"operator must be an adlab operator, a square array, or have matvec and like, "
        f"got {operator!r}"
    )
