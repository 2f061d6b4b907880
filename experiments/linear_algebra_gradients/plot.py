"""The figures; nothing is computed here but errors from their squares."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adlab.figures import panels, style
from adlab.figures.labels import text

from .config import Config, Loss
from .fits import STARTS
from .losses import METHODS, SPLITTING
from .matrices import ROWS, SPECTRA
from .measure import gaps
from .squares import KINDS
from .verdicts import EPS, LARGEST, relative

Arrays = dict[str, np.ndarray]
LOOKS = {
    "jnp": ("#D55E00", "s"),
    "rules": (style.color("reverse_mode"), "o"),
    "differences": (style.color("finite_difference"), "^"),
}
CLASSES = {"exact": "#D6EAF8", "differentiable": "#FCE8C5", "none": "#E8E8E8"}
ZERO = 2.0**-53  # where a gap of 0 is drawn
OTHERS: tuple[Loss, ...] = ("polar", "projected", "factors", "null", "nuclear", "largest")


def plot(data: Arrays, config: Config) -> dict[str, Figure]:
    """Draw the sweep, the table, least squares, the ridge fit and the completion."""
    figures = {}
    pair = [loss for loss in ("vector", "cluster") if loss in config.losses]
    if pair:
        figures["gap"] = _sweep(data, config, pair, 1)
    others = [loss for loss in OTHERS if loss in config.losses]
    if others:
        figures["gap_others"] = _sweep(data, config, others, 1 + (len(others) > 3))
    if config.diagnose:
        figures["coinciding"] = _table(data, config)
    figures["squares"] = _squares(data, config)
    figures["ridge"] = _ridge(data)
    figures["completion"] = _completion(data)
    return figures


def _words(key: str, **params: Any) -> str:
    return text(f"linear_algebra_gradients.figure.{key}", **params)


def _sweep(data: Arrays, config: Config, losses: list[Any], rows: int) -> Figure:
    """Draw errors against the gap, a panel per loss."""
    title = _words("gap" if "cluster" in losses or "vector" in losses else "gap_others")
    cols = -(-len(losses) // rows)
    figure, axes = panels.grid(rows, cols, title=title)
    for ax, loss in zip(axes.flat, losses, strict=False):
        _against_gap(ax, data, config, loss)
        ax.set_title(_words(f"loss_{loss}"), fontsize=17)
    for ax in axes.flat[len(losses) :]:
        ax.set_visible(False)
    figure.supylabel(_words("error"), fontsize=18)
    for ax in axes[-1]:
        ax.set_xlabel(_words("gap_axis"))
    panels.legend_below(figure, axes[0, 0], cols=4)
    return figure


def _against_gap(ax: Axes, data: Arrays, config: Config, loss: Loss) -> None:
    place = config.losses.index(loss)
    x = np.where(gaps(config) > 0, gaps(config), ZERO)
    fine = np.geomspace(x[-2], x[0], 20)
    ax.plot(fine, EPS * LARGEST / fine, "--", color=style.THEORY, label=_words("bound"))
    power = 2 / 3 if loss in SPLITTING else 0.0
    label = text("panel.theory") + ": " + _words("differences_bound")
    ax.plot(fine, EPS ** (2 / 3) * fine**-power, ":", color=style.THEORY, label=label)
    for index, method in enumerate(METHODS):
        errors = relative(data["sweep"][index, place], data["sweep_norms"][place])
        color, marker = LOOKS[method]
        look: Any = {"color": color, "marker": marker, "markersize": 12 if method == "jnp" else 7}
        name = text(f"linear_algebra_gradients.method.{method}")
        known = np.where(np.isfinite(errors), np.minimum(errors, 3.0), np.nan)
        ax.plot(x[:-1], known[:-1], label=name, zorder=2 + 0.1 * index, **look)
        ax.plot(x[-1:], known[-1:], zorder=2 + 0.1 * index, **look)
        if not (loss == "null" and method == "jnp"):
            lost = np.where(np.isinf(errors), 1e2, np.nan)
            ax.plot(x, lost, linestyle="none", **look)
    ax.axvspan(ZERO / 4, ROWS * EPS * LARGEST, color=style.THEORY, alpha=0.08, lw=0)
    ax.set(xscale="log", yscale="log", ylim=(1e-16, 1e3), xlim=(ZERO / 4, 2 * x[0]))
    ax.set_yticks(
        [1e-15, 1e-10, 1e-5, 1, 1e2], ["$10^{-15}$", "$10^{-10}$", "$10^{-5}$", "1", "NaN"]
    )
    ax.set_xticks([ZERO, 1e-13, 1e-9, 1e-5], ["0", "$10^{-13}$", "$10^{-9}$", "$10^{-5}$"])
    ax.minorticks_off()


def _table(data: Arrays, config: Config) -> Figure:
    """Draw a cell per matrix and loss: the answers of both, coloured by what is possible."""
    figure, axes = panels.grid(title=_words("coinciding"))
    ax = axes[0, 0]
    kinds = data["diagnosed"]
    for column, row in np.ndindex(kinds.shape):
        kind = str(kinds[column, row])
        ax.fill_between([column, column + 1], row, row + 1, color=CLASSES[kind], lw=0)
        look: Any = {"ha": "center", "va": "center", "fontsize": 15}
        if data["expected"][column, row] == "none":
            ax.text(column + 0.5, row + 0.5, _words("no_derivative"), color="#777777", **look)
            continue
        for index, method in enumerate(("jnp", "rules")):
            found = data["table"][index, column, row]
            error = float(relative(found, data["table_norms"][column, row]))
            refused = config.losses[column] == "null" and method == "jnp"
            words = _words("refused") if refused else _shown(error)
            place = (column + 0.5, row + 0.31 + 0.38 * index)
            ax.text(*place, words, color=LOOKS[method][0], fontweight="bold", **look)
    ax.set(xlim=(0, len(config.losses)), ylim=(len(SPECTRA), 0))
    ax.set_xticks(
        np.arange(len(config.losses)) + 0.5, [_words(f"short_{loss}") for loss in config.losses]
    )
    names = [", ".join(f"{value:g}" for value in values) for values in SPECTRA.values()]
    ax.set_yticks(np.arange(len(SPECTRA)) + 0.5, names)
    ax.set_ylabel(_words("spectrum"))
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.hlines(range(1, len(SPECTRA)), 0, len(config.losses), color="white", linewidth=4)
    ax.vlines(range(1, len(config.losses)), 0, len(SPECTRA), color="white", linewidth=4)
    for spine in ax.spines.values():
        spine.set_visible(False)
    for method in ("jnp", "rules"):
        name = text(f"linear_algebra_gradients.method.{method}")
        ax.plot([], [], "s", color=LOOKS[method][0], label=_words("answers", method=name))
    for kind, color in CLASSES.items():
        ax.plot([], [], "s", color=color, markersize=16, label=_words(f"class_{kind}"))
    panels.legend_below(figure, ax, cols=3)
    return figure


def _shown(error: float) -> str:
    if not np.isfinite(error):
        return "NaN"
    return f"{error:.2g}" if error >= 1e-3 else f"$10^{{{round(np.log10(error))}}}$"


def _squares(data: Arrays, config: Config) -> Figure:
    """Draw the median and the range of errors of each kind, a panel per shape; NaN at the right."""
    figure, axes = panels.grid(1, len(config.shapes), title=_words("squares"))
    for column, shape in enumerate(config.shapes):
        ax = axes[0, column]
        for index, method in enumerate(METHODS):
            color, marker = LOOKS[method]
            rows = np.arange(len(KINDS)) + 0.22 * (index - 1)
            values = np.maximum(data["squares"][index, column], 3e-17)
            for row, found in zip(rows, values, strict=True):
                lost = np.isnan(found)
                if not lost.all():
                    low, middle, high = np.quantile(found[~lost], [0, 0.5, 1])
                    ax.plot([low, high], [row, row], color=color)
                    ax.plot(middle, row, marker, color=color)
                if lost.any():
                    ax.plot(1e3, row, marker, color=color)
                    share = f"{100 * lost.mean():.0f} %"
                    ax.annotate(share, (1e3, row), (9, 0), textcoords="offset points",
                                va="center", fontsize=14, color=color)  # fmt: skip
            name = text(f"linear_algebra_gradients.method.{method}")
            ax.plot([], [], marker, color=color, label=name)
        ax.set(xscale="log", xlim=(1e-17, 1e6), title=_words("shape", rows=shape[0], cols=shape[1]))
        ticks = {3e-17: "0", 1e-12: "$10^{-12}$", 1e-8: "$10^{-8}$", 1e-4: "$10^{-4}$", 1: "1"}
        ax.set_xticks([*ticks, 1e3], [*ticks.values(), "NaN"])
        ax.minorticks_off()
        names = [text(f"linear_algebra_gradients.kind.{kind}") for kind in KINDS]
        ax.set_yticks(np.arange(len(KINDS)), names if column == 0 else [""] * len(KINDS))
        ax.set_ylim(len(KINDS) - 0.5, -0.5)
        ax.grid(visible=False, axis="y")
        ax.set_xlabel(_words("error"))
    panels.legend_below(figure, axes[0, 0], cols=3)
    return figure


def _ridge(data: Arrays) -> Figure:
    """Draw the descent on the ridge strength, and the gradient in the times of measurement."""
    figure, axes = panels.grid(1, 2, title=_words("ridge"))
    ax, other = axes[0]
    ax.plot(data["ridge_scan"], data["ridge_losses"], "--", color=style.THEORY,
            label=_words("scan"))  # fmt: skip
    color, marker = LOOKS["rules"]
    ax.plot(data["ridge_path_rules"], data["ridge_path_losses_rules"], marker + "-", color=color,
            label=_words("descent"))  # fmt: skip
    color, marker = LOOKS["jnp"]
    ax.plot(data["ridge_path_jnp"][:1], data["ridge_path_losses_jnp"][:1], "X", color=color,
            markersize=16, label=_words("stuck"), zorder=4)  # fmt: skip
    ax.set_xlabel(_words("strength"))
    ax.set_ylabel(_words("held_out"))
    ax.legend(loc="upper left")
    times = data["ridge_times"]
    other.plot(times, data["ridge_exact"][:-1], "--", color=style.THEORY, label=_words("by_hand"))
    for method in ("differences", "rules"):
        color, marker = LOOKS[method]
        name = text(f"linear_algebra_gradients.method.{method}")
        size = 11 if method == "differences" else 6
        other.plot(times, data[f"ridge_{method}"][:-1], marker, color=color, label=name,
                   markersize=size)  # fmt: skip
    other.set_xlabel(_words("time"))
    other.set_ylabel(_words("in_times"))
    other.margins(y=0.1)
    low, high = other.get_ylim()
    other.set_ylim(low, high + 0.4 * (high - low))
    other.legend(loc="upper right")
    return figure


def _completion(data: Arrays) -> Figure:
    """Draw how far the matrix is from the true one, and the gradient from its closed form."""
    figure, axes = panels.grid(1, 2, title=_words("completion"))
    for column, what in enumerate(("errors", "gradient_errors")):
        ax = axes[0, column]
        for row, start in enumerate(STARTS):
            for method in ("jnp", "rules"):
                values = data[f"completion_{what}_{method}"][row]
                color, marker = LOOKS[method]
                look = {"color": color, "linestyle": "-" if start == "zero" else "--"}
                name = text(f"linear_algebra_gradients.method.{method}")
                label = f"{name}, " + _words(f"start_{start}")
                if np.isnan(data[f"completion_gradient_errors_{method}"][row, 0]):
                    first = 1.0 if what == "errors" else 1e-2
                    ax.plot(0, first, "X", color=color, markersize=18, label=label, zorder=4,
                            linestyle="none", clip_on=False)  # fmt: skip
                    ax.annotate("NaN", (0, first), (14, -4), textcoords="offset points",
                                color=color, fontweight="bold", fontsize=18)  # fmt: skip
                    continue
                size = 12 if method == "jnp" else 7
                every = (0, max(1, values.size // 10))
                ax.plot(np.maximum(values, 1e-17), marker=marker, markevery=every,
                        markersize=size, label=label, **look)  # fmt: skip
        ax.set(yscale="log", xlabel=_words("step"), ylabel=_words(f"completion_{what}"))
    axes[0, 1].set_ylim(1e-17, 1.0)
    panels.legend_below(figure, axes[0, 0], cols=2)
    return figure
