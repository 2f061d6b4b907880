"""Losses over calls and operations, growth, maps, the globe, and the closed form."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle

from adlab.data import cities
from adlab.figures import panels, style
from adlab.figures.labels import current, text
from adlab.problems import procrustes

from . import overlay
from .config import METHODS, SIMPLEXES, TARGET, Config, growing
from .verdicts import clouds, ratios, simplex_evaluations

Arrays = dict[str, np.ndarray]
TONES = {
    **{method: style.color(method) for method in METHODS},
    **dict(zip(SIMPLEXES, ("#332288", "#AA4499", "#808000"), strict=True)),
}
MARKS = {
    **{method: style.marker(method) for method in METHODS},
    **dict(zip(SIMPLEXES, "Xv<", strict=True)),
}
EARTH = 6371.0  # km, of the outline drawn


def plot(data: Arrays, config: Config) -> dict[str, Figure]:
    """Draw every figure."""
    return {
        "descent": _descent(data, config),
        "growth": _growth(data, config),
        **{f"map_{name}": _map(data, name) for name in config.maps},
        "world": _world(data),
        "closed_form": _closed_form(data, config),
    }


def name_of(method: str) -> str:
    """Return what a method is called in a legend."""
    return text(f"method.{method}" if method in METHODS else f"mds.simplex.{method}")


def _descent(data: Arrays, config: Config) -> Figure:
    """Draw the loss on the first map against evaluations, and against operations."""
    name = config.maps[0]
    figure, axes = panels.grid(
        1, 2, title=text("mds.figure.descent", place=text(f"mds.place.{name}"))
    )
    value, gradient = data[f"{name}.flops"]
    for ax, axis in zip(axes[0], ("evaluations", "flops"), strict=True):
        for method in (*METHODS, *SIMPLEXES):
            per_call = gradient if method == "gradient_descent" else value
            x = data[f"{name}.calls.{method}"] * per_call / (1 if axis == "flops" else value)
            losses = data[f"{name}.loss.{method}"]
            spent = x > 0
            curve = {"color": TONES[method], "zorder": 2}
            middle = np.exp(np.mean(np.log(losses), axis=0))
            mark = {"marker": MARKS[method], "markevery": max(1, int(spent.sum()) // 7)}
            ax.plot(x[spent], middle[spent], label=name_of(method), **curve, **mark)
            edges = (losses.min(axis=0)[spent], losses.max(axis=0)[spent])
            ax.fill_between(x[spent], *edges, alpha=0.15, linewidth=0, color=TONES[method])
        ax.axhline(TARGET, color=style.THEORY, linestyle="--", zorder=1)
        ax.set(xscale="log", yscale="log", xlabel=text(f"mds.figure.{axis}"))
    axes[0, 0].set_ylabel(text("mds.figure.loss"))
    panels.legend_below(figure, axes[0, 0], cols=3)
    return figure


def _growth(data: Arrays, config: Config) -> Figure:
    """Draw calls to the target over n, and the price of having no gradient over d_eff."""
    figure, axes = panels.grid(1, 2, title=text("mds.figure.growth"))
    _calls(axes[0, 0], data, config)
    _price(axes[0, 1], data, config)
    panels.legend_below(figure, axes[0, 0], cols=3)
    return figure


def _calls(ax: Axes, data: Arrays, config: Config) -> None:
    """Draw geometric means, joined where N grows; empty where a simplex was given up."""
    sizes = np.array([count * dim for count, dim in config.cases])
    names = clouds(config)
    rows = {
        "gradient_descent": np.stack([data[f"{name}.hits"][0] for name in names]),
        "two_point": np.stack([data[f"{name}.hits"][1] for name in names]),
    }
    rows["finite_difference"] = rows["gradient_descent"] * 2 * sizes[:, None]
    rows |= {kind: simplex_evaluations(data, config, place) for place, kind in enumerate(SIMPLEXES)}
    for method in (*METHODS, *SIMPLEXES):
        means = np.exp(np.mean(np.log(rows[method]), axis=1))
        look: Any = {"color": TONES[method], "zorder": 2}
        for fixed, line in ((1, "-"), (0, ":")):
            along = growing(config, fixed)
            ax.plot(sizes[along], means[along], line, alpha=0.6, linewidth=1.8, **look)
        ax.plot(sizes, means, MARKS[method], label=name_of(method), **look)
        if method in SIMPLEXES:
            late = np.any(rows[method] >= config.budget, axis=1)
            missing: Any = {"markerfacecolor": "white", "markeredgecolor": TONES[method]}
            ax.plot(sizes[late], means[late], MARKS[method], zorder=3, **missing)
    ax.set(xscale="log", yscale="log", title=text("mds.figure.lines"))
    ax.set(xlabel=text("axis.dimension"), ylabel=text("axis.oracle_calls_to_target"))
    distinct = np.unique(sizes)
    ax.set_xticks(distinct, [str(n) for n in distinct])
    ax.minorticks_off()


def _price(ax: Axes, data: Arrays, config: Config) -> None:
    """Draw calls of both estimates over those of gradient descent, beside theory's line."""
    names = [*clouds(config), *config.maps]
    d_eff = np.array([np.mean(data[f"{name}.d_eff"]) for name in names])
    quartiles = [np.quantile(ratios(data, name), [0.25, 0.5, 0.75]) for name in names]
    low, middle, high = np.stack(quartiles, axis=1)
    n = [count * dim for count, dim in config.cases]
    n += [data[f"{name}.path.two_point"][0].size for name in config.maps]
    look: Any = {"color": TONES["two_point"], "capsize": 5}
    ax.errorbar(d_eff, middle, [middle - low, high - middle], fmt=MARKS["two_point"], **look)
    kind = "finite_difference"
    ax.plot(d_eff, 2 * np.array(n), MARKS[kind], color=TONES[kind])
    line = np.array([d_eff.min() / 1.15, d_eff.max() * 1.15])
    ax.plot(line, 2 * line, "--", color=style.THEORY, linewidth=2)
    words: Any = {"fontsize": 16, "transform": ax.transAxes}
    ax.text(0.97, 0.04, text("mds.figure.line"), color=style.THEORY, ha="right", **words)
    ax.text(0.03, 0.97, text("mds.figure.two_n"), color=TONES[kind], va="top", **words)
    ax.set(xscale="log", yscale="log", title=text("mds.figure.price"))
    ax.margins(y=0.2)
    ax.set(xlabel=text("mds.figure.d_eff"), ylabel=text("mds.figure.over_descent"))
    _plain_ticks(ax)


