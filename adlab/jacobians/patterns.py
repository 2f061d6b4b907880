"""Which entries of a Jacobian can differ from zero: read off the program of its derivative.

The program of J t, as JAX writes it down, is linear in the tangents t. An element of J t that a
tangent doesn't reach in that program has a zero in its column. Rules of functions' own are in the
program like all others; where one is for reverse mode alone, the program of s^T J is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from adlab.core.calls import check_arguments
from adlab.core.jaxprs import equations
from adlab.core.trees import size
from adlab.core.types import Argnums, PyTree, TreeFn
from adlab.jacobians._facts import UNKNOWN, Fact
from adlab.jacobians._flow import flow
from adlab.jacobians._rows import identity, offsets, stacked
from adlab.jacobians.selection import Selection, select

__all__ = ["find", "sparsity", "types_of"]


def sparsity(
    fun: TreeFn, *args: PyTree, argnums: Argnums = 0, has_aux: bool = False
) -> sparse.csr_array:
    """Return which entries of the Jacobian of `fun` can differ from zero, at any x.

    Nothing that can be nonzero is left out; an entry that is in the pattern may still be zero. What
    isn't known of an operation is taken to be dense. Numbers that don't depend on x, as indices and
    masks, are followed; a pattern holds for their values. Multiplication by a zero is taken to give
    zero.

    >>> sparsity(lambda x: x[1:] * x[:-1], jnp.ones(4)).toarray().astype(int)
    array([[1, 1, 0, 0],
           [0, 1, 1, 0],
           [0, 0, 1, 1]])

    Args:
      fun: as for `jacobian`.
      *args: its arguments; of those that are shapes (`jax.ShapeDtypeStruct`) and of those to
        differentiate no value is used.
      argnums: which of them to differentiate.
      has_aux: whether `fun` returns (value, auxiliary data).

    Returns:
      Booleans of shape (m, n). Row i is number i of the value, and column j number j of the
      arguments that are differentiated: leaves of trees in the order of `jax.tree.leaves`, each in
      row-major order, laid end to end.

    Raises:
      ValueError, TypeError: as `jacobian`.

    Source: Griewank & Walther (2008), Evaluating Derivatives, chapter 7 (propagation of index
    domains), doi:10.1137/1.9780898717761.
    """
    check_arguments(argnums, has_aux)
    leaves, tree = jax.tree.flatten(args)
    shapes = [leaf for leaf in leaves if isinstance(leaf, jax.ShapeDtypeStruct)]
    found: list[sparse.csr_array] = []

    def traced(*values: Any) -> None:
        given = iter(values)
        full = [next(given) if isinstance(x, jax.ShapeDtypeStruct) else x for x in leaves]
        chosen = select(fun, argnums, has_aux, jax.tree.unflatten(tree, full), {})
        found.append(find(chosen))

    if shapes:
        jax.eval_shape(traced, *shapes)
    else:
        traced()
    return found[0]


def find(chosen: Selection) -> sparse.csr_array:
    """Return the pattern of the Jacobian as a boolean matrix (m, n), sorted by rows and columns."""
    x, y = types_of(chosen.x), types_of(chosen.shape)
    try:
        pattern = _reached(lambda x, t: jax.jvp(chosen.fun, (x,), (t,))[1], x, x)
    except (TypeError, ValueError, NotImplementedError) as error:
        # A rule of a function's own may be for reverse mode alone.
        try:
            pattern = _reached(lambda x, s: jax.vjp(chosen.fun, x)[1](s)[0], x, y).T
        except (TypeError, ValueError, NotImplementedError):
            raise error from None
    found = sparse.csr_array(pattern)
    found.sum_duplicates()
    return found


def types_of(tree: PyTree) -> PyTree:
    """Return shapes and dtypes of a tree."""

    def one(leaf: Any) -> jax.ShapeDtypeStruct:
        kind = jax.typeof(leaf) if not isinstance(leaf, jax.ShapeDtypeStruct) else leaf
        return jax.ShapeDtypeStruct(np.shape(leaf), jnp.result_type(leaf), weak_type=kind.weak_type)

    return jax.tree.map(one, tree)


def _reached(linear: Callable[..., PyTree], x: PyTree, seeds: PyTree) -> Any:
    """Return which numbers of linear(x, seeds) depend on which numbers of the seeds."""
    program = jax.make_jaxpr(linear)(x, seeds)
    if any(equation.primitive.name == "custom_lin" for equation in equations(program.jaxpr)):
        raise TypeError("a rule for reverse mode has no program in forward mode")
    sizes = [leaf.size for leaf in jax.tree.leaves(seeds)]
    width = size(seeds)
    facts = [UNKNOWN] * len(jax.tree.leaves(x))
    facts += [
        Fact(identity(count, start, width), None)
        for count, start in zip(sizes, offsets(sizes), strict=True)
    ]
    with jax.ensure_compile_time_eval():
        found = flow(program, facts)
    results = [int(np.prod(aval.shape)) for aval in program.out_avals]
    return stacked([fact.pattern for fact in found], results, width)
