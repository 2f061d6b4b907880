"""What takes the place of n: the price against n for two spectra, and against the step."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adlab.figures import panels, style
from adlab.figures.labels import text

from . import effective
from .cell_figures import named
from .cells import Arrays
from .config import Config
from .verdicts import slowdowns


def effective_dimension(data: Arrays, config: Config, title: str) -> Figure:
    """Draw how many times gradient descent's iterations it takes, against n, for two spectra."""
    figure, axes = panels.grid(title=title)
    ax, dims = axes[0, 0], np.asarray(config.full_dims, float)
    tones = style.shades("two_point", 3)[1:]
    rows = zip(
        effective.SPECTRA, effective.slowdowns(data, config.seed),
        data["effective_dimension_factors"], tones[::-1], strict=True,
    )  # fmt: skip
    for spectrum, times, factors, tone in rows:
        middle, low, high = np.array([time.ends for time in times]).T
        panels.scaling(
            ax, dims, middle, exponent=None, method="two_point", label="", low=low, high=high,
            color=tone, legend="",
        )  # fmt: skip
        ax.plot(dims, factors, "--", color=style.THEORY, linewidth=2.5)
        center = len(dims) // 2
        words, at = text(f"rates.figure.{spectrum}"), (float(dims[center]), float(middle[center]))
        above = spectrum == "halving"
        named(ax, words, at, color=style.color("two_point"), size=26, shift=(0, 16) if above else
              (-20, 16), ha="center" if above else "right", va="bottom")  # fmt: skip
        named(ax, text("rates.figure.times", number=_rounded(middle[-1])),
              (float(dims[-1]), float(middle[-1])), color=style.color("two_point"), size=34,
              shift=(18, 0), ha="left", va="center")  # fmt: skip
    second = (float(dims[1]), float(data["effective_dimension_factors"][0, 1]))
    named(ax, text("rates.figure.trace"), second, size=22, shift=(24, -8), ha="left",
          va="top")  # fmt: skip
    _descent_at_one(ax, dims)
    ax.set(xlim=(dims[0] / 1.1, dims[-1] * 1.6), xlabel=text("axis.dimension"))
    ax.set_ylabel(text("rates.figure.slowdown"))
    return figure


def _descent_at_one(ax: Axes, x: np.ndarray) -> None:
    """Draw the unit: the iterations of gradient descent itself."""
    color = style.color("gradient_descent")
    ax.plot([x[0], x[-1]], [1, 1], color=color, linewidth=4)
    named(ax, text("rates.figure.gd"), (float(x[-1]), 1.0), color=color, size=26, shift=(0, 8),
          ha="right", va="bottom")  # fmt: skip
    ax.set_ylim(bottom=0.7)


def real_data(data: Arrays, config: Config, title: str) -> Figure:
    """Draw, per table, iterations over gradient descent's against how much shorter the step is.

    The least of them is what the dimension costs: beside n + 2 and the effective dimension.
    """
    figure, axes = panels.grid(1, len(config.tables), title=title)
    for ax, table in zip(axes[0], config.tables, strict=True):
        _factors(ax, data, table, config)
    figure.supxlabel(text("rates.figure.factor"), fontsize=20)
    axes[0, 0].set_ylabel(text("rates.figure.slowdown"))
    return figure


def _factors(ax: Axes, data: Arrays, table: str, config: Config) -> None:
    times = slowdowns(data, table, config.seed)
    middle, low, high = np.array([time.ends for time in times]).T
    factors = data[f"real_data_{table}_factors"]
    dim = float(data[f"real_data_{table}_worst"]) - 2
    panels.scaling(
        ax, factors, middle, exponent=None, method="two_point", label="", low=low, high=high,
        legend="", title=text("rates.figure.regression", table=text(f"rates.table.{table}"),
                              dim=f"{dim:.0f}"),
    )  # fmt: skip
    _descent_at_one(ax, factors)
    for line in ax.lines:
        line.set(linewidth=4)
    ax.set_ylim(top=float(np.nanmax(middle)) * 1.6)
    places = (("effective", factors[-1], "right", -6), ("worst", factors[0], "left", 6))
    for name, x, side, shift in places:  # each where the curve is far away
        level = float(data[f"real_data_{table}_{name}"])
        ax.axhline(level, color=style.THEORY, linestyle="--", linewidth=2.5, zorder=1)
        named(ax, text(f"rates.figure.{name}_place", number=f"{level:.2g}"), (float(x), level),
              size=26 if len(config.tables) == 1 else 18, shift=(0, shift), ha=side,
              va="bottom" if shift > 0 else "top")  # fmt: skip
    best = int(np.nanargmin(middle))
    at, color = (float(factors[best]), float(middle[best])), style.color("two_point")
    ax.plot(*at, style.marker("two_point"), color=color, markersize=20, zorder=4)
    named(ax, text("rates.figure.times", number=_rounded(middle[best])), at, size=34, color=color,
          shift=(0, 20), ha="center", va="bottom")  # fmt: skip


def _rounded(number: float) -> str:
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}"
