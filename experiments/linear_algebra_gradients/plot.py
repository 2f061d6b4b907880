"""The figures; nothing is computed here but errors from their squares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adlab import lab
from adlab.figures import panels, style
from adlab.figures.labels import text

from .coinciding import table
from .config import Config, Loss
from .functions import able
from .looks import LOOKS, name_of, words
from .losses import METHODS, SPLITTING
from .matrices import ROWS
from .measure import gaps
from .squares import KINDS
from .verdicts import EPS, LARGEST, relative

Arrays = dict[str, np.ndarray]
ZERO = 2.0**-53  # where a gap of 0 is drawn
OTHERS: tuple[Loss, ...] = ("factors", "null", "nuclear", "polar", "projected", "largest")
MOST = 3  # panels side by side
LOST = 1e3  # where a NaN among errors of least squares is drawn
ASSERTED = {  # figure -> the claims that its title asserts
    "gap": (
        "exponent_split",
        "exponent_whole",
        "resolved",
        "coinciding",
        "control_jnp",
        "functions",
    ),
    "squares": ("squares", "control_squares"),
    "ridge": ("ridge_found", "control_ridge"),
    "completion": ("completion", "completed", "control_completion"),
}


def plot(
    data: Arrays, config: Config, *, verdicts: Sequence[lab.Verdict] = ()
) -> dict[str, Figure]:
    """Draw the sweep, the table, least squares, the ridge fit and the completion."""
    about = "linear_algebra_gradients"
    titles = {
        name: lab.heading(
            f"{about}.figure.{name}", verdicts, *(f"{about}.claim.{claim}" for claim in claims)
        )
        for name, claims in ASSERTED.items()
    }
    figures = {}
    pair: list[Loss] = [loss for loss in ("vector", "cluster") if loss in config.losses]
    if pair:
        figures["gap"] = _sweep(data, config, pair, titles["gap"])
    others = [loss for loss in OTHERS if loss in config.losses]
    if others:
        figures["gap_others"] = _sweep(data, config, others[:MOST], words("gap_others"))
    if config.diagnose:
        figures["coinciding"] = table(data, config)
    figures["squares"] = _squares(data, titles["squares"])
    figures["ridge"] = _ridge(data, titles["ridge"])
    figures["completion"] = _completion(data, titles["completion"])
    return figures


def _sweep(data: Arrays, config: Config, losses: Sequence[Loss], title: str) -> Figure:
    """Draw errors against the gap, a panel per loss."""
    figure, axes = panels.grid(1, len(losses), title=title)
    for place, (ax, loss) in enumerate(zip(axes[0], losses, strict=True)):
        _against_gap(ax, data, config, loss)
        ax.set_title(words(f"loss_{loss}"), fontsize=21 if len(losses) < MOST else 18)
        ax.set_xlabel(words("gap_axis"))
        if place:
            ax.tick_params(labelleft=False)
    axes[0, 0].set_ylabel(words("error"))
    fullest = max(axes[0], key=lambda ax: len(ax.get_legend_handles_labels()[0]))
    panels.legend_below(figure, fullest, cols=3)
    return figure


def _against_gap(ax: Axes, data: Arrays, config: Config, loss: Loss) -> None:
    place = config.losses.index(loss)
    x = np.where(gaps(config) > 0, gaps(config), ZERO)
    fine = np.geomspace(x[-2], x[0], 20)
    power = 2 / 3 if loss in SPLITTING else 0.0
    label = text("panel.theory") + ": " + words("differences_bound")
    squares = dict(zip(METHODS, data["sweep"][:, place], strict=True))
    if loss in able(config.losses):
        squares["functions"] = data["functions"][able(config.losses).index(loss)]
    for index, (method, found) in enumerate(squares.items()):
        errors = relative(found, data["sweep_norms"][place])
        color, marker = LOOKS[method]
        look: Any = {"color": color, "marker": marker, "markersize": 14 if method == "jnp" else 8}
        known = np.where(np.isfinite(errors), np.minimum(errors, 3.0), np.nan)
        ax.plot(x[:-1], known[:-1], label=name_of(method), zorder=2 + 0.1 * index, **look)
        ax.plot(x[-1:], known[-1:], zorder=2 + 0.1 * index, **look)
        if not (loss == "null" and method == "jnp"):
            lost = np.where(np.isinf(errors), 1e2, np.nan)
            ax.plot(x, lost, linestyle="none", zorder=2 + 0.1 * index, **look)
    ax.plot(fine, EPS * LARGEST / fine, "--", color=style.THEORY, label=words("bound"))
    ax.plot(fine, EPS ** (2 / 3) * fine**-power, ":", color=style.THEORY, label=label)
    ax.axvspan(ZERO / 4, ROWS * EPS * LARGEST, color=style.THEORY, alpha=0.08, lw=0)
    ax.set(xscale="log", yscale="log", ylim=(1e-16, 1e3), xlim=(ZERO / 4, 2 * x[0]))
    ax.set_yticks(
        [1e-15, 1e-10, 1e-5, 1, 1e2], ["$10^{-15}$", "$10^{-10}$", "$10^{-5}$", "1", "NaN"]
    )
    ax.set_xticks([ZERO, 1e-11, 1e-5], ["0", "$10^{-11}$", "$10^{-5}$"])
    ax.minorticks_off()


def _squares(data: Arrays, title: str) -> Figure:
    """Draw the median and the range of errors of each kind, all shapes; NaN at the right."""
    figure, axes = panels.grid(title=title)
    ax = axes[0, 0]
    ax.axvspan(LOST / 30, LOST * 1e4, color=style.THEORY, alpha=0.08, lw=0)
    for index, method in enumerate(("jnp", "rules")):
        color, marker = LOOKS[method]
        ax.plot([], [], marker, color=color, markersize=14, label=name_of(method))
        values = np.maximum(data["squares"][METHODS.index(method)], 3e-17)
        for place in range(len(KINDS)):
            found, row = values[:, place].ravel(), place + 0.36 * (index - 0.5)
            lost = np.isnan(found)
            if not lost.all():
                low, middle, high = np.quantile(found[~lost], [0, 0.5, 1])
                ax.plot([low, high], [row, row], color=color, linewidth=4)
                ax.plot(middle, row, marker, color=color, markersize=14)
            if lost.any():
                ax.plot(LOST, row, marker, color=color, markersize=14)
                share = f"{100 * lost.mean():.0f} %"
                ax.annotate(share, (LOST, row), (12, 0), textcoords="offset points",
                            va="center", fontsize=20, color=style.ink(color))  # fmt: skip
    ax.set(xscale="log", xlim=(1e-17, LOST * 1e4), xlabel=words("error"))
    ticks = {3e-17: "0", 1e-12: "$10^{-12}$", 1e-8: "$10^{-8}$", 1e-4: "$10^{-4}$", 1: "1"}
    ax.set_xticks([*ticks, LOST], [*ticks.values(), "NaN"])
    ax.minorticks_off()
    names = [text(f"linear_algebra_gradients.kind.{kind}") for kind in KINDS]
    ax.set_yticks(np.arange(len(KINDS)), names, fontsize=20)
    ax.set_ylim(len(KINDS) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    panels.legend_below(figure, ax, cols=2)
    return figure


def _ridge(data: Arrays, title: str) -> Figure:
    """Draw the descent on the ridge strength, and where the other one stops at once."""
    figure, axes = panels.grid(title=title)
    ax = axes[0, 0]
    path, losses = data["ridge_path_rules"], data["ridge_path_losses_rules"]
    ax.plot(data["ridge_scan"], data["ridge_losses"], "--", color=style.THEORY,
            label=words("scan"))  # fmt: skip
    color, marker = LOOKS["rules"]
    ax.plot(path, losses, marker + "-", color=color, markersize=14, linewidth=4,
            label=words("descent"))  # fmt: skip
    color, _ = LOOKS["jnp"]
    ax.plot(path[:1], losses[:1], "X", color=color, markersize=26,
            markeredgecolor=style.tone("paper"), label=words("stuck"), zorder=4)  # fmt: skip
    low, high = np.min(data["ridge_losses"]), np.max(losses)
    ax.set(xlim=(np.min(path) - 2, path[0] + 1))
    ax.set_ylim(low - 0.15 * (high - low), high + 0.25 * (high - low))
    ax.set(xlabel=words("strength"), ylabel=words("held_out"))
    panels.legend_below(figure, ax, cols=3)
    return figure


def _completion(data: Arrays, title: str) -> Figure:
    """Draw how far the matrix is from the true one, from zero and from random entries."""
    figure, axes = panels.grid(title=title)
    ax = axes[0, 0]
    zero, random = 0, 1
    for start, method, line, label in (
        (zero, "rules", "-", "start_zero"),
        (zero, "jnp", "-", "start_zero"),
        (random, "jnp", "--", "start_random"),
        (random, "rules", "--", "start_random"),
    ):
        values = data[f"completion_errors_{method}"][start]
        color, marker = LOOKS[method]
        look: Any = {"color": color, "label": f"{name_of(method)}, {words(label)}"}
        if np.isnan(data[f"completion_gradient_errors_{method}"][start, 0]):
            look |= {"markersize": 26, "linestyle": "none", "clip_on": False, "zorder": 4}
            ax.plot(0, values[0], "X", markeredgecolor=style.tone("paper"), **look)
            ax.annotate("NaN", (0, values[0]), (24, 2), textcoords="offset points",
                        color=style.ink(color), fontweight="bold", fontsize=24)  # fmt: skip
            continue
        size, every = (14, (0, 15)) if method == "jnp" else (8, (0, 15))
        width = 4 if start == zero else 2.5
        ax.plot(values, line, marker=marker, markevery=every, markersize=size, linewidth=width,
                **look)  # fmt: skip
    ax.set(yscale="log", xlabel=words("step"), ylabel=words("completion_errors"))
    panels.legend_below(figure, ax, cols=2)
    return figure
