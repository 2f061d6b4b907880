"""The table of losses at coinciding singular values: what is possible, and what both answer."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adlab.figures import panels, style

from .config import Config, Loss
from .looks import LOOKS, name_of, words
from .matrices import SPECTRA
from .verdicts import relative

Arrays = dict[str, np.ndarray]
CLASSES = {
    "exact": style.tint(style.tone("sky"), 0.2),
    "differentiable": style.tint(style.tone("orange"), 0.25),
    "none": style.tone("pale"),
}
COLUMNS: tuple[Loss, ...] = (
    "vector", "leading", "cluster", "null", "polar", "nuclear", "factors",
)  # fmt: skip


def table(data: Arrays, config: Config) -> Figure:
    """Draw a cell per matrix and loss: the answers of both, coloured by what is possible."""
    figure, axes = panels.grid(title=words("coinciding"))
    ax = axes[0, 0]
    shown = [loss for loss in COLUMNS if loss in config.losses] or list(config.losses)
    for column, loss in enumerate(shown):
        for row in range(len(SPECTRA)):
            _cell(ax, data, config.losses.index(loss), column, row, loss)
    ax.set(xlim=(0, len(shown)), ylim=(len(SPECTRA), 0))
    names = [words(f"short_{loss}") for loss in shown]
    ax.set_xticks(np.arange(len(shown)) + 0.5, names, fontsize=22)
    names = [", ".join(f"{value:g}" for value in values) for values in SPECTRA.values()]
    ax.set_yticks(np.arange(len(SPECTRA)) + 0.5, names, fontsize=20)
    ax.set_ylabel(words("spectrum"))
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.hlines(range(1, len(SPECTRA)), 0, len(shown), color=style.tone("paper"), linewidth=4)
    ax.vlines(range(1, len(shown)), 0, len(SPECTRA), color=style.tone("paper"), linewidth=4)
    ax.spines[:].set_visible(False)
    for method in ("jnp", "rules"):
        color, marker = LOOKS[method]
        ax.plot([], [], marker, color=color, markersize=14, label=name_of(method))
    for kind, color in CLASSES.items():
        ax.plot([], [], "s", color=color, markersize=20, label=words(f"class_{kind}"))
    panels.legend_below(figure, ax, cols=3)
    return figure


def _cell(ax: Axes, data: Arrays, place: int, column: int, row: int, loss: Loss) -> None:
    """Draw what `svd_diagnostics` foresees as the ground, and the errors of both on it."""
    ground = CLASSES[str(data["diagnosed"][place, row])]
    ax.fill_between([column, column + 1], row, row + 1, color=ground, lw=0)
    look: Any = {"ha": "center", "va": "center", "fontsize": 20}
    if data["expected"][place, row] == "none":
        muted = style.ink(style.tone("muted"), on=ground)
        ax.text(column + 0.5, row + 0.5, words("no_derivative"), color=muted, **look)
        return
    for index, method in enumerate(("jnp", "rules")):
        error = float(relative(data["table"][index, place, row], data["table_norms"][place, row]))
        refused = loss == "null" and method == "jnp"
        said = words("refused") if refused else _shown(error)
        lost = refused or not np.isfinite(error)
        ax.text(
            column + 0.5, row + 0.29 + 0.42 * index, said,
            color=style.ink(LOOKS[method][0], on=ground),
            fontweight="bold" if lost else "normal", **look,
        )  # fmt: skip


def _shown(error: float) -> str:
    if not np.isfinite(error):
        return "NaN"
    return f"{error:.2g}" if error >= 1e-3 else f"$10^{{{round(np.log10(error))}}}$"
