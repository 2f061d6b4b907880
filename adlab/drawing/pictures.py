"""Pictures of graphs and of traces through them: a slide each.

Every function draws what it is given and computes no derivative. Text is in the language of
`figures.style.context` around the call.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch
from matplotlib.text import Text

from adlab.drawing import _geometry as geometry
from adlab.drawing import _writing as writing
from adlab.drawing import layout, markup
from adlab.drawing._geometry import Point
from adlab.figures import style
from adlab.figures.animation import Movie
from adlab.figures.finish import as_title
from adlab.figures.labels import current, text
from adlab.graphs import formulas
from adlab.graphs.graph import Graph
from adlab.graphs.records import Record

__all__ = ["draw", "movie", "pages", "to_svg"]

_INK, _MARK, _QUIET = style.THEORY, style.tone("vermilion"), style.tone("muted")
_WIDTH, _HEIGHT = style.SLIDE
_SMALLEST = 5.0  # points; below it a caption is left out
_ROUND: dict[formulas.Style, str] = {"latex": r"\partial ", "text": "∂"}


def draw(
    graph: Graph,
    records: Sequence[Record] = (),
    *,
    title: str = "",
    captions: Mapping[int, str] | None = None,
) -> Figure:
    """Draw a graph, and a whole trace through it: partials, derivatives, the chain rule.

    Inputs stand at the left. A circle has the name of its node; below it stands what it computes.
    More than 60 nodes are merged into fewer circles, and the picture says how many.

    Args:
      graph: made by `build`.
      records: of a trace through it; none for the graph alone.
      title: above the picture; that of the trace where empty.
      captions: text below the circles (by index of node) instead of the formulas; mathematics
        between dollars.
    """
    figure = _slide()
    sheet = _Sheet(figure, graph, records, captions)
    sheet.title(title or (_trace_title(graph, records) if records else ""))
    done = {record.node for record in records}
    sheet.graph(done, None, [(p.parent, p.child, p) for r in records for p in r.partials])
    sheet.derivation([line for r in records for line in [_derivation(records, r)]])
    return figure


def pages(graph: Graph, records: Sequence[Record]) -> Iterator[Figure]:
    """Draw a trace step by step: one Figure per record.

    The active node is marked, those that are done are tinted; its local partials stand at the
    edges, the derivatives accumulated so far at the nodes, and its chain rule below.
    """
    for place in range(len(records)):
        figure = _slide()
        _page(figure, graph, records, place)
        yield figure


def movie(graph: Graph, records: Sequence[Record], *, seconds: float = 2.0, dpi: int = 72) -> Movie:
    """Return the pages of a trace as a movie, to be saved as .gif or .mp4.

    Args:
      graph: made by `build`.
      records: of a trace through it.
      seconds: that each step is shown.
      dpi: pixels per inch of a slide 13.33 inches wide.
    """
    figure = _slide()

    def page(place: int) -> None:
        figure.clear()
        _page(figure, graph, records, place)

    return Movie(figure, page, len(records), fps=1 / seconds, dpi=dpi)


def to_svg(graph: Graph, records: Sequence[Record] = ()) -> str:
    """Return the picture that `draw` makes, as an SVG element to stand in a page of HTML.

    >>> from adlab.graphs import build
    >>> to_svg(build(lambda x: x * x, 2.0)).startswith("<svg")
    True
    """
    stream = io.StringIO()
    with style.context(current()):
        draw(graph, records).savefig(stream, format="svg", metadata={"Date": None})
    written = stream.getvalue()
    return written[written.index("<svg") :]  # what stands before it belongs to a file of its own


def _slide() -> Figure:
    figure = Figure(figsize=style.SLIDE)
    figure.set_layout_engine("none")  # everything has its place in inches
    return figure


def _page(figure: Figure, graph: Graph, records: Sequence[Record], place: int) -> None:
    record = records[place]
    sheet = _Sheet(figure, graph, records[: place + 1], None, room=2)
    step = text("trace.step", step=place + 1, steps=len(records))
    sheet.title(f"{_trace_title(graph, records)}: {step}")
    done = {earlier.node for earlier in records[:place]}
    sheet.graph(done, record.node, [(p.parent, p.child, p) for p in record.partials])
    name = markup.written(graph, record, "latex")
    value = f"{name} {formulas.relation(record.value, 'latex')}"
    sheet.derivation([[value], _derivation(records[: place + 1], record)])


def _trace_title(graph: Graph, records: Sequence[Record]) -> str:
    ends = records[0].node
    name = geometry.mathematics(formulas.name_of(graph, ends, "latex"), graph.nodes[ends].name)
    return text(f"trace.{records[0].mode}", name=name)


def _derivation(records: Sequence[Record], record: Record) -> list[str]:
    return markup.chain(records, record, "latex")


class _Sheet:
    """A slide: the title, the graph, and lines of mathematics below it."""

    def __init__(
        self, figure: Figure, graph: Graph, records: Sequence[Record],
        captions: Mapping[int, str] | None, room: int | None = None,
    ) -> None:  # fmt: skip
        self.source, self.captions = graph, captions
        self.records = {record.node: record for record in records}
        self.mode = f"{records[0].mode}_mode" if records else "reverse_mode"
        self.first = records[0].node if records else -1
        self.layout = layout.arrange(graph)
        count = len(records) if room is None else room
        self.count = count if room is not None or count <= 9 else 0  # longer ones fill no slide
        self.abreast = 2 if self.count > 4 else 1
        deep = -(-self.count // self.abreast)
        self.pitch = min(0.8, 2.8 / max(deep, 1))
        self.floor = 0.35 + self.pitch * deep
        self.axes: Axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        self.axes.set(xlim=(0, _WIDTH), ylim=(0, _HEIGHT))
        self.axes.set_axis_off()

    def write(self, x: float, y: float, string: str, size: float, **options: Any) -> Text:
        given = {"ha": "center", "va": "center"} | options
        return self.axes.text(x, y, string, fontsize=size, **given)

    def title(self, title: str) -> None:
        """Write the title, and what the picture leaves out."""
        if title:
            size = geometry.fitted(title, 24, _WIDTH - 0.8)
            as_title(self.write(_WIDTH / 2, _HEIGHT - 0.45, title, size))
        hidden = len(self.source.nodes) - len(self.layout.groups)
        if hidden:
            note = text("trace.merged", hidden=hidden, nodes=len(self.source.nodes))
            self.write(_WIDTH - 0.3, _HEIGHT - 0.9, note, 18, ha="right", color=_QUIET)

    def graph(
        self, done: set[int], active: int | None, partials: Sequence[tuple[int, int, Any]]
    ) -> None:
        """Draw circles and arrows, with the partials at the arrows."""
        plan = self.layout
        merged = len(self.source.nodes) > len(plan.groups)  # then a note stands below the title
        bottom, top = self.floor, _HEIGHT - (1.05 if merged else 0.8)
        across = min((_WIDTH - 0.3) / max(plan.columns, 1), 3.2)
        down = min((top - bottom) / max(plan.rows, 1.0), 2.6)
        self.joined = across >= 1.9  # wide enough for formula and value in one line
        lines = 1 + (1 + (not self.joined) if self.records else 0)
        radius = min(0.44, 0.25 * across, 0.31 * down)
        room = max(down - 2 * radius - 0.04, 0.0) * 72 / 1.45
        self.compact = room / lines < 8  # then a circle has one line
        if self.compact and room < _SMALLEST:  # or none, and more room itself
            radius = min(0.3 * across, 0.42 * down)
        size = min(18.0, room if self.compact else room / lines)
        left = (_WIDTH - across * (plan.columns - 1)) / 2
        upper = top - (top - bottom - down * (plan.rows - 1)) / 2 + size * lines / 130
        self.radius, self.size, self.across = radius, size, across

        def at(point: Point) -> Point:
            return left + across * point[0], upper - down * point[1]

        wanted: dict[tuple[int, int], list[Any]] = {}
        owner = {node: g for g, members in enumerate(plan.groups) for node in members}
        for parent, child, part in partials:
            wanted.setdefault((owner[parent], owner[child]), []).append(part)
        for line in plan.lines:
            ends = [plan.spots[k] for k in (line.start, line.end)]
            way = [at((ends[0].x, ends[0].y)), *map(at, line.by), at((ends[1].x, ends[1].y))]
            parts = wanted.get((ends[0].group, ends[1].group), [])
            self._arrow(way, parts, active is not None, below=_under(plan, line))
        for spot in plan.spots:
            self._circle(at((spot.x, spot.y)), spot, done, active)

    def _arrow(self, way: list[Point], parts: Sequence[Any], marked: bool, *, below: bool) -> None:
        curve = geometry.smooth(way, self.radius)
        tone = _MARK if parts and marked else style.tone("grey")
        self.axes.add_patch(
            FancyArrowPatch(
                path=curve, arrowstyle="-|>", mutation_scale=max(8, 40 * self.radius),
                color=tone, linewidth=2.5 if parts and marked else 1.5, zorder=1,
                shrinkA=0, shrinkB=0,
            )
        )  # fmt: skip
        string = writing.partials(parts, full=marked)
        if string:
            self._beside(way, string, full=marked, below=below)

    def _beside(self, way: list[Point], string: str, *, full: bool, below: bool) -> None:
        """Write a partial over, or under, the middle of its arrow."""
        room = 0.8 * self.across * (len(way) - 1) - 2 * self.radius + 0.25
        size = geometry.fitted(string, min(18, 1.5 * self.size), max(room, 0.2))
        if size < _SMALLEST:
            return
        wide, high = geometry.extent(string, size)
        k = (len(way) - 1) // 2
        (x0, y0), (x1, y1) = way[k], way[k + 1]
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        if k:  # by way of other columns: where it passes one
            (x0, y0), (x, y), (x1, y1) = way[k - 1 : k + 2]
        slope = (y1 - y0) / max(((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5, 1e-9)
        up = abs(slope) * wide / 2 + (1 - slope**2) ** 0.5 * high / 2 + 0.07
        side = -1.0 if below else 1.0
        x, y = x - side * up * slope, y + side * up * (1 - slope**2) ** 0.5
        self.write(x, y, string, size, color=style.ink(_MARK) if full else _QUIET, zorder=4)

    def _circle(self, centre: Point, spot: layout.Spot, done: set[int], active: int | None) -> None:
        members = self.layout.groups[spot.group]
        here = active in members
        tint = style.shades(self.mode, 4)[0] if done.intersection(members) else style.tone("paper")
        if here:
            tint = style.tint(style.tone("orange"), 0.25)
        self.axes.add_patch(
            Circle(
                centre, self.radius, facecolor=tint,
                edgecolor=_MARK if here else _INK, linewidth=3.0 if here else 1.5,
                linestyle="--" if spot.ghost else "-", zorder=2,
            )
        )  # fmt: skip
        name = self._name(members)
        size = geometry.fitted(name, min(24, 54 * self.radius), 1.8 * self.radius)
        if size >= 0.8 * _SMALLEST:
            self.write(*centre, name, size, zorder=3, va="center_baseline")
        if spot.ghost:
            return
        y = centre[1] - self.radius - 0.05
        captions = list(self._captions(members, done, active))
        for string, tone in captions[-1:] if self.compact else captions:
            size = geometry.fitted(string, self.size, 0.97 * self.across)
            if size >= _SMALLEST:
                self.write(centre[0], y, string, size, va="top", color=tone, zorder=3)
                y -= max(1.25 * size / 72, geometry.extent(string, size)[1] + 0.07)

    def _name(self, members: tuple[int, ...]) -> str:
        node = self.source.nodes[members[-1]]
        name = geometry.mathematics(formulas.name_of(self.source, node.place, "latex"), node.name)
        return name if len(members) == 1 else f"{name}…"

    def _captions(
        self, members: tuple[int, ...], done: set[int], active: int | None
    ) -> Iterator[tuple[str, str]]:
        """Yield lines below a circle, with colours: formula, value, derivative."""
        last = members[-1]
        if len(members) > 1:
            yield text("trace.nodes", nodes=len(members)), _INK
        elif self.captions is not None:
            yield self.captions.get(last, ""), _INK
        else:
            known = bool(self.records) and last not in self._ahead()
            yield from self._values(last, known=known)
        if last in {*done, active} and last in self.records:
            record = self.records[last]
            top, bottom = (record.node, self.first) if self.mode == "forward_mode" else (
                self.first, record.node)  # fmt: skip
            value = formulas.relation(record.derivative, "latex", 5)
            latex, plain = (
                f"{d}{formulas.name_of(self.source, top, s)}/"
                f"{d}{formulas.name_of(self.source, bottom, s)} {value}"
                for s, d in _ROUND.items()
            )
            yield geometry.mathematics(latex, plain), style.ink(_MARK)

    def _values(self, last: int, *, known: bool) -> Iterator[tuple[str, str]]:
        """Yield what a node computes, and its value where it is known by now."""
        latex, plain = self._made().get(last, ("", ""))
        value = formulas.relation(self.source.nodes[last].value, "latex", 5) if known else ""
        if self.joined and latex and value:
            yield geometry.mathematics(f"{latex} {value}", f"{plain} {value}"), _INK
            return
        if latex:
            yield geometry.mathematics(latex, plain), _INK
        if value:
            yield geometry.mathematics(value, value), _INK

    def _ahead(self) -> set[int]:
        """Return the nodes that a forward trace has yet to compute."""
        last = max(self.records) if self.mode == "forward_mode" else len(self.source.nodes)
        return {node.place for node in self.source.nodes if node.place > last}

    @functools.cache  # noqa: B019
    def _made(self) -> dict[int, tuple[str, str]]:
        return {
            index: (
                formulas.formula(self.source, step, "latex"),
                formulas.formula(self.source, step),
            )
            for step in self.source.steps
            for index in step.results
        }

    def derivation(self, lines: Sequence[Sequence[str]]) -> None:
        """Write equations below the graph, each given as its sides."""
        if not self.count:
            return
        largest = min(20.0, 72 * self.pitch / (2.5 if self.abreast == 1 else 3.2))
        wide = _WIDTH / self.abreast
        room = wide - 0.3
        deep = -(-len(lines) // self.abreast)
        set_out = [writing.shortened(sides, largest, room, self.pitch > 0.6) for sides in lines]
        size = max(min((geometry.fitted(s, largest, room) for s in set_out), default=0), 5)
        for place, string in enumerate(set_out):
            y = self.floor - 0.1 - self.pitch * (place % deep + 0.5)
            if self.abreast == 1:
                self.write(_WIDTH / 2, y, string, size)
            else:
                self.write(wide * (place // deep) + 0.2, y, string, size, ha="left")


def _under(plan: layout.Layout, line: layout.Line) -> bool:
    """Tell whether an arrow passes under a circle at its middle."""
    if not line.by:
        return False
    x, y = line.by[len(line.by) // 2]
    return any(spot.x == x and 0 < y - spot.y < 1.4 for spot in plan.spots)
