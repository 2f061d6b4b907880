"""Panels show what they are given, with theory's lines at theory's slopes."""

import itertools
import re
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_hex

from adlab.figures import panels, style
from adlab.figures.panels import Curve

X = np.geomspace(1, 1000, 20)
ONE = Curve(X, 3 / X, "one", "two_point", 2 / X, 4 / X)
TWO = Curve(X, 5 / X**2, "two", "gradient_descent")


def axes():
    figure, grid = panels.grid()
    return figure, grid[0, 0]


def log_slope(line):
    x, y = (np.asarray(part, float) for part in line.get_data())
    return np.polyfit(np.log(x), np.log(y), 1)[0]


def test_convergence_draws_the_curves_and_the_reference():
    with style.context():
        _, ax = axes()
        line = panels.power_law(X, -1.0, through=(10, 0.3))
        panels.convergence(ax, [ONE, TWO], xlabel="k", ylabel="f", references=[line])
    one, two, theory = ax.lines
    np.testing.assert_array_equal(one.get_ydata(), ONE.y)
    np.testing.assert_array_equal(two.get_ydata(), TWO.y)
    assert log_slope(theory) == pytest.approx(-1, abs=1e-12)  # rounding of two logarithms
    assert np.interp(10, *theory.get_data()) > 0
    assert [t.get_text() for t in ax.get_legend().get_texts()][:2] == ["one", "two"]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")


def test_a_power_law_passes_through_its_point():
    line = panels.power_law(X, -0.5, through=(10, 7.0))
    x, y = np.asarray(line.x), np.asarray(line.y)
    assert y[0] * (10 / x[0]) ** -0.5 == pytest.approx(7)


def test_direct_labels_stand_at_the_starts_and_leave_the_legend():
    with style.context():
        _, ax = axes()
        panels.convergence(ax, [ONE, TWO], xlabel="k", ylabel="f", direct=True)
    assert [(t.get_text(), t.xy) for t in ax.texts] == [("one", (1, 3)), ("two", (1, 5))]
    assert ax.get_legend() is None


def test_room_extends_the_axis_downward():
    with style.context():
        limits = []
        for room in (1.0, 10.0):
            _, ax = axes()
            panels.convergence(ax, [ONE], xlabel="k", ylabel="f", room=room)
            limits.append(ax.get_ylim()[0])
    assert limits[0] / limits[1] == pytest.approx(10)


def test_compensated_curves_of_the_right_power_lie_flat():
    with style.context():
        _, ax = axes()
        panels.compensated(ax, [ONE], xlabel="k", ylabel="k f", exponent=-1.0, expected=3.0)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), 3.0)
    assert ax.lines[1].get_ydata()[0] == 3.0


@pytest.mark.parametrize("exponent", [1.0, 0.5, 0.0])
def test_scaling_draws_points_and_theorys_slope_through_their_middle(exponent):
    n = np.array([8, 16, 32, 64])
    with style.context():
        _, ax = axes()
        panels.scaling(ax, n, 2 * n**0.9, exponent=exponent, method="two_point", label="x",
                       fitted=0.9)  # fmt: skip
    assert log_slope(ax.lines[0]) == pytest.approx(exponent, abs=1e-12)  # two logarithms
    np.testing.assert_allclose(ax.lines[1].get_ydata(), 2 * n**0.9)
    assert "0.900" in ax.get_legend().get_texts()[1].get_text()


def test_scaling_without_theory_joins_the_points():
    with style.context():
        _, ax = axes()
        panels.scaling(ax, [8, 16], [1.0, 2.0], exponent=None, method="two_point", label="x")
    assert len(ax.lines) == 1
    assert ax.lines[0].get_linestyle() == "-"


def test_dots_have_their_intervals():
    with style.context():
        _, ax = axes()
        panels.dot_plot(ax, ["a", "b"], [1.0, 1.1], low=[0.9, 1.0], high=[1.2, 1.3],
                    methods=["two_point", "one_sided"])  # fmt: skip
    drawn = [line.get_xdata()[0] for line in ax.lines if len(line.get_xdata()) == 1]
    assert {1.0, 1.1} <= set(drawn)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]


