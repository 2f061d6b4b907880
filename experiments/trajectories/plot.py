"""The figures of `trajectories`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from adlab import lab
from adlab.figures import panels, style
from adlab.figures.labels import text

from .config import Config
from .measure import PROBLEM, moments_shown

Arrays = dict[str, np.ndarray]
LEVELS = np.geomspace(0.1, 300, 10)
SQUARE = ((-2.6, 4.6), (-2.6, 4.6))
TALL = ((-3.2, 5.8), (-6.2, 6.2))  # x and y of each of three panels
FAINT = {"alpha": 0.25, "linewidth": 1.0}
ASSERTED = {  # figure -> the claims that its title asserts
    "paths": ("trajectories.claim.central", "trajectories.claim.mean_two_point"),
    "cloud": ("trajectories.claim.mean_two_point", "trajectories.claim.spread_two_point"),
    "eps": (
        "trajectories.claim.central", "trajectories.claim.limit", "trajectories.claim.control_eps",
        "trajectories.claim.floor",
    ),
    "floor": ("trajectories.claim.floor",),
}  # fmt: skip


def plot(
    data: Arrays, config: Config, *, verdicts: Sequence[lab.Verdict] = ()
) -> dict[str, Figure]:
    """Draw the lecture's three paths, the cloud, long against short eps, and the floors."""
    titles = {
        name: lab.heading(f"trajectories.figure.{name}", verdicts, *claims)
        for name, claims in ASSERTED.items()
    }
    return {
        "paths": _paths(data, config, titles["paths"]),
        "cloud": _cloud(data, config, titles["cloud"]),
        "eps": _eps(data, config, titles["eps"]),
        "floor": _floor(data, config, titles["floor"]),
    }


def _contours(ax: Axes, hessian: np.ndarray, title: str, window: tuple = TALL) -> None:
    """Draw the function's contour lines, the start and the minimum."""
    x, y = np.meshgrid(*(np.linspace(low, high, 81) for low, high in window))
    points = np.stack([x, y], axis=-1)
    values = np.einsum("...i,ij,...j->...", points, hessian, points) / 2
    ax.contour(x, y, values, levels=LEVELS, colors=style.tone("grey"), linewidths=0.9)
    ax.plot(*PROBLEM.x0, "o", color=style.THEORY, markersize=9, zorder=5)
    ax.plot(0, 0, "*", color=style.THEORY, markersize=16, zorder=5)
    ax.set(aspect="equal", xlim=window[0], ylim=window[1], xlabel="x", ylabel="y")
    ax.set_title(title, fontsize=18 if window is TALL else None)
    ax.grid(visible=False)


def _descent(ax: Axes, data: Arrays, config: Config) -> None:
    """Draw gradient descent's path, the reference of every panel."""
    path = data["exact"][: config.shown + 1]
    label = text("method.gradient_descent")
    ax.plot(*path.T, "--", color=style.THEORY, linewidth=2, label=label, zorder=4)


def _paths(data: Arrays, config: Config, title: str) -> Figure:
    """Draw the lecture's picture, with the same step for all."""
    figure, axes = panels.grid(1, 3, title=title)
    shown = config.shown + 1
    paths = {
        "gradient_descent": data["exact"][:shown],
        "two_point": data["two_point_paths"][0, 0, :shown],
        "finite_difference": data["central"][0, :shown],
    }
    for ax, (method, path) in zip(axes.flat, paths.items(), strict=True):
        _contours(ax, data["hessian"], text(f"method.{method}"))
        ax.plot(
            *path.T, color=style.color(method), marker=style.marker(method), markersize=5,
            linewidth=1.8,
        )  # fmt: skip
    axes[0, 0].annotate(
        text("trajectories.figure.start"), PROBLEM.x0, xytext=(-10, 8), fontsize=18,
        textcoords="offset points", ha="right",
    )  # fmt: skip
    axes[0, 0].annotate(
        text("trajectories.figure.minimum"), (0, 0), xytext=(-8, -48), fontsize=18,
        textcoords="offset points", ha="left",
    )  # fmt: skip
    return figure


