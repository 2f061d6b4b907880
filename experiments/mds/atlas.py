"""The maps that were found, over the true ones, and the globe."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from adlab.data import cities
from adlab.figures import style
from adlab.figures.labels import current, text
from adlab.problems import procrustes

from . import overlay
from .looks import TONES, blank

Arrays = dict[str, np.ndarray]
EARTH = 6371.0  # km, of the outline drawn
COUNTRY, FLAT, ROUND = 20, 10, 7  # names at most, on a map, in the plane, and on the globe


def one_map(data: Arrays, name: str) -> Figure:
    """Draw the map that gradient descent found, over the true one."""
    places = cities(name)  # type: ignore[arg-type]
    laid = procrustes(
        data[f"{name}.path.gradient_descent"][-1] * data[f"{name}.size"], places.projected
    )
    error = f"{100 * laid.error:.2g}"
    figure = blank(text("mds.figure.map", place=text(f"mds.place.{name}"), error=error))
    ax = figure.add_axes((0.02, 0.09, 0.96, 0.81))
    overlay.compare(
        ax, places.projected, laid.points, places.names[current()], method="gradient_descent",
        true_label=text("mds.figure.true"), found_label=text("mds.figure.found"), most=COUNTRY,
    )  # fmt: skip
    figure.legend(*ax.get_legend_handles_labels(), loc="lower center", ncols=2, fontsize=20)
    return figure


def world(data: Arrays, title: str) -> Figure:
    """Draw the plane map that can't be true, and the globe that chords give back."""
    places = cities("world")
    names = places.names[current()]
    figure = blank(title)
    plane = procrustes(data["world.plane.path"][-1], places.projected)
    space = procrustes(data["world.space.path"][-1], places.positions)
    ax = figure.add_axes((0.01, 0.1, 0.56, 0.68))
    overlay.compare(
        ax, places.projected, plane.points, names, method="gradient_descent", most=FLAT,
        true_label=text("mds.figure.true"), found_label=text("mds.figure.found"), line=3.0,
    )  # fmt: skip
    ball = figure.add_axes((0.58, 0.1, 0.4, 0.68))
    globe(ball, places.positions, space.points, names, turn=25.0)
    for x, kind, laid in ((0.29, "plane", plane), (0.78, "space", space)):
        error = f"{100 * laid.error:.1g}" if laid.error < 0.01 else f"{100 * laid.error:.0f}"
        look: Any = {"ha": "center", "va": "center"}
        figure.text(x, 0.885, text(f"mds.figure.{kind}"), fontsize=20, **look)
        words = text("mds.figure.map_error", error=error)
        figure.text(x, 0.825, words, fontsize=24, fontweight="bold", **look)
    handles, labels = ax.get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=2, fontsize=20)
    return figure


def view(points: np.ndarray, turn: float) -> tuple[np.ndarray, np.ndarray]:
    """Return what is seen of points in space from over 25 degrees north, `turn` degrees east.

    As places (N, 2) to the right and up, and whether they are on the near side (N,).
    """
    lam, phi = np.radians(turn), np.radians(25.0)
    east = np.array([-np.sin(lam), np.cos(lam), 0])
    toward = np.array([np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)])
    up = np.cross(toward, east)
    return points @ np.stack([east, up], axis=1), points @ toward > 0


def globe(
    ax: Axes, true: np.ndarray, found: np.ndarray, names: tuple[str, ...] = (), *, turn: float
) -> None:
    """Draw true and found positions as seen from outside; what is behind the Earth is hidden."""
    sea = style.tint(style.tone("sky"), 0.12)
    ax.add_patch(Circle((0, 0), EARTH, facecolor=sea, edgecolor=overlay.TRUE, linewidth=1.5))
    places, near = view(true, turn)
    where, before = view(found, turn)
    rings: Any = {"markerfacecolor": "none", "markeredgecolor": overlay.TRUE}
    ax.plot(*places[near].T, "o", markersize=15, markeredgewidth=2, **rings)
    ax.plot(*where[before].T, "o", markersize=8, color=TONES["gradient_descent"])
    edge = 1.1 * EARTH
    ax.set(xticks=[], yticks=[], xlim=(-edge, edge), ylim=(-edge, edge))
    ax.spines[:].set_visible(False)
    ax.set_aspect("equal")
    ax.apply_aspect()
    if names:
        seen = [k for k in range(len(names)) if near[k]]
        overlay.label_apart(ax, places[seen], [names[k] for k in seen], most=ROUND)
