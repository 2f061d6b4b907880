"""In which order to eliminate the vertices of a graph, and what that costs.

Eliminating vertex v multiplies the derivative on each edge into v with that on each edge out of v:
|pred(v)| |succ(v)| multiplications where all are numbers. Forward mode eliminates in topological
order, reverse mode in the opposite one; the cheapest order is NP-hard to find.

Source: Griewank & Walther (2008), Evaluating Derivatives, chapters 9 and 10,
doi:10.1137/1.9780898717761.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, get_args

from adlab.core import checks

__all__ = ["LIMIT", "Dag", "Order", "count", "dag", "dense_sweeps", "find_order"]

Order = Literal["forward", "reverse", "markowitz", "optimal"]
LIMIT = 18  # vertices up to which "optimal" is searched for


class Dag(NamedTuple):
    """A graph as sets: successors of every vertex, numbered in topological order.

    inputs and outputs are never eliminated; every other vertex lies between them.
    """

    successors: tuple[frozenset[int], ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    @property
    def between(self) -> tuple[int, ...]:
        """The vertices to eliminate, in topological order."""
        ends = {*self.inputs, *self.outputs}
        return tuple(v for v in range(len(self.successors)) if v not in ends)


def dag(edges: Iterable[tuple[int, int]], inputs: Sequence[int], outputs: Sequence[int]) -> Dag:
    """Return the graph of these edges (parent, child), where parents have smaller numbers.

    Raises:
      ValueError: an edge that doesn't go up; an output with successors, or an input with a parent.
    """
    edges = list(edges)
    size = 1 + max([*inputs, *outputs, *(b for _, b in edges)])
    successors: list[set[int]] = [set() for _ in range(size)]
    for a, b in edges:
        if a >= b:
            raise ValueError(f"edges must go from smaller to larger numbers, got {(a, b)}")
        successors[a].add(b)
    if any(successors[out] for out in outputs):
        raise ValueError("outputs must have no successors: give such a value a copy as the output")
    return Dag(tuple(map(frozenset, successors)), tuple(inputs), tuple(outputs))


class _State:
    """A graph while vertices are eliminated: predecessors and successors as bit masks."""

    def __init__(self, graph: Dag) -> None:
        size = len(graph.successors)
        self.succ = [sum(1 << b for b in out) for out in graph.successors]
        self.pred = [0] * size
        for a, out in enumerate(graph.successors):
            for b in out:
                self.pred[b] |= 1 << a

    def cost(self, v: int) -> int:
        return self.pred[v].bit_count() * self.succ[v].bit_count()

    def eliminate(self, v: int) -> int:
        """Eliminate v; return its cost."""
        cost = self.cost(v)
        before, after, bit = self.pred[v], self.succ[v], 1 << v
        for a in _bits(before):
            self.succ[a] = (self.succ[a] | after) & ~bit
        for b in _bits(after):
            self.pred[b] = (self.pred[b] | before) & ~bit
        self.pred[v] = self.succ[v] = 0
        return cost

    def copy(self) -> _State:
        new = object.__new__(_State)
        new.succ, new.pred = self.succ.copy(), self.pred.copy()
        return new


def _bits(mask: int) -> Iterable[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def count(graph: Dag, order: Sequence[int]) -> int:
    """Return the multiplications of an elimination in this order.

    Raises:
      ValueError: the order isn't one of the vertices between inputs and outputs.
    """
    if sorted(order) != sorted(graph.between):
        raise ValueError(f"order must hold each of {list(graph.between)} once, got {list(order)}")
    state = _State(graph)
    return sum(state.eliminate(v) for v in order)


def dense_sweeps(graph: Dag) -> tuple[int, int]:
    """Return what plain forward and reverse mode cost: inputs or outputs times all edges."""
    edges = sum(map(len, graph.successors))
    return len(graph.inputs) * edges, len(graph.outputs) * edges


def find_order(graph: Dag, order: Order) -> tuple[int, ...]:
    """Return the vertices in the order named.

    "markowitz" takes the cheapest vertex next, the first of equals: greedy, and it can lose to both
    modes. "optimal" is exact, by a search over sets of eliminated vertices.

    Raises:
      ValueError: an unknown name; "optimal" with more than LIMIT vertices.
    """
    checks.one_of("order", order, get_args(Order))
    between = graph.between
    if order == "forward":
        return between
    if order == "reverse":
        return between[::-1]
    return _markowitz(graph) if order == "markowitz" else _optimal(graph)


def _markowitz(graph: Dag) -> tuple[int, ...]:
    state, left, found = _State(graph), list(graph.between), []
    while left:
        v = min(left, key=state.cost)
        state.eliminate(v)
        left.remove(v)
        found.append(v)
    return tuple(found)


def _optimal(graph: Dag) -> tuple[int, ...]:
    """Search sets of eliminated vertices, which fix what is left, in layers by their size."""
    between = graph.between
    if len(between) > LIMIT:
        raise ValueError(
            f'order="optimal" must have at most {LIMIT} vertices to eliminate, got {len(between)}; '
            'take order="markowitz"'
        )
    candidates = [between, between[::-1], _markowitz(graph)]
    best = min(candidates, key=lambda order: count(graph, order))
    bound = count(graph, best)
    layer: dict[int, tuple[int, tuple[int, ...], _State]] = {0: (0, (), _State(graph))}
    for _ in between:
        following: dict[int, tuple[int, tuple[int, ...], _State]] = {}
        for done, (spent, order, state) in layer.items():
            for v in between:
                if done >> v & 1:
                    continue
                cost, reached = spent + state.cost(v), done | 1 << v
                known = following.get(reached)
                if cost < bound and (known is None or cost < known[0]):
                    if known is None:
                        after = state.copy()
                        after.eliminate(v)
                    else:
                        after = known[2]
                    following[reached] = (cost, (*order, v), after)
        layer = following
    return min(layer.values())[1] if layer else best
