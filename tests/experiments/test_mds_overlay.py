"""Maps: found places over true ones, and names that don't meet."""

import matplotlib as mpl
import numpy as np
import parts
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from adlab.figures import style

overlay = parts.part("mds", "overlay")

RNG = np.random.default_rng(0)
PLACES = RNG.uniform(size=(25, 2))
NAMES = [f"City of {'m' * (k % 7)} {k}" for k in range(25)]


def drawn(places, names, **options):
    figure = Figure(figsize=style.SLIDE)
    figure.set_layout_engine("none")
    ax = figure.add_axes((0.1, 0.1, 0.8, 0.8))
    ax.set(xlim=(-0.1, 1.1), ylim=(-0.1, 1.1))
    named = overlay.label_apart(ax, places, names, **options)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [words.get_window_extent(canvas.get_renderer()) for words in ax.texts]
    return ax, named, boxes


@pytest.mark.parametrize("dpi", [72, 150])
def test_names_meet_neither_one_another_nor_a_dot_and_stay_inside(dpi):
    with style.context(), mpl.rc_context({"figure.dpi": dpi}):
        ax, named, boxes = drawn(PLACES, NAMES)
    assert [words.get_text() for words in ax.texts] == [NAMES[k] for k in named]
    assert len(named) > 12
    dots = ax.transData.transform(PLACES)
    for k, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[k + 1 :])
        assert not any(box.contains(*dot) for dot in dots)
        assert ax.bbox.contains(box.x0, box.y0)
        assert ax.bbox.contains(box.x1, box.y1)


def test_a_name_stands_nearest_to_its_own_place():
    with style.context():
        ax, named, boxes = drawn(PLACES, NAMES)
    dots = ax.transData.transform(PLACES)
    for k, box in zip(named, boxes, strict=True):
        nearest = np.clip(dots, [box.x0, box.y0], [box.x1, box.y1])
        assert np.argmin(np.sum((dots - nearest) ** 2, axis=1)) == k


def test_no_more_names_than_are_wanted_and_those_the_farthest_apart():
    with style.context():
        every = drawn(PLACES, NAMES)[1]
        assert drawn(PLACES, NAMES, most=5)[1] == every[:5]
        assert drawn(PLACES, NAMES, most=0)[1] == []


def test_places_without_a_name_and_dots_to_avoid_keep_names_away():
    lone, blocks = np.array([[0.5, 0.5]]), [[0.53, 0.5], [0.47, 0.5], [0.5, 0.53], [0.5, 0.47]]
    with style.context():
        assert drawn(lone, ["Here"])[1] == [0]
        assert drawn(lone, ["Here"], avoid=blocks)[1] == []
        assert drawn(np.concatenate([lone, blocks]), ["Here"])[1] == []
        assert drawn(lone, [])[1] == []


def test_a_map_shows_both_places_and_the_line_between_them():
    figure = Figure(figsize=style.SLIDE)
    figure.set_layout_engine("none")
    ax = figure.add_axes((0, 0, 1, 1))
    overlay.compare(
        ax, PLACES, PLACES + 0.01, NAMES, method="two_point", true_label="so", found_label="found"
    )
    *lines, rings, dots = ax.lines
    np.testing.assert_array_equal(rings.get_xydata(), PLACES)
    np.testing.assert_array_equal(dots.get_xydata(), PLACES + 0.01)
    np.testing.assert_array_equal(lines[3].get_xydata(), [PLACES[3], PLACES[3] + 0.01])
    assert dots.get_color() == style.color("two_point")
    assert ax.get_legend_handles_labels()[1] == ["so", "found"]
    box, view = ax.bbox, ax.viewLim
    assert box.width / view.width == pytest.approx(box.height / view.height)
