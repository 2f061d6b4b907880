"""The figures of `rates`: readable, with gradient descent in each, under titles that follow."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Annotation, Text
from rates_data import CHANGES, GOOD, effective, quadratic, real, tail

from adlab.figures import labels, style
from adlab.figures.finish import finish
from adlab.lab import config as configs

ROOT = Path(__file__).parents[2]
NAMES = {
    "rates", "distance", "price", "operations", "effective_dimension", "real_data", "controls",
}  # fmt: skip


@pytest.fixture(scope="module")
def job():
    return configs.load(ROOT / "configs" / "rates.toml", changes=CHANGES)


def draw(job, lang="en", **changed):
    """Draw these cells' data, or all the good ones, under the titles that their verdicts allow."""
    cells = {name: make() for name, make in GOOD.items()} | changed
    config = job.config.model_copy(update={"parts": tuple(cells)})
    data = {f"{cell}_{k}": v for cell, arrays in cells.items() for k, v in arrays.items()}
    with style.context(lang):
        figures = job.module.plot(data, config, verdicts=job.module.verdicts(data, config))
        for figure in figures.values():
            finish(figure)
            FigureCanvasAgg(figure).draw()
    return figures


@pytest.fixture(scope="module", params=labels.LANGUAGES)
def figures(job, request):
    return draw(job, request.param)


def notes(ax):
    """Return what stands beside the lines of a panel."""
    return [note for note in ax.findobj(Annotation) if note.get_text()]


def test_names_beside_lines_are_large_within_the_picture_and_apart(figures):
    assert set(figures) == NAMES
    for name, figure in figures.items():
        renderer = figure.canvas.get_renderer()
        for ax in figure.axes:
            boxes = {note: Text.get_window_extent(note, renderer) for note in notes(ax)}
            for note, box in boxes.items():
                where = f"{name}: {note.get_text()!r}"
                assert note.get_fontsize() >= 18, where
                assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1, where
                assert figure.bbox.y0 <= box.y0 <= box.y1 <= figure.bbox.y1, where
            for (one, a), (other, b) in itertools.combinations(boxes.items(), 2):
                assert not a.overlaps(b), f"{name}: {one.get_text()!r}, {other.get_text()!r}"


def test_no_legend_covers_data(figures):
    for figure in figures.values():
        assert not any(ax.get_legend() for ax in figure.axes)


def test_gradient_descent_is_in_every_panel_in_its_own_colour(figures):
    colours = {tint.lower() for tint in style.shades("gradient_descent", 3)}
    for name, figure in figures.items():
        for ax in figure.axes:
            drawn = {to_hex(line.get_color()) for line in ax.lines}
            assert drawn & colours, f"{name}: {ax.get_title()!r}"
            assert any(note.get_text().startswith("GD") for note in notes(ax)), name


def title(figure):
    return figure.get_suptitle()


@pytest.mark.parametrize(
    ("name", "refuted"),
    [
        ("rates", {"convex": tail(-1.0, growth=0.9)}),
        ("distance", {"strongly_convex": quadratic(length=12)}),
        ("price", {"strongly_convex": quadratic((0.0, 0.5, 1.0))}),
        ("effective_dimension", {"effective_dimension": effective(halving=1.0)}),
        ("real_data", {"real_data": real(33.0)}),
    ],
)
def test_a_title_asserts_what_holds_and_asks_what_does_not(job, figures, name, refuted):
    assert not title(figures[name]).endswith("?")
    assert title(draw(job, **refuted)[name]).endswith("?")


def test_tables_have_names_in_the_language_of_the_figure(job):
    for lang, name in (("en", "breast cancer, $n = 31$"), ("ru", "рак груди, $n = 31$")):
        assert draw(job, lang)["real_data"].axes[0].get_title() == name


def test_the_slides_rate_stands_beside_the_exact_one(figures):
    smooth, convex = figures["rates"].axes[:2]
    for ax, exponents in ((smooth, [-12 / 11, -1.0]), (convex, [-1.0])):
        dashed = [line for line in ax.lines if line.get_linestyle() == "--"]
        slopes = [np.diff(np.log(line.get_ydata())) / np.diff(np.log(line.get_xdata()))
                  for line in dashed]  # fmt: skip
        assert sorted(float(slope[0]) for slope in slopes) == pytest.approx(exponents)
        words = " ".join(note.get_text() for note in notes(ax))
        assert "1/k" in words
        assert ("1.09" in words or "1{,}09" in words) == (ax is smooth)
