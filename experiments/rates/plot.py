"""The table of rates as pictures: its four cells, the price of the dimension, the controls."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adlab import optimize
from adlab.figures import labels, panels, style
from adlab.figures.labels import text
from adlab.figures.panels import Curve

from . import controls, fits
from .cells import Arrays
from .config import Config
from .theory import exponent
from .verdicts import hits, slowdowns


def plot(data: Arrays, config: Config) -> dict[str, Figure]:
    """Draw the parts that were run from the arrays of `run`."""
    figures = {"rates": _rates(data, config)}
    if "strongly_convex" in config.parts:
        figures["price"] = _price(data, config)
    if {"controls", "smooth"} <= set(config.parts):
        figures["controls"] = _controls(data, config)
    if "real_data" in config.parts:
        figures["real_data"] = _real_data(data, config)
    return figures


def _rates(data: Arrays, config: Config) -> Figure:
    figure, axes = panels.grid(2, 2, title=text("rates.figure.title"))
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


def _shown(dims: Sequence[int]) -> list[int]:
    """Return the places of three dimensions, spread over all."""
    return sorted({0, len(dims) // 2, len(dims) - 1})


def _tail(ax: Axes, data: Arrays, config: Config, cell: str, power: float, ylabel: str) -> None:
    """Draw a cell over k: the curve of gradient descent moves to the right by a factor n."""
    places = _shown(config.dims)
    k, gd = data[f"{cell}_gd_k"], data[f"{cell}_gd"]
    inside = k >= config.window[0]
    curves = [Curve(k[inside], gd[inside], text("rates.figure.gd"), "gradient_descent")]
    for place, tone in zip(places, style.shades("two_point", len(places)), strict=True):
        k = data[f"{cell}_k"][place]
        mean = optimize.mean_interval(data[f"{cell}_curves"][place], seed=config.seed)
        label = text("panel.dimension_is", n=config.dims[place])
        curves.append(Curve(k, mean.estimate, label, "two_point", mean.low, mean.high, tone))
    last, y = k, np.asarray(curves[-1].y)
    label = text("rates.figure.slide")
    slide = panels.power_law(last, -1.0, through=(last[0], y[0]), label=label)
    slides = [] if power == -1 else [dataclasses.replace(slide, color=style.tone("grey"))]
    middle = float(np.sqrt(last[0] * last[-1]))
    line = panels.power_law(last, power, through=(middle, float(np.interp(middle, last, y)) / 2))
    panels.convergence(
        ax, curves, xlabel=text("axis.iteration"), ylabel=ylabel,
        references=[line, *slides],
        title=text(f"rates.figure.{cell}"), direct=True, legend="lower left", room=2.5,
    )  # fmt: skip


def _strongly_convex(ax: Axes, data: Arrays, config: Config) -> None:
    """Draw f over k/n for two-point descent beside the lecture's bound."""
    alike = ("two_point", "two_point(smoothing=relative)")
    place = next((i for i, spec in enumerate(config.estimators) if spec.name in alike), None)
    curves = []
    if place is not None:
        k, values = hits(data, place)
        tones = style.shades("two_point", len(k))
        for i in sorted({0, len(k) - 1}):
            n, grid, runs, tone = config.full_dims[i], k[i], values[i], tones[i]
            mean = optimize.mean_interval(runs, seed=config.seed)
            label = text("panel.dimension_is", n=n)
            curves.append(
                Curve(grid / n, mean.estimate, label, "two_point", mean.low, mean.high, tone)
            )
    tau = np.linspace(0, config.condition / 2 * np.log(1 / config.accuracy) * 1.3, 50)
    twice = Curve(tau, (1 - 1 / config.condition) ** (2 * tau), text("rates.figure.twice"))
    start = next(
        (i for i, spec in enumerate(config.estimators) if spec.kind == "reverse_mode"), None
    )
    if start is not None:
        k, values = hits(data, start)
        curves.append(
            Curve(k[0], values[0].mean(axis=0), text("rates.figure.gd"), "gradient_descent")
        )
    bound = Curve(
        tau, (1 - 1 / config.condition) ** tau, text("rates.figure.bound"), color=style.tone("grey")
    )
    panels.convergence(
        ax, curves, xlabel=text("axis.scaled_iteration"), ylabel=text("axis.relative_gap"),
        title=text("rates.figure.strongly_convex"), xscale="linear", references=[bound, twice],
        legend="lower left",
    )  # fmt: skip
    ax.set(xlim=(0, tau[-1]), ylim=(config.accuracy / 100, 2))


