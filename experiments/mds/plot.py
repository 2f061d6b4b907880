"""Losses over operations, growth, the price of having no gradient, maps, and the closed form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adlab import lab
from adlab.figures import panels, style
from adlab.figures.labels import text

from . import atlas
from .config import METHODS, SIMPLEXES, TARGET, Config, growing
from .looks import MARKS, TONES, name_of
from .verdicts import clouds, ratios

Arrays = dict[str, np.ndarray]
FLOOR = 1.01  # over its last loss, from where a curve is at its end
SHOWN = 1e-33  # the least relative loss on the axis
ASSERTED = {  # figure -> the claims that its title asserts
    "descent": ("coordinates", "dearer"),
    "growth": ("descent_slope", "more_so"),
    "price": ("slope", "control_slope"),
    "world": ("plane_last", "plane_errors", "space_last", "space_errors"),
    "closed_form": ("spectrum_error", "scores_error", "classical_loss", "unsquared_loss"),
}


def plot(
    data: Arrays, config: Config, *, verdicts: Sequence[lab.Verdict] = ()
) -> dict[str, Figure]:
    """Draw every figure."""

    def title(name: str, **params: object) -> str:
        claims = [f"mds.claim.{claim}" for claim in ASSERTED[name]]
        return lab.heading(f"mds.figure.{name}", verdicts, *claims, **params)

    place = text(f"mds.place.{config.maps[0]}")
    return {
        "descent": _descent(data, config, title("descent", place=place)),
        "growth": _growth(data, config, title("growth")),
        "price": _price(data, config, title("price")),
        **{f"map_{name}": atlas.one_map(data, name) for name in config.maps},
        "world": atlas.world(data, title("world")),
        "closed_form": _closed_form(data, config, title("closed_form")),
    }


def _descent(data: Arrays, config: Config, title: str) -> Figure:
    """Draw the loss on the first map against operations, in evaluations of the loss."""
    name = config.maps[0]
    figure, axes = panels.grid(title=title)
    ax = axes[0, 0]
    value, gradient = data[f"{name}.flops"]
    for method in (*METHODS, *SIMPLEXES):
        per_call = gradient / value if method == "gradient_descent" else 1
        x = data[f"{name}.calls.{method}"] * per_call
        losses = data[f"{name}.loss.{method}"]
        middle = np.exp(np.mean(np.log(losses), axis=0))
        end = int(np.argmax(middle <= FLOOR * middle[-1])) + 1  # what is flat says no more
        spent = np.flatnonzero(x[:end] > 0)
        look: Any = {"color": TONES[method], "zorder": 2}
        mark: Any = {"marker": MARKS[method], "markevery": max(1, spent.size // 7)}
        ax.plot(x[spent], middle[spent], label=name_of(method), linewidth=3, **look, **mark)
        edges = (losses.min(axis=0)[spent], losses.max(axis=0)[spent])
        ax.fill_between(x[spent], *edges, alpha=0.15, linewidth=0, color=TONES[method])
        if method in SIMPLEXES and not np.any(losses <= TARGET):
            _gave_up(ax, [x[spent[-1]]], [middle[spent[-1]]], TONES[method])
    ax.axhline(TARGET, color=style.THEORY, linestyle="--", zorder=1)
    ax.set(xscale="log", yscale="log", xlabel=text("mds.figure.spent"))
    ax.set(ylabel=text("mds.figure.loss"), xlim=(1, None))
    _explain(ax, config, text("mds.figure.target"))
    panels.legend_below(figure, ax, cols=2)
    return figure


def _gave_up(ax: Axes, x: Any, y: Any, color: str) -> None:
    """Mark where a simplex was given up, far from the target."""
    ax.plot(x, y, "X", color=color, markersize=20, markeredgecolor=style.tone("paper"), zorder=4)


def _explain(ax: Axes, config: Config, dashes: str = "") -> None:
    """Put the crosses of those that gave up into the legend, and the dashed line."""
    label = text("mds.figure.given_up", budget=f"{config.budget:,}".replace(",", "\u202f"))
    ax.plot([], [], "X", color=style.tone("muted"), markersize=16, label=label)
    if dashes:
        ax.plot([], [], "--", color=style.THEORY, label=dashes)


def _growth(data: Arrays, config: Config, title: str) -> Figure:
    """Draw geometric means of calls to the target as N grows; crosses where a simplex gave up."""
    figure, axes = panels.grid(title=title)
    ax, along = axes[0, 0], growing(config)
    sizes = np.array([count * dim for count, dim in config.cases])[along]
    names = [clouds(config)[k] for k in along]
    rows = {
        "gradient_descent": np.stack([data[f"{name}.hits"][0] for name in names]),
        "two_point": np.stack([data[f"{name}.hits"][1] for name in names]),
    }
    rows["finite_difference"] = rows["gradient_descent"] * 2 * sizes[:, None]
    for place, kind in enumerate(SIMPLEXES):
        rows[kind] = np.stack([data[f"{name}.evaluations"][place] for name in names])
    for method in (*METHODS, *SIMPLEXES):
        means = np.exp(np.mean(np.log(rows[method]), axis=1))  # NaN where any gave up
        look: Any = {"color": TONES[method], "zorder": 2, "markersize": 13, "linewidth": 3}
        ax.plot(sizes, means, f"{MARKS[method]}-", label=name_of(method), **look)
        if np.any(lost := np.isnan(means)):
            heights = np.full(lost.sum(), float(config.budget))
            _gave_up(ax, sizes[lost], heights, TONES[method])
    _explain(ax, config)
    dim = config.cases[along[0]][1]
    ax.set(xscale="log", yscale="log", ylabel=text("mds.figure.calls"))
    ax.set_xlabel(text("mds.figure.size", dim=dim))
    ax.set_xticks(sizes, [str(n) for n in sizes])
    ax.minorticks_off()
    panels.legend_below(figure, ax, cols=2)
    return figure


def _price(data: Arrays, config: Config, title: str) -> Figure:
    """Draw calls of both estimates over those of gradient descent, beside theory's line."""
    figure, axes = panels.grid(title=title)
    ax, names = axes[0, 0], [*clouds(config), *config.maps]
    d_eff = np.array([np.mean(data[f"{name}.d_eff"]) for name in names])
    quartiles = [np.quantile(ratios(data, name), [0.25, 0.5, 0.75]) for name in names]
    low, middle, high = np.stack(quartiles, axis=1)
    n = [count * dim for count, dim in config.cases]
    n += [data[f"{name}.path.two_point"][0].size for name in config.maps]
    look: Any = {"markersize": 15, "linestyle": "none"}
    kind, other = "two_point", "finite_difference"
    line = np.array([d_eff.min() / 1.15, d_eff.max() * 1.15])
    ax.plot(d_eff, 2 * np.array(n), MARKS[other], color=TONES[other],
            label=text("mds.figure.two_n"), **look)  # fmt: skip
    ax.errorbar(
        d_eff, middle, [middle - low, high - middle], fmt=MARKS[kind], color=TONES[kind],
        capsize=6, label=name_of(kind), **look,
    )  # fmt: skip
    ax.plot(line, 2 * line, "--", color=style.THEORY, label=text("mds.figure.line"))
    ax.set(xscale="log", yscale="log")
    ax.margins(y=0.1)
    ax.set(xlabel=text("mds.figure.d_eff"), ylabel=text("mds.figure.over_descent"))
    _plain_ticks(ax)
    panels.legend_below(figure, ax, cols=3)
    return figure


