"""The four cells of the table, and the distance to the minimiser, of which the slide speaks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adlab import optimize
from adlab.figures import panels, style
from adlab.figures.labels import text
from adlab.figures.panels import Curve

from .cells import Arrays
from .config import Config
from .theory import drawn_two_point, exponent
from .verdicts import hits


def named(
    ax: Axes, words: str, at: tuple[float, float], *, color: str = style.THEORY,
    shift: tuple[float, float] = (0, 0), size: float = 18, **align: Any,
) -> None:  # fmt: skip
    """Write what a line is beside a point of it, `shift` points away, in its colour."""
    ax.annotate(
        words, at, xytext=shift, textcoords="offset points", fontsize=size, color=style.ink(color),
        annotation_clip=False, **align,
    )  # fmt: skip


def rates(data: Arrays, config: Config, title: str) -> Figure:
    """Draw the four cells: the curve of gradient descent, and where n puts the others."""
    figure, axes = panels.grid(2, 2, title=title)
    cells: dict[str, Callable[[Axes, Arrays, Config], None]] = {
        "smooth": _smooth,
        "convex": _convex,
        "strongly_convex": _strongly_convex,
        "lipschitz": _lipschitz,
    }
    for ax, (part, draw) in zip(axes.flat, cells.items(), strict=True):
        if part in config.parts:
            draw(ax, data, config)
        else:
            ax.set_visible(False)
    return figure


def _smooth(ax: Axes, data: Arrays, config: Config) -> None:
    _tail(ax, data, config, "smooth", exponent(config), text("axis.squared_gradient"))


def _convex(ax: Axes, data: Arrays, config: Config) -> None:
    _tail(ax, data, config, "convex", -1.0, text("axis.gap"))


def _tail(ax: Axes, data: Arrays, config: Config, cell: str, power: float, ylabel: str) -> None:
    """Draw a cell over k: the curve of gradient descent moves to the right by a factor n."""
    k, gd = data[f"{cell}_gd_k"], data[f"{cell}_gd"]
    inside = k >= config.window[0]
    curves = [Curve(k[inside], gd[inside], text("rates.figure.gd"), "gradient_descent")]
    for place, tone in zip((0, len(config.dims) - 1), style.shades("two_point", 2), strict=True):
        k = data[f"{cell}_k"][place]
        mean = optimize.mean_interval(data[f"{cell}_curves"][place], seed=config.seed)
        label = text("panel.dimension_is", n=config.dims[place])
        curves.append(Curve(k, mean.estimate, label, "two_point", mean.low, mean.high, tone))
    wide = config.dims[-1] >= 30 * config.dims[0]  # theory's lines fit between the curves
    left = curves[1] if wide else curves[2]
    beside = 1.9 * np.asarray(left.x)
    start = (float(beside[0]), float(np.asarray(left.y)[0]))
    slide = panels.power_law(beside, -1.0, through=start, label="")
    exact = panels.power_law(beside, power, through=start, label="")
    grey = style.tone("muted")
    panels.convergence(
        ax, curves, xlabel=text("axis.iteration"), ylabel=ylabel, direct=True, legend="", room=4,
        references=[slide] if power == -1 else [dataclasses.replace(slide, color=grey), exact],
        title=text(f"rates.figure.{cell}"),
    )  # fmt: skip
    ax.set_xlim(right=_end(curves[2])[0] * (2.5 if wide else 60))
    x, y = (float(np.sqrt(np.prod(np.asarray(ends)))) for ends in (slide.x, slide.y))
    named(ax, text("rates.figure.slide"), (x, y), shift=(8, 4), ha="left", va="bottom",
          color=style.THEORY if power == -1 else grey)  # fmt: skip
    if power != -1:
        words = text("rates.figure.exact", exponent=f"{power:.3g}")
        named(ax, words, _end(exact), shift=(0, -4), ha="center", va="top")


def _end(curve: Curve) -> tuple[float, float]:
    return float(np.asarray(curve.x)[-1]), float(np.asarray(curve.y)[-1])


def _strongly_convex(ax: Axes, data: Arrays, config: Config) -> None:
    """Draw |x - x*|^2 over k, on whose logarithm too a factor n is a shift; and the bound."""
    floor, curves = config.accuracy, _squares(data, config, 1)
    curves = curves if len(curves) < 3 else [curves[0], curves[-1]]
    panels.convergence(
        ax, curves, xlabel=text("axis.iteration"), ylabel=text("rates.figure.squared_distance"),
        title=text("rates.figure.strongly_convex"), legend="",
    )  # fmt: skip
    for curve in curves:
        named(ax, curve.label, _end(curve), color=curve.color or style.color(str(curve.method)),
              shift=(0, -6), ha="center", va="top")  # fmt: skip
    scale = max(config.full_dims) * config.condition
    end = scale * np.log(1 / floor)
    k = np.geomspace(1, end, 200)
    ax.plot(k, (1 - 1 / scale) ** k, "--", color=style.THEORY, linewidth=2)
    named(ax, text("rates.figure.bound"), (scale * 4.6, float(np.exp(-4.6))), shift=(22, 6),
          ha="left", va="center")  # fmt: skip
    ax.set(ylim=(floor / 10, 2), xlim=(1, end * 20))


def _crossing(curve: Curve, level: float) -> float:
    """Return where a curve falls to the level; its end where it doesn't."""
    below = np.flatnonzero(np.asarray(curve.y) <= level)
    return float(np.asarray(curve.x)[below[0] if below.size else -1])