def _lipschitz(ax: Axes, data: Arrays, config: Config) -> None:
    errors = optimize.mean_interval(np.moveaxis(data["lipschitz_errors"][:, -1], 1, 0))
    fitted = optimize.slope(config.dims, errors.estimate)
    panels.scaling(
        ax, config.dims, errors.estimate, exponent=0.5, method="two_point",
        label=text("rates.figure.measured"), low=errors.low, high=errors.high, fitted=float(fitted),
        xlabel=text("axis.dimension"), ylabel=text("rates.figure.average_error"),
        title=text("rates.figure.lipschitz"),
    )  # fmt: skip


def _price(data: Arrays, config: Config) -> Figure:
    """Draw evaluations, and their operations, to a target against the dimension."""
    figure, axes = panels.grid(1, 2, title=text("rates.figure.price"))
    tones = _tones([spec.kind for spec in config.estimators])
    titles = {"evaluations": _unit(data, config), "operations": text("rates.figure.operations")}
    for ax, key in zip(axes[0], titles, strict=True):
        weights = data[f"strongly_convex_{key}"]
        for i, spec in enumerate(config.estimators):
            k, curves = hits(data, i)
            times = [
                fits.hitting_time(grid * weight, runs.mean(axis=0), config.accuracy)
                for grid, runs, weight in zip(k, curves, weights[i], strict=True)
            ]
            panels.scaling(
                ax, config.full_dims, times, exponent=None, method=spec.kind, color=tones[i],
                label=labels.estimator(spec.kind, spec.params), legend="",
                xlabel=text("axis.dimension"), ylabel=text(f"axis.{key}_to_target"),
                title=titles[key],
            )  # fmt: skip
    panels.legend_below(figure, axes[0, 0])
    return figure


def _unit(data: Arrays, config: Config) -> str:
    """Say what costs are counted in, and what a derivative costs where estimators take one."""
    spent = dict(
        zip([spec.kind for spec in config.estimators], data["strongly_convex_evaluations"],
            strict=True)
    )  # fmt: skip
    if not {"reverse_mode", "forward_gradient"} <= spent.keys():
        return text("rates.figure.evaluations")
    vjp, jvp = (f"{spent[kind][-1]:.2g}" for kind in ("reverse_mode", "forward_gradient"))
    return text("rates.figure.priced", vjp=vjp, jvp=jvp)


def _tones(kinds: list[str]) -> list[str]:
    """Return a colour per estimator: its kind's own, in tones where a kind occurs again."""
    shades = {kind: iter(style.shades(kind, kinds.count(kind))) for kind in kinds}
    return [next(shades[kind]) for kind in kinds]


def _controls(data: Arrays, config: Config) -> Figure:
    """Draw four set-ups in which the table doesn't show."""
    figure, axes = panels.grid(2, 2, title=text("rates.figure.controls"))
    k, chain = data["controls_chain_k"], data["controls_chain"]
    label = text("method.gradient_descent")
    worst = Curve(k, chain / chain[0], label, "gradient_descent")
    _against_one_over_k(axes[0, 0], [worst], text("rates.figure.chain"))
    grid, tones = data["controls_power_k"], style.shades("gradient_descent", len(controls.POWERS))
    tails = [
        Curve(grid, data[f"controls_power_{p}"] / data[f"controls_power_{p}"][0],
              f"$p = {p}$", "gradient_descent", color=tone)
        for p, tone in zip(controls.POWERS, tones, strict=True)
    ]  # fmt: skip
    _against_one_over_k(axes[0, 1], tails, text("rates.figure.power"))
    _averages(axes[1, 0], data, config)
    _rank_one(axes[1, 1], data, config)
    return figure


