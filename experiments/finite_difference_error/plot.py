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

from . import zoo
from .config import Config
from .estimates import RULES, steps
from .theory import branches
from .verdicts import MEDIAN, TAIL

Arrays = dict[str, np.ndarray]
COLORS = {
    "forward": style.tone("orange"),
    "central": style.color("finite_difference"),
    "richardson": style.tone("indigo"),
    "complex": style.tone("wine"),
}
MARKERS = {"auto": "*", "relative": "D"}
MOST = 1e6  # regrets beyond are drawn there


ASSERTED = {  # figure -> the claims that its title asserts
    "errors": ("finite_difference_error.claim.truncation", "finite_difference_error.claim.noise"),
    "regrets": ("finite_difference_error.claim.median", "finite_difference_error.claim.tail"),
}


def plot(
    data: Arrays, config: Config, *, verdicts: Sequence[lab.Verdict] = ()
) -> dict[str, Figure]:
    """Draw one figure of errors and one of regrets."""
    figures = {"errors": _errors(data, config), "regrets": _regrets(data, config)}
    for name, claims in ASSERTED.items():
        title = lab.heading(f"finite_difference_error.figure.{name}", verdicts, *claims)
        figures[name].suptitle(title)
    return figures


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
            markeredgecolor="black", markersize=20 if rule == "auto" else 10, zorder=3,
        )  # fmt: skip


def _decades(ax: Axes) -> None:
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(numticks=7))
        axis.set_minor_locator(NullLocator())


def _mark(rule: str) -> Line2D:
    return Line2D(
        [], [], ls="none", marker=MARKERS[rule], color=style.tone("paper"),
        markeredgecolor=style.THEORY, markersize=18 if rule == "auto" else 10,
        label=text(f"finite_difference_error.rule.{rule}"),
    )  # fmt: skip


def _name(scheme: str) -> str:
    return text(f"finite_difference_error.name.{scheme}")


def _regrets(data: Arrays, config: Config) -> Figure:
    """Draw the share of functions with at most some regret, a panel per kind."""
    figure, axes = panels.grid(2, 3)
    kinds = [*zoo.KINDS, *(["many"] if config.dims else [])]
    for ax, kind in zip(axes.flat, kinds, strict=False):
        for index, scheme in enumerate(config.schemes):
            for row, line in enumerate(("-", ":")):
                parts = [_kind(data, p, kind, index, row) for p in config.precisions]
                values = np.sort(np.clip(np.concatenate(parts), 1, MOST))
                shares = np.arange(len(values) + 2) / len(values)
                x = np.concatenate([[1], values, [MOST]])
                ax.step(x, np.minimum(shares, 1), line, color=COLORS[scheme], where="post")
        for bound, share in ((MEDIAN, 0.5), (TAIL, 0.95)):
            ax.plot(bound, share, "x", color=style.THEORY, markersize=12, markeredgewidth=3)
        ax.set(xscale="log", xlim=(0.9, MOST), ylim=(0, 1.02))
        ax.set_title(text(f"finite_difference_error.kind.{kind}"))
        ax.xaxis.set_major_locator(LogLocator(numticks=7))
        ax.xaxis.set_minor_locator(NullLocator())
    for ax in axes.flat[len(kinds) :]:
        ax.set_axis_off()
    for ax in axes[:, 0]:
        ax.set(ylabel=text("finite_difference_error.figure.share"))
    for ax in axes.flat[len(kinds) - 3 : len(kinds)]:  # nothing stands below them
        ax.set(xlabel=text("finite_difference_error.figure.regret"))
    _legend(axes[1, 2], config)
    return figure


def _kind(data: Arrays, precision: str, kind: str, scheme: int, rule: int) -> np.ndarray:
    if kind == "many":
        return np.ravel(data[f"{precision}_many_regret"][scheme, rule])
    return np.ravel(data[f"{precision}_zoo_regret"][scheme, rule, zoo.KINDS.index(kind)])


def _legend(ax: Axes, config: Config) -> None:
    handles = [Line2D([], [], color=COLORS[s], label=_name(s)) for s in config.schemes]
    for rule, line in zip(RULES, ("-", ":"), strict=True):
        words = text(f"finite_difference_error.rule.{rule}")
        handles.append(Line2D([], [], color=style.tone("grey"), ls=line, label=words))
    handles.append(
        Line2D(
            [], [], ls="none", marker="x", color=style.THEORY, markersize=12, markeredgewidth=3,
            label=text("finite_difference_error.figure.bounds"),
        )
    )  # fmt: skip
    ax.legend(handles=handles, loc="center", frameon=False)
