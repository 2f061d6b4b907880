"""Symmetric linear operators on pytrees, and their algebra."""

from __future__ import annotations

import abc
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks, trees
from adlab.core.nodes import register
from adlab.core.types import Array, PyTree
from adlab.curvature._dense import DenseMatrix, path_name, path_slices, require_finite
from adlab.curvature._lengths import lengths
from adlab.curvature.products import vector

__all__ = ["Operator", "path_name", "shapes_of"]

_DENSE_LIMIT = 8 * 2**30  # bytes


class Operator(abc.ABC):
    """A symmetric linear map on pytrees: all that the algorithms of this package ask for.

    `like` says what vectors look like, `matvec` applies the map. Operators are frozen pytrees whose
    arrays are data: pass them through `jit`, or map `matvec` over vectors by `vmap`. They don't
    jit. They add, and scale: `a + b`, `a - b`, `2.0 * a`, `-a`, `a.shift(0.1)` for a + 0.1 I.

    >>> from adlab.curvature import Matrix
    >>> a = Matrix(jnp.diag(jnp.array([1.0, 2.0])))
    >>> (2.0 * a - a.shift(1.0)).to_dense().matrix
    Array([[0., 0.],
           [0., 1.]], dtype=float32)

    Attributes:
      like: shapes and dtypes of the vectors: a tree of `jax.ShapeDtypeStruct`.
      dim: number of rows d.
      dtype: in which vectors are laid out flat.
      traceable: whether `matvec` may be traced, or must be driven from the host.
    """

    __array_ufunc__ = None  # NumPy numbers leave the product to __rmul__

    @property
    @abc.abstractmethod
    def like(self) -> PyTree:
        """Shapes and dtypes of the vectors: a tree of `jax.ShapeDtypeStruct`."""

    @abc.abstractmethod
    def matvec(self, v: PyTree) -> PyTree:
        """Return the product with `v`, in the dtypes of `v`.

        Raises:
          ValueError: v isn't shaped as `like`.
          TypeError: v isn't real floating-point.
        """

    @property
    def traceable(self) -> bool:
        """Whether `matvec` may be traced, or must be driven from the host."""
        return True

    @functools.cached_property
    def dim(self) -> int:
        """Number of rows d."""
        return trees.size(self.like)

    @functools.cached_property
    def dtype(self) -> np.dtype[Any]:
        """The dtype in which vectors are laid out flat: the widest of `like`, float32 at least."""
        return trees.common_dtype(self.like)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(dim={self.dim}, {self.dtype.name})"

    def parts(self) -> Iterator[tuple[Any, Operator]]:
        """Yield (weight, operator) pairs whose weighted sum this operator is."""
        yield 1.0, self

    def flat_products(self, vectors: Array) -> tuple[Array, Array]:
        """Return the products with the rows of `vectors`, (k, d), and the lengths of their terms.

        Round-off is in proportion to the terms of a sum, also where they cancel in the product.
        """
        if vectors.shape[0] == 1:  # without a batch axis, convolutions stay what compilers know
            products = _flat_product(self, vectors[0])[None]
        else:
            products = jax.vmap(lambda vector: _flat_product(self, vector))(vectors)
        return products, lengths(products)

    def require_labels(self, where: str = "") -> None:
        """Raise where labels, or outputs, can't be those of a model, as far as can be read now."""
        del where  # matrices without labels have nothing to tell

    def shift(self, by: Any) -> Operator:
        """Return this operator plus `by` times the identity."""
        leaves, structure = jax.tree.flatten(self.like)
        shift: Operator = by * Identity(tuple(leaves), structure)
        return self + shift

    def to_dense(self, chunk_size: int = 64) -> DenseMatrix:
        """Return the whole matrix, (d, d), with the rows of every parameter path.

        Costs d products, `chunk_size` at a time, and d^2 numbers; one pass over batches from the
        host, and d^2 numbers more.

        Raises:
          ValueError: the matrix would take more than 8 GiB; chunk_size < 1; an entry is NaN or
            infinite, unless traced.
        """
        checks.at_least("chunk_size", chunk_size, 1)
        dtype = self.dtype
        if self.dim**2 * dtype.itemsize > _DENSE_LIMIT:
            raise ValueError(
                f"the dense matrix must fit into {_DENSE_LIMIT / 2**30:.0f} GiB, got {self.dim}^2 "
                f"numbers of {dtype.itemsize} bytes; choose a block of it by where="
            )
        self.require_labels()
        chunk = min(chunk_size, self.dim)
        if self.traceable:
            matrix, finite = _dense(self, chunk)
        else:
            matrix, finite = jnp.zeros((self.dim, self.dim), dtype), None
            for weight, part in self.parts():
                matrix = matrix + jnp.asarray(weight, dtype) * _dense(part, chunk)[0]
        blocks = path_slices(self.like)
        require_finite(matrix, finite, blocks)
        return DenseMatrix(matrix, blocks)

    def __add__(self, other: Any) -> Operator:
        return Sum(self, other) if isinstance(other, Operator) else NotImplemented

    def __sub__(self, other: Any) -> Operator:
        return Sum(self, -other) if isinstance(other, Operator) else NotImplemented

    def __mul__(self, factor: Any) -> Operator:
        return Scaled(self, factor) if _is_real_number(factor) else NotImplemented

    __rmul__ = __mul__

    def __neg__(self) -> Operator:
        return Scaled(self, -1.0)


