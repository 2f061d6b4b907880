"""The pictures: error over products beside theory, and how often the stated error holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adlab import lab, optimize
from adlab.figures import panels, style
from adlab.figures.labels import text
from adlab.figures.panels import Curve

from . import idea
from .config import LAWS, Config, Name
from .measure import Arrays
from .theory import formulas
from .verdicts import COVERAGE, SHARE, TITLES, coverage, squared_errors

# Colour, and a method whose marker is taken; Hutchinson's three laws are told apart from the rest.
LOOKS: dict[Name, tuple[str, str]] = {
    "rademacher": (style.tone("indigo"), "gradient_descent"),
    "gaussian": (style.tone("brown"), "finite_difference"),
    "sphere": (style.tint(style.tone("indigo"), 0.45), "one_sided"),
    "hutch++": (style.tone("olive"), "two_point"),
    "xtrace": (style.tone("wine"), "forward_gradient"),
}


def plot(
    data: Arrays, config: Config, *, verdicts: Sequence[lab.Verdict] = ()
) -> dict[str, Figure]:
    """Draw the idea; the error, and the coverage of two standard errors, over the products.

    Hutchinson's laws of probes are compared in a figure of their own.
    """
    laws, shown = _groups(config)
    claims = ("trace_estimation.claim.advantage", "trace_estimation.claim.control_flat")
    title = lab.heading("trace_estimation.figure.errors", verdicts, *claims, n=config.dim)
    figures = {"errors": _errors(data, config, shown, title)}
    figures["coverage"] = _coverage(data, config, shown)
    if len(laws) > 1:
        title = text("trace_estimation.figure.laws", n=config.dim)
        figures["laws"] = _errors(data, config, laws, title)
    return figures | ({"idea": idea.plot(data)} if "idea_matrix" in data else {})


def _groups(config: Config) -> tuple[list[Name], list[Name]]:
    """Return Hutchinson's laws, and what is compared: the first of these and the others."""
    laws = [name for name in config.estimators if name in LAWS]
    return laws, [*laws[:1], *(name for name in config.estimators if name not in LAWS)]


def _panels(config: Config, title: str) -> tuple[Figure, list[Axes]]:
    cols = 2 if len(config.spectra) > 1 else 1
    figure, axes = panels.grid(-(-len(config.spectra) // cols), cols, title=title)
    for spare in axes.ravel()[len(config.spectra) :]:
        spare.set_visible(False)
    return figure, list(axes.ravel()[: len(config.spectra)])


def _errors(data: Arrays, config: Config, names: list[Name], title: str) -> Figure:
    figure, axes = _panels(config, title)
    for index, ax in enumerate(axes):
        panels.convergence(
            ax, _measured(data, config, names, index),
            references=_theory(data, config, names, index), xlabel="", ylabel="",
            title=text(f"trace_estimation.panel.{config.spectra[index]}"), legend="",
        )  # fmt: skip
    _label(figure, axes, "relative_error")
    return figure


def _label(figure: Figure, axes: list[Axes], what: str) -> None:
    """Name the axes once for all panels, and the curves below them."""
    for ax in axes[-2:]:
        ax.set_xlabel(text("trace_estimation.figure.products"))
    figure.supylabel(text(f"trace_estimation.figure.{what}"), fontsize=20)
    panels.legend_below(figure, axes[0], 4)


def _measured(data: Arrays, config: Config, names: list[Name], index: int) -> list[Curve]:
    scale, curves = abs(data["trace"][index]), []
    for name in names:
        squares = squared_errors(data, name)[index]
        found = optimize.mean_interval(squares.T, seed=config.seed)
        ends = (np.sqrt(end) / scale for end in (found.estimate, found.low, found.high))
        mean, low, high = ends
        color, marker = LOOKS[name]
        m = config.num_matvecs
        label = _name(name) if any(each in TITLES for each in names) else text(f"law.{name}")
        curves.append(Curve(m, mean, label, marker, low=low, high=high, color=color))
    return curves


def _theory(data: Arrays, config: Config, names: list[Name], index: int) -> list[Curve]:
    """Return Hutchinson's standard deviation by the formulas, one line per law."""
    ends = np.array(config.num_matvecs, dtype=float)[[0, -1]]
    lines: list[Curve] = []
    for law in (name for name in LAWS if name in names):
        level = np.sqrt(formulas(data, law)[index] / ends) / abs(data["trace"][index])
        label = "" if lines else text("trace_estimation.figure.theory")
        lines.append(Curve(ends, level, label, color=style.THEORY))
    return lines


def _coverage(data: Arrays, config: Config, names: list[Name]) -> Figure:
    figure, axes = _panels(config, text("trace_estimation.figure.coverage"))
    for index, ax in enumerate(axes):
        curves = [
            Curve(
                config.num_matvecs,
                coverage(data, name)[index],
                _name(name),
                LOOKS[name][1],
                color=LOOKS[name][0],
            )
            for name in names
        ]
        panels.compensated(
            ax, curves, xlabel="", ylabel="", expected=SHARE, tolerance=COVERAGE,
            title=text(f"trace_estimation.panel.{config.spectra[index]}"),
        )  # fmt: skip
        ax.set_ylim(min(0.7, ax.get_ylim()[0]), 1.0)
        if legend := ax.get_legend():
            legend.remove()
    _label(figure, axes, "share")
    return figure


def _name(name: Name) -> str:
    if name in TITLES:
        return TITLES[name]
    return text("trace_estimation.figure.hutchinson", law=text(f"law.{name}"))
