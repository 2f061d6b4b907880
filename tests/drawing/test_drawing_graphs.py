"""Pictures of graphs: everything has its place, nothing is lost, the same bytes every time."""

import functools
import io
import itertools
import re

import jax.numpy as jnp
import pytest
from matplotlib.patches import Circle
from matplotlib.text import Text

from adlab import drawing, graphs
from adlab.drawing import _geometry as geometry
from adlab.drawing import layout
from adlab.figures import style
from adlab.graphs.formulas import number, relation


def lecture(w1, w2):
    return w2 * jnp.log(w1) + jnp.sqrt(w2 * jnp.log(w1))


def ladder(length):
    """Two values that go on mixing: no node has one child only, and it is deep."""

    def fun(x, y):
        for _ in range(length):
            x, y = x * y, x - y
        return x * y

    return graphs.build(fun, 1.5, 0.5)


def chain(length):
    def fun(x):
        for k in range(length):
            x = jnp.sin(x) if k % 2 else x + 1.0
        return x

    return graphs.build(fun, 0.5)


def comb():
    return graphs.build(lambda *xs: sum(a * b for a, b in itertools.pairwise(xs)), *[1.5] * 12)


GRAPHS = {
    "lecture": lambda: graphs.build(lecture, 2.0, 3.0),
    "chain": lambda: chain(40),
    "ladder": lambda: ladder(14),
    "comb": comb,
    "alone": lambda: graphs.build(lambda x: x, 2.0),
    "unused": lambda: graphs.build(lambda x, y: x + 0 * y, 2.0, 3.0),
    "long chain": lambda: chain(300),
    "long ladder": lambda: ladder(200),
    "wide": lambda: graphs.build(lambda *xs: sum(xs), *[1.0] * 90),
}


@functools.cache
def built(name):
    return GRAPHS[name]()


@pytest.mark.parametrize("name", GRAPHS)
def test_every_node_has_one_circle_and_circles_keep_their_distance(name):
    graph = built(name)
    plan = layout.arrange(graph)
    assert sorted(itertools.chain(*plan.groups)) == list(range(len(graph.nodes)))
    assert len(plan.groups) <= layout.LIMIT
    if len(graph.nodes) <= layout.LIMIT:
        assert {len(members) for members in plan.groups} == {1}
    real = [spot.group for spot in plan.spots if not spot.ghost]
    assert sorted(real) == list(range(len(plan.groups)))
    by_column = {}
    for spot in plan.spots:
        assert 0 <= spot.x < plan.columns
        assert -1e-9 <= spot.y <= plan.rows - 1 + 1e-9
        by_column.setdefault(spot.x, []).append(spot.y)
    for rows in by_column.values():
        for one, other in itertools.pairwise(sorted(rows)):
            assert other - one > 0.9 - 1e-9  # rows: two passing edges may lie between


@pytest.mark.parametrize("name", GRAPHS)
def test_every_edge_is_drawn_and_runs_to_the_right(name):
    graph = built(name)
    plan = layout.arrange(graph)
    owner = {node: g for g, members in enumerate(plan.groups) for node in members}
    wanted = {(owner[a], owner[b]) for a, b in graph.edges if owner[a] != owner[b]}
    drawn = [(plan.spots[line.start].group, plan.spots[line.end].group) for line in plan.lines]
    assert sorted(drawn) == sorted(wanted)
    for line in plan.lines:
        columns = [plan.spots[line.start].x, *(x for x, _ in line.by), plan.spots[line.end].x]
        assert columns == [columns[0] + k for k in range(len(columns))]  # a place in each column
        assert not plan.spots[line.end].ghost


def crossings(plan):
    """Count pairs of edges between the same columns that cross, from the places alone."""
    pieces = []
    for line in plan.lines:
        ends = [plan.spots[k] for k in (line.start, line.end)]
        way = [(ends[0].x, ends[0].y), *line.by, (ends[1].x, ends[1].y)]
        pieces += itertools.pairwise(way)
    return sum(
        a[0] == b[0] and (a[1] - b[1]) * (c[1] - d[1]) < 0
        for (a, c), (b, d) in itertools.combinations(pieces, 2)
    )


def test_a_graph_that_can_be_drawn_without_crossings_is():
    assert crossings(layout.arrange(built("lecture"))) == 0
    swapped = graphs.build(lambda a, b, c: (c * 2.0, b * 3.0, a * 4.0), 1.0, 1.0, 1.0)
    assert crossings(layout.arrange(swapped)) == 0


def words(figure):
    return [t for t in figure.findobj(Text) if t.get_text()]