def _is_real_number(factor: Any) -> bool:
    if isinstance(factor, int | float):
        return True
    if not isinstance(factor, np.generic | np.ndarray | jax.Array) or factor.ndim:
        return False
    return any(jnp.issubdtype(factor.dtype, kind) for kind in (jnp.floating, jnp.integer))


def _flat_product(operator: Operator, vector: jax.Array) -> jax.Array:
    """Return the product with one vector (d,) laid out flat."""
    v = trees.unravel(vector, trees.probe_like(operator.like))
    return trees.ravel(operator.matvec(v))


@functools.partial(jax.jit, static_argnums=1)
def _dense(operator: Operator, chunk_size: int) -> tuple[jax.Array, jax.Array]:
    """Return the matrix, and which of its columns are finite."""
    dtype = operator.dtype
    columns = jax.lax.map(
        lambda i: _flat_product(operator, (jnp.arange(operator.dim) == i).astype(dtype)),
        jnp.arange(operator.dim),
        batch_size=chunk_size,
    )
    return columns.T, jnp.isfinite(columns).all(axis=1)


def shapes_of(tree: PyTree) -> PyTree:
    """Return shapes and dtypes of a tree of arrays."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), jnp.result_type(leaf)), tree
    )


@register()
@dataclass(frozen=True, eq=False, repr=False)
class Identity(Operator):
    """The identity on vectors shaped as `like`."""

    shapes: tuple[Any, ...]
    structure: Any

    @functools.cached_property
    def like(self) -> PyTree:
        """Shapes and dtypes, as given."""
        return jax.tree.unflatten(self.structure, self.shapes)

    def matvec(self, v: PyTree) -> PyTree:
        """Return v."""
        return vector(v, self.like, "like")


@register("operator", "factor")
@dataclass(frozen=True, eq=False, repr=False)
class Scaled(Operator):
    """An operator times a number, which is data."""

    operator: Operator
    factor: Any

    @functools.cached_property
    def like(self) -> PyTree:
        """The operator's own."""
        return self.operator.like

    @property
    def traceable(self) -> bool:
        """The operator's own."""
        return self.operator.traceable

    def require_labels(self, where: str = "") -> None:
        """Raise as the operator does."""
        self.operator.require_labels(where)

    def parts(self) -> Iterator[tuple[Any, Operator]]:
        """Yield the operator's parts, scaled."""
        for weight, part in self.operator.parts():
            yield self.factor * weight, part

    def flat_products(self, vectors: Array) -> tuple[Array, Array]:
        """Return the operator's, scaled."""
        products, sizes = self.operator.flat_products(vectors)
        factor = jnp.asarray(self.factor, products.dtype)
        return factor * products, abs(factor) * sizes

    def matvec(self, v: PyTree) -> PyTree:
        """Return factor * (operator v)."""
        product = self.operator.matvec(v)
        return jax.tree.map(lambda leaf: jnp.asarray(self.factor, leaf.dtype) * leaf, product)


@register("first", "second")
@dataclass(frozen=True, eq=False, repr=False)
class Sum(Operator):
    """The sum of two operators on vectors of one shape."""

    first: Operator
    second: Operator

    def __post_init__(self) -> None:
        if not trees.same_shapes(self.first.like, self.second.like):
            raise ValueError(
                f"operators that are added must have vectors of one shape, got {self.first.like} "
                f"and {self.second.like}"
            )

    @functools.cached_property
    def like(self) -> PyTree:
        """The first operator's own."""
        return self.first.like

    @property
    def traceable(self) -> bool:
        """Whether both are."""
        return self.first.traceable and self.second.traceable

    def require_labels(self, where: str = "") -> None:
        """Raise as one of the operators does."""
        self.first.require_labels(where)
        self.second.require_labels(where)

    def parts(self) -> Iterator[tuple[Any, Operator]]:
        """Yield the parts of both."""
        yield from self.first.parts()
        yield from self.second.parts()

    def flat_products(self, vectors: Array) -> tuple[Array, Array]:
        """Return the sums of both operators'."""
        products, sizes = self.first.flat_products(vectors)
        others, more = self.second.flat_products(vectors)
        return products + others, sizes + more

    def matvec(self, v: PyTree) -> PyTree:
        """Return the sum of both products."""
        return jax.tree.map(jnp.add, self.first.matvec(v), self.second.matvec(v))
