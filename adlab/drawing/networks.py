"""A feed-forward network as layers of units, with weights and values of a real one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from adlab.core.types import ArrayLike
from adlab.drawing import _geometry as geometry
from adlab.figures import style
from adlab.figures.finish import as_title

__all__ = ["draw_network"]

_WIDTH, _HEIGHT = style.SLIDE
_MOST = 7  # units of a layer that are drawn; of more, the first and the last ones
_LOW, _HIGH = 2.25, 5.45


def draw_network(
    states: Sequence[ArrayLike],
    weights: Sequence[ArrayLike],
    *,
    title: str = "",
    above: Sequence[str] = (),
    below: Sequence[str] = (),
) -> Figure:
    """Draw layers of units from left to right, joined by their weights.

    A line is a weight, a circle a unit: blue above zero and orange below, the stronger the larger.
    Units show the first example. Of a layer of more than 7 units the first 4 and the last 3 are
    drawn.

    Args:
      states: values of the K + 1 layers, of shape (examples, units) each.
      weights: K matrices of shape (units of a layer, units of the next).
      title: above the picture.
      above: texts over the first layer, the weights after it, the next layer, and so on: 2 K + 1
        of them, of several lines where they hold line breaks.
      below: texts under the same.

    Raises:
      ValueError: a matrix that doesn't fit between its layers, or too few layers.
    """
    layers, links = [np.asarray(s) for s in states], [np.asarray(w) for w in weights]
    if not links or len(layers) != len(links) + 1:
        raise ValueError(
            f"states must be one more than weights, got {len(layers)} and {len(links)}"
        )
    for k, w in enumerate(links):
        fit = (layers[k].shape[1], layers[k + 1].shape[1])
        if w.shape != fit:
            raise ValueError(f"weights[{k}] must have shape {fit}, got {w.shape}")
    figure = Figure(figsize=style.SLIDE)
    figure.set_layout_engine("none")
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set(xlim=(0, _WIDTH), ylim=(0, _HEIGHT))
    axes.set_axis_off()
    places = np.linspace(1.45, _WIDTH - 1.45, len(layers))
    shown = [_shown(layer.shape[1]) for layer in layers]
    for k, w in enumerate(links):
        _links(axes, places[k : k + 2], shown[k : k + 2], w)
    for x, units, layer in zip(places, shown, layers, strict=True):
        _units(axes, x, units, layer)
    size = geometry.fitted(title, 24, _WIDTH - 0.8)
    look: Any = {"ha": "center", "va": "center", "color": style.THEORY, "zorder": 4}
    as_title(axes.text(_WIDTH / 2, _HEIGHT - 0.45, title, fontsize=size, **look))
    middles = np.interp(np.arange(2 * len(links) + 1) / 2, np.arange(len(layers)), places)
    room = float(places[1] - places[0]) / 2 + 0.35
    for y, texts in ((_HEIGHT - 1.05, above), (1.55, below)):
        for x, words in zip(middles, texts, strict=False):
            _write(axes, float(x), y, words.split("\n"), 20, room)
    return figure


def _shown(count: int) -> list[tuple[int, float]]:
    """Return index and height of the units that are drawn; a gap stands for those left out."""
    middle = (_LOW + _HIGH) / 2
    chosen: list[int | None] = list(range(count))
    if count > _MOST:
        chosen = [*range(4), None, *range(count - 3, count)]
    pitch = min(0.85, (_HIGH - _LOW) / max(len(chosen) - 1, 1))
    top = middle + pitch * (len(chosen) - 1) / 2
    return [(unit, top - pitch * k) for k, unit in enumerate(chosen) if unit is not None]


def _links(axes: Axes, x: Any, shown: Any, weights: np.ndarray) -> None:
    """Draw the weights between the units that are shown; the largest lies on top."""
    largest = np.max(np.abs(weights)) or 1.0
    pairs = [(i, j, y0, y1) for i, y0 in shown[0] for j, y1 in shown[1]]
    pairs.sort(key=lambda pair: abs(weights[pair[0], pair[1]]))
    lines = [[(x[0], y0), (x[1], y1)] for _, _, y0, y1 in pairs]
    values = [weights[i, j] / largest for i, j, _, _ in pairs]
    axes.add_collection(
        LineCollection(
            lines, colors=[style.color(_sign(value)) for value in values],
            alpha=[0.15 + 0.85 * abs(value) for value in values],
            linewidths=[0.6 + 2.6 * abs(value) for value in values], zorder=1,
        )
    )  # fmt: skip


def _units(axes: Axes, x: float, shown: list[tuple[int, float]], layer: np.ndarray) -> None:
    first = layer[0]
    largest = np.max(np.abs(first)) or 1.0
    heights = [y for _, y in shown]
    gaps = [b - a for a, b in zip(heights[1:], heights, strict=False)] or [1.0]
    radius = min(0.26, 0.42 * min(gaps))
    for unit, y in shown:
        value = float(first[unit] / largest)
        shades = [style.tone("paper"), *style.shades(_sign(value), 11)]
        tint = shades[1 + round(10 * abs(value)) if value else 0]
        axes.add_patch(
            Circle((x, y), radius, facecolor=tint, edgecolor=style.THEORY, linewidth=1.5, zorder=2)
        )
    if len(shown) < layer.shape[1]:
        _write(axes, x, (heights[3] + heights[4]) / 2, [r"$\vdots$"], 24, 1.0)


def _sign(value: float) -> str:
    return "reverse_mode" if value >= 0 else "two_point"


def _write(axes: Axes, x: float, y: float, lines: Sequence[str], size: float, room: float) -> None:
    """Write lines below one another, the first at height y."""
    for k, line in enumerate(line for line in lines if line):
        fitting = geometry.fitted(line, size, room)
        axes.text(x, y - 0.45 * k, line, fontsize=fitting, ha="center", va="center",
                  color=style.THEORY, zorder=4)  # fmt: skip
