"""The lecture's animation: cities on their way to their places, and the loss below."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes

from adlab.data import cities
from adlab.figures import style
from adlab.figures.animation import Movie
from adlab.figures.labels import current, text

from . import overlay
from .atlas import globe
from .config import METHODS, TARGET, Config
from .looks import TONES, blank, name_of

Arrays = dict[str, np.ndarray]
SHOWN = ("gradient_descent", "two_point", "adaptive")
PLANE = style.tone("brown")  # descent in the plane, beside that in space
TRAIL = 8  # frames whose path is drawn behind a city


def movies(data: Arrays, config: Config) -> dict[str, Movie]:
    """Show each map emerge along a gradient and without one, at equal operations; and the globe."""
    return {name: _map(data, name) for name in config.maps} | {"world": _world(data)}


def _map(data: Arrays, name: str) -> Movie:
    places = cities(name)  # type: ignore[arg-type]
    target = places.projected
    paths = [
        _laid(data[f"{name}.path.{method}"] * data[f"{name}.size"], target) for method in SHOWN
    ]
    figure = blank(text("mds.movie.title", place=text(f"mds.place.{name}")))
    panels = [figure.add_axes((0.01 + 0.33 * k, 0.36, 0.32, 0.5)) for k in range(3)]
    moving = []
    for k, (ax, method, path) in enumerate(zip(panels, SHOWN, paths, strict=True)):
        title = name_of(method) if method in METHODS else text("mds.movie.simplex")
        ax.set_title(title, color=style.ink(TONES[method]), fontsize=18)
        moving.append(_Panel(ax, target, path, TONES[method]))
        if k == 0:
            overlay.label_apart(ax, target, places.names[current()], size=18, radius=4)
    moments = data[f"{name}.moments"]
    losses = [data[f"{name}.paced.{method}"] for method in SHOWN]
    below = figure.add_axes((0.09, 0.11, 0.88, 0.22))
    lines = _losses(below, moments, losses, [TONES[method] for method in SHOWN])
    below.set(xscale="log", xlabel=text("mds.figure.flops"))

    def draw(frame: int) -> None:
        for panel in moving:
            panel.show(frame)
        lines(frame)

    return Movie(figure, draw, len(moments), fps=12, hold=2.0)


def _laid(path: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return a path (F, N, d) turned so that its end lies over the target, whatever came before."""
    end = path[-1] - path[-1].mean(axis=0)
    left, _, right = np.linalg.svd(end.T @ (target - target.mean(axis=0)))
    return (path - path.mean(axis=1, keepdims=True)) @ left @ right + target.mean(axis=0)


class _Panel:
    """A map with the places at one moment, and the way they came."""

    def __init__(self, ax: Axes, target: np.ndarray, path: np.ndarray, color: str) -> None:
        self.path = path
        ax.plot(
            *target.T, "o", markersize=8, markerfacecolor="none", markeredgecolor=overlay.TRUE,
            markeredgewidth=1.5, zorder=1,
        )  # fmt: skip
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        ax.margins(0.1)
        ax.set_aspect("equal", adjustable="datalim")
        ax.apply_aspect()
        ax.autoscale(False)
        self.trails = ax.plot(path[0][None, :, 0], path[0][None, :, 1], color=color, alpha=0.45,
                              linewidth=1.5)  # fmt: skip
        (self.dots,) = ax.plot(*path[0].T, "o", markersize=6, color=color, zorder=3)

    def show(self, frame: int) -> None:
        self.dots.set_data(*self.path[frame].T)
        since = self.path[max(0, frame - TRAIL) : frame + 1]
        for k, trail in enumerate(self.trails):
            trail.set_data(since[:, k, 0], since[:, k, 1])


def _losses(ax: Axes, x: np.ndarray, losses: list[np.ndarray], tones: list[str]) -> Any:
    """Draw curves, pale; return what draws them up to a frame, with a dot at their ends."""
    bright = []
    for values, tone in zip(losses, tones, strict=True):
        ax.plot(x, values, color=tone, alpha=0.18)
        bright.append((ax.plot(x[:1], values[:1], color=tone)[0],
                       ax.plot(x[:1], values[:1], "o", color=tone)[0]))  # fmt: skip
    ax.axhline(TARGET, color=style.THEORY, linestyle="--", linewidth=1.5)
    ring: Any = {"markerfacecolor": "none", "markeredgecolor": overlay.TRUE, "markeredgewidth": 2}
    ax.plot([], [], "o", markersize=13, label=text("mds.figure.true"), **ring)
    ax.legend(loc="lower left")
    ax.set(yscale="log", ylabel=text("mds.movie.loss"))

    def show(frame: int) -> None:
        for (line, dot), values in zip(bright, losses, strict=True):
            line.set_data(x[: frame + 1], values[: frame + 1])
            dot.set_data(x[frame : frame + 1], values[frame : frame + 1])

    return show


def _world(data: Arrays) -> Movie:
    """Show gradient descent in the plane, and in space on a turning globe, step by step."""
    places = cities("world")
    plane = _laid(data["world.plane.path"], places.projected)
    space = _laid(data["world.space.path"], places.positions)
    moments = data["world.plane.moments"]
    figure = blank(text("mds.movie.world"))
    flat, ball = figure.add_axes((0.03, 0.36, 0.5, 0.5)), figure.add_axes((0.56, 0.36, 0.4, 0.5))
    for ax, kind in ((flat, "plane"), (ball, "space")):
        ax.set_title(text(f"mds.movie.{kind}"), fontsize=18)
    panel = _Panel(flat, places.projected, plane, PLANE)
    below = figure.add_axes((0.09, 0.11, 0.88, 0.22))
    losses = [data[f"world.{kind}.paced"] for kind in ("plane", "space")]
    lines = _losses(below, moments, losses, [PLANE, TONES["gradient_descent"]])
    below.set(xscale="log", xlabel=text("axis.iteration"))

    def draw(frame: int) -> None:
        panel.show(frame)
        title = ball.get_title()
        ball.clear()
        ball.set_title(title, fontsize=18)
        globe(ball, places.positions, space[frame], turn=25.0 + 120.0 * frame / len(moments))
        lines(frame)

    return Movie(figure, draw, len(moments), fps=12, hold=2.0)
