"""What a trace records of each step, and the chain rule written out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

from adlab.graphs import _notebook, formulas
from adlab.graphs.graph import Graph

__all__ = [
    "STYLES",
    "LocalPartial",
    "Record",
    "Records",
    "Written",
    "forward_chain",
    "fraction",
    "reverse_chain",
]

STYLES: tuple[formulas.Style, ...] = ("text", "latex")
Written = dict[formulas.Style, str]


class LocalPartial(NamedTuple):
    """A local derivative: of a node in one of its operands.

    Attributes:
      child: index of the node.
      parent: index of the operand.
      formula: {"text": ..., "latex": ...}, elementwise for arrays; None where there is none.
      value: a number where both are scalars, else None.
    """

    child: int
    parent: int
    formula: Written | None
    value: float | None


class Record(NamedTuple):
    """One step of a trace.

    Attributes:
      node: index of the node that the step is about.
      mode: "forward" or "reverse".
      formula: what the node computes, or None for inputs; text and LaTeX.
      value: of the node.
      partials: the local derivatives that enter, of the node in its operands (forward) or of its
        children in it (reverse).
      derivative: what was accumulated: of the node along the tangent (forward), or of the output in
        the node (reverse), shaped as the node; of an output L in a complex node v = a + i b it is
        ∂L/∂a − i ∂L/∂b, as JAX has it, with which the chain rule is a product at holomorphic steps.
      chain: the sides of the chain rule as it was applied; text and LaTeX.
    """

    node: int
    mode: Literal["forward", "reverse"]
    formula: Written | None
    value: Any
    partials: tuple[LocalPartial, ...]
    derivative: Any
    chain: dict[formulas.Style, tuple[str, ...]]

    def __repr__(self) -> str:
        return f"Record({self.chain['text'][0]} {formulas.relation(self.derivative)})"


class Records(tuple[Record, ...]):
    """A trace: its records in their order. A notebook shows the picture of the graph with them.

    Attributes:
      graph: that the trace goes through.
    """

    graph: Graph

    def __new__(cls, graph: Graph, records: Iterable[Record]) -> Records:
        """Hold the records of a trace through this graph."""
        self = super().__new__(cls, records)
        self.graph = graph
        return self

    def __repr__(self) -> str:
        lines = (
            f"  {self.graph.nodes[record.node].name} {formulas.relation(record.value)},  "
            f"{record.chain['text'][0]} {formulas.relation(record.derivative)}"
            for record in self
        )
        return "\n".join(["Records(", *lines, ")"])

    def _repr_html_(self) -> str:
        return _notebook.picture(self.graph, self)


def fraction(graph: Graph, top: int, bottom: int | str, style: formulas.Style) -> str:
    """Return ∂top/∂bottom."""
    below = graph.named(bottom).place if isinstance(bottom, str) else bottom
    over, under = (formulas.name_of(graph, index, style) for index in (top, below))
    if style == "text":
        return f"∂{over}/∂{under}"
    return rf"\frac{{\partial {over}}}{{\partial {under}}}"


def forward_chain(
    graph: Graph, index: int, wrt: str, partials: Sequence[LocalPartial], style: formulas.Style
) -> tuple[str, ...]:
    """Return the sides of ∂v/∂w = Σ ∂v/∂x·∂x/∂w = Σ (formula)·∂x/∂w."""
    left = fraction(graph, index, wrt, style)
    if not partials:
        return (left, "0")
    general = [
        formulas.product(
            [fraction(graph, index, p.parent, style), fraction(graph, p.parent, wrt, style)],
            style,
        )
        for p in partials
    ]
    written = [
        formulas.product([_local(graph, p, style), fraction(graph, p.parent, wrt, style)], style)
        for p in partials
    ]
    return (left, " + ".join(general), " + ".join(written))


def reverse_chain(
    graph: Graph, index: int, target: int, partials: Sequence[LocalPartial], style: formulas.Style
) -> tuple[str, ...]:
    """Return the sides of ∂L/∂v = Σ ∂L/∂x·∂x/∂v = Σ ∂L/∂x·(formula)."""
    left = fraction(graph, target, index, style)
    if not partials:
        return (left, "1" if index == target else "0")
    general = [
        formulas.product(
            [fraction(graph, target, p.child, style), fraction(graph, p.child, index, style)],
            style,
        )
        for p in partials
    ]
    written = [
        formulas.product([fraction(graph, target, p.child, style), _local(graph, p, style)], style)
        for p in partials
    ]
    return (left, " + ".join(general), " + ".join(written))


def _local(graph: Graph, part: LocalPartial, style: formulas.Style) -> str:
    if part.formula is not None and style in part.formula:
        return part.formula[style]
    return fraction(graph, part.child, part.parent, style)
