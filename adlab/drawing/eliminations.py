"""A vertex that is eliminated from a graph: the edges before, and those after with their sums."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, FancyArrowPatch
from matplotlib.text import Text

from adlab.drawing import _geometry as geometry
from adlab.drawing import layout
from adlab.drawing._geometry import Point
from adlab.figures import style
from adlab.figures.finish import as_title
from adlab.figures.labels import text
from adlab.graphs import formulas
from adlab.graphs.elimination import EliminationStep, PathProduct
from adlab.graphs.graph import Graph

__all__ = ["draw_elimination"]

_WIDTH, _HEIGHT = style.SLIDE
_HALF = _WIDTH / 2
_BENDS = (0.0, 0.3, -0.3, 0.55, -0.55)  # of an edge that must go around others, the least first
_MOST = 6  # products that are written out


class _Look(NamedTuple):
    color: str
    width: float
    dashes: Any = "-"


def draw_elimination(
    graph: Graph, steps: Sequence[EliminationStep], place: int, *, title: str = ""
) -> Figure:
    """Draw one step of an elimination: the graph before and after, and the products made.

    Before, the vertex is marked with all its edges and their local partials. After, it is gone, and
    each pair of a parent and a child has an edge: dashed where it is new (fill-in), thick where an
    edge took up the path. Below stand the products of partials along the paths.

    Args:
      graph: made by `build`, at most 60 nodes.
      steps: by `Elimination.steps`, all that lead to this one.
      place: index of the step.
      title: above the picture; vertex and step where empty.

    Raises:
      ValueError: more nodes than a picture holds, or no such step.
    """
    if len(graph.nodes) > layout.LIMIT:
        raise ValueError(
            f"graph must have at most {layout.LIMIT} nodes to be drawn, got {len(graph.nodes)}"
        )
    if not 0 <= place < len(steps):
        raise ValueError(f"place must be from 0 to {len(steps) - 1}, got {place}")
    figure = Figure(figsize=style.SLIDE)
    figure.set_layout_engine("none")
    _Picture(figure, graph, steps[place]).draw(place, len(steps), title)
    return figure


class _Picture:
    """A slide: two copies of the graph side by side, and equations below."""

    def __init__(self, figure: Figure, graph: Graph, step: EliminationStep) -> None:
        self.graph, self.step = graph, step
        self.axes: Axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        self.axes.set(xlim=(0, _WIDTH), ylim=(0, _HEIGHT))
        self.axes.set_axis_off()
        plan = layout.arrange(graph, aspect=1.6)
        across = min((_HALF - 1.3) / max(plan.columns - 1, 1), 2.0)
        down = min(2.7 / max(plan.rows - 1, 1), 1.5)
        self.radius = min(0.4, 0.3 * across, 0.36 * down if plan.rows > 1 else 0.4)
        left, middle = (_HALF - across * (plan.columns - 1)) / 2, 4.55
        self.at = {
            plan.groups[spot.group][0]: (
                left + across * spot.x, middle + down * ((plan.rows - 1) / 2 - spot.y)
            )
            for spot in plan.spots if not spot.ghost
        }  # fmt: skip

        self.taken: list[tuple[float, ...]] = []  # where labels and circles stand

    def draw(self, place: int, count: int, title: str) -> None:
        v, products = self.step.vertex, self.step.products
        title = title or text("elimination.title", name=self._name(v), step=place + 1, steps=count)
        size = geometry.fitted(title, 24, _WIDTH - 0.8)
        as_title(self._write(_HALF, _HEIGHT - 0.45, title, size))
        for x, half in ((_HALF / 2, "before"), (_HALF * 1.5, "after")):
            self._write(x, _HEIGHT - 1.1, text(f"elimination.{half}"), 20)
        self.axes.plot(
            [_HALF, _HALF], [2.6, _HEIGHT - 1.0], color=style.tone("pale"), linewidth=1.5
        )
        into = {(p.parent, v): p.first for p in products}
        out = {(v, p.child): p.second for p in products}
        fills = {(p.parent, p.child) for p in products if p.before is None}
        taken = {(p.parent, p.child): p.after for p in products}
        marked = _Look(style.color("two_point"), 3.5)
        fresh = _Look(style.color("finite_difference"), 3.5, (0, (3, 1.5)))
        changed = _Look(style.color("finite_difference"), 4.5)
        before = [*(set(self.step.edges) - fills), *into, *out]
        self._half(0.0, dict.fromkeys(dict.fromkeys(before)), into | out,
                   dict.fromkeys([*into, *out], marked))  # fmt: skip
        looks = {pair: fresh if pair in fills else changed for pair in taken}
        self._half(_HALF, dict.fromkeys(self.step.edges), taken, looks)
        self._legend({"fill_in": fresh} if fills else {}, {"changed": changed}, taken, fills)
        self._equations(len(into), len(out))

    def _half(
        self, shift: float, edges: Iterable[tuple[int, int]], values: dict[Any, Any],
        looks: dict[Any, _Look],
    ) -> None:  # fmt: skip
        """Draw one copy of the graph, with these edges."""
        edges = list(edges)
        ends = {*self.graph.inputs, *self.graph.outputs, *(n for pair in edges for n in pair)}
        for pair in edges:
            look = looks.get(pair, _Look(style.tone("grey"), 1.8))
            self._edge(shift, pair, self._bend(pair, ends), look)
        for node in ends:
            self._node(shift, node, gone=shift > 0)
        for pair in edges:
            if pair in values:
                ways = [self._way(other, ends) for other in edges if other != pair]
                crossing = [point for way in ways for point in way]
                self._label(shift, pair, self._bend(pair, ends), values[pair], crossing)

    def _bend(self, pair: tuple[int, int], shown: Iterable[int]) -> float:
        """Return the least bend at which an edge passes no other circle."""
        others = [self.at[n] for n in shown if n not in pair]
        for bend in _BENDS:
            way = _curve(self.at[pair[0]], self.at[pair[1]], bend)
            if all(_apart(point, o) > self.radius + 0.08 for point in way for o in others):
                return bend
        return 0.0

    def _way(self, pair: tuple[int, int], shown: Iterable[int]) -> list[Point]:
        return _curve(self.at[pair[0]], self.at[pair[1]], self._bend(pair, shown))

    def _edge(self, shift: float, pair: tuple[int, int], bend: float, look: _Look) -> None:
        (x0, y0), (x1, y1) = (self.at[node] for node in pair)
        points = 72 * (self.radius + 0.03)
        self.axes.add_patch(
            FancyArrowPatch(
                (x0 + shift, y0), (x1 + shift, y1), connectionstyle=f"arc3,rad={-bend}",
                arrowstyle="-|>", mutation_scale=20, color=look.color, linewidth=look.width,
                linestyle=look.dashes, shrinkA=points, shrinkB=points, zorder=1,
            )
        )  # fmt: skip

    def _label(
        self, shift: float, pair: tuple[int, int], bend: float, value: Any, crossing: list[Point]
    ) -> None:
        """Write a derivative beside its edge, where no other one stands and no edge passes."""
        start, end = (self.at[node] for node in pair)
        length = max(_apart(start, end), 1e-9)
        normal = (-(end[1] - start[1]) / length, (end[0] - start[0]) / length)
        string = geometry.mathematics(formulas.number(value, "latex", 3), str(np.shape(value)))
        wide, high = geometry.extent(string, 18)
        off = abs(normal[0]) * wide / 2 + abs(normal[1]) * high / 2 + 0.1
        first = 1.0 if bend >= 0 else -1.0
        found: list[tuple[bool, float, int, tuple[float, float, float, float]]] = []
        for t, side in itertools.product((0.5, 0.38, 0.62, 0.28, 0.72), (first, -first)):
            x, y = _bezier(start, end, bend, t)
            x, y = x + side * off * normal[0], y + side * off * normal[1]
            box = (x + shift - wide / 2, y - high / 2, x + shift + wide / 2, y + high / 2)
            clear = min((_apart((x, y), point) for point in crossing), default=1.0)
            clash = any(_overlap(box, other) for other in self.taken)
            found.append((clash, -min(clear, 0.3), len(found), box))
        _, _, _, box = min(found)
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        self.taken.append(box)
        self._write(x, y, string, 18, zorder=4)

    def _node(self, shift: float, node: int, *, gone: bool) -> None:
        here = node == self.step.vertex and not gone
        x, y = self.at[node]
        r = self.radius
        self.taken.append((x + shift - r, y - r, x + shift + r, y + r))
        tint = style.shades("two_point", 4)[0] if here else style.tone("paper")
        self.axes.add_patch(
            Circle((x + shift, y), self.radius, facecolor=tint, zorder=2,
                   edgecolor=style.THEORY, linewidth=3 if here else 1.5)
        )  # fmt: skip
        name = self._name(node)
        size = geometry.fitted(name, 22, 1.75 * self.radius)
        self._write(x + shift, y, name, size, zorder=3, va="center_baseline")

    def _legend(
        self, new: dict[str, _Look], old: dict[str, _Look], taken: Iterable[Any], fills: set[Any]
    ) -> None:
        shown = new | (old if set(taken) - fills else {})
        lines = [
            Line2D([], [], color=look.color, linewidth=look.width, linestyle=look.dashes,
                   label=text(f"elimination.{name}"))
            for name, look in shown.items()
        ]  # fmt: skip
        self.axes.legend(
            handles=lines, loc="center", bbox_to_anchor=(0.75, 2.62 / _HEIGHT), ncols=2,
            fontsize=18, frameon=False, handlelength=1.8, columnspacing=1.2,
        )  # fmt: skip

    def _equations(self, parents: int, children: int) -> None:
        """Write the count of multiplications, and the product of each path."""
        cost = text("elimination.cost", parents=parents, children=children,
                    cost=self.step.multiplications)  # fmt: skip
        self._write(_HALF / 2, 2.62, cost, geometry.fitted(cost, 18, _HALF - 0.3))
        lines = [self._equation(p) for p in self.step.products[:_MOST]]
        columns = 1 if len(lines) <= 2 else 2
        rows = -(-len(lines) // columns)
        pitch = min(0.8, 2.2 / rows)
        size = min(geometry.fitted(line, 24, _WIDTH / columns - 0.4) for line in lines)
        for k, line in enumerate(lines):
            x = _WIDTH * (2 * (k // rows) + 1) / (2 * columns)
            self._write(x, 2.2 - pitch * (k % rows + 0.5), line, size)

    def _equation(self, product: PathProduct) -> str:
        a, b, v = (
            formulas.name_of(self.graph, node, "latex")
            for node in (product.parent, product.child, self.step.vertex)
        )
        numbers = [formulas.number(value, "latex", 3) for value in (product.second, product.first)]
        second, first = (f"({n})" if n.startswith("-") else n for n in numbers)
        left = rf"\partial {b}/\partial {a}"
        old = "" if product.before is None else f"{formulas.number(product.before, 'latex', 3)} + "
        path = rf"\partial {b}/\partial {v} \cdot \partial {v}/\partial {a}"
        term = "" if product.before is None else rf"{left} + "
        result = formulas.number(product.after, "latex", 3)
        latex = rf"{left} \leftarrow {term}{path} = {old}{second} \cdot {first} = {result}"
        return geometry.mathematics(latex, latex)

    def _name(self, node: int) -> str:
        latex = formulas.name_of(self.graph, node, "latex")
        return geometry.mathematics(latex, self.graph.nodes[node].name)

    def _write(self, x: float, y: float, string: str, size: float, **options: Any) -> Text:
        given = {"ha": "center", "va": "center", "color": style.THEORY} | options
        return self.axes.text(x, y, string, fontsize=size, **given)


def _bezier(start: Point, end: Point, bend: float, t: float) -> Point:
    """Return a point of the curve between two points: pushed upward in its middle if bend > 0."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    control = ((start[0] + end[0]) / 2 - bend * dy, (start[1] + end[1]) / 2 + bend * dx)
    a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t**2
    return (
        a * start[0] + b * control[0] + c * end[0],
        a * start[1] + b * control[1] + c * end[1],
    )


def _curve(start: Point, end: Point, bend: float) -> list[Point]:
    return [_bezier(start, end, bend, t / 20) for t in range(21)]


def _overlap(one: Sequence[float], other: Sequence[float]) -> bool:
    """Tell whether two boxes (left, bottom, right, top) come nearer than a twentieth of an inch."""
    return all(one[k] < other[k + 2] + 0.05 and other[k] < one[k + 2] + 0.05 for k in (0, 1))


def _apart(one: Point, other: Point) -> float:
    return float(((one[0] - other[0]) ** 2 + (one[1] - other[1]) ** 2) ** 0.5)
