"""In which order to eliminate the vertices of a graph, and what that costs.

Eliminating vertex v multiplies the derivative on each edge into v with that on each edge out of v:
|pred(v)| |succ(v)| multiplications where all are numbers. Forward mode eliminates in topological
order, reverse mode in the opposite one; the cheapest order is NP-hard to find.

The searches see what is left of a graph through `Remainder` alone. Here it is a `Dag` whose edges
are numbers; in `elimination`, a graph of arrays, whose edges have sizes and structure.

Source: Griewank & Walther (2008), Evaluating Derivatives, chapters 9 and 10,
doi:10.1137/1.9780898717761.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Literal, NamedTuple, Protocol, Self, TypeVar, get_args

from adlab.core import checks

__all__ = [
    "LIMIT",
    "Dag",
    "Order",
    "Remainder",
    "dag",
    "dense_sweeps",
    "find_order",
    "multiplications",
    "search_order",
    "total",
]

Order = Literal["forward", "reverse", "markowitz", "optimal"]
LIMIT = 18  # vertices up to which "optimal" is searched for


class Remainder(Protocol):
    """What is left of a graph while its vertices are eliminated, as a search sees it."""

    @property
    def between(self) -> tuple[int, ...]:
        """The vertices to eliminate, in topological order."""

    def price(self, v: int) -> int:
        """Return what eliminating v would cost."""

    def rank(self, v: int) -> Any:
        """Return what "markowitz" takes the least of."""

    def eliminate(self, v: int) -> int:
        """Eliminate v; return its cost."""

    def final_cost(self) -> int:
        """Return what the result costs when all vertices are eliminated."""

    def reached(self, v: int) -> tuple[Hashable, Callable[[], Self]]:
        """Return what would be left without v: what tells it apart, and itself when called."""

    def copy(self) -> Self:
        """Return another one, to eliminate from."""


_Left = TypeVar("_Left", bound=Remainder)


def search_order(left: _Left, order: str, limit: int) -> tuple[int, ...]:
    """Return the vertices in the `Order` named, as `find_order` and `eliminate` describe them.

    Raises:
      ValueError: an unknown name; "optimal" with more vertices than `limit`.
    """
    checks.one_of("order", order, get_args(Order))
    between = left.between
    if order == "forward":
        return between
    if order == "reverse":
        return between[::-1]
    return _markowitz(left) if order == "markowitz" else _optimal(left, limit)


def total(left: _Left, order: Iterable[int]) -> int:
    """Return all multiplications of an order, those of the result too."""
    left = left.copy()
    return sum([left.eliminate(v) for v in order]) + left.final_cost()


def _markowitz(left: _Left) -> tuple[int, ...]:
    left, waiting, found = left.copy(), list(left.between), []
    while waiting:
        v = min(waiting, key=left.rank)
        left.eliminate(v)
        waiting.remove(v)
        found.append(v)
    return tuple(found)


def _optimal(left: _Left, limit: int) -> tuple[int, ...]:
    """Search what can be left of the graph, in layers, keeping the cheapest way to each.

    A way that is no cheaper than the best of the other orders is given up: costs only grow.
    """
    between = left.between
    if len(between) > limit:
        raise ValueError(
            f'order="optimal" must have at most {limit} vertices to eliminate, got {len(between)}; '
            'take order="markowitz"'
        )
    candidates = [between, between[::-1], _markowitz(left)]
    best = min(candidates, key=lambda order: total(left, order))
    bound = total(left, best)
    layer: dict[Hashable, tuple[int, tuple[int, ...], _Left]] = {(): (0, (), left)}
    for _ in between:
        following: dict[Hashable, tuple[int, tuple[int, ...], _Left]] = {}
        for spent, order, state in layer.values():
            for v in between:
                if v in order or (cost := spent + state.price(v)) >= bound:
                    continue
                key, after = state.reached(v)
                known = following.get(key)
                if known is None or cost < known[0]:
                    following[key] = (cost, (*order, v), after() if known is None else known[2])
        layer = following
    for spent, order, state in layer.values():
        if spent + state.final_cost() < bound:
            best, bound = order, spent + state.final_cost()
    return best


class Dag(NamedTuple):
    """A graph as sets, its vertices numbered in topological order.

    Attributes:
      successors: of every vertex.
      inputs: vertices without predecessors, which are never eliminated.
      outputs: vertices without successors, which are never eliminated.
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


class _Numbers:
    """A graph of numbers while vertices are eliminated: neighbours and what is done as bit masks.

    The set of eliminated vertices fixes what is left, whatever their order.
    """

    def __init__(self, graph: Dag) -> None:
        self.between, self.done = graph.between, 0
        self.succ = [sum(1 << b for b in out) for out in graph.successors]
        self.pred = [0] * len(graph.successors)
        for a, out in enumerate(graph.successors):
            for b in out:
                self.pred[b] |= 1 << a

    def price(self, v: int) -> int:
        return self.pred[v].bit_count() * self.succ[v].bit_count()

    def rank(self, v: int) -> int:
        return self.price(v)

    def eliminate(self, v: int) -> int:
        cost = self.price(v)
        before, after, bit = self.pred[v], self.succ[v], 1 << v
        for a in _bits(before):
            self.succ[a] = (self.succ[a] | after) & ~bit
        for b in _bits(after):
            self.pred[b] = (self.pred[b] | before) & ~bit
        self.pred[v] = self.succ[v] = 0
        self.done |= bit
        return cost

    def final_cost(self) -> int:
        return 0

    def reached(self, v: int) -> tuple[int, Callable[[], _Numbers]]:
        def after() -> _Numbers:
            new = self.copy()
            new.eliminate(v)
            return new

        return self.done | 1 << v, after

    def copy(self) -> _Numbers:
        new = object.__new__(_Numbers)
        new.between, new.done = self.between, self.done
        new.succ, new.pred = self.succ.copy(), self.pred.copy()
        return new


def _bits(mask: int) -> Iterable[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def multiplications(graph: Dag, order: Sequence[int]) -> int:
    """Return the multiplications of an elimination in this order.

    >>> diamond = dag([(0, 1), (1, 2), (1, 3), (2, 4), (3, 4), (4, 5)], (0,), (5,))
    >>> [multiplications(diamond, order) for order in [(1, 2, 3, 4), (4, 3, 2, 1), (2, 3, 1, 4)]]
    [5, 5, 4]

    Raises:
      ValueError: the order isn't one of the vertices between inputs and outputs.
    """
    if sorted(order) != sorted(graph.between):
        raise ValueError(f"order must hold each of {list(graph.between)} once, got {list(order)}")
    return total(_Numbers(graph), order)


def dense_sweeps(graph: Dag) -> tuple[int, int]:
    """Return what plain forward and reverse mode cost: inputs or outputs times all edges."""
    edges = sum(map(len, graph.successors))
    return len(graph.inputs) * edges, len(graph.outputs) * edges


def find_order(graph: Dag, order: Order) -> tuple[int, ...]:
    """Return the vertices in the order named.

    "markowitz" takes the cheapest vertex next, the first of equals: greedy, and it can lose to both
    modes. "optimal" is exact, by a search over sets of eliminated vertices.

    >>> diamond = dag([(0, 1), (1, 2), (1, 3), (2, 4), (3, 4), (4, 5)], (0,), (5,))
    >>> find_order(diamond, "reverse"), find_order(diamond, "markowitz")
    ((4, 3, 2, 1), (2, 3, 1, 4))

    Raises:
      ValueError: an unknown name; "optimal" with more than LIMIT vertices.
    """
    return search_order(_Numbers(graph), order, LIMIT)
