"""Checkpoints over time: which states are stored after each action, as a picture and a movie."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import ArrayLike

from adlab.figures import style
from adlab.figures.animation import Movie
from adlab.figures.labels import text

__all__ = ["caption", "movie", "states", "timeline"]

EMPTY, STORED, WAITING = style.tone("paper"), style.color("reverse_mode"), style.tone("pale")
CURRENT, DONE = style.tone("vermilion"), style.tone("grey")


def timeline(ax: Axes, stored: ArrayLike, current: ArrayLike, *, title: str = "") -> None:
    """Draw a row per state and a column per action: filled where stored, a dot at the current one.

    Args:
      ax: axes to draw on.
      stored: whether each state is stored after each action, of shape (actions, states).
      current: index of the current state after each action, of shape (actions,).
      title: text above the axes.
    """
    stored, current = np.asarray(stored, dtype=float), np.asarray(current)
    ax.imshow(
        stored.T, origin="lower", aspect="auto", cmap=ListedColormap(["none", STORED]),
        interpolation="nearest", vmin=0, vmax=1,
    )  # fmt: skip
    size = max(2.0, min(6.0, 300 / len(current)))
    ax.plot(np.arange(len(current)), current, "o", color=CURRENT, markersize=size)
    ax.grid(visible=False)
    ax.set_title(title, fontsize=18)
    ax.set(
        xlabel=text("checkpoint_schedules.moment.action"),
        ylabel=text("checkpoint_schedules.moment.state"),
    )


def states(ax: Axes, stored: ArrayLike, current: int, left: int, *, title: str = "") -> None:
    """Draw the chain at one moment: a circle per state, filled where stored, ringed if current.

    Args:
      ax: axes to draw on; its own scales go.
      stored: whether each state is stored, of shape (states,).
      current: index of the current state.
      left: how many steps are still to be differentiated; the states from there on are pale.
      title: text to the left of the chain.
    """
    ax.clear()
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    stored = np.asarray(stored, dtype=bool)
    for k, held in enumerate(stored):
        ring = CURRENT if k == current else DONE if k >= left else style.THEORY
        fill = STORED if held else WAITING if k < left else EMPTY
        width = 6.0 if k == current else 1.5
        ax.add_patch(Circle((k, 0), 0.36, facecolor=fill, edgecolor=ring, linewidth=width))
    ax.plot([-0.4, len(stored) - 0.6], [0, 0], color=DONE, linewidth=1.5, zorder=0)
    ax.set(xlim=(-0.7, len(stored) - 0.3), ylim=(-0.8, 0.8), aspect="equal")
    ax.set_title(title, loc="left", fontsize=18)


def movie(stored: ArrayLike, current: ArrayLike, left: ArrayLike, *, fps: int = 4) -> Movie:
    """Return a movie of a chain under a schedule, a frame per action.

    Args:
      stored: whether each state is stored after each action, of shape (actions, states).
      current: index of the current state after each action, of shape (actions,).
      left: steps still to be differentiated after each action, of shape (actions,).
      fps: actions per second.

    Raises:
      ValueError: the arrays tell of different numbers of actions, or of none.
    """
    stored, current, left = np.asarray(stored), np.asarray(current), np.asarray(left)
    if stored.ndim != 2 or not 0 < len(stored) == len(current) == len(left):
        raise ValueError(
            "stored, current and left must have one entry per action, "
            f"got shapes {stored.shape}, {current.shape}, {left.shape}"
        )
    figure = Figure(figsize=(max(6.0, 0.55 * stored.shape[1]), 2.0))
    ax = figure.subplots()

    def draw(k: int) -> None:
        title = caption(stored[k].sum(), len(current), k)
        states(ax, stored[k], int(current[k]), int(left[k]), title=title)

    return Movie(figure, draw, len(stored), fps, dpi=100)


def caption(number: int, actions: int, k: int) -> str:
    """Return the title of a frame: the k-th of so many actions, and how many states are stored."""
    return text(
        "checkpoint_schedules.moment.caption", number=int(number), action=k + 1, actions=actions
    )
