"""The chain rule at a node, a vertex that goes, and a network: what is drawn is what was found."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.patches import Circle, FancyArrowPatch

from adlab import drawing, graphs
from adlab.figures import style

pytestmark = pytest.mark.usefixtures("x64")


def lecture(w1, w2):
    return w2 * jnp.log(w1) + jnp.sqrt(w2 * jnp.log(w1))


def mixed(w1, w2):
    v1 = w1 * w2
    v4 = jnp.sin(v1) * (w1 * v1)
    return jnp.log(v4), jnp.sqrt(v4)


@pytest.fixture
def graph():
    return graphs.build(lecture, 2.0, 3.0)


def words(figure):
    return [written.get_text() for written in figure.axes[0].texts]


def inside(figure):
    figure.draw_without_rendering()
    boxes = [written.get_window_extent() for written in figure.axes[0].texts]
    return all(b.x0 >= 0 and b.x1 <= figure.bbox.x1 and b.y0 >= 0 and b.y1 <= figure.bbox.y1
               for b in boxes)  # fmt: skip


@pytest.mark.parametrize("lang", ["en", "ru"])
def test_a_node_in_forward_mode_sums_over_its_parents(graph, lang):
    records = graphs.forward_trace(graph, "w1", zeros=True)
    with style.context(lang):
        figure = drawing.draw_node(graph, records, "v2")
    found = words(figure)
    one, other = r"\partial v_{2}/\partial w_{2} = v_{1} = 0.6931", r"= w_{2} = 3"
    assert any(one in each for each in found)
    assert any(other in each for each in found)
    assert any(each.endswith(r"= 0.6931 \cdot 0 + 3 \cdot 0.5 = 1.5$") for each in found)
    assert len(figure.axes[0].findobj(Circle)) == 5  # v2, two parents, two children
    assert inside(figure)
    assert min(written.get_fontsize() for written in figure.axes[0].texts) >= 18


def test_a_node_in_reverse_mode_sums_over_its_children(graph):
    with style.context():
        figure = drawing.draw_node(graph, graphs.reverse_trace(graph), "v2")
    assert any(each.endswith(r"= 1 \cdot 1 + 1 \cdot 0.3467 = 1.34673$") for each in words(figure))
    tone = style.color("reverse_mode")
    arrows = figure.axes[0].findobj(FancyArrowPatch)
    ends = [arrow._posA_posB for arrow in arrows if to_hex(arrow.get_edgecolor()) == tone.lower()]
    assert len(ends) == 2
    assert all(start[0] > end[0] for start, end in ends)  # from the children, to the left


def test_a_node_with_many_neighbours_says_how_many_are_left_out():
    graph = graphs.build(lambda x: sum(f(x) for f in (jnp.sin, jnp.cos, jnp.exp, jnp.tanh) * 2)
                         + jnp.sqrt(x) + jnp.log(x) + jnp.sinh(x), 2.0)  # fmt: skip
    with style.context():
        figure = drawing.draw_node(graph, graphs.reverse_trace(graph), "x")
        assert "and 2 more" in words(figure)
        assert inside(figure)


def test_a_node_that_no_record_is_about_is_refused(graph):
    with pytest.raises(ValueError, match="name must be that of a node in records"):
        drawing.draw_node(graph, graphs.forward_trace(graph, "w1"), "w2")
    with pytest.raises(ValueError, match="v2"):
        drawing.draw_node(graph, graphs.forward_trace(graph, "w1"), "v22")


@pytest.mark.parametrize("place", range(4))
def test_an_elimination_shows_new_and_changed_edges(place):
    graph = graphs.build(mixed, 0.8, 1.5)
    steps = graphs.eliminate(graph, "optimal").steps(0.8, 1.5)
    with style.context():
        figure = drawing.draw_elimination(graph, steps, place)
        assert inside(figure)
    step = steps[place]
    arrows = figure.axes[0].findobj(FancyArrowPatch)
    fresh = {(p.parent, p.child) for p in step.products if p.before is None}
    paths = len({p.parent for p in step.products}) + len({p.child for p in step.products})
    assert len(arrows) == (len(step.edges) - len(fresh) + paths) + len(step.edges)
    dashed = [arrow for arrow in arrows if arrow.get_linestyle() not in ("-", "solid")]
    assert len(dashed) == len(fresh)
    equations = [each for each in words(figure) if r"\leftarrow" in each]
    assert len(equations) == len(step.products)
    for product, equation in zip(step.products, equations, strict=True):
        assert equation.endswith(f"= {float(product.after):.3g}$")
        assert equation.count("+") == (0 if product.before is None else 2)


def test_a_step_that_there_is_not_is_refused():
    graph = graphs.build(mixed, 0.8, 1.5)
    steps = graphs.eliminate(graph, "optimal").steps(0.8, 1.5)
    with pytest.raises(ValueError, match="place must be from 0 to 3, got 4"):
        drawing.draw_elimination(graph, steps, 4)


def test_a_network_has_a_line_per_weight_and_a_circle_per_unit():
    rng = np.random.default_rng(0)
    sizes = (3, 12, 2)
    states = [rng.normal(size=(5, n)) for n in sizes]
    weights = [rng.normal(size=pair) for pair in itertools.pairwise(sizes)]
    with style.context():
        figure = drawing.draw_network(states, weights, title="net", above=["a", "b", "c", "d", "e"])
    axes = figure.axes[0]
    assert len(axes.findobj(Circle)) == 3 + 7 + 2  # of twelve, seven
    lines = axes.findobj(LineCollection)
    assert [len(each.get_segments()) for each in lines] == [3 * 7, 7 * 2]
    widest = [max(each.get_linewidths()) for each in lines]
    shown = [weights[0][:, [0, 1, 2, 3, 9, 10, 11]], weights[1][[0, 1, 2, 3, 9, 10, 11]]]
    for width, all_of, some in zip(widest, weights, shown, strict=True):
        np.testing.assert_allclose(width, 0.6 + 2.6 * abs(some).max() / abs(all_of).max())
    xs = {each.get_text(): each.get_position()[0] for each in axes.texts}
    assert xs["a"] < xs["b"] < xs["c"] < xs["d"] < xs["e"]


def test_weights_that_do_not_fit_are_refused():
    states = [np.ones((2, 3)), np.ones((2, 4))]
    with pytest.raises(ValueError, match=r"weights\[0\] must have shape \(3, 4\), got \(4, 3\)"):
        drawing.draw_network(states, [np.ones((4, 3))])
    with pytest.raises(ValueError, match="one more than weights"):
        drawing.draw_network(states, [])


def test_a_graph_without_captions_has_the_names_alone(graph):
    with style.context():
        figure = drawing.draw(graph, captions={})
    assert sorted(filter(None, words(figure))) == sorted(
        ["$L$", "$v_{1}$", "$v_{2}$", "$v_{3}$", "$w_{1}$", "$w_{2}$"]
    )
