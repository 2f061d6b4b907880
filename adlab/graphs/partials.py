"""Derivatives on the edges of a graph of arrays, which keep the structure that they have.

An edge from a node of n numbers to one of m is

* Diagonal: m = n, and entry i depends on entry i alone, as for elementwise functions;
* Dense: a matrix (m, n);
* Map: a linear map known by what it does to vectors: broadcasts, sums, transposes, gathers,
  convolutions. Its work is the multiplications per vector.

What a product costs depends on kinds and sizes alone, so that costs are known before anything is
computed. Multiplications by 1 are counted as any other.
A map made of more than LEAF_LIMIT others is made a matrix: where paths part and meet again and
again, it would be applied once per path.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp

__all__ = ["Edge", "Form", "add", "add_cost", "compose", "compose_cost", "dense", "dense_cost"]

LEAF_LIMIT = 64


class Form(NamedTuple):
    """Kind and size of an edge: from n = `cols` to m = `rows` numbers; work per vector.

    leaves: how many edges a map chains or sums, each as often as it is applied.
    """

    kind: Literal["diagonal", "dense", "map"]
    rows: int
    cols: int
    work: int
    leaves: int = 1


@dataclass(frozen=True, eq=False)
class Edge:
    """A derivative: its form, and what it is.

    entries: of a diagonal (n,), or None for ones. matrix: of a dense one (m, n). push: (n, k) ->
    (m, k) on columns, and pull: (k, m) -> (k, n) on rows, of a map.
    """

    form: Form
    entries: Any = None
    matrix: Any = None
    push: Callable[[Any], Any] | None = None
    pull: Callable[[Any], Any] | None = None

    def on_columns(self, columns: Any) -> Any:
        """Return the product with columns (n, k)."""
        if self.form.kind == "dense":
            return self.matrix @ columns
        if self.form.kind == "diagonal":
            return columns if self.entries is None else self.entries[:, None] * columns
        assert self.push is not None
        return self.push(columns)

    def on_rows(self, rows: Any) -> Any:
        """Return the product of rows (k, m) with the edge."""
        if self.form.kind == "dense":
            return rows @ self.matrix
        if self.form.kind == "diagonal":
            return rows if self.entries is None else rows * self.entries
        assert self.pull is not None
        return self.pull(rows)


def compose_cost(second: Form, first: Form) -> tuple[Form, int]:
    """Return the form of second after first, and the multiplications that it takes.

    Maps are chained among themselves and with diagonals: their work is done when they meet a
    matrix, on its rows or columns, or on their own if these are fewer. Chains that grow too long
    are made matrices.
    """
    rows, cols = second.rows, first.cols
    if "dense" in (first.kind, second.kind):
        vectors, other = (cols, second) if first.kind == "dense" else (rows, first)
        cost = min(vectors * other.work, _opened_cost(second, first))
        return Form("dense", rows, cols, rows * cols), int(cost)
    if second.kind == first.kind == "diagonal":
        return first, first.rows
    chain = _chain(second, first)
    return dense_cost(chain) if chain.leaves > LEAF_LIMIT else (chain, 0)


def _chain(second: Form, first: Form) -> Form:
    leaves = second.leaves + first.leaves
    return Form("map", second.rows, first.cols, second.work + first.work, leaves)


def _opened_cost(second: Form, first: Form) -> float:
    """Return what a product with a matrix takes if the map is made a matrix first."""
    other = second if first.kind == "dense" else first
    product = second.rows * second.cols * first.cols
    return dense_cost(other)[1] + product if other.kind == "map" else math.inf


def compose(second: Edge, first: Edge, dtype: Any) -> Edge:
    """Return the derivative along first, then second."""
    form, cost = compose_cost(second.form, first.form)
    lazy = "dense" not in (second.form.kind, first.form.kind)
    if not lazy and cost == _opened_cost(second.form, first.form):
        matrix = second.matrix if first.matrix is None else first.matrix
        return Edge(
            form, matrix=dense(second, matrix.dtype).matrix @ dense(first, matrix.dtype).matrix
        )
    if form.kind == "diagonal":
        if first.entries is None or second.entries is None:
            return second if first.entries is None else first
        return Edge(form, entries=second.entries * first.entries)
    if lazy:
        chain = Edge(
            _chain(second.form, first.form),
            push=lambda columns: second.on_columns(first.on_columns(columns)),
            pull=lambda rows: first.on_rows(second.on_rows(rows)),
        )
        return chain if form.kind == "map" else dense(chain, dtype)
    if first.form.kind == "dense":
        return Edge(form, matrix=second.on_columns(first.matrix))
    return Edge(form, matrix=first.on_rows(second.matrix))


def dense_cost(form: Form) -> tuple[Form, int]:
    """Return the form of an edge as a matrix, and the multiplications that forming it takes."""
    made = Form("dense", form.rows, form.cols, form.rows * form.cols)
    return made, form.work * min(form.rows, form.cols) if form.kind == "map" else 0


def dense(edge: Edge, dtype: Any) -> Edge:
    """Return an edge as a matrix: column by column or row by row, whichever are fewer."""
    form, _ = dense_cost(edge.form)
    if edge.form.kind == "dense":
        return edge
    if edge.form.kind == "diagonal":
        entries = jnp.ones(form.rows, dtype) if edge.entries is None else edge.entries
        return Edge(form, matrix=jnp.diag(entries))
    if form.cols <= form.rows:
        return Edge(form, matrix=edge.on_columns(jnp.eye(form.cols, dtype=dtype)))
    return Edge(form, matrix=edge.on_rows(jnp.eye(form.rows, dtype=dtype)))


def add_cost(one: Form, other: Form) -> tuple[Form, int]:
    """Return the form of a sum of derivatives between the same nodes, and its multiplications."""
    if one.kind == other.kind == "diagonal":
        return one, 0
    if (
        one.kind != "dense"
        and other.kind != "dense"
        and one.work + other.work < one.rows * one.cols
        and one.leaves + other.leaves <= LEAF_LIMIT
    ):
        leaves = one.leaves + other.leaves
        return Form("map", one.rows, one.cols, one.work + other.work, leaves), 0
    made, first = dense_cost(one)
    return made, first + dense_cost(other)[1]


def add(one: Edge, other: Edge, dtype: Any) -> Edge:
    """Return the sum of two derivatives between the same nodes."""
    form, _ = add_cost(one.form, other.form)
    if form.kind == "map":
        return Edge(
            form,
            push=lambda columns: one.on_columns(columns) + other.on_columns(columns),
            pull=lambda rows: one.on_rows(rows) + other.on_rows(rows),
        )
    if form.kind == "diagonal":
        ones = jnp.ones(form.rows, dtype)
        first, second = (ones if e.entries is None else e.entries for e in (one, other))
        return Edge(form, entries=first + second)
    return Edge(form, matrix=dense(one, dtype).matrix + dense(other, dtype).matrix)