def _plain_ticks(ax: Axes) -> None:
    """Write plain numbers on both axes."""
    ticks = np.array([2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100, 200, 300, 500, 1000])
    for axis, (low, high) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
        inside = ticks[(ticks >= low) & (ticks <= high)]
        axis.set_ticks(inside, [str(tick) for tick in inside])
        axis.set_ticks([], minor=True)


def _closed_form(data: Arrays, config: Config, title: str) -> Figure:
    """Draw the loss that is left, the worst of each kind: the longer a bar the less of it."""
    figure, axes = panels.grid(title=title)
    ax, worst = axes[0, 0], {}
    for kind in ("classical_loss", "unsquared_loss"):
        worst[kind] = max(np.max(data[f"{name}.{kind}"]) for name in clouds(config))
    worst["geodesic"] = max(float(data[f"{name}.classical_loss"]) for name in config.maps)
    worst["descent"] = max(np.max(data[f"{name}.last"][0]) for name in config.maps)
    blue, pale = TONES["gradient_descent"], style.tone("grey")
    hues = {"classical_loss": style.tone("indigo"), "geodesic": style.tone("indigo"),
            "descent": blue, "unsquared_loss": pale}  # fmt: skip
    for row, (kind, hue) in enumerate(hues.items()):
        loss = max(float(worst[kind]), SHOWN)
        ax.barh(row, np.log10(loss), height=0.62, color=hue)
        power = round(np.log10(loss))
        words = f"{loss:.1g}" if loss > 1e-2 else f"$10^{{{power}}}$"
        ax.annotate(
            words, (np.log10(loss), row), (10, 0), textcoords="offset points", va="center",
            fontsize=26, color=style.ink(hue),
        )  # fmt: skip
    ax.set_yticks(range(len(hues)), [text(f"mds.row.{kind}") for kind in hues], fontsize=20)
    ax.set(xlim=(0, np.log10(SHOWN) - 4), ylim=(len(hues) - 0.5, -0.5))
    powers = [0, -8, -16, -24, -32]
    ax.set_xticks(powers, ["1", *(f"$10^{{{power}}}$" for power in powers[1:])])
    ax.grid(visible=False, axis="y")
    ax.set_xlabel(text("mds.figure.left"))
    return figure
