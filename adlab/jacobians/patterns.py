"""Which entries of a Jacobian can differ from zero: read off the program of its derivative.

The program of J t, as JAX writes it down, is linear in the tangents t. An element of J t that a
tangent doesn't reach in that program has a zero in its column. Rules of functions' own are in the
program like all others; where one is for reverse mode alone, the program of s^T J is read.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import jax
import numpy as np
from jax.extend import core as jex
from scipy import sparse

from adlab.core.calls import check_arguments
from adlab.core.jaxprs import equations
from adlab.core.types import Argnums, PyTree, TreeFn
from adlab.jacobians._facts import UNKNOWN, Fact
from adlab.jacobians._flow import flow
from adlab.jacobians._rows import identity, offsets, stacked
from adlab.jacobians.selection import Selection, select

__all__ = ["find", "has_mode", "sparsity", "types"]

# What JAX raises where it can't differentiate in a mode: rules for reverse mode alone, and loops of
# unknown length, which have forward mode only.
_NO_MODE = (TypeError, ValueError, NotImplementedError)


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
        chosen = select(fun, argnums, has_aux, jax.tree.unflatten(tree, full), {}, "sparsity")
        found.append(find(chosen)[0])

    if shapes:
        jax.eval_shape(traced, *shapes)
    else:
        traced()
    return found[0]


def find(chosen: Selection) -> tuple[sparse.csr_array, bool]:
    """Return the pattern of the Jacobian, booleans (m, n), and whether JAX has forward mode."""
    try:
        program = _program(chosen, "forward")
    except _NO_MODE as error:
        try:
            program = _program(chosen, "reverse")
        except _NO_MODE:
            raise error from None
        return sparse.csr_array(_reached(program, chosen.shape).T), False
    return _reached(program, chosen.x), True


def has_mode(chosen: Selection, mode: Literal["forward", "reverse"]) -> bool:
    """Tell whether JAX can differentiate the function in a mode."""
    try:
        _program(chosen, mode)
    except _NO_MODE:
        return False
    return True


def _program(chosen: Selection, mode: Literal["forward", "reverse"]) -> jex.ClosedJaxpr:
    """Return the program of J t, or of s^T J, whose last inputs are t or s."""
    x = types(chosen.x)
    if mode == "reverse":
        pulled = lambda x, s: jax.vjp(chosen.fun, x)[1](s)[0]  # noqa: E731
        return jax.make_jaxpr(pulled)(x, types(chosen.shape))
    program = jax.make_jaxpr(lambda x, t: jax.jvp(chosen.fun, (x,), (t,))[1])(x, x)
    if any(equation.primitive.name == "custom_lin" for equation in equations(program.jaxpr)):
        raise TypeError("a rule for reverse mode alone has no program in forward mode")
    return program


def types(tree: PyTree) -> PyTree:
    """Return shapes and dtypes of a tree."""

    def one(leaf: Any) -> jax.ShapeDtypeStruct:
        kind = leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jax.typeof(leaf)
        return jax.ShapeDtypeStruct(kind.shape, kind.dtype, weak_type=kind.weak_type)

    return jax.tree.map(one, tree)


def _reached(program: jex.ClosedJaxpr, seeds: PyTree) -> sparse.csr_array:
    """Return which outputs of a program depend on which numbers of the seeds, its last inputs."""
    sizes = [math.prod(np.shape(leaf)) for leaf in jax.tree.leaves(seeds)]
    facts = [UNKNOWN] * (len(program.in_avals) - len(sizes))
    facts += [
        Fact(identity(count, start, sum(sizes)), None)
        for count, start in zip(sizes, offsets(sizes), strict=True)
    ]
    results = [math.prod(aval.shape) for aval in program.out_avals]
    if _writes_in_place(program):
        return sparse.csr_array(np.ones((sum(results), sum(sizes)), bool))
    found = _followed(program, facts)
    pattern = sparse.csr_array(stacked([fact.pattern for fact in found], results, sum(sizes)))
    pattern.sum_duplicates()
    return pattern


def _followed(program: jex.ClosedJaxpr, facts: list[Fact]) -> list[Fact]:
    """Return what is known of a program's outputs.

    Numbers of elements are computed by JAX. Inside of `jax.shard_map` without `jax.jit` it would do
    so on all devices, with results that can't be read: only under a trace it doesn't.
    """
    found: list[Fact] = []

    def traced() -> None:
        with jax.ensure_compile_time_eval():
            found.extend(flow(program, facts))

    jax.eval_shape(traced)
    return found


def _writes_in_place(program: jex.ClosedJaxpr) -> bool:
    """Tell whether a program has references, whose content changes behind what is followed."""
    return any(
        hasattr(atom.aval, "inner_aval")
        for equation in equations(program.jaxpr)
        for atom in (*equation.invars, *equation.outvars)
    )
