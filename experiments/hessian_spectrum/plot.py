"""The pictures of `hessian_spectrum`: densities before and after, and the way between them."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adlab.figures import panels, style
from adlab.figures.labels import text

from .config import Config
from .spectra import Series, series, smoothed

Arrays = dict[str, np.ndarray]
_COLORS = {"batch": "#0072B2", "none": "#D55E00", "group": "#009E73"}
_MARKERS = {"batch": "o", "none": "s", "group": "^"}
_FLOOR = 1e-6  # of the densities: less isn't seen with so few probes


def plot(data: Arrays, config: Config) -> dict[str, Figure]:
    """Draw the densities, and how extremes, energy and outliers go over training."""
    return {"densities": _densities(data, config), "training": _training(data, config)}


def _densities(data: Arrays, config: Config) -> Figure:
    figure, axes = panels.grid(
        len(config.norms), 2, title=text("hessian_spectrum.figure.densities")
    )
    for row, norm in zip(axes, config.norms, strict=True):
        found = series(data, norm)
        for ax, step in zip(row, (0, -1), strict=True):
            _density(ax, data, norm, step, found)
            name = text(f"hessian_spectrum.norm.{norm}")
            ax.set_title(
                text("hessian_spectrum.figure.at_step", norm=name, step=config.steps[step])
            )
        row[0].set_ylabel(text("hessian_spectrum.figure.density"))
    for ax in axes[-1]:
        ax.set_xlabel(text("hessian_spectrum.figure.eigenvalue"))
    return figure


def _density(ax: Axes, data: Arrays, norm: str, step: int, found: Series) -> None:
    """Draw the density of the first training, its negative part filled."""
    nodes = data[f"{norm}_nodes"][0, step]
    low, high = nodes.min(), nodes.max()
    width = (high - low) / 150
    grid = np.linspace(low - 5 * width, high + 5 * width, 1200)
    density = smoothed(data, norm, 0, step, grid, width)
    ax.plot(grid, density, color=_COLORS[norm])
    negative = grid <= 0
    ax.fill_between(grid[negative], _FLOOR, density[negative], color="#CC79A7", alpha=0.45)
    ax.axvline(0.0, color=style.THEORY, linewidth=1)
    ax.set_yscale("log")
    ax.set_ylim(_FLOOR, 3 * density.max())
    ax.annotate(
        rf"$\lambda_{{\min}} = {found.smallest[0, step]:.2g}$" + "\n"
        rf"$\lambda_{{\max}} = {found.largest[0, step]:.2g}$",
        (0.97, 0.93), xycoords="axes fraction", ha="right", va="top", fontsize=16,
    )  # fmt: skip


def _training(data: Arrays, config: Config) -> Figure:
    figure, axes = panels.grid(2, 2, title=text("hessian_spectrum.figure.training"))
    for norm in config.norms:
        found = series(data, norm)
        _extremes(axes[0, 0], found, norm)
        _seeds(axes[0, 1], found.ratio, norm)
        _seeds(axes[1, 0], found.negative_energy, norm)
        _seeds(axes[1, 1], found.outliers, norm)
    classes = int(data["classes"])
    axes[1, 1].axhline(
        classes - 1, color=style.THEORY, linestyle="--",
        label=text("hessian_spectrum.figure.classes", number=classes - 1),
    )  # fmt: skip
    names = ("extremes", "ratio", "energy", "outliers")
    for ax, name in zip(axes.flat, names, strict=True):
        ax.set_title(text(f"hessian_spectrum.figure.{name}"))
        ax.set_xticks(range(len(config.steps)), [str(step) for step in config.steps])
        if name != "outliers":
            ax.set_yscale("log")
    for ax in axes[-1]:
        ax.set_xlabel(text("hessian_spectrum.figure.step"))
    axes[1, 1].set_ylim(bottom=0)
    axes[1, 1].legend(loc="best")
    panels.legend_below(figure, axes[0, 0], cols=2)
    return figure


def _extremes(ax: Axes, found: Series, norm: str) -> None:
    name = text(f"hessian_spectrum.norm.{norm}")
    _seeds(ax, found.largest, norm, label=rf"$\lambda_{{\max}}$, {name}")
    _seeds(ax, -found.smallest, norm, dashed=True, label=rf"$|\lambda_{{\min}}|$, {name}")


def _seeds(ax: Axes, values: Any, norm: str, *, dashed: bool = False, label: str = "") -> None:
    """Draw each training thinly, and their mean (of logarithms where positive) over them."""
    values = np.asarray(values, dtype=float)
    places = np.arange(values.shape[1])
    line: dict[str, Any] = {"color": _COLORS[norm], "linestyle": "--" if dashed else "-"}
    for row in values:
        ax.plot(places, row, linewidth=1, alpha=0.35, **line)
    positive = values > 0
    middle = np.exp(np.log(values).mean(axis=0)) if positive.all() else values.mean(axis=0)
    ax.plot(places, middle, marker=_MARKERS[norm], label=label or "_nolegend_", **line)