def _against_one_over_k(ax: Axes, curves: list[Curve], title: str) -> None:
    x = np.asarray(curves[0].x)
    line = panels.power_law(
        x[x >= 10], -1.0, through=(10, float(np.interp(10, x, np.asarray(curves[0].y))))
    )
    panels.convergence(
        ax, curves, xlabel=text("axis.iteration"), ylabel=text("axis.relative_gap"), title=title,
        references=[line],
    )  # fmt: skip


def _averages(ax: Axes, data: Arrays, config: Config) -> None:
    place = len(config.dims) // 2
    k, n = data["smooth_k"][place], config.dims[place]
    last = optimize.mean_interval(data["smooth_curves"][place]).estimate
    mean = optimize.mean_interval(data["smooth_averages"][place]).estimate
    shades = style.shades("two_point", 2)
    panels.convergence(
        ax,
        [
            Curve(k / n, last, text("rates.figure.last"), "two_point", color=shades[1]),
            Curve(k / n, mean, text("rates.figure.average"), "two_point", color=shades[0]),
        ],
        xlabel=text("axis.scaled_iteration"), ylabel=text("axis.squared_gradient"),
        title=text("rates.figure.averages"),
        references=[panels.power_law(k / n, -1.0, through=(k[0] / n, last[0] * 0.6))],
        legend="lower left", room=4.0,
    )  # fmt: skip


def _rank_one(ax: Axes, data: Arrays, config: Config) -> None:
    tones = style.shades("two_point", len(config.full_dims))
    curves = []
    for n, runs, tone in zip(config.full_dims, data["controls_rank_one"], tones, strict=True):
        mean = optimize.mean_interval(runs).estimate
        label = text("panel.dimension_is", n=n)
        curves.append(Curve(data["controls_rank_one_k"], mean, label, "two_point", color=tone))
    panels.convergence(
        ax, curves, xlabel=text("axis.iteration"), ylabel=text("axis.gap"),
        title=text("rates.figure.rank_one"),
    )  # fmt: skip


def _real_data(data: Arrays, config: Config) -> Figure:
    """Draw descent on real tables for three steps, and the time to the target over the factor."""
    figure, axes = panels.grid(len(config.tables), 2, title=text("rates.figure.real_data"))
    for row, table in zip(axes, config.tables, strict=True):
        _descents(row[0], data, table, config)
        _factors(row[1], data, table, config)
    return figure


def _descents(ax: Axes, data: Arrays, table: str, config: Config) -> None:
    fields = ("gd_k", "gd", "k", "curves", "factors", "effective", "worst")
    gd_k, gd, k, curves, factors, effective, worst = (
        data[f"real_data_{table}_{field}"] for field in fields
    )
    drawn = [Curve(gd_k, gd, text("rates.figure.gd"), "gradient_descent")]
    tones = style.shades("two_point", 2)
    for factor, tone in ((effective, tones[1]), (worst, tones[0])):
        i = int(np.argmin(np.abs(np.log(factors / factor))))
        mean = optimize.mean_interval(curves[i], seed=config.seed)
        label = text("rates.figure.factor_is", factor=f"{factors[i]:.2g}")
        drawn.append(Curve(k[i], mean.estimate, label, "two_point", mean.low, mean.high, tone))
    panels.convergence(
        ax, drawn, xlabel=text("axis.iteration"), ylabel=text("axis.relative_gap"),
        title=table.replace("_", " "), legend="lower left", room=3.0,
    )  # fmt: skip


def _factors(ax: Axes, data: Arrays, table: str, config: Config) -> None:
    times = slowdowns(data, table, config.seed)
    ends = [[getattr(t, end) for t in times] for end in ("estimate", "low", "high")]
    panels.scaling(
        ax, data[f"real_data_{table}_factors"], ends[0], exponent=None, method="two_point",
        label=text("method.two_point"), low=ends[1], high=ends[2],
        xlabel=text("rates.figure.factor"), ylabel=text("rates.figure.slowdown"), legend="",
    )  # fmt: skip
    for name in ("effective", "worst"):
        place = float(data[f"real_data_{table}_{name}"])
        ax.axvline(place, color=style.THEORY, linestyle="--")
        ax.annotate(
            text(f"rates.figure.{name}"), (place, 1), xycoords=("data", "axes fraction"),
            xytext=(-6, -4), textcoords="offset points", rotation=90, ha="right", va="top",
            fontsize=18,
        )  # fmt: skip
