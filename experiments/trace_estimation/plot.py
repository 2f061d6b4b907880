"""The pictures: error over products beside theory, and how often the stated error holds."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adlab import optimize
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
    "rademacher": ("#0072B2", "gradient_descent"),
    "gaussian": ("#56B4E9", "finite_difference"),
    "sphere": ("#E69F00", "one_sided"),
    "hutch++": ("#D55E00", "two_point"),
    "xtrace": ("#009E73", "forward_gradient"),
}


def plot(data: Arrays, config: Config) -> dict[str, Figure]:
    """Draw the idea; the error, and the coverage of two standard errors, over the products."""
    figures = {"errors": _errors(data, config), "coverage": _coverage(data, config)}
    return figures | ({"idea": idea.plot(data)} if "idea_matrix" in data else {})


def _panels(config: Config, title: str) -> tuple[Figure, list[Axes]]:
    cols = 2 if len(config.spectra) > 1 else 1
    figure, axes = panels.grid(-(-len(config.spectra) // cols), cols, title=title)
    for spare in axes.ravel()[len(config.spectra) :]:
        spare.set_visible(False)
    return figure, list(axes.ravel()[: len(config.spectra)])


def _errors(data: Arrays, config: Config) -> Figure:
    figure, axes = _panels(config, text("trace_estimation.figure.errors", n=config.dim))
    for index, ax in enumerate(axes):
        panels.convergence(
            ax, _measured(data, config, index), references=_theory(data, config, index),
            xlabel=text("trace_estimation.figure.products"),
            ylabel=text("trace_estimation.figure.relative_error"),
            title=text(f"trace_estimation.panel.{config.spectra[index]}"), legend="",
        )  # fmt: skip
    panels.legend_below(figure, axes[0], 3)
    return figure


def _measured(data: Arrays, config: Config, index: int) -> list[Curve]:
    scale, curves = abs(data["trace"][index]), []
    for name in config.estimators:
        squares = squared_errors(data, name)[index]
        found = optimize.mean_interval(squares.T, seed=config.seed)
        ends = (np.sqrt(end) / scale for end in (found.estimate, found.low, found.high))
        mean, low, high = ends
        color, marker = LOOKS[name]
        m = config.num_matvecs
        curves.append(Curve(m, mean, _name(name), marker, low=low, high=high, color=color))
    return curves


def _theory(data: Arrays, config: Config, index: int) -> list[Curve]:
    """Return Hutchinson's standard deviation by the formulas, one line per law."""
    ends = np.array(config.num_matvecs, dtype=float)[[0, -1]]
    lines: list[Curve] = []
    for law in (name for name in LAWS if name in config.estimators):
        level = np.sqrt(formulas(data, law)[index] / ends) / abs(data["trace"][index])
        label = "" if lines else text("trace_estimation.figure.theory")
        lines.append(Curve(ends, level, label, color=style.THEORY))
    return lines


def _coverage(data: Arrays, config: Config) -> Figure:
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
            for name in config.estimators
        ]
        panels.compensated(
            ax, curves, xlabel=text("trace_estimation.figure.products"),
            ylabel=text("trace_estimation.figure.share"), expected=SHARE, tolerance=COVERAGE,
            title=text(f"trace_estimation.panel.{config.spectra[index]}"),
        )  # fmt: skip
        ax.set_ylim(min(0.5, ax.get_ylim()[0]), 1.0)
        if legend := ax.get_legend():
            legend.remove()
    panels.legend_below(figure, axes[0], 3)
    return figure


def _name(name: Name) -> str:
    if name in TITLES:
        return TITLES[name]
    return text("trace_estimation.figure.hutchinson", law=text(f"law.{name}"))
