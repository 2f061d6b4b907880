"""What a given accuracy costs on the strongly convex quadratic: in evaluations, in operations."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adlab.figures import labels, panels, style
from adlab.figures.labels import text

from . import fits
from .cell_figures import named
from .cells import Arrays
from .config import Config
from .verdicts import hits

APART = 0.075  # of the axis, between names


def price(data: Arrays, config: Config, title: str) -> Figure:
    """Draw the evaluations to a target against the dimension."""
    figure, axes = panels.grid(title=title)
    _costs(axes[0, 0], data, config, "evaluations")
    return figure


def operations(data: Arrays, config: Config) -> Figure:
    """Draw the operations of these evaluations."""
    figure, axes = panels.grid(title=text("rates.figure.operations"))
    _costs(axes[0, 0], data, config, "operations")
    return figure


def _costs(ax: Axes, data: Arrays, config: Config, unit: str) -> None:
    """Draw one curve per kind of estimator, the first of each, named at its end."""
    weights = data[f"strongly_convex_{unit}"]
    ends: dict[str, float] = {}
    for i, spec in enumerate(config.estimators):
        if spec.kind in ends:
            continue
        k, curves = hits(data, i)
        times = [
            fits.hitting_time(grid * weight, runs.mean(axis=0), config.accuracy)
            for grid, runs, weight in zip(k, curves, weights[i], strict=True)
        ]
        panels.scaling(
            ax, config.full_dims, times, exponent=None, method=spec.kind, label="", legend="",
            xlabel=text("axis.dimension"), ylabel=text(f"rates.figure.{unit}_axis"),
        )  # fmt: skip
        ends[spec.kind] = float(times[-1])
    for line in ax.lines:
        line.set(linewidth=4, markersize=13)
    low, high = config.full_dims[0], config.full_dims[-1]
    ax.set_xlim(low / 1.15, high * (high / low) ** 0.75)
    _name_ends(ax, data, config, {kind: end for kind, end in ends.items() if np.isfinite(end)})


def _name_ends(ax: Axes, data: Arrays, config: Config, ends: dict[str, float]) -> None:
    """Write the names beside the ends, in their order, apart enough to be read."""
    low, high = np.log(ax.get_ylim())
    n, order = config.full_dims[-1], sorted(ends, key=lambda kind: ends[kind])
    places = _apart(np.array([(np.log(ends[kind]) - low) / (high - low) for kind in order]))
    for kind, place in zip(order, places, strict=True):
        y, color = float(np.exp(low + place * (high - low))), style.color(kind)
        ax.plot([n, n * 1.12], [ends[kind], y], color=color, linewidth=1.5)
        named(ax, _called(kind, data, config), (n * 1.12, y), color=color, shift=(6, 0), size=22,
              ha="left", va="center")  # fmt: skip


def _apart(places: np.ndarray) -> np.ndarray:
    """Return ascending places moved as little as need be, `APART` from each other at least."""
    places = places.copy()
    for _ in range(200):
        for i in range(len(places) - 1):
            lack = APART - (places[i + 1] - places[i])
            if lack > 0:
                places[i], places[i + 1] = places[i] - lack / 2, places[i + 1] + lack / 2
    return places


def _called(kind: str, data: Arrays, config: Config) -> str:
    """Return the name of a method, and what its derivative costs where it takes one."""
    place = next(i for i, spec in enumerate(config.estimators) if spec.kind == kind)
    spent = f"{float(data['strongly_convex_evaluations'][place, -1]):.2g}"
    if kind == "reverse_mode":
        return text("rates.figure.priced_gradient", method=text("rates.figure.gd"), price=spent)
    name = labels.name("method", kind.rpartition(":")[2])
    if kind == "forward_gradient":
        return text("rates.figure.priced_jvp", method=name, price=spent)
    return name
