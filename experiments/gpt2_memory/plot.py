"""Bars: what the formula counts, what the model keeps, and what was measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adlab import lab
from adlab.figures import panels, style
from adlab.figures.labels import text

from . import peaks
from .config import PARTS, POLICIES, Config, Run
from .formulas import formula, layers_alive
from .verdicts import lecture

Arrays = dict[str, np.ndarray]
TONES = [style.tone(name) for name in ("indigo", "brown", "wine", "olive")]
GIGA, MEGA = 1e9, 1e6


def plot(
    data: Arrays, config: Config, *, verdicts: Sequence[lab.Verdict] = ()
) -> dict[str, Figure]:
    """Draw what the formula counts and what the model keeps, without and with checkpoints."""
    figures = {"bytes": _bytes(data, config, verdicts)}
    for name in config.measured:
        if np.all(np.isfinite(peaks.known(data, name))):
            figures[f"peaks_{name}"] = _peaks(data, name)
    return figures


def _bytes(data: Arrays, config: Config, verdicts: Sequence[lab.Verdict]) -> Figure:
    by_formula, counts = formula(config), lecture(data, config)
    words = {f"{k}_{end}": f"{getattr(counts[k], end):.3g}"
             for k in ("none", "layer") for end in ("said", "counted")}  # fmt: skip
    claims = [f"gpt2_memory.claim.lecture_{name}" for name in ("none", "layer")]
    title = lab.heading("gpt2_memory.figure.activations", verdicts, *claims, **words)
    figure, axes = panels.grid(1, 2, title=title)
    rows = range(len(config.dtypes))
    stored = [(text("gpt2_memory.figure.formula"), by_formula["none"])]
    stored += [(text("gpt2_memory.figure.korthikanti"), by_formula["korthikanti"])]
    stored += [(_model(config, row), layers_alive(data, config, row, "none")) for row in rows]
    kept = [(text("gpt2_memory.figure.formula"), by_formula["layer"])]
    for policy in POLICIES[1:]:
        name = text(f"gpt2_memory.policy.{policy}", slots=config.slots)
        kept.append((name, layers_alive(data, config, 0, policy)))
    kept.append((text("gpt2_memory.figure.head"), data["saved"][0, 0] * np.array([0, 0, 0, 1])))
    _bars(
        axes[0, 0],
        stored,
        text("gpt2_memory.figure.stored", s=config.sequence, b=config.batch_size),
    )
    _bars(axes[0, 1], kept, text("gpt2_memory.figure.checkpoints", dtype=config.dtypes[0]))
    panels.legend_below(figure, axes[0, 0], cols=2)
    return figure


def _peaks(data: Arrays, name: Run) -> Figure:
    """Draw the measured peaks of a gradient beside what was foretold, in megabytes."""
    title = text(
        "gpt2_memory.figure.peaks", model=text(f"gpt2_memory.run.{name.replace('-', '_')}")
    )
    figure, axes = panels.grid(1, 2, title=title)
    account, found = data[f"account_{name}"] / MEGA, peaks.known(data, name) / MEGA
    by_formula = np.array([peaks.formula(data, name) / MEGA, np.nan])
    told: Arrays = {"formula": by_formula, "saved": account[:, 0]}
    told |= {"compiled": peaks.compiled(data, name) / MEGA, "measured": np.median(found, axis=1)}
    tones = dict(zip(told, map(style.tone, ("brown", "olive", "indigo", "wine")), strict=True))
    limit = 1.25 * max(np.nanmax(values) for values in told.values())
    for column, (ax, kind) in enumerate(zip(axes[0], ("stored", "layer"), strict=True)):
        shown = [key for key, values in told.items() if np.isfinite(values[column])]
        for place, key in enumerate(shown):
            value = float(told[key][column])
            ax.barh(place, value, 0.65, color=tones[key])
            ax.text(value + 0.015 * limit, place, f"{value:.3g}", va="center")
        ax.hlines(len(shown) - 1, *(f(found[column]) for f in (np.min, np.max)), color=style.THEORY)
        ax.set_yticks(range(len(shown)), [text(f"gpt2_memory.figure.{key}_bar") for key in shown])
        ax.set(xlim=(0, limit), ylim=(len(shown) - 0.4, -0.6))
        ax.set_title(text(f"gpt2_memory.figure.{kind}_peak"))
        ax.set_xlabel(text("gpt2_memory.figure.megabytes"))
        ax.grid(visible=False, axis="y")
    return figure


def _model(config: Config, row: int) -> str:
    return text("gpt2_memory.figure.model", dtype=config.dtypes[row])


def _bars(ax: Axes, bars: list[tuple[str, np.ndarray]], title: str) -> None:
    """Draw a stacked bar per row, with its sum at the end."""
    places = np.arange(len(bars))
    sizes = np.array([parts for _, parts in bars]) / GIGA
    starts = np.cumsum(sizes, axis=1) - sizes
    for part, name in enumerate(PARTS):
        label = text(f"gpt2_memory.part.{name}")
        ax.barh(places, sizes[:, part], 0.65, starts[:, part], color=TONES[part], label=label)
    totals = sizes.sum(axis=1)
    for place, total in enumerate(totals):
        ax.text(total + 0.015 * totals.max(), place, f"{total:.3g}", va="center")
    ax.set_yticks(places, [name for name, _ in bars])
    ax.set(xlim=(0, 1.18 * totals.max()), ylim=(len(bars) - 0.4, -0.6), title=title)
    ax.set_xlabel(text("gpt2_memory.figure.gigabytes"))
    ax.grid(visible=False, axis="y")
