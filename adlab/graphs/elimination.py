"""Jacobians by vertex elimination: between forward and reverse mode, as the graph has it."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import jax

from adlab.core import checks
from adlab.core.types import PyTree
from adlab.graphs.graph import Graph
from adlab.graphs.local import local_edges, local_forms, work_dtype
from adlab.graphs.orders import Order, search_order, total
from adlab.graphs.partials import (
    Edge,
    Form,
    add,
    add_cost,
    compose,
    compose_cost,
    matrix_cost,
    to_matrix,
)

__all__ = ["ARRAY_LIMIT", "Elimination", "EliminationStep", "PathProduct", "eliminate"]

Pair = tuple[int, int]
_Value = TypeVar("_Value", Form, Edge)
ARRAY_LIMIT = 12  # vertices up to which "optimal" is searched for


class PathProduct(NamedTuple):
    """What the path through an eliminated vertex adds to the edge around it.

    Derivatives are numbers between numbers, else matrices (numbers of child, numbers of parent).

    Attributes:
      parent: index of the node before the vertex.
      child: index of the node after it.
      first: derivative of the vertex in the parent.
      second: derivative of the child in the vertex.
      before: derivative on the edge from parent to child; None where there was none: fill-in.
      after: before + second first.
    """

    parent: int
    child: int
    first: Any
    second: Any
    before: Any
    after: Any


class EliminationStep(NamedTuple):
    """A vertex that is eliminated.

    Attributes:
      vertex: index of its node.
      multiplications: that this takes.
      products: one per parent and child.
      edges: pairs (parent, child) that are left.
    """

    vertex: int
    multiplications: int
    products: tuple[PathProduct, ...]
    edges: tuple[Pair, ...]


@dataclass(frozen=True, eq=False)
class Elimination:
    """An order of elimination with its cost, known before running, and the Jacobian by it.

    Attributes:
      graph: whose Jacobian it is.
      order: indices of the graph's nodes, the first to eliminate first.
      multiplications: in all; those that form the final matrices are among them, those of the
        function and of the local derivatives aren't.
    """

    graph: Graph
    order: tuple[int, ...]
    multiplications: int

    def jacobian(self, *args: PyTree) -> PyTree:
        """Return the Jacobian of all outputs in all arguments at `args`; traceable.

        For each leaf of the result the tree of arguments, with leaves of shape result + argument:
        what `jax.jacrev` gives with all arguments in `argnums`.

        Raises:
          ValueError: `args` are of another structure, or a leaf is of another shape.
          TypeError: an argument or an output isn't real floating-point.
          RuntimeError: `order` leaves a vertex out; not with what `eliminate` returns.
        """
        checks.require_inexact("jacobian", args)
        for out in (self.graph.nodes[index] for index in self.graph.outputs):
            if not jax.numpy.issubdtype(out.dtype, jax.numpy.floating):
                raise TypeError(
                    f"jacobian: the output {out.name} must be real floating-point, got {out.dtype}"
                )
        edges = local_edges(self.graph, self.graph.values(*args))
        table = _Table(self.graph, edges, _Numbers(work_dtype(self.graph)))
        for vertex in self.order:
            table.eliminate(vertex)
        table.require_finished()
        rows = [
            jax.tree.unflatten(
                self.graph.in_tree,
                [self._block(table, out, source) for source in self.graph.inputs],
            )
            for out in self.graph.outputs
        ]
        return jax.tree.unflatten(self.graph.out_tree, rows)

    def steps(self, *args: PyTree) -> tuple[EliminationStep, ...]:
        """Return what happens to the graph at `args`, vertex by vertex in `order`.

        Raises:
          ValueError: `args` are of another structure, or a leaf is of another shape.
        """
        edges = local_edges(self.graph, self.graph.values(*args))
        dtype = work_dtype(self.graph)
        table = _Table(self.graph, edges, _Numbers(dtype))

        def entries(edge: Edge | None) -> Any:
            if edge is None:
                return None
            matrix = to_matrix(edge, dtype).matrix
            return matrix.reshape(()) if matrix.size == 1 else matrix

        found = []
        for v in self.order:
            old = dict(table.edges)
            pairs = [(a, b) for a in sorted(table.pred[v]) for b in sorted(table.succ[v])]
            cost = table.eliminate(v)
            products = tuple(
                PathProduct(a, b, *map(entries, (old[a, v], old[v, b], old.get((a, b)),
                                                 table.edges[a, b])))
                for a, b in pairs
            )  # fmt: skip
            found.append(EliminationStep(v, cost, products, tuple(table.edges)))
        return tuple(found)

    def _block(self, table: _Table[Edge], out: int, source: int) -> Any:
        nodes, dtype = self.graph.nodes, work_dtype(self.graph)
        shape = nodes[out].shape + nodes[source].shape
        if out == source:
            matrix = jax.numpy.eye(math.prod(nodes[out].shape), dtype=dtype)
        elif (source, out) in table.edges:
            matrix = to_matrix(table.edges[source, out], dtype).matrix
        else:
            matrix = jax.numpy.zeros(shape, dtype)
        return matrix.reshape(shape).astype(nodes[out].dtype)


def eliminate(graph: Graph, order: Order | Sequence[str] = "markowitz") -> Elimination:
    """Return the Jacobian of a graph by vertex elimination, with its cost.

    Edges keep their structure (`partials`), so that chains of elementwise functions cost what they
    should. On numbers the costs are those of `orders`: |pred| |succ| per vertex. That an output is
    needed further, stands twice or is an argument costs nothing. Steps between may be complex: a
    complex number counts as two real ones, holomorphic or not.

    >>> from adlab.graphs import build
    >>> graph = build(lambda a, b: jnp.exp(a * b) + a, 1.0, 2.0)
    >>> [eliminate(graph, order).multiplications for order in ("forward", "reverse")]
    [4, 3]

    Args:
      graph: any graph; its values aren't used.
      order: "forward" (topological), "reverse", "markowitz" (the cheapest vertex next, of equals
        that with the smallest neighbours: greedy), "optimal" (exact, up to ARRAY_LIMIT vertices),
        or names of nodes.

    Returns:
      The Elimination.

    Raises:
      ValueError: an unknown order; names that aren't those between inputs and outputs, each once;
        "optimal" with too many vertices.
    """
    table = _Table(graph, local_forms(graph), _Costs())
    if isinstance(order, str):
        found = search_order(table, order, ARRAY_LIMIT)
    else:
        found = tuple(graph.named(name).place for name in order)
        if sorted(found) != sorted(table.between):
            names = [graph.nodes[v].name for v in table.between]
            raise ValueError(f"order must hold each of {names} once, got {list(order)}")
    return Elimination(graph, found, total(table, found))


class _Algebra(Protocol[_Value]):
    """What an elimination does with the values on edges."""

    def compose(self, second: _Value, first: _Value) -> _Value: ...

    def add(self, one: _Value, other: _Value) -> _Value: ...


class _Costs:
    """Operations on forms."""

    def compose(self, second: Form, first: Form) -> Form:
        return compose_cost(second, first)[0]

    def add(self, one: Form, other: Form) -> Form:
        return add_cost(one, other)[0]


class _Numbers:
    """Operations on derivatives."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype

    def compose(self, second: Edge, first: Edge) -> Edge:
        return compose(second, first, self.dtype)

    def add(self, one: Edge, other: Edge) -> Edge:
        return add(one, other, self.dtype)


