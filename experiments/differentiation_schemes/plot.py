"""The lecture's two axes with measured points, the growth of operations, and errors over n."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from adlab import lab
from adlab.figures import panels, style
from adlab.figures.labels import text
from adlab.lab import Verdict

from .config import Config
from .measure import CHAOTIC, NUMPY, PROGRAMS, SCHEMES, UNIT, Arrays
from .programs import NAMES
from .verdicts import best, errors, operations

__all__ = ["plot"]

# Four families: by hand, symbolic (wine and indigo), numerical (green), automatic (blue).
TONES = dict(zip(SCHEMES, (
    style.tone("brown"), style.tone("wine"), style.tint(style.tone("wine"), 0.5),
    style.tone("indigo"), style.tint(style.tone("indigo"), 0.5),
    style.color("finite_difference"), style.tone("olive"), style.color("reverse_mode"),
    style.color("forward_mode"),
), strict=True))  # fmt: skip
MARKS = dict(zip(SCHEMES, "Xsv<>^hoP", strict=True))
REPEATS = 3  # fewer tell nothing of how times scatter
LEAST = UNIT / 4  # where an error of zero is drawn
GROWTH = {
    "logistic": ("naive", "cse", "kept", "central", "reverse"),
    "product": ("naive", "cse", "kept", "central", "forward", "reverse"),
    "network": ("naive", "cse", "kept", "central", "forward", "reverse"),
}


def plot(data: Arrays, config: Config, *, verdicts: Sequence[Verdict] = ()) -> dict[str, Figure]:
    """Draw where each scheme stands, how operations grow, and errors of the logistic map."""
    figures = {
        "axes": _axes(data, config, "operations", verdicts),
        "operations": _operations(data, config, verdicts),
        "errors": _errors(data),
    }
    if f"seconds_product_{config.factors[-1]}" in data and config.repeats >= REPEATS:
        figures["seconds"] = _axes(data, config, "time", verdicts)
    return figures


def _axes(data: Arrays, config: Config, price: str, verdicts: Sequence[Verdict]) -> Figure:
    """Draw a point per scheme: to the right is fast, up is stable."""
    claims = ("cheap",) if price == "operations" else ("seconds_manual", "seconds_naive")
    figure, axes = panels.grid(1, 3, title=_title(f"axes_{price}", verdicts, *claims, "behind"))
    for ax, name in zip(axes[0], NAMES, strict=True):
        size = config.shown(name)
        place = list(data[f"{name}_sizes"]).index(size)
        for scheme in SCHEMES:
            spent, low, high = (
                [operations(data, name, scheme)[place]] * 3 if price == "operations"
                else _time(data, name, size, scheme)
            )  # fmt: skip
            error = np.median(errors(data, name, scheme)[place])
            if np.isfinite(spent):
                if price == "time":
                    at = np.clip(error, LEAST, 1.0)
                    ax.plot([low, high], [at, at], color=TONES[scheme], linewidth=5, zorder=2)
                ax.plot(
                    spent, np.clip(error, LEAST, 1.0), MARKS[scheme], color=TONES[scheme],
                    label=text(f"differentiation_schemes.scheme.{scheme}"), clip_on=False,
                    markersize=24 if scheme == "manual" else 15,  # others often lie on it
                    zorder=2 if scheme == "manual" else 3,
                )  # fmt: skip
        ax.set(xscale="log", yscale="log", ylim=(4.0, LEAST / 4))
        ax.set_title(text(f"differentiation_schemes.figure.{name}", size=size))
        ax.set_xlim(ax.get_xlim()[1] * 2, min(0.8, ax.get_xlim()[0] / 1.5))
        _plain(ax, x=True)
        if ax is not axes[0, 0]:
            ax.tick_params(labelleft=False)
    axes[0, 0].set_ylabel(text("differentiation_schemes.figure.stable"))
    axes[0, 1].set_xlabel(text(f"differentiation_schemes.figure.fast_{price}"))
    panels.legend_below(figure, axes[0, 0], cols=3)
    return figure


def _title(figure: str, verdicts: Sequence[Verdict], *claims: str) -> str:
    names = [f"differentiation_schemes.claim.{claim}" for claim in claims]
    return lab.heading(f"differentiation_schemes.figure.{figure}", verdicts, *names)


def _time(data: Arrays, name: str, size: int, scheme: str) -> tuple[float, float, float]:
    """Return the time of a scheme over that of the value in the same runtime, and its quartiles.

    The quartiles are those of the scheme's own repeats, over the median time of the value.
    """
    symbolic = scheme in NUMPY[2:]
    times = data[f"seconds_{name}_{size}"]
    runtime = "numpy" if symbolic else "xla"
    pair = [times[PROGRAMS.index(f"{runtime}_{what}")] for what in (scheme, "value")]
    own, value = pair
    low, middle, high = np.quantile(own, [0.25, 0.5, 0.75]) / np.median(value)
    return float(middle), float(low), float(high)


def _plain(ax: Axes, *, x: bool = False) -> None:
    ax.yaxis.set_minor_locator(NullLocator())
    if x:
        ax.xaxis.set_minor_locator(NullLocator())


def _operations(data: Arrays, config: Config, verdicts: Sequence[Verdict]) -> Figure:
    """Draw operations over those of the value against the size, and theory's growth."""
    figure, axes = panels.grid(1, 3, title=_title("operations", verdicts, "cheap", "flat"))
    for ax, name in zip(axes[0], NAMES, strict=True):
        for scheme in GROWTH[name]:
            ratio = operations(data, name, scheme)
            told = np.isfinite(ratio) & (data[f"{name}_sizes"] <= config.sizes(name)[-1])
            if name == "logistic":
                told &= data["logistic_sizes"] <= config.steps[-1]
            ax.plot(
                data[f"{name}_sizes"][told], ratio[told], marker=MARKS[scheme],
                color=TONES[scheme], label=text(f"differentiation_schemes.scheme.{scheme}"),
            )  # fmt: skip
        for curve in _theory(data, config, name):
            ax.plot(curve.x, curve.y, "--", color=style.THEORY, linewidth=2, zorder=1)
        ax.set(yscale="log", title=text(f"differentiation_schemes.name.{name}"))
        ax.set(xlabel=text(f"differentiation_schemes.figure.size_{name}"))
        if name == "product":
            ax.set_xscale("log", base=2)
        ticks = config.steps[::2] if name == "logistic" else config.sizes(name)
        ax.set_xticks(ticks, [str(size) for size in ticks])
        ax.xaxis.set_minor_locator(NullLocator())
        _plain(ax)
    axes[0, 0].set_ylabel(text("differentiation_schemes.figure.ratio"))
    _legend(figure, axes[0])
    return figure


