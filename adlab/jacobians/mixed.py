"""Jacobians by vertex elimination in the order that needs the fewest multiplications."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.extend import core as jex

from adlab.core import flops
from adlab.graphs import Elimination, build, eliminate
from adlab.graphs.elimination import ARRAY_LIMIT
from adlab.jacobians.selection import Selection

__all__ = ["cheapest", "mixed", "num_steps"]

PyTree = Any
_ORDERS = ("forward", "reverse", "markowitz")


def cheapest(chosen: Selection) -> Elimination:
    """Return the elimination with the fewest multiplications among the orders that are searched.

    These are forward, reverse and Markowitz's, and the optimal one of a graph that is small enough.
    """
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(np.shape(leaf), jax.numpy.result_type(leaf)), chosen.x
    )
    graph = build(_with_arrays(chosen.fun, chosen.x), shapes)
    found = [eliminate(graph, order) for order in _ORDERS]
    if len(found[0].order) <= ARRAY_LIMIT:
        found.append(eliminate(graph, "optimal"))
    return min(found, key=lambda one: one.multiplications)


def mixed(chosen: Selection) -> tuple[PyTree, Any]:
    """Return the Jacobian by the cheapest elimination, and what is auxiliary."""
    blocks = jax.tree.leaves(cheapest(chosen).jacobian(chosen.x))
    width = len(jax.tree.leaves(chosen.x))
    rows = [blocks[start : start + width] for start in range(0, len(blocks), width)]
    return chosen.assemble(rows), chosen.full(chosen.x)[1] if chosen.has_aux else None


def num_steps(chosen: Selection) -> int:
    """Count the equations of the function, those within loops and calls included."""
    return sum(1 for _ in flops.equations(jax.make_jaxpr(chosen.fun)(chosen.x).jaxpr))


def _with_arrays(fun: Callable[[PyTree], PyTree], x: PyTree) -> Callable[[PyTree], PyTree]:
    """Return `fun` with the numbers that it closes over made arrays of one element.

    A graph takes a number for a literal of the program, which one that is being traced can't be.
    """
    closed, shape = jax.make_jaxpr(fun, return_shape=True)(x)
    tree = jax.tree.structure(shape)
    consts = [value[None] if _traced_number(value) else value for value in closed.consts]

    def program(x: PyTree) -> PyTree:
        own = [
            wide.reshape(()) if _traced_number(value) else value
            for value, wide in zip(closed.consts, consts, strict=True)
        ]
        results = jex.jaxpr_as_fun(jex.ClosedJaxpr(closed.jaxpr, own))(*jax.tree.leaves(x))
        return jax.tree.unflatten(tree, results)

    return program


def _traced_number(value: Any) -> bool:
    return isinstance(value, jax.core.Tracer) and np.ndim(value) == 0