def test_a_method_has_one_colour_whatever_the_panel():
    with style.context():
        _, first = axes()
        _, second = axes()
        panels.convergence(first, [ONE], xlabel="k", ylabel="f")
        panels.scaling(second, [8, 16], [1, 2], exponent=None, method="two_point", label="x")
    assert to_hex(first.lines[0].get_color()) == to_hex(second.lines[0].get_color())
    assert to_hex(first.lines[0].get_color()) == to_hex(style.color("two_point"))
    assert style.color("my_plugin") == style.color("my_plugin")


def test_shades_end_in_the_methods_own_colour():
    tones = style.shades("two_point", 3)
    assert len(set(tones)) == 3
    assert to_hex(tones[-1]) == to_hex(style.color("two_point"))


SAVE = """
import sys
from pathlib import Path
import numpy as np
from adlab.figures import panels, style

def save(*stems):
    with style.context("ru"):
        figure, axes = panels.grid(title="проба")
        x = np.geomspace(1, 100, 10)
        curve = panels.Curve(x, 1 / x, "y", "two_point")
        panels.convergence(axes[0, 0], [curve], xlabel="k", ylabel="f")
        for stem in stems:
            style.save(figure, stem)
"""
ALONE = """
save(Path(sys.argv[1]))
assert "matplotlib.pyplot" not in sys.modules
"""


def test_files_are_identical_twice_and_in_two_processes_and_pyplot_is_not_needed(tmp_path):
    scope = {}
    exec(SAVE, scope)
    one, two, three = (tmp_path / name for name in ("one", "two", "three"))
    scope["save"](one, two)
    subprocess.run([sys.executable, "-c", SAVE + ALONE, str(three)], check=True)
    for suffix in ("svg", "pdf", "png"):
        written = {stem.with_suffix(f".{suffix}").read_bytes() for stem in (one, two, three)}
        assert len(written) == 1, suffix


def test_every_kind_of_file_has_the_size_of_a_slide_and_the_figure_keeps_its_own(tmp_path):
    with style.context():
        figure, _ = panels.grid()
        before = figure.dpi
        style.save(figure, tmp_path / "slide")
    width, height = style.SLIDE
    raster = matplotlib.image.imread(tmp_path / "slide.png")
    assert raster.shape[:2] == (int(150 * height), int(150 * width))
    points = f'width="{72 * width:g}pt" height="{72 * height:g}pt"'
    assert points in (tmp_path / "slide.svg").read_text(encoding="utf-8")
    box = re.search(
        rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", (tmp_path / "slide.pdf").read_bytes()
    )
    np.testing.assert_allclose([float(side) for side in box.groups()], [72 * width, 72 * height])
    assert figure.dpi == before


def shown(axis):
    """Return labels of ticks within the view, with their places from left to right."""
    axis.figure.draw_without_rendering()
    low, high = axis.get_view_interval()
    labels = [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return sorted(((t.get_window_extent(), t.get_text()) for t in labels), key=lambda e: e[0].x0)


@pytest.mark.parametrize("width", [13.3, 6.0, 4.0])
@pytest.mark.parametrize("limits", [(20, 900), (1, 1e6)])
def test_ticks_fit_whatever_limits_and_size_a_figure_gets_later(width, limits):
    with style.context():
        figure, ax = axes()
        short = np.array([25.0, 400.0])
        panels.convergence(ax, [Curve(short, short, "", "two_point")], xlabel="k", ylabel="f")
        ax.set(xlim=limits)
        figure.set_size_inches(width, 3)
        labels = shown(ax.xaxis)
    assert len(labels) >= 2
    for (left, _), (right, _) in itertools.pairwise(labels):
        assert left.x1 < right.x0
    plain = [text for _, text in labels if text.isdigit()]
    assert len(plain) == (len(labels) if limits[1] == 900 else 0)


def test_a_dashed_line_with_a_marker_is_dashed_in_the_legend_too():
    lengths = []
    for marker in ("s", ""):
        with style.context():
            figure, ax = axes()
            ax.plot(X, X, "--", marker=marker, label="dashed")
            panels.legend_below(figure, ax)
        lengths.append(figure.legends[0].handlelength)
    assert lengths[0] == 4.0  # 3 dashes and more at the usual width
    assert lengths[1] < 4.0
