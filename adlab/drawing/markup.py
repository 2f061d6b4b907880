"""Graphs and traces as text: rows of a table, Graphviz, LaTeX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from adlab.graphs import formulas
from adlab.graphs.formulas import number, relation
from adlab.graphs.graph import Graph
from adlab.graphs.records import LocalPartial, Record

__all__ = ["chain", "to_dot", "to_latex", "to_rows", "written"]


def written(graph: Graph, record: Record, style: formulas.Style = "text") -> str:
    """Return what the record's node is: `v2 = w2·v1`, or its name alone for an input."""
    name = formulas.name_of(graph, record.node, style)
    return name if record.formula is None else f"{name} = {record.formula[style]}"


def chain(records: Sequence[Record], record: Record, style: formulas.Style = "text") -> list[str]:
    """Return the sides of the chain rule of a record, with numbers put in, and the result.

    Numbers stand in where all that enter are numbers; of larger arrays, the shape follows.
    """
    sides = list(record.chain[style])
    known = {r.node: r.derivative for r in records}
    terms = [_term(part, known, record.mode, style) for part in record.partials]
    if terms and all(term is not None for term in terms):
        sides.append(" + ".join(str(term) for term in terms))
    if np.size(record.derivative) > formulas.SHOWN:
        sides[-1] += " " + relation(record.derivative, style)
        return sides
    result = number(record.derivative, style)
    return sides if sides[-1] == result else [*sides, result]


def _term(
    part: LocalPartial, known: dict[int, Any], mode: str, style: formulas.Style
) -> str | None:
    other = known.get(part.parent if mode == "forward" else part.child)
    if part.value is None or other is None:
        return None
    pair = [number(part.value, style, 4), number(other, style, 4)]
    factors = [f"({f})" if f.startswith("-") else f for f in pair]
    if mode == "reverse":
        factors.reverse()
    return ("·" if style == "text" else r" \cdot ").join(factors)


def to_rows(graph: Graph, records: Sequence[Record]) -> list[tuple[str, str, str]]:
    """Return for every record: node with formula, value, chain rule and derivative."""
    found = []
    for record in records:
        sides = chain(records, record)
        rule = " = ".join(sides)
        found.append((written(graph, record), number(record.value), rule))
    return found


def to_dot(graph: Graph, records: Sequence[Record] = ()) -> str:
    """Return the graph in Graphviz' language, left to right; with values and derivatives.

    >>> from adlab.graphs import build
    >>> graph = build(lambda x: x * x, 2.0)
    >>> print(to_dot(graph), end="")
    digraph {
      rankdir=LR;
      node [shape=circle];
      n0 [label="x"];
      n1 [label="L = x·x"];
      n0 -> n1;
    }
    """
    made = {i: formulas.formula(graph, step) for step in graph.steps for i in step.results}
    known = {record.node: record for record in records}
    lines = ["digraph {", "  rankdir=LR;", "  node [shape=circle];"]
    for node in graph.nodes:
        label = f"{node.name} = {made[node.place]}" if node.place in made else node.name
        if node.place in known:
            record = known[node.place]
            head = record.chain["text"][0]
            label += f"\n{number(record.value)}\n{head} = {number(record.derivative)}"
        lines.append(f'  n{node.place} [label="{_quoted(label)}"];')
    lines += [f"  n{a} -> n{b};" for a, b in graph.edges]
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def to_latex(graph: Graph, records: Sequence[Record]) -> str:
    """Return the trace as a derivation, in an `align*` environment of amsmath.

    A line per record for the value, and one for the chain rule.
    """
    lines = []
    for record in records:
        name, *made = written(graph, record, "latex").split(" = ", 1)
        left = " &= ".join([name, *made]) if made else f"{name} &"
        lines.append(f"{left} {relation(record.value, 'latex')}")
        first, *rest = chain(records, record, "latex")
        lines.append(f"{first} &= {' = '.join(rest)}")
    return "\\begin{align*}\n  " + " \\\\\n  ".join(lines) + "\n\\end{align*}\n"