def _cloud(data: Arrays, config: Config, title: str) -> Figure:
    """Draw many seeds: whole paths, and where they are after a few steps, with exact ellipses."""
    figure, axes = panels.grid(1, 2, title=title)
    left, right = axes[0]
    number = len(data["two_point_paths"][0])
    _contours(left, data["hessian"], text("trajectories.figure.seeds", number=number), SQUARE)
    for path in data["two_point_paths"][0]:
        left.plot(*path.T, color=style.color("two_point"), **FAINT)
    mean = data["two_point_mean"][0, : config.shown + 1]
    _descent(left, data, config)
    left.plot(
        *mean[::2].T, "o", color=style.color("gradient_descent"), markersize=6,
        label=text("trajectories.figure.mean"), zorder=4.5,
    )  # fmt: skip
    shown = moments_shown(config)
    steps = ", ".join(map(str, shown))
    _contours(right, data["hessian"], text("trajectories.figure.after", steps=steps), SQUARE)
    for place, k in enumerate(shown):
        color = style.shades("two_point", len(shown))[place]
        points = data["two_point_cloud"][0, :, place]
        right.plot(*points.T, ".", color=color, markersize=4, alpha=0.5)
        ellipse = _ellipse(data["exact"][k], data["two_point_exact_covariance"][0, place])
        ellipse.set(label=text("trajectories.figure.ellipse") if place == 0 else None)
        right.add_patch(ellipse)
    for ax in (left, right):
        ax.legend(loc="lower left")
    return figure


def _ellipse(center: np.ndarray, covariance: np.ndarray) -> Ellipse:
    """Return the ellipse of two standard deviations."""
    squares, axes = np.linalg.eigh(covariance)
    width, height = 4 * np.sqrt(squares)
    angle = np.degrees(np.arctan2(axes[1, 0], axes[0, 0]))
    return Ellipse(
        tuple(center), width, height, angle=angle, fill=False, color=style.THEORY, linestyle="--",
        linewidth=2, zorder=4,
    )  # fmt: skip


def _eps(data: Arrays, config: Config, title: str) -> Figure:
    """Draw the shortest and the longest eps: what is exact, what is displaced, what scatters."""
    figure, axes = panels.grid(1, 3, title=title)
    shown = config.shown + 1
    looks = {
        "central": ("finite_difference", data["central"][:, None, :shown]),
        "forward": ("finite_difference", data["forward"][:, None, :shown]),
        "sphere": ("one_sided", data["sphere_paths"][:, :2, :shown]),
    }
    for ax, (name, (method, paths)) in zip(axes.flat, looks.items(), strict=True):
        _contours(ax, data["hessian"], text(f"trajectories.figure.{name}"))
        for place, tone in ((-1, style.shades(method, 2)[0]), (0, style.color(method))):
            label = text("trajectories.figure.eps_is", eps=f"{config.eps[place]:g}")
            for path in paths[place]:
                ax.plot(*path.T, color=tone, linewidth=4 if place else 2, label=label)
                label = ""
        _descent(ax, data, config)
    axes[0, 1].plot(
        *data["displaced"][-1], "X", color=style.color("two_point"), markersize=13,
        markeredgecolor=style.tone("paper"), label=text("trajectories.figure.limit"), zorder=6,
    )  # fmt: skip
    for ax in axes.flat:
        ax.legend(loc="lower left", borderpad=0.2)
    return figure


def _floor(data: Arrays, config: Config, title: str) -> Figure:
    """Draw E |x_k|^2 of one-sided estimates, which stops in proportion to eps^2."""
    figure, axes = panels.grid(title=title)
    steps = np.arange(config.num_steps + 1)
    curves = [
        panels.Curve(
            steps, data["sphere_square"][place],
            text("trajectories.figure.one_sided", eps=f"{eps:g}"), "one_sided", color=tone,
        )
        for place, (eps, tone) in enumerate(
            zip(config.eps, style.shades("one_sided", len(config.eps)), strict=True)
        )
    ]  # fmt: skip
    square = data["two_point_square"][0]
    shown = square > 1e-4 * data["sphere_exact_square"][0, -1]
    label = text("method.two_point")
    curves.append(panels.Curve(steps[shown], square[shown], label, "two_point"))
    exact = [
        panels.Curve(steps, row, text("panel.theory") if place == 0 else "")
        for place, row in enumerate(data["sphere_exact_square"])
    ]
    panels.convergence(
        axes[0, 0], curves, references=exact, xlabel=text("axis.iteration"),
        ylabel=text("trajectories.figure.square"), xscale="linear", legend="lower right",
    )  # fmt: skip
    return figure
