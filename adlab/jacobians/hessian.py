"""Sparse Hessians: the sparse Jacobian of the gradient."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from adlab.core.calls import bind, calling, check_arguments
from adlab.core.types import Argnums, PyTree
from adlab.jacobians.costs import ChunkSize
from adlab.jacobians.transform import jacobian

__all__ = ["sparse_hessian"]


def sparse_hessian(
    fun: Callable[..., Any],
    *,
    chunk_size: ChunkSize = "auto",
    argnums: Argnums = 0,
    has_aux: bool = False,
    pattern: Any = None,
) -> Callable[..., Any]:
    """Return the Hessian of a scalar `fun` of n numbers, with few products where it is sparse.

    Columns that share no row are coloured alike, and one Hessian-vector product, forward mode over
    reverse mode, is taken for each colour: 3 for a tridiagonal Hessian of any size, n for one with
    a full row. The pattern is that of the gradient's Jacobian, found as by `jacobian`.

    >>> sparse_hessian(lambda x: jnp.sum(x[1:] * x[:-1] ** 2))(jnp.array([1.0, 2, 3])).todense()
    Array([[4., 2., 0.],
           [2., 6., 4.],
           [0., 4., 0.]], dtype=float32)

    Args:
      fun: differentiable twice by JAX, in reverse mode at least once; arguments are pytrees.
      chunk_size: how many products are taken at a time; "auto": all.
      argnums: which positional argument to differentiate, or a tuple of several.
      has_aux: whether `fun` returns a pair (value, auxiliary data).
      pattern: the entries that can differ from zero, as for `jacobian`, of shape (n, n).

    Returns:
      A function with the signature of `fun`. It returns what `jax.hessian` does, with leaves
      `jax.experimental.sparse.BCOO`: the tree of the arguments (a tuple of them for several
      argnums), each leaf of it such a tree again. With has_aux, a pair of that and the auxiliary
      data.

    Raises:
      ValueError: chunk_size < 1; argnums out of range or twice, no numbers in (when called); a
        pattern that has another shape or misses entries (when called).
      TypeError: an argument to differentiate or the value isn't real floating-point, or the value
        no scalar (when called); a pattern that isn't sparse, or is traced.

    Source: Coleman & Moré (1984), Estimation of sparse Hessian matrices and graph coloring
    problems, doi:10.1007/BF02612334.
    """
    if not callable(fun):
        raise TypeError(f"fun must be callable, got {fun!r}")
    check_arguments(argnums, has_aux)

    @functools.wraps(fun, updated=())
    def slope(*args: PyTree, **kwargs: Any) -> Any:
        bound, x = bind("sparse_hessian", fun, args, kwargs, argnums=argnums, has_aux=has_aux)
        return jax.grad(bound.with_aux if has_aux else bound, has_aux=has_aux)(x)

    options: dict[str, Any] = {"argnums": argnums, "has_aux": has_aux, "pattern": pattern}
    second = jacobian(slope, mode="sparse", chunk_size=chunk_size, **options)

    @functools.wraps(fun, updated=())
    def hessian_of_fun(*args: PyTree, **kwargs: Any) -> Any:
        with calling("sparse_hessian", args):
            bind("sparse_hessian", fun, args, kwargs, argnums=argnums, has_aux=has_aux)
            return second(*args, **kwargs)

    return hessian_of_fun
