"""The pictures of `hessian_spectrum`: densities before and after, and the way between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adlab import lab
from adlab.figures import panels, style
from adlab.figures.labels import text

from .config import Config
from .spectra import series, smoothed

Arrays = dict[str, np.ndarray]
_COLORS = {
    norm: style.tone(name)
    for norm, name in (("batch", "indigo"), ("none", "brown"), ("group", "olive"))
}
_MARKERS = {"batch": "o", "none": "s", "group": "^"}
_NEGATIVE = style.tone("wine")
_FLOOR = 1e-5  # of the densities: less isn't seen with so few probes
_WIDTH = 0.01  # of lambda_max: deviation of the Gaussians that make the density smooth


def plot(
    data: Arrays, config: Config, *, verdicts: Sequence[lab.Verdict] = ()
) -> dict[str, Figure]:
    """Draw the densities, a figure per norm, and how the claims' quantities go over training."""
    claim = "hessian_spectrum.claim."
    title = lab.heading(
        "hessian_spectrum.figure.densities", verdicts, f"{claim}fall", f"{claim}ratio"
    )
    figures = {"densities": _densities(data, config, config.norms[0], title)}
    for norm in config.norms[1:]:
        name = text(f"hessian_spectrum.norm.{norm}")
        title = text("hessian_spectrum.figure.other_densities", norm=name)
        figures[f"densities_{norm}"] = _densities(data, config, norm, title)
    title = lab.heading("hessian_spectrum.figure.training", verdicts, claim)
    figures["training"] = _training(data, config, ("ratio", "energy"), title)
    title = text("hessian_spectrum.figure.course")
    figures["course"] = _training(data, config, ("extremes", "outliers"), title)
    return figures


def _densities(data: Arrays, config: Config, norm: str, title: str) -> Figure:
    """Draw the densities of a norm, before training and after, on the same axes."""
    figure, axes = panels.grid(1, 2, title=title)
    deepest = float(series(data, norm).ratio[:, [0, -1]].max())
    grid = np.linspace(-max(deepest, 0.0) - 6 * _WIDTH, 1 + 6 * _WIDTH, 1500)
    tops = [_density(ax, data, norm, k, grid) for ax, k in zip(axes[0], (0, -1), strict=True)]
    for ax, k in zip(axes[0], (0, -1), strict=True):
        name = text(f"hessian_spectrum.norm.{norm}")
        ratio = f"{-float(np.mean(series(data, norm).ratio[:, k])):.2g}"
        words = text(
            "hessian_spectrum.figure.at_step", norm=name, step=config.steps[k], ratio=ratio
        )
        ax.set(title=words, xlabel=text("hessian_spectrum.figure.eigenvalue"))
        ax.set(yscale="log", xlim=(grid[0], grid[-1]), ylim=(_FLOOR, 3 * max(tops)))
        ax.set_xticks(np.arange(np.ceil(2 * grid[0]) / 2, 1.1, 0.5))
    axes[0, 0].set_ylabel(text("hessian_spectrum.figure.density"))
    return figure


def _density(ax: Axes, data: Arrays, norm: str, step: int, grid: np.ndarray) -> float:
    """Draw the mean density of all trainings and their band; return its top.

    Eigenvalues are in units of each training's lambda_max. The negative part is filled.
    """
    found = series(data, norm)
    each = np.array([
        smoothed(data, norm, seed, step, grid * top, _WIDTH * top) * top
        for seed, top in enumerate(found.largest[:, step])
    ])  # fmt: skip
    mean, color = each.mean(axis=0), _COLORS[norm]
    ax.fill_between(grid, each.min(axis=0), each.max(axis=0), color=color, alpha=0.2, lw=0)
    ax.plot(grid, mean, color=color)
    negative = grid <= 0
    ax.fill_between(grid[negative], _FLOOR, mean[negative], color=_NEGATIVE, alpha=0.5, lw=0)
    ax.axvline(0.0, color=style.THEORY, linewidth=1)
    return float(each.max())


def _training(data: Arrays, config: Config, names: tuple[str, str], title: str) -> Figure:
    """Draw two quantities over training, for all norms."""
    figure, axes = panels.grid(1, 2, title=title)
    for ax, name in zip(axes[0], names, strict=True):
        for norm in config.norms:
            _course(ax, data, norm, name)
        if name != "outliers":
            panels.convergence(ax, [], xlabel="", ylabel="", xscale="linear", legend="")
        words = text(f"hessian_spectrum.figure.{name}", number=int(data["classes"]) - 1)
        ax.set_title(words)
        ax.set_xticks(range(len(config.steps)), [str(step) for step in config.steps])
        ax.set_xlabel(text("hessian_spectrum.figure.step"))
        if name == "outliers":
            _classes(ax, int(data["classes"]))
    panels.legend_below(figure, axes[0, 0], cols=2)
    return figure


def _course(ax: Axes, data: Arrays, norm: str, name: str) -> None:
    """Draw one quantity, or both extremes, of a norm."""
    found, label = series(data, norm), text(f"hessian_spectrum.norm.{norm}")
    if name == "extremes":
        _seeds(ax, found.largest, norm, label=rf"$\lambda_{{\max}}$, {label}")
        words = rf"$|\lambda_{{\min}}|$, {label}"
        _seeds(ax, -found.smallest, norm, dashed=True, label=words)
    else:
        rows = {
            "ratio": found.ratio, "energy": found.negative_energy, "outliers": found.outliers,
        }  # fmt: skip
        _seeds(ax, rows[name], norm, label=label)


def _classes(ax: Axes, classes: int) -> None:
    """Draw how many outliers so many classes are known to make."""
    ax.axhline(classes - 1, color=style.THEORY, linestyle="--")
    ax.set_ylim(0, max(1.35 * (classes - 1), ax.get_ylim()[1]))


def _seeds(ax: Axes, values: Any, norm: str, *, dashed: bool = False, label: str = "") -> None:
    """Draw the band of all trainings and their mean, of logarithms where all are positive."""
    values = np.asarray(values, dtype=float)
    places, color = np.arange(values.shape[1]), _COLORS[norm]
    positive = values > 0
    middle = np.exp(np.log(values).mean(axis=0)) if positive.all() else values.mean(axis=0)
    edges = values.min(axis=0), values.max(axis=0)
    ax.fill_between(places, *edges, color=color, alpha=0.2, lw=0)
    ax.plot(
        places, middle, marker=_MARKERS[norm], label=label, color=color, linewidth=4,
        linestyle="--" if dashed else "-",
    )  # fmt: skip