def _theory(data: Arrays, config: Config, name: str) -> list[panels.Curve]:
    """Return Baur and Strassen's bound, and the growth of the naive scheme and of differences."""
    sizes = np.array(config.steps if name == "logistic" else config.sizes(name), dtype=float)
    curves = [panels.Curve(sizes, 0 * sizes + 5)]
    last = operations(data, name, "naive")[len(sizes) - 1]
    if name == "logistic":
        growth = sizes**2 * 2.0**sizes / data["logistic_value"][: len(sizes)]
        return [*curves, panels.Curve(sizes, last * growth / growth[-1])]
    if name == "product":
        return [*curves, panels.Curve(sizes, sizes * (sizes - 2) / (sizes - 1)),
                panels.Curve(sizes, 2 * sizes)]  # fmt: skip
    growth = sizes * config.width**sizes
    return [*curves, panels.Curve(sizes, last * growth / growth[-1])]


def _legend(figure: Figure, axes: Any) -> None:
    """Put the entries of all panels below them, each once, and theory's."""
    entries: dict[str, Any] = {}
    for ax in axes:
        handles, names = ax.get_legend_handles_labels()
        entries |= dict(zip(names, handles, strict=True))
    dashed = [line for line in axes[0].lines if line.get_linestyle() == "--"]
    if dashed:
        entries[text("panel.theory")] = dashed[0]
    figure.legend(list(entries.values()), list(entries), loc="outside lower center", ncols=3)


def _errors(data: Arrays) -> Figure:
    """Draw errors of the logistic map: against the truth, and along the rounded orbit."""
    figure, axes = panels.grid(1, 2, title=text("differentiation_schemes.figure.errors"))
    n = data["logistic_sizes"]
    for scheme in ("expanded", "central", "reverse"):
        middle = np.median(errors(data, "logistic", scheme), axis=1)
        _curve(axes[0, 0], n, middle, scheme, scheme)
    _curve(axes[0, 0], n, best(data["logistic_swept"]), "automatic_step", "best")
    condition = np.median(data["logistic_condition"], axis=1) * UNIT
    step = np.median(errors(data, "logistic", "central"), axis=1)
    theory = [UNIT * 2.0**n, UNIT ** (2 / 3) * 2.0 ** (2 * n / 3), condition]
    place = min(4, len(n) - 1)
    theory.append(step[place] * 4.0 ** (n - n[place]))
    for line in theory:
        line = np.where(line < 3, line, np.nan)
        axes[0, 0].plot(n, line, "--", color=style.THEORY, linewidth=2, zorder=1)
    for scheme in ("central", "reverse", "forward"):
        own = np.median(data["logistic_own"][:, CHAOTIC.index(scheme)], axis=1)
        _curve(axes[0, 1], n, own, scheme, scheme)
    bound = np.median(data["logistic_bound"], axis=1)
    axes[0, 1].plot(n, bound, "--", color=style.THEORY, linewidth=2)
    for ax, title in zip(axes[0], ("truth", "own"), strict=True):
        ax.set(yscale="log", ylim=(LEAST, 4.0))
        ax.set_title(text(f"differentiation_schemes.figure.{title}"))
        ax.set(xlabel=text("differentiation_schemes.figure.size_logistic"))
        _plain(ax)
    axes[0, 0].set_ylabel(text("differentiation_schemes.figure.error"))
    _legend(figure, axes[0])
    return figure


def _curve(ax: Axes, n: np.ndarray, values: np.ndarray, scheme: str, name: str) -> None:
    """Draw a curve as far as it stays below 1, and its first point above, at the edge."""
    values = np.maximum(values, LEAST)
    gone = np.flatnonzero(~(values < 1))
    until = gone[0] + 1 if len(gone) else len(n)
    ax.plot(
        n[:until], np.minimum(values[:until], 1.0), marker=MARKS[scheme], color=TONES[scheme],
        label=text(f"differentiation_schemes.scheme.{name}"),
    )  # fmt: skip