def _plain_ticks(ax: Axes) -> None:
    """Write plain numbers on both axes."""
    ticks = np.array([2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100, 200, 300, 500, 1000])
    for axis, (low, high) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, ax.get_ylim())):
        inside = ticks[(ticks >= low) & (ticks <= high)]
        axis.set_ticks(inside, [str(tick) for tick in inside])
        axis.set_ticks([], minor=True)


def blank(title: str) -> Figure:
    """Return a slide whose axes are to be placed by hand, as maps with names need it."""
    figure = Figure(figsize=style.SLIDE)
    figure.set_layout_engine("none")
    figure.suptitle(title)
    return figure


def _map(data: Arrays, name: str) -> Figure:
    """Draw the map that gradient descent found, over the true one."""
    places = cities(name)  # type: ignore[arg-type]
    laid = procrustes(
        data[f"{name}.path.gradient_descent"][-1] * data[f"{name}.size"], places.projected
    )
    error = f"{100 * laid.error:.2g}"
    title = text("mds.figure.map", place=text(f"mds.place.{name}"), error=error)
    figure = blank(title)
    ax = figure.add_axes((0.02, 0.08, 0.96, 0.82))
    overlay.compare(
        ax, places.projected, laid.points, places.names[current()], method="gradient_descent",
        true_label=text("mds.figure.true"), found_label=text("mds.figure.found"),
    )  # fmt: skip
    figure.legend(*ax.get_legend_handles_labels(), loc="lower center", ncols=2)
    return figure


