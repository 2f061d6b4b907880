"""Set-ups in which the table of rates doesn't show."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adlab import optimize
from adlab.figures import panels, style
from adlab.figures.labels import text
from adlab.figures.panels import Curve

from .cell_figures import named
from .cells import Arrays
from .config import Config
from .controls import POWERS


def controls(data: Arrays, config: Config, averages: str, rank_one: str) -> Figure:
    """Draw the four controls under the titles given."""
    figure, axes = panels.grid(2, 2, title=text("rates.figure.controls"))
    k, chain = data["controls_chain_k"], data["controls_chain"]
    gd = text("rates.figure.gd")
    worst = Curve(k, chain / chain[0], gd, "gradient_descent")
    _against_one_over_k(axes[0, 0], [worst], text("rates.figure.chain"))
    grid, tones = data["controls_power_k"], style.shades("gradient_descent", len(POWERS))
    tails = [
        Curve(grid, data[f"controls_power_{p}"] / data[f"controls_power_{p}"][0],
              f"{gd}, $p = {p}$", "gradient_descent", color=tone)
        for p, tone in zip(POWERS, tones, strict=True)
    ]  # fmt: skip
    _against_one_over_k(axes[0, 1], tails, text("rates.figure.power"))
    _averages(axes[1, 0], data, config, averages)
    _rank_one(axes[1, 1], data, config, rank_one)
    return figure


def _against_one_over_k(ax: Axes, curves: list[Curve], title: str) -> None:
    """Draw gradient descent beside 1/k, each line named at its end."""
    x = np.asarray(curves[0].x)
    line = panels.power_law(
        x[x >= 10], -1.0, through=(10, float(np.interp(10, x, np.asarray(curves[-1].y)))), label=""
    )
    panels.convergence(
        ax, curves, xlabel=text("axis.iteration"), ylabel=text("rates.figure.relative"),
        title=title, references=[line], legend="", room=3,
    )  # fmt: skip
    ax.set_xlim(right=x[-1] * (x[-1] / x[0]) ** 0.4)
    for i, curve in enumerate(curves):
        _named_at_end(ax, curve, (i + 1 - len(curves) / 2) * 8)
    middle = tuple(float(np.sqrt(np.prod(np.asarray(ends)))) for ends in (line.x, line.y))
    below = float(np.interp(middle[0], x, np.asarray(curves[-1].y))) > middle[1]
    named(ax, text("rates.figure.one_over"), (middle[0], middle[1]),
          shift=(-10, -8) if below else (10, 8), ha="right" if below else "left",
          va="top" if below else "bottom")  # fmt: skip


def _named_at_end(ax: Axes, curve: Curve, shift: float) -> None:
    """Write the name beside the end, so many points above."""
    end = (float(np.asarray(curve.x)[-1]), float(np.asarray(curve.y)[-1]))
    color = curve.color or style.color(str(curve.method))
    named(ax, curve.label, end, color=color, shift=(10, shift), ha="left", va="center")


def _averages(ax: Axes, data: Arrays, config: Config, title: str) -> None:
    """Draw the last iterate and the average so far over k/n, and gradient descent over k."""
    place = len(config.dims) // 2
    k, n = data["smooth_k"][place], config.dims[place]
    last = optimize.mean_interval(data["smooth_curves"][place]).estimate
    mean = optimize.mean_interval(data["smooth_averages"][place]).estimate
    shades, inside = style.shades("two_point", 2), data["smooth_gd_k"] >= config.window[0]
    gd = Curve(
        data["smooth_gd_k"][inside], data["smooth_gd"][inside], text("rates.figure.gd"),
        "gradient_descent",
    )  # fmt: skip
    curves = [
        Curve(k / n, last, text("rates.figure.last"), "two_point", color=shades[1]),
        Curve(k / n, mean, text("rates.figure.average"), "two_point", color=shades[0]),
        gd,
    ]
    panels.convergence(
        ax, curves, xlabel=text("axis.scaled_iteration"), ylabel=text("axis.squared_gradient"),
        title=title, legend="", room=1.6,
    )  # fmt: skip
    ax.set_xlim(right=float(k[-1] / n) * 5)
    for curve, shift in zip(curves, (14, 0, -14), strict=True):
        _named_at_end(ax, curve, shift)


def _rank_one(ax: Axes, data: Arrays, config: Config, title: str) -> None:
    """Draw f on a function of one coordinate for every n, and gradient descent's."""
    k, tones = data["controls_rank_one_k"], style.shades("two_point", len(config.full_dims))
    curves = [Curve(k, data["controls_rank_one_gd"], "", "gradient_descent")]
    for runs, tone in zip(data["controls_rank_one"], tones, strict=True):
        curves.append(Curve(k, optimize.mean_interval(runs).estimate, "", "two_point", color=tone))
    panels.convergence(
        ax, curves, xlabel=text("axis.iteration"), ylabel=text("axis.gap"), title=title, legend="",
    )  # fmt: skip
    middle = int(np.searchsorted(k, np.sqrt(k[-1])))
    gd = float(np.asarray(curves[0].y)[middle])
    named(ax, text("rates.figure.gd"), (float(k[middle]), gd), shift=(-12, -4), ha="right",
          va="top", color=style.color("gradient_descent"))  # fmt: skip
    last = float(np.asarray(curves[-1].y)[middle])
    dims = r" \ldots ".join(map(str, (config.full_dims[0], config.full_dims[-1])))
    named(ax, text("rates.figure.every", dims=dims), (float(k[middle]), last), shift=(12, 4),
          ha="left", va="bottom", color=style.color("two_point"))  # fmt: skip
