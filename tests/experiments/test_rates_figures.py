"""The figures of `rates`: readable, with gradient descent in each, under titles that follow."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import parts
import pytest
from matplotlib.colors import to_hex
from matplotlib.text import Annotation, Text
from rates_data import CHANGES, GOOD

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


@pytest.fixture(scope="module")
def found(job):
    """Return the arrays of all the good cells, their config and verdicts."""
    cells = {name: make() for name, make in GOOD.items()}
    config = job.config.model_copy(update={"parts": tuple(cells)})
    data = {f"{cell}_{k}": v for cell, arrays in cells.items() for k, v in arrays.items()}
    return data, config, job.module.verdicts(data, config)


@pytest.fixture(scope="module", params=labels.LANGUAGES)
def lang(request):
    return request.param


@pytest.fixture(scope="module")
def figures(job, found, lang):
    """Draw all, under the titles that the verdicts allow."""
    data, config, verdicts = found
    with style.context(lang):
        drawn = job.module.plot(data, config, verdicts=verdicts)
        for figure in drawn.values():
            finish(figure)
            figure.draw_without_rendering()
    return drawn


def notes(ax):
    """Return what stands beside the lines of a panel."""
    return [note for note in ax.findobj(Annotation) if note.get_text()]


def test_names_beside_lines_are_large_within_the_picture_and_apart(figures):
    assert set(figures) == NAMES
    for name, figure in figures.items():
        for ax in figure.axes:
            boxes = {note: Text.get_window_extent(note) for note in notes(ax)}
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


HEADED = {
    "rates": "title",
    "distance": "distance",
    "price": "price",
    "effective_dimension": "effective",
    "real_data": "real_data",
}


def test_titles_assert_what_holds_and_ask_what_does_not(found, figures, lang):
    module = parts.part("rates", "plot")
    for name, key in HEADED.items():
        with labels.speak(lang):
            asserted = module.headed(key, found[2])
            asked = [module.headed(key, refuted(found[2], claim)) for claim in module.ASSERTED[key]]
        assert figures[name].get_suptitle() == comma(lang, asserted)
        assert not asserted.endswith("?")
        assert asked
        assert all(title.endswith("?") for title in asked)


def comma(lang, words):
    return labels.comma(words) if lang == "ru" else words


def refuted(verdicts, claim):
    """Return the verdicts with one of those on a claim changed so that it fails."""
    about = [v for v in verdicts if v.claim.key == f"rates.claim.{claim}"]
    changed = dataclasses.replace(about[-1], expected=about[-1].expected - 100, control=False)
    assert changed.outcome == "fails"
    return [changed if v is about[-1] else v for v in verdicts]


def test_tables_have_names_in_the_language_of_the_figure(figures, lang):
    names = {
        "en": ["breast cancer, $n = 31$", "digits, $n = 31$"],
        "ru": ["рак груди, $n = 31$", "рукописные цифры, $n = 31$"],
    }
    assert [ax.get_title() for ax in figures["real_data"].axes] == names[lang]


def test_every_claim_has_words(found):
    """In both languages, and none of them the table's own name in English."""
    for verdict in found[2]:
        assert verdict.claim.render("en") != verdict.claim.render("ru")
        assert "breast" not in verdict.claim.render("ru")


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


def test_another_law_of_the_two_point_estimate_is_drawn_too(job, found):
    data, config, _ = found
    specs = list(config.estimators)
    changed = [
        each.model_copy(update={"law": "gaussian"}) if each.kind == "two_point" else each
        for each in specs
    ]
    others = config.model_copy(update={"estimators": tuple(changed)})
    assert not any(each.kind == "two_point" and each.law == "sphere" for each in others.estimators)
    key, figures = "strongly_convex_predicted_squares", []
    with style.context():
        for value in (0.5, np.nan):
            arrays = data | {key: np.full_like(data[key], value)}
            figures.append(job.module.plot(arrays, others, verdicts=[])["distance"])
        exact = labels.text("rates.figure.distance_exact")
    colors = [to_hex(line.get_color()) for line in figures[0].axes[0].lines]
    assert set(style.shades("two_point", 2)) <= set(colors)
    words = [{note.get_text() for note in notes(each.axes[0])} for each in figures]
    assert [exact in each for each in words] == [True, False]  # told only where it is drawn
