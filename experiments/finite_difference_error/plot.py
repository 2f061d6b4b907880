"""Errors against the step, with theory and the automatic steps; regrets as distributions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from adlab import lab
from adlab.figures import panels, style
from adlab.figures.labels import text
from adlab.gradients.steps import relative_step
from adlab.lab import Verdict

from . import zoo
from .config import Config
from .estimates import RULES, steps
from .theory import branches
from .verdicts import MEDIAN, TAIL

Arrays = dict[str, np.ndarray]
COLORS = {
    "forward": style.color("one_sided"),
    "central": style.color("finite_difference"),
    "richardson": style.tone("indigo"),
    "complex": style.tone("wine"),
}
RULED = {"auto": style.tone("indigo"), "relative": style.tone("wine")}
MARKERS = {"auto": "*", "relative": "D"}
MOST = 1e6  # regrets beyond are drawn there


def plot(data: Arrays, config: Config, *, verdicts: Sequence[Verdict] = ()) -> dict[str, Figure]:
    """Draw one figure of errors and one of regrets."""
    return {"errors": _errors(data, config), "regrets": _regrets(data, config, verdicts)}


def _errors(data: Arrays, config: Config) -> Figure:
    figure, axes = panels.grid(1, len(config.precisions))
    for ax, precision in zip(axes[0], config.precisions, strict=True):
        for index, scheme in enumerate((*config.schemes, "complex")):
            _curve(ax, data, precision, index, scheme)
        ax.set(xscale="log", yscale="log", title=precision)
        ax.set_ylim(bottom=float(np.finfo(precision).eps) / 8, top=30)
        ax.set(xlabel=text("finite_difference_error.figure.step"))
        _decades(ax)
    axes[0, 0].set(ylabel=text("finite_difference_error.figure.error"))
    names = [*config.schemes, "complex"]
    handles = [Line2D([], [], color=COLORS[name], label=_name(name)) for name in names]
    handles.append(Line2D([], [], color=style.THEORY, ls="--", label=text("panel.theory")))
    handles += [_mark(rule) for rule in RULES]
    figure.legend(handles=handles, loc="outside lower center", ncols=4)
    return figure


def _curve(ax: Axes, data: Arrays, precision: str, index: int, scheme: str) -> None:
    part, h, color = f"{precision}_curves", steps(precision), COLORS[scheme]
    ax.plot(h, data[f"{part}_error"][index], color=color)
    noise = 0.0 if scheme == "complex" else data[f"{part}_noise"][index]
    theory = branches(scheme, data[f"{part}_x"], noise)
    total = np.hypot(theory.noise / h, theory.truncation * h**theory.order)
    ax.plot(h, total, "--", color=style.THEORY, linewidth=1.5, zorder=2.5)
    if scheme == "complex":
        return
    eps = [np.dtype(precision)]
    places = {
        "auto": data[f"{part}_measured_step"][index],
        "relative": relative_step(eps, theory.order),
    }
    for row, rule in enumerate(RULES):
        ax.plot(
            places[rule], data[f"{part}_ruled"][index, row], MARKERS[rule], color=color,
            markeredgecolor=style.tone("ink"), markersize=20 if rule == "auto" else 10, zorder=3,
        )  # fmt: skip


def _decades(ax: Axes) -> None:
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(numticks=7))
        axis.set_minor_locator(NullLocator())


def _mark(rule: str) -> Line2D:
    return Line2D(
        [], [], ls="none", marker=MARKERS[rule], color=style.tone("paper"),
        markeredgecolor=style.tone("ink"),
        markersize=18 if rule == "auto" else 10, label=text(f"finite_difference_error.rule.{rule}"),
    )  # fmt: skip


def _name(scheme: str) -> str:
    return text(f"finite_difference_error.name.{scheme}")


def _regrets(data: Arrays, config: Config, verdicts: Sequence[Verdict]) -> Figure:
    """Draw per kind of function how far the median and 95 % lie from the least error."""
    claims = [f"finite_difference_error.claim.{name}" for name in ("median", "tail")]
    title = lab.heading("finite_difference_error.figure.regrets", verdicts, *claims)
    figure, axes = panels.grid(title=title)
    ax = axes[0, 0]
    kinds = [*zoo.KINDS, *(["many"] if config.dims else [])]
    places = [(s, p) for s in range(len(config.schemes)) for p in config.precisions]
    for place, kind in enumerate(kinds):
        for row, rule in enumerate(RULES):
            parts = [_kind(data, precision, kind, s, row) for s, precision in places]
            values = np.clip(np.concatenate(parts), 1, MOST)
            middle, tail = np.quantile(values, [0.5, 0.95], method="lower")
            y, label = place + 0.4 * row - 0.2, text(f"finite_difference_error.rule.{rule}")
            ax.plot(
                [middle, tail], [y, y], color=RULED[rule], linewidth=12, solid_capstyle="butt",
                label="_nolegend_" if place else label,
            )  # fmt: skip
            ax.plot(middle, y, "o", color=RULED[rule], markersize=18)
    for bound, name in ((MEDIAN, "median"), (TAIL, "tail")):
        label = text(f"finite_difference_error.figure.{name}", bound=f"{bound:g}")
        line = ":" if name == "median" else "--"
        ax.axvline(bound, color=style.THEORY, linestyle=line, zorder=1, label=label)
    ax.set(xscale="log", xlim=(0.8, 2 * MOST), ylim=(len(kinds) - 0.5, -0.5))
    ax.set_yticks(
        range(len(kinds)), [text(f"finite_difference_error.kind.{kind}") for kind in kinds]
    )
    ax.grid(visible=False, axis="y")
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set(xlabel=text("finite_difference_error.figure.regret"))
    panels.legend_below(figure, ax)
    return figure


def _kind(data: Arrays, precision: str, kind: str, scheme: int, rule: int) -> np.ndarray:
    if kind == "many":
        return np.ravel(data[f"{precision}_many_regret"][scheme, rule])
    return np.ravel(data[f"{precision}_zoo_regret"][scheme, rule, zoo.KINDS.index(kind)])