def said(figure):
    return " ".join(t.get_text() for t in words(figure))


@pytest.mark.parametrize("name", ["lecture", "comb", "long ladder"])
def test_text_lies_within_the_slide_and_circles_apart(name):
    graph = built(name)
    with style.context("ru"):
        figure = drawing.draw(graph, graphs.reverse_trace(graph) if name == "lecture" else ())
        figure.draw_without_rendering()
        for item in words(figure):
            box = item.get_window_extent()
            assert box.x0 >= 0
            assert box.y0 >= 0
            assert box.x1 <= figure.bbox.x1
            assert box.y1 <= figure.bbox.y1
    circles = [patch for patch in figure.axes[0].patches if isinstance(patch, Circle)]
    for one, other in itertools.combinations(circles, 2):
        apart = sum((a - b) ** 2 for a, b in zip(one.center, other.center, strict=True)) ** 0.5
        assert apart > one.radius + other.radius
    names = said(figure)
    hidden = len(graph.nodes) - len(layout.arrange(graph).groups)
    assert (f"{hidden} из {len(graph.nodes)}" in names) == (name == "long ladder")


def test_a_page_per_step_marks_its_node_and_tints_those_before():
    graph = built("lecture")
    records = graphs.reverse_trace(graph)
    pages = list(drawing.pages(graph, records))
    assert len(pages) == len(records)
    for place, page in enumerate(pages):
        circles = {p.center: p for p in page.axes[0].patches if isinstance(p, Circle)}
        colours = [p.get_facecolor() for p in circles.values()]
        counts = sorted(colours.count(colour) for colour in set(colours))
        others = [n for n in (place, len(records) - 1 - place) if n]
        assert counts == sorted([1, *others])
    assert "1.347 \\cdot 0.6931" in said(pages[4])  # dL/dv2 v1, as it must be at w2
    assert "0.933485" in said(pages[4])
    assert "0.933485" not in said(pages[3])


def test_labels_follow_the_language():
    graph = built("lecture")
    records = graphs.forward_trace(graph, "w1")
    with style.context("ru"):
        russian = said(next(drawing.pages(graph, records)))
    assert "Прямой режим" in russian
    assert "шаг 1 из 5" in russian
    assert "step 1 of 5" in said(next(drawing.pages(graph, records)))


def test_the_same_bytes_every_time(tmp_path):
    graph = built("lecture")
    records = graphs.forward_trace(graph, "w2")

    def svg():
        stream = io.BytesIO()
        with style.context():
            drawing.draw(graph, records).savefig(stream, format="svg", metadata={"Date": None})
        return stream.getvalue()

    assert svg() == svg()
    for name in ("one.gif", "two.gif"):
        drawing.movie(graph, records[:2], dpi=20).save(tmp_path / name)
    assert (tmp_path / "one.gif").read_bytes() == (tmp_path / "two.gif").read_bytes()
    film = (tmp_path / "one.gif").read_bytes()
    assert film.count(b"\x21\xf9\x04") == 2  # a graphic control extension begins each frame


def test_mathematics_that_cannot_be_set_becomes_plain_text():
    assert geometry.mathematics(r"\frac{1}{w}", "1/w") == r"$\frac{1}{w}$"
    assert geometry.mathematics(r"\unknown{$}", "cost$") == r"cost\$"
    assert geometry.mathematics(r"\unknown{x}", "x") == "x"


def test_latex_is_balanced_and_dot_has_every_edge():
    graph = built("lecture")
    records = graphs.reverse_trace(graph)
    latex = drawing.to_latex(graph, records)
    assert latex.startswith("\\begin{align*}")
    assert latex.rstrip().endswith("\\end{align*}")
    assert latex.count("{") == latex.count("}")
    lines = latex.splitlines()[1:-1]
    assert len(lines) == 2 * len(records)
    assert all(line.count("&") == 1 for line in lines)
    dot = drawing.to_dot(graph, records)
    edges = {(int(a), int(b)) for a, b in re.findall(r"n(\d+) -> n(\d+);", dot)}
    assert edges == set(graph.edges)


def test_numbers_are_written_so_that_latex_reads_them():
    assert number(1.5e-7, "latex") == r"1.5 \cdot 10^{-7}"
    assert number(jnp.arange(3)) == "[0, 1, 2]"
    assert relation(jnp.zeros((8, 3)), "latex") == r"\in \mathbb{R}^{8 \times 3}"


def test_names_with_quotes_are_escaped_in_dot():
    graph = graphs.build(lambda p: p['a"b'] * 2.0, {'a"b': 1.0})
    assert 'label="p.a\\"b"' in drawing.to_dot(graph)