def _form(value: Form | Edge) -> Form:
    return value if isinstance(value, Form) else value.form


class _Table(Generic[_Value]):
    """The derivatives on all edges while vertices are eliminated.

    Results that no output needs are left out. An output that is needed further is a vertex to
    eliminate, too: it loses the edges to what it feeds and keeps those that enter it. An output
    that is an argument needs no edge: its derivative in itself is the identity.
    """

    def __init__(self, graph: Graph, edges: dict[Pair, _Value], algebra: _Algebra[_Value]) -> None:
        self.algebra: _Algebra[_Value] = algebra
        self.names = tuple(node.name for node in graph.nodes)
        self.inputs, self.targets = frozenset(graph.inputs), frozenset(graph.outputs)
        self.edges: dict[Pair, _Value] = {}
        self.pred: dict[int, set[int]] = {}
        self.succ: dict[int, set[int]] = {}
        live = set(graph.outputs)
        for a, b in reversed(edges):  # in the order of computation: b is decided before a
            if b in live:
                live.add(a)
        for (a, b), value in edges.items():
            if b in live:
                self._set(a, b, value)

    @property
    def between(self) -> tuple[int, ...]:
        linked = {v for v in self.pred if self.pred[v] and self.succ.get(v)}
        return tuple(sorted(linked - self.inputs))

    def _set(self, a: int, b: int, value: _Value) -> None:
        self.edges[a, b] = value
        self.succ.setdefault(a, set()).add(b)
        self.pred.setdefault(b, set()).add(a)

    def price(self, v: int) -> int:
        """Return what eliminating v would cost."""
        total = 0
        for a in self.pred[v]:
            for b in self.succ[v]:
                form, cost = compose_cost(_form(self.edges[v, b]), _form(self.edges[a, v]))
                total += cost
                if (a, b) in self.edges:
                    total += add_cost(_form(self.edges[a, b]), form)[1]
        return total

    def _fill(self, v: int) -> int:
        rows = sum(_form(self.edges[v, b]).rows for b in self.succ[v])
        return rows * sum(_form(self.edges[a, v]).cols for a in self.pred[v])

    def rank(self, v: int) -> tuple[int, int]:
        """Return the price of v, and of equals how many numbers lie between its neighbours."""
        return self.price(v), self._fill(v)

    def eliminate(self, v: int) -> int:
        """Eliminate v; return its cost."""
        cost = self.price(v)
        for a in sorted(self.pred[v]):
            for b in sorted(self.succ[v]):
                value = self.algebra.compose(self.edges[v, b], self.edges[a, v])
                if (a, b) in self.edges:
                    value = self.algebra.add(self.edges[a, b], value)
                self._set(a, b, value)
        for b in self.succ.pop(v):
            del self.edges[v, b]
            self.pred[b].discard(v)
        if v not in self.targets:
            for a in self.pred.pop(v):
                del self.edges[a, v]
                self.succ[a].discard(v)
        return cost

    def require_finished(self) -> None:
        """Raise RuntimeError unless what is left joins inputs to outputs: a lost path is a zero."""
        left = [
            f"{self.names[a]} -> {self.names[b]}"
            for a, b in self.edges
            if a not in self.inputs or b not in self.targets
        ]
        if left:
            raise RuntimeError(
                "an elimination must leave edges from inputs to outputs alone, got "
                f"{', '.join(left)}; take an order from eliminate"
            )

    def final_cost(self) -> int:
        """Return what it costs to write what is left as matrices; all vertices are eliminated."""
        self.require_finished()
        return sum(matrix_cost(_form(edge))[1] for edge in self.edges.values())

    def reached(self, v: int) -> tuple[Hashable, Callable[[], _Table[_Value]]]:
        """Return the edges left without v: their kinds depend on the order of those before it."""
        after = self.copy()
        after.eliminate(v)
        return frozenset(after.edges.items()), lambda: after

    def copy(self) -> _Table[_Value]:
        """Return another table, to eliminate from; the derivatives are shared."""
        new: _Table[_Value] = object.__new__(_Table)
        new.algebra, new.names = self.algebra, self.names
        new.inputs, new.targets = self.inputs, self.targets
        new.edges = dict(self.edges)
        new.pred = {v: set(s) for v, s in self.pred.items()}
        new.succ = {v: set(s) for v, s in self.succ.items()}
        return new
