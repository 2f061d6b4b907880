"""Sparse Hessians: the sparse Jacobian of the gradient, which is symmetric."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

from adlab.core import _shardings, checks
from adlab.core.calls import bind, calling, check_arguments
from adlab.core.types import Argnums, PyTree
from adlab.jacobians._symmetry import rules_are_known
from adlab.jacobians.costs import ChunkSize
from adlab.jacobians.given import check_pattern
from adlab.jacobians.patterns import types
from adlab.jacobians.selection import select
from adlab.jacobians.sparse import sparse
from adlab.jacobians.transform import check_devices

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

    Columns are coloured, and one Hessian-vector product, forward mode over reverse mode, is taken
    for each colour: 3 for a tridiagonal Hessian of any size, k for blocks of k. Columns of one
    colour share no row or, where that takes fewer colours, leave each entry alone in one of its two
    places (a star colouring): 2 for an arrow, a full row and column beside a diagonal, instead of
    n; 5 for five points on a grid, instead of 7. Colouring takes one step for each entry. The
    pattern is that of the gradient's Jacobian, found as by `jacobian`.

    Of functions with a derivative rule that isn't JAX's own the first way alone is taken, and both
    places of an entry are computed: such a rule may be no derivative, and the matrix not symmetric.

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
    problems, doi:10.1007/BF02612334; Gebremedhin, Manne & Pothen (2005), What color is your
    Jacobian? Graph coloring for computing derivatives, doi:10.1137/S0036144504444711.
    """
    if not callable(fun):
        raise TypeError(f"fun must be callable, got {fun!r}")
    checks.chunk_size(chunk_size)
    check_arguments(argnums, has_aux)
    check_pattern(pattern, "sparse")
    plans: dict[Any, Any] = {}
    chunk = None if chunk_size == "auto" else chunk_size

    def bound(args: Any, kwargs: Any) -> tuple[Any, PyTree]:
        return bind("sparse_hessian", fun, args, kwargs, argnums=argnums, has_aux=has_aux)

    @functools.wraps(fun, updated=())
    def slope(*args: PyTree, **kwargs: Any) -> Any:
        own, x = bound(args, kwargs)
        return jax.grad(own.with_aux if has_aux else own, has_aux=has_aux)(x)

    @functools.wraps(fun, updated=())
    def hessian_of_fun(*args: PyTree, **kwargs: Any) -> Any:
        with calling("sparse_hessian", args):
            args, kwargs = _shardings.all_gathered((args, kwargs))
            own, x = bound(args, kwargs)
            chosen = select(slope, argnums, has_aux, args, kwargs)
            check_devices(chosen, "sparse")
            symmetric = rules_are_known(jax.make_jaxpr(own)(types(x)))
            matrix, aux = sparse(chosen, chunk, plans, pattern, symmetric=symmetric)
        return (matrix, aux) if has_aux else matrix

    return hessian_of_fun
