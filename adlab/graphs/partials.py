"""Derivatives on the edges of a graph of arrays, which keep the structure that they have.

Eliminating vertex v replaces each path a -> v -> b by an edge a -> b (Griewank & Walther, 9.1):

    C_{ba}  <-  C_{ba} + C_{bv} C_{va}        (without the first term where there was no such edge),

after which no path leads through v, and the sum over paths is the same. When only inputs and
outputs are left, the edges between them are the Jacobian. Two operations suffice, `compose` and
`add`. An edge from a node of n numbers to one of m is

* diagonal: m = n, C = diag(d), as for elementwise functions;
* dense: a matrix (m, n);
* a map: known by what it does to vectors: broadcasts, sums, transposes, gathers, convolutions. Its
  work w is the multiplications per vector.

These are closed under both, and exact, since each operation is one on matrices:

    diag(d) diag(e) = diag(d e)               n multiplications
    map after map = map                       none yet; work w1 + w2 (a diagonal has work n)
    dense (m, k) times map of k by n          m w: on its rows; and n w for a map times a dense one
    dense (m, k) times dense (k, n)           m k n: a dense edge is a map of work m k as well
    diag(d) + diag(e) = diag(d + e)           none
    map + map = map of work w1 + w2           none; a matrix where that is no less work
    dense + any = dense                       what the other one takes as a matrix: w min(m, n)

By associativity a chain of maps may be applied from either end, and is applied when it meets a
matrix, or at the end. A matrix is made of a map where that is cheaper: w min(m, n) for itself, by
columns or by rows, and m k n for the product. What all this costs depends on kinds and sizes
alone, so that costs are known before anything is computed. Multiplications by 1 are counted as any
other.

A map made of more than LEAF_LIMIT others is made a matrix: where paths part and meet again and
again, it would be applied once per path.

Source: Griewank & Walther (2008), Evaluating Derivatives, chapter 9, doi:10.1137/1.9780898717761,
for graphs of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp

from adlab.core.types import DTypeLike

__all__ = ["Edge", "Form", "add", "add_cost", "compose", "compose_cost", "matrix_cost", "to_matrix"]

LEAF_LIMIT = 64  # paths that a map may stand for


class Form(NamedTuple):
    """Kind and size of an edge.

    Attributes:
      kind: how it is held.
      rows: m, the numbers of the node that it leads to.
      cols: n, the numbers of the node that it comes from.
      work: multiplications of one product with a vector.
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

    Attributes:
      form: its kind and size.
      entries: of a diagonal, (n,); None for ones.
      matrix: of a dense one, (m, n).
      push: of a map, the product with columns: (n, k) -> (m, k).
      pull: of a map, the product of rows with it: (k, m) -> (k, n).
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
    return matrix_cost(chain) if chain.leaves > LEAF_LIMIT else (chain, 0)


def _chain(second: Form, first: Form) -> Form:
    leaves = second.leaves + first.leaves
    return Form("map", second.rows, first.cols, second.work + first.work, leaves)


def _opened_cost(second: Form, first: Form) -> float:
    """Return what a product with a matrix takes if the map is made a matrix first."""
    other = second if first.kind == "dense" else first
    product = second.rows * second.cols * first.cols
    return matrix_cost(other)[1] + product if other.kind == "map" else math.inf


def compose(second: Edge, first: Edge, dtype: DTypeLike) -> Edge:
    """Return the derivative along first, then second."""
    form, cost = compose_cost(second.form, first.form)
    lazy = "dense" not in (second.form.kind, first.form.kind)
    # the same comparison as in `compose_cost`, so that what is computed is what was counted
    if not lazy and cost == _opened_cost(second.form, first.form):
        matrix = second.matrix if first.matrix is None else first.matrix
        return Edge(
            form,
            matrix=to_matrix(second, matrix.dtype).matrix @ to_matrix(first, matrix.dtype).matrix,
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
        return chain if form.kind == "map" else to_matrix(chain, dtype)
    if first.form.kind == "dense":
        return Edge(form, matrix=second.on_columns(first.matrix))
    return Edge(form, matrix=first.on_rows(second.matrix))


def matrix_cost(form: Form) -> tuple[Form, int]:
    """Return the form of an edge as a matrix, and the multiplications that forming it takes."""
    made = Form("dense", form.rows, form.cols, form.rows * form.cols)
    return made, form.work * min(form.rows, form.cols) if form.kind == "map" else 0


def to_matrix(edge: Edge, dtype: DTypeLike) -> Edge:
    """Return an edge as a matrix: column by column or row by row, whichever are fewer."""
    form, _ = matrix_cost(edge.form)
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
    made, first = matrix_cost(one)
    return made, first + matrix_cost(other)[1]


def add(one: Edge, other: Edge, dtype: DTypeLike) -> Edge:
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
    return Edge(form, matrix=to_matrix(one, dtype).matrix + to_matrix(other, dtype).matrix)
