"""Maps: places that were found, drawn over the true ones, with as many names as have room."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.textpath import TextPath
from numpy.typing import ArrayLike

from adlab.figures import style

__all__ = ["compare", "label_apart"]

TRUE, NAME = style.tone("muted"), style.tone("ink")
SPACE = 3.0  # points between a name and whatever is near it


def compare(
    ax: Axes, true: ArrayLike, found: ArrayLike, names: Sequence[str] = (), *, method: str,
    true_label: str = "", found_label: str = "", size: float = 18, most: int | None = None,
    line: float = 1.2,
) -> None:  # fmt: skip
    """Draw true places as rings, found ones as dots, a line from each to its own, and names.

    The axes have no scales, and both directions the same one.

    Args:
      ax: axes to draw on; their place in the figure must be settled.
      true: (N, 2) where places are.
      found: (N, 2) where they were found.
      names: of the places; none for a map without.
      method: whose colour the found ones have.
      true_label: of the rings, for a legend.
      found_label: of the dots.
      size: of the names, in points.
      most: how many places are named; None for all that have room.
      line: width of the lines from true to found places, in points.
    """
    true, found = np.asarray(true, float), np.asarray(found, float)
    ax.plot(*np.stack([true, found]).transpose(2, 0, 1), color=style.color(method), linewidth=line)
    ax.plot(
        *true.T, "o", markersize=15, markerfacecolor="none", markeredgecolor=TRUE,
        markeredgewidth=2, label=true_label,
    )  # fmt: skip
    ax.plot(*found.T, "o", markersize=8, color=style.color(method), label=found_label)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.margins(0.09)
    ax.set_aspect("equal", adjustable="datalim")
    ax.apply_aspect()
    along = true + np.linspace(0.1, 1.0, 10)[:, None, None] * (found - true)
    label_apart(ax, true, names, avoid=along, size=size, most=most)


def label_apart(
    ax: Axes, places: ArrayLike, names: Sequence[str], *, avoid: ArrayLike = (),
    size: float = 18, radius: float = 9.0, most: int | None = None,
) -> list[int]:  # fmt: skip
    """Write the names of places that lie apart, so that no two texts nor a text and a dot meet.

    Places are tried from the first, each next one the farthest from those before it.

    Args:
      ax: axes with their limits and their place in the figure settled.
      places: (N, 2).
      names: of the places; only the first len(names) are named.
      avoid: (M, 2) dots beside the places on which no text is to stand.
      size: in points.
      radius: of the places' dots, in points; those to avoid are half as large.
      most: how many are named; None for all that have room.

    Returns:
      Which of the places got their names.
    """
    figure = ax.figure
    places, scale = np.asarray(places, float), 72 / figure.dpi
    dots = ax.transData.transform(places) * scale
    edges = np.array(ax.bbox.extents) * scale + SPACE * np.array([1, 1, -1, -1])
    left, bottom, right, top = edges
    other = ax.transData.transform(np.reshape(np.asarray(avoid, float), (-1, 2))) * scale
    reach = radius + size / 4  # a name is nearest to its own place
    boxes = [np.r_[dot - reach, dot + reach] for dot in dots]
    boxes += [np.r_[dot - radius / 2, dot + radius / 2] for dot in other]
    named: list[int] = []
    for k in _apart(dots[: len(names)]):
        if most is not None and len(named) == most:
            break
        width = 1.04 * TextPath((0, 0), names[k], size=size).get_extents().width  # hinted type
        for corner in _corners(dots[k], width, size, radius):
            box = np.array([*corner, *(corner + np.array([width, size]))])
            inside = box[0] >= left and box[1] >= bottom and box[2] <= right and box[3] <= top
            if inside and not any(_meet(box, taken) for taken in boxes[:k] + boxes[k + 1 :]):
                boxes.append(box)
                named.append(k)
                away = corner - dots[k] + np.array([0, 0.2 * size])  # above a letter's descent
                ax.annotate(
                    names[k], tuple(places[k]), xytext=tuple(away), textcoords="offset points",
                    fontsize=size, color=NAME,
                )  # fmt: skip
                break
    return named


def _corners(dot: np.ndarray, width: float, height: float, radius: float) -> list[np.ndarray]:
    """Return lower left corners for a text beside, above and below a dot."""
    away = radius + SPACE
    return [
        dot + offset
        for offset in (
            np.array([away, -height / 2]),
            np.array([-away - width, -height / 2]),
            np.array([-width / 2, away]),
            np.array([-width / 2, -away - height]),
        )
    ]


def _meet(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.all(a[:2] < b[2:] + SPACE) and np.all(b[:2] < a[2:] + SPACE))


def _apart(points: np.ndarray) -> list[int]:
    """Return an order in which each next point is the farthest from all before it."""
    if len(points) == 0:
        return []
    order, nearest = [0], np.full(len(points), np.inf)
    while len(order) < len(points):
        nearest = np.minimum(nearest, np.sum((points - points[order[-1]]) ** 2, axis=1))
        nearest[order[-1]] = -1
        order.append(int(np.argmax(nearest)))
    return order
