"""A small graph on which neither mode is the best, and one step of the order that is.

A vertex costs |pred| |succ| as it goes: forward 4 + 2 + 2 + 4 = 12, in reverse 4 + 4 + 2 + 4 = 14,
from the middle outward 1 + 2 + 2 + 4 = 9.
"""

from __future__ import annotations

from typing import Any, get_args

import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from adlab import drawing, graphs
from adlab.figures.labels import text
from adlab.graphs import orders
from adlab.lab import Text, Verdict

Arrays = dict[str, np.ndarray]
POINT = (0.8, 1.5)
SHOWN = 1  # the step in which an edge is new and another one changes


def function(w1: Any, w2: Any) -> tuple:
    """Return two numbers of two, by way of four others."""
    v1 = w1 * w2
    v4 = jnp.sin(v1) * (w1 * v1)
    return jnp.log(v4), jnp.sqrt(v4)


def run() -> Arrays:
    """Return what each order costs, the steps of the best one, and the Jacobian by it.

    `mixed_products` has a row per product: vertex, parent, child, the derivatives first, second,
    before (NaN for fill-in) and after of a `PathProduct`, and what the vertex costs.
    """
    graph = graphs.build(function, *POINT)
    found = [graphs.eliminate(graph, order) for order in get_args(orders.Order)]
    rows = [
        [step.vertex, p.parent, p.child, p.first, p.second,
         np.nan if p.before is None else p.before, p.after, step.multiplications]
        for step in found[-1].steps(*POINT) for p in step.products
    ]  # fmt: skip
    return {
        "mixed_costs": np.array([elimination.multiplications for elimination in found]),
        "mixed_products": np.array(rows, dtype=np.float64),
        "mixed_jacobian": np.array(found[-1].jacobian(*POINT)),
    }


def verdict(data: Arrays) -> Verdict:
    """Judge what the best order costs over the better mode."""
    costs = data["mixed_costs"]
    ratio = costs[-1] / min(costs[:2])
    return Verdict.at_most(
        Text("elimination_orders.claim.mixed"), ratio, ratio, ratio, 0.8, basis="arithmetic"
    )


def stored(data: Arrays) -> tuple[graphs.EliminationStep, ...]:
    """Return the steps as they were run."""
    graph = graphs.build(function, *POINT)
    edges, found = set(graph.edges), []
    rows = data["mixed_products"]
    for vertex in dict.fromkeys(rows[:, 0].astype(int)):
        mine = rows[rows[:, 0] == vertex]
        products = tuple(
            graphs.PathProduct(int(a), int(b), first, second, None if np.isnan(old) else old, new)
            for _, a, b, first, second, old, new, _ in mine
        )
        edges |= {(p.parent, p.child) for p in products}
        edges = {pair for pair in edges if vertex not in pair}
        step = graphs.EliminationStep(vertex, int(mine[0, 7]), products, tuple(sorted(edges)))
        found.append(step)
    return tuple(found)


def plot(data: Arrays) -> Figure:
    """Draw one step of the best order, with what the orders cost above."""
    forward, reverse, _, best = data["mixed_costs"]
    graph = graphs.build(function, *POINT)
    title = text("elimination_orders.figure.mixed", forward=forward, reverse=reverse, best=best)
    return drawing.draw_elimination(graph, stored(data), SHOWN, title=title)