def _squares(data: Arrays, config: Config, unit: int) -> list[Curve]:
    """Return |x - x*|^2 of gradient descent and of the two-point estimate, least and greatest n.

    Until the accuracy is reached; over k, or over k/n where the unit is 0.
    """
    curves = []
    exact = next((i for i, each in enumerate(config.estimators) if each.kind == "reverse_mode"), -1)
    if exact >= 0:
        k, values = hits(data, exact, "squares")
        x, y = np.insert(k[0], 0, 0), np.insert(values[0].mean(axis=0), 0, 1.0)
        curves.append(Curve(x[unit:], y[unit:], text("rates.figure.gd"), "gradient_descent"))
    place = drawn_two_point(config)
    if place is not None:
        k, values = hits(data, place, "squares")
        for i, tone in zip((0, len(k) - 1), style.shades("two_point", 2), strict=True):
            n, mean = config.full_dims[i], optimize.mean_interval(values[i], seed=config.seed)
            x, label = k[i] / (n if unit == 0 else 1), text("panel.dimension_is", n=n)
            curves.append(Curve(x, mean.estimate, label, "two_point", mean.low, mean.high, tone))
    return [_until(curve, config.accuracy) for curve in curves]


def _until(curve: Curve, level: float) -> Curve:
    """Return a curve up to where it first lies at the level or below."""
    kept = np.asarray(curve.x) <= _crossing(curve, level)
    edges = {"x": curve.x, "y": curve.y, "low": curve.low, "high": curve.high}
    cut: Any = {k: None if v is None else np.asarray(v)[kept] for k, v in edges.items()}
    return dataclasses.replace(curve, **cut)


def _lipschitz(ax: Axes, data: Arrays, config: Config) -> None:
    """Draw the error over n, beside that of gradient descent, which no n changes."""
    errors = optimize.mean_interval(np.moveaxis(data["lipschitz_errors"][:, -1], 1, 0))
    panels.scaling(
        ax, config.dims, errors.estimate, exponent=0.5, method="two_point", label="",
        low=errors.low, high=errors.high, legend="", xlabel=text("axis.dimension"),
        ylabel=text("rates.figure.average_error"), title=text("rates.figure.lipschitz"),
    )  # fmt: skip
    exact, middle = float(data["lipschitz_gd"]), len(config.dims) // 2
    ax.plot(
        config.dims, np.full(len(config.dims), exact), color=style.color("gradient_descent"),
        marker=style.marker("gradient_descent"),
    )  # fmt: skip
    n, error = config.dims[middle], float(np.asarray(errors.estimate)[middle])
    named(ax, text("rates.figure.root"), (n, error), shift=(-10, 10), ha="right", va="bottom")
    named(ax, text("rates.figure.zero_order"), (n, error), color=style.color("two_point"),
          shift=(16, -8), ha="left", va="top")  # fmt: skip
    named(ax, text("rates.figure.gd"), (config.dims[0], exact), shift=(0, 10), ha="left",
          va="bottom", color=style.color("gradient_descent"))  # fmt: skip
    ax.margins(y=0.2)


def distance(data: Arrays, config: Config, title: str) -> Figure:
    """Draw |x - x*|^2 over k/n: the slide's bound, the exact expectation, what was measured."""
    figure, axes = panels.grid(title=title)
    ax, curves = axes[0, 0], _squares(data, config, 0)
    bound = config.condition * np.log(1 / config.accuracy)  # k/n where the bound is at the target
    tau = np.linspace(0, bound, 50)
    ax.plot(tau, np.exp(-tau / config.condition), "--", color=style.tone("muted"), linewidth=4)
    place, lines = drawn_two_point(config), []
    if place is not None:
        for i in (0, len(config.full_dims) - 1):
            k, expected = (
                data[f"strongly_convex_{x}"][place, i] for x in ("k", "predicted_squares")
            )
            known = (k >= 0) & np.isfinite(expected)
            if known.any():
                line = Curve(k[known] / config.full_dims[i], expected[known])
                lines.append(_until(line, config.accuracy))
    panels.convergence(
        ax, curves, xlabel=text("axis.scaled_iteration"), xscale="linear", references=lines,
        ylabel=text("rates.figure.relative_square"), legend="",
    )  # fmt: skip
    ax.set(xlim=(0, bound), ylim=(config.accuracy, 1.2))
    for line in ax.lines[1 : len(curves) + 1]:
        line.set(linewidth=5, markersize=12)
    if lines:
        named(ax, text("rates.figure.distance_exact"), (0, config.accuracy), shift=(20, 20),
              ha="left", va="bottom", size=24)  # fmt: skip
    _name_distances(ax, curves, config, bound)
    return figure


def _name_distances(ax: Axes, curves: Sequence[Curve], config: Config, bound: float) -> None:
    look: Any = {"size": 24}
    named(ax, text("rates.figure.distance_bound"), (bound / 2, config.accuracy**0.5),
          color=style.tone("muted"), shift=(12, 4), ha="left", va="bottom", **look)  # fmt: skip
    level = config.accuracy**0.75
    for curve in curves:
        if curve.method == "gradient_descent":
            named(ax, curve.label, (_crossing(curve, level), level), shift=(-20, 0), ha="right",
                  va="center", color=style.color("gradient_descent"), **look)  # fmt: skip
    if any(curve.method == "two_point" for curve in curves):
        dims = ", ".join(map(str, sorted({config.full_dims[0], config.full_dims[-1]})))
        last = _crossing(curves[-1], level)
        named(ax, text("rates.figure.distance_measured", dims=dims), (last, level), shift=(30, 0),
              ha="left", va="center", color=style.color("two_point"), **look)  # fmt: skip
