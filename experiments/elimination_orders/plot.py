"""Counts over the optimum, shares of random graphs, and what programs cost and take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from adlab.figures import panels, style
from adlab.figures.labels import text
from adlab.lab import timing

from . import mixed
from .known import LAYERS, ORDERS, OTHERS
from .shares import interval, shares

if TYPE_CHECKING:
    from . import Config

Arrays = dict[str, np.ndarray]
_HUES = (style.color("forward_mode"), style.color("reverse_mode"), style.tone("wine"), style.THEORY)
TONES = dict(zip(ORDERS, _HUES, strict=True))
FEWEST = 3  # repeats of which an interval says something


def plot(data: Arrays, config: Config) -> dict[str, Figure]:
    """Draw counts over the optimum, shares of random graphs, and programs; times if given.

    Times are arrays `seconds_<program>` of shape (5, repeats) in `data`; they are drawn with
    intervals over repeats, which needs at least `FEWEST` of these.
    """
    figures = {"known": _known(data), "random": _random(data, config)}
    figures["elimination"] = mixed.plot(data)
    programs = list(dict.fromkeys(config.programs))
    if programs:
        figures["programs"] = _programs(data, programs)
    names = [f"seconds_{name}" for name in programs]
    if programs and all(n in data and data[n].shape[1] >= FEWEST for n in names):
        figures["seconds"] = _times(data, programs)
    return figures


def _known(data: Arrays) -> Figure:
    figure, axes = panels.grid(title=text("elimination_orders.figure.known"))
    names = ["-".join(map(str, widths)) for widths in LAYERS]
    names += [text(f"elimination_orders.graph.{name}") for name in OTHERS]
    ratios = data["known"][:, :3] / data["known"][:, 3:]
    _rows(axes[0, 0], names, ratios)
    axes[0, 0].set_xlabel(text("elimination_orders.figure.over_best"))
    panels.legend_below(figure, axes[0, 0])
    return figure


def _rows(ax: Axes, names: Sequence[str], values: np.ndarray) -> None:
    """Draw a row per name with a mark per order, values of shape (names, 3)."""
    rows = np.arange(len(names))
    looks = zip(ORDERS, values.T, (-0.22, 0.0, 0.22), ("o", "s", "D"), strict=False)
    for order, column, shift, marker in looks:
        label = text(f"elimination_orders.order.{order}")
        ax.plot(column, rows + shift, marker, color=TONES[order], label=label, linestyle="none")
    label = text("elimination_orders.order.optimal")
    ax.axvline(1.0, color=style.THEORY, linestyle="--", label=label, zorder=1)
    ax.set_yticks(rows, names)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")


def _random(data: Arrays, config: Config) -> Figure:
    figure, axes = panels.grid(title=text("elimination_orders.figure.random"))
    ax, sizes, total = axes[0, 0], np.array(config.vertices), config.num_graphs
    dearer, beaten = shares(data["random"])
    curves = [(text(f"elimination_orders.order.{o}"), TONES[o], total - dearer[:, k])
              for k, o in enumerate(ORDERS[:3])]  # fmt: skip
    curves.append((text("elimination_orders.figure.beaten"), style.THEORY, beaten))
    for (label, tone, counts), marker in zip(curves, ("o", "s", "D", "v"), strict=True):
        share, low, high = interval(counts, total)
        bars = 100 * np.stack([share - low, high - share])
        ax.errorbar(
            sizes, 100 * share, yerr=bars, marker=marker, color=tone, label=label, capsize=5
        )
    ax.set_xticks(sizes)
    ax.set_ylim(0, 105)
    ax.set_xlabel(text("elimination_orders.figure.vertices"))
    ax.set_ylabel(text("elimination_orders.figure.share"))
    panels.legend_below(figure, ax)
    return figure


def _programs(data: Arrays, programs: Sequence[str]) -> Figure:
    """Draw the multiplications of each order as bars, a panel per program."""
    title = text("elimination_orders.figure.programs")
    figure, axes = panels.grid(1, len(programs), title=title)
    names = [text(f"elimination_orders.order.{order}") for order in ORDERS[:3]]
    for column, program in enumerate(programs):
        values, tones = data[f"{program}_costs"], [TONES[order] for order in ORDERS[:3]]
        _bars(axes[0, column], names if column == 0 else [], values, tones)
        inputs, outputs, steps = data[f"{program}_size"]
        axes[0, column].set_title(
            text(
                "elimination_orders.figure.size", inputs=int(inputs), outputs=int(outputs),
                steps=int(steps), program=text(f"elimination_orders.program.{program}"),
            )
        )  # fmt: skip
        axes[0, column].set_xlabel(text("elimination_orders.figure.multiplications"))
    return figure


def _times(data: Arrays, programs: Sequence[str]) -> Figure:
    """Draw median times over the better of JAX's modes, with intervals over repeats."""
    title = text("elimination_orders.figure.seconds_title")
    figure, axes = panels.grid(1, len(programs), title=title)
    tones = [*TONES.values()][:2] + [TONES[order] for order in ORDERS[:3]]
    names = ["jax.jacfwd", "jax.jacrev"]
    names += [text(f"elimination_orders.order.{order}") for order in ORDERS[:3]]
    for column, program in enumerate(programs):
        times = timing.medians(data[f"seconds_{program}"])
        ratios = np.array([timing.interval(row) for row in times / times[:2].min(axis=0)])
        ax = axes[0, column]
        bars = _bars(ax, names if column == 0 else [], ratios[:, 0], tones, ratios[:, 2])
        for bar in bars[:2]:  # JAX's own
            bar.set(hatch="//", edgecolor=style.tone("paper"))
        _whiskers(ax, ratios)
        ax.axvline(1.0, color=style.THEORY, linestyle="--")
        ax.set_title(text(f"elimination_orders.program.{program}"))
        ax.set_xlabel(text("elimination_orders.figure.seconds"))
    return figure


def _whiskers(ax: Axes, values: np.ndarray) -> None:
    """Draw intervals over bars, from (value, low, high) each."""
    middle, low, high = values.T
    ax.errorbar(
        middle, np.arange(len(middle)), xerr=[middle - low, high - middle], fmt="none",
        color=style.THEORY, capsize=6,
    )  # fmt: skip


def _bars(
    ax: Axes, names: Sequence[str], values: np.ndarray, tones: Sequence[str],
    ends: np.ndarray | None = None,
) -> BarContainer:  # fmt: skip
    """Draw a bar per value, and the value behind its end, or behind that of its interval."""
    rows, ends = np.arange(len(values)), values if ends is None else ends
    bars = ax.barh(rows, values, color=tones, height=0.6)
    for row, value in zip(rows, values, strict=True):
        shown = f"{value:.0f}" if value >= 10 else f"{value:.2f}"
        at: Any = {"textcoords": "offset points", "va": "center", "fontweight": "bold"}
        end = max(ends[row], 1.0) if value < 10 else value  # clear of the line at 1
        ax.annotate(shown, (end, row), (8, 0), **at)
    ax.set_xlim(0, 1.25 * max(ends))
    ax.set_yticks(rows, names or [""] * len(rows))
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.grid(visible=False, axis="y")
    return bars
