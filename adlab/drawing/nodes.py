"""The chain rule at one node: what arrives from its neighbours, what it adds up, what leaves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch
from matplotlib.text import Text

from adlab.drawing import _geometry as geometry
from adlab.drawing import _writing as writing
from adlab.drawing import markup
from adlab.figures import style
from adlab.figures.finish import as_title
from adlab.figures.labels import text
from adlab.graphs import formulas
from adlab.graphs.graph import Graph
from adlab.graphs.records import Record

__all__ = ["draw_node"]

_WIDTH, _HEIGHT = style.SLIDE
_LEFT, _MIDDLE, _RIGHT = 2.3, _WIDTH / 2, _WIDTH - 2.3
_MOST = 5  # neighbours on a side; the picture says how many more there are
_RULES = {
    "forward": r"$\dot v_i = \sum_{j=1}^{t_i} \dfrac{\partial v_i}{\partial x_j}\,\dot x_j$",
    "reverse": r"$\bar v_i = \sum_{j=1}^{t_i} \bar x_j\,\dfrac{\partial x_j}{\partial v_i}$",
}


def draw_node(graph: Graph, records: Sequence[Record], name: str, *, title: str = "") -> Figure:
    """Draw one step of a trace: the chain rule at the node `name`.

    In forward mode the derivatives of its parents arrive from the left, each times the local
    partial on its arrow; the sum leaves to the children. In reverse mode those of the children
    arrive from the right, and the sum leaves to the parents. Below stand the rule, and its numbers.
    Of more than 5 neighbours on a side the first 5 are drawn.

    Args:
      graph: made by `build`.
      records: of a trace through it, with the node among them.
      name: of the node.
      title: above the picture; the mode and the node where empty.

    Raises:
      ValueError: no node has that name, or no record is about it.
    """
    node = graph.named(name).place
    found = [record for record in records if record.node == node]
    if not found:
        there = ", ".join(graph.nodes[record.node].name for record in records)
        raise ValueError(f"name must be that of a node in records ({there}), got {name!r}")
    figure = Figure(figsize=style.SLIDE)
    figure.set_layout_engine("none")
    _Picture(figure, graph, records, found[0]).draw(title)
    return figure


class _Picture:
    """A slide with parents at the left, the node in the middle, children at the right."""

    def __init__(
        self, figure: Figure, graph: Graph, records: Sequence[Record], record: Record
    ) -> None:
        self.graph, self.records, self.record = graph, records, record
        self.known = {each.node: each for each in records}
        self.forward = record.mode == "forward"
        self.tone = style.color(f"{record.mode}_mode")
        self.axes: Axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        self.axes.set(xlim=(0, _WIDTH), ylim=(0, _HEIGHT))
        self.axes.set_axis_off()

    def draw(self, title: str) -> None:
        node, mode = self.record.node, self.record.mode
        title = title or text(f"node.{mode}", name=self._name(node))
        as_title(self._write(_WIDTH / 2, _HEIGHT - 0.45, title, 24))
        parents = list(dict.fromkeys(a for a, b in self.graph.edges if b == node))
        children = list(dict.fromkeys(b for a, b in self.graph.edges if a == node))
        arriving = "parents" if self.forward else "children"
        for x, neighbours, side in ((_LEFT, parents, "parents"), (_RIGHT, children, "children")):
            active = side == arriving
            if neighbours:
                way = "arrives" if active else "leaves"
                self._write(x, _HEIGHT - 1.15, text(f"node.{side}"), 20)
                self._write(x, _HEIGHT - 1.55, text(f"node.{way}"), 18)
            self._side(x, neighbours, active)
        self._circle(_MIDDLE, 4.1, node, 0.62, filled=True)
        made = markup.written(self.graph, self.record, "latex")
        value = formulas.relation(self.record.value, "latex", 5)
        self._write(_MIDDLE, 5.7, self._maths(f"{made} {value}"), 20)
        self._write(_MIDDLE, 3.0, self._derivative(self.record), 20)
        self._rule()

    def _side(self, x: float, neighbours: Sequence[int], active: bool) -> None:
        shown = neighbours[:_MOST]
        apart = min(1.9, 3.4 / max(len(shown), 1))
        for k, other in enumerate(shown):
            y = 4.1 + apart * ((len(shown) - 1) / 2 - k)
            self._circle(x, y, other, 0.44, filled=active)
            self._arrow((x, y), other, active, above=y >= 4.1)
            if active and other in self.known:
                line = self._derivative(self.known[other])
                self._write(x, y - 0.44 - 0.25, line, 18)
        if len(neighbours) > _MOST:
            more = text("node.more", number=len(neighbours) - _MOST)
            self._write(x, 4.1 - apart * len(shown) / 2 - 0.3, more, 18)

    def _arrow(self, end: geometry.Point, other: int, active: bool, *, above: bool) -> None:
        """Draw the way that a derivative takes; what it is multiplied with stands beside it."""
        centre = (_MIDDLE, 4.1)
        points = _between(end, centre, 0.5, 0.7) if active else _between(centre, end, 0.68, 0.52)
        patch = FancyArrowPatch(
            *points, arrowstyle="-|>", mutation_scale=28,
            color=self.tone if active else style.tone("grey"),
            linewidth=3.5 if active else 2.0, linestyle="-" if active else "--", zorder=1,
            shrinkA=0, shrinkB=0,
        )  # fmt: skip
        self.axes.add_patch(patch)
        parts = [p for p in self.record.partials if other in (p.parent, p.child)]
        if not (active and parts):
            return
        upper, lower = (self.record.node, other) if self.forward else (other, self.record.node)
        fraction = self._fraction(upper, lower)
        string = writing.partials(parts, full=True).strip("$")
        t = 0.5 if above else 0.45  # below it stands the derivative of the node
        x, y = ((1 - t) * a + t * b for a, b in zip(*points, strict=True))
        (x0, y0), (x1, y1) = points
        rise = abs(y1 - y0) / max(abs(x1 - x0), 1e-9)
        shift = 0.32 + 0.95 * rise
        self._write(x, y + (shift if above else -shift), self._maths(f"{fraction} = {string}"), 20)

    def _rule(self) -> None:
        """Write the rule of the mode, and the chain rule of this node with its numbers."""
        kind = text(f"node.{self.record.mode}_rule")
        self.axes.axhline(2.25, 0.04, 0.96, color=style.tone("pale"), linewidth=1.5)
        self._write(_WIDTH / 2, 1.62, f"{_RULES[self.record.mode]}      {kind}", 21)
        sides = markup.chain(self.records, self.record, "latex")
        string = writing.shortened(sides, 22, _WIDTH - 0.8, tall=True)
        self._write(_WIDTH / 2, 0.62, string, geometry.fitted(string, 22, _WIDTH - 0.6))

    def _circle(self, x: float, y: float, node: int, radius: float, *, filled: bool) -> None:
        tint = style.shades(f"{self.record.mode}_mode", 4)[0] if filled else style.tone("paper")
        self.axes.add_patch(
            Circle((x, y), radius, facecolor=tint, edgecolor=style.THEORY, zorder=2,
                   linewidth=2.0 if filled else 1.5, linestyle="-" if filled else "--")
        )  # fmt: skip
        name = self._name(node)
        size = geometry.fitted(name, 26, 1.7 * radius)
        self._write(x, y, name, size, zorder=3, va="center_baseline")

    def _name(self, node: int) -> str:
        latex = formulas.name_of(self.graph, node, "latex")
        return geometry.mathematics(latex, self.graph.nodes[node].name)

    def _fraction(self, upper: int, lower: int) -> str:
        names = [formulas.name_of(self.graph, node, "latex") for node in (upper, lower)]
        return rf"\partial {names[0]}/\partial {names[1]}"

    def _derivative(self, record: Record) -> str:
        start = self.records[0].node
        pair = (record.node, start) if self.forward else (start, record.node)
        value = formulas.relation(record.derivative, "latex", 5)
        return self._maths(f"{self._fraction(*pair)} {value}")

    @staticmethod
    def _maths(latex: str) -> str:
        return geometry.mathematics(latex, latex)

    def _write(self, x: float, y: float, string: str, size: float, **options: Any) -> Text:
        given = {"ha": "center", "va": "center", "color": style.THEORY} | options
        fitted = geometry.fitted(string, size, _WIDTH - 0.6)
        return self.axes.text(x, y, string, fontsize=fitted, **given)


def _between(
    start: geometry.Point, end: geometry.Point, near: float, far: float
) -> tuple[geometry.Point, geometry.Point]:
    """Return the ends of an arrow between two circles, so far from their centres."""
    length = ((end[0] - start[0]) ** 2 + (end[1] - start[1]) ** 2) ** 0.5
    step = ((end[0] - start[0]) / length, (end[1] - start[1]) / length)
    return (
        (start[0] + near * step[0], start[1] + near * step[1]),
        (end[0] - far * step[0], end[1] - far * step[1]),
    )
