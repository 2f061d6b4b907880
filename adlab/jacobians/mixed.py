"""Jacobians by vertex elimination in the order that needs the fewest multiplications."""

from __future__ import annotations

from typing import Any

import jax

from adlab.core.jaxprs import equations
from adlab.core.types import PyTree
from adlab.graphs import Elimination, build, eliminate
from adlab.graphs.elimination import ARRAY_LIMIT
from adlab.jacobians.selection import Selection

__all__ = ["cheapest", "mixed", "num_steps"]

_ORDERS = ("forward", "reverse", "markowitz")


def cheapest(chosen: Selection) -> Elimination:
    """Return the elimination with the fewest multiplications among the orders that are searched.

    These are forward, reverse and Markowitz's, and the optimal one of a graph that is small enough.
    """
    shapes = jax.eval_shape(lambda x: x, chosen.x)  # a graph of values would be evaluated
    graph = build(chosen.fun, shapes)
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
    return sum(1 for _ in equations(jax.make_jaxpr(chosen.fun)(chosen.x).jaxpr))