def _world(data: Arrays) -> Figure:
    """Draw the plane map that can't be true, and the globe that chords give back."""
    places = cities("world")
    figure = blank(text("mds.figure.world"))
    plane = procrustes(data["world.plane.path"][-1], places.projected)
    ax = figure.add_axes((0.01, 0.12, 0.56, 0.68))
    overlay.compare(
        ax, places.projected, plane.points, places.names[current()], method="one_sided",
        true_label=text("mds.figure.true"), found_label=text("mds.figure.found"),
    )  # fmt: skip
    losses = [f"{np.min(data[f'world.{kind}.last']):.1g}" for kind in ("plane", "space")]
    figure.text(0.29, 0.86, text("mds.figure.plane", loss=losses[0]), ha="center", fontsize=17)
    figure.legend(*ax.get_legend_handles_labels(), loc="lower left", ncols=2)
    space = procrustes(data["world.space.path"][-1], places.positions)
    ball = figure.add_axes((0.58, 0.06, 0.4, 0.74))
    figure.text(0.78, 0.86, text("mds.figure.space", loss=losses[1]), ha="center", fontsize=17)
    globe(ball, places.positions, space.points, places.names[current()], turn=25.0)
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
    """Draw true and found positions as seen from outside, those behind the Earth pale."""
    ax.add_patch(Circle((0, 0), EARTH, facecolor="#EEF4FA", edgecolor=overlay.TRUE, linewidth=1.5))
    places, near = view(true, turn)
    where, before = view(found, turn)
    ax.plot(*places[near].T, "o", markersize=13, markerfacecolor="none", color=overlay.TRUE)
    ax.plot(*where[~before].T, "o", markersize=6, color=TONES["gradient_descent"], alpha=0.25)
    ax.plot(*where[before].T, "o", markersize=6, color=TONES["gradient_descent"])
    edge = 1.25 * EARTH
    ax.set(xticks=[], yticks=[], xlim=(-edge, edge), ylim=(-edge, edge))
    ax.spines[:].set_visible(False)
    ax.set_aspect("equal")
    ax.apply_aspect()
    if names:
        seen = [k for k in range(len(names)) if near[k]]
        order = [*seen, *(k for k in range(len(places)) if not near[k])]
        overlay.label_apart(ax, places[order], [names[k] for k in seen])


def _closed_form(data: Arrays, config: Config) -> Figure:
    """Draw how near to zero the identities are, and where the closed form doesn't help."""
    figure, axes = panels.grid(title=text("mds.figure.closed_form"))
    ax, labels = axes[0, 0], []
    rows: list[tuple[str, np.ndarray, str]] = []
    for kind in ("spectrum_error", "scores_error", "classical_loss", "unsquared_loss"):
        values = np.concatenate([data[f"{name}.{kind}"] for name in clouds(config)])
        rows.append((text(f"mds.row.{kind}"), values, TONES["gradient_descent"]))
    for name in config.maps:
        words = {"place": text(f"mds.place.{name}")}
        closed = np.atleast_1d(data[f"{name}.classical_loss"])
        rows.append((text("mds.row.geodesic", **words), closed, TONES["gradient_descent"]))
        rows.append((text("mds.row.descent", **words), data[f"{name}.last"][0], TONES["two_point"]))
    for k, (label, values, color) in enumerate(rows):
        labels.append(label)
        ax.plot(values, np.full(values.shape, k), "o", color=color, alpha=0.6)
    ax.axvline(1e-10, color=style.THEORY, linestyle="--", linewidth=2)
    ax.set_yticks(range(len(labels)), labels)
    ax.invert_yaxis()
    ax.set(xscale="log", xlabel=text("mds.figure.relative"))
    return figure
