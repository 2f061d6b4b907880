"""The figures of `learned_steps`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adlab import lab
from adlab.figures import panels, style
from adlab.figures.labels import text
from adlab.lab import Verdict

from . import theory
from .config import Config

Arrays = dict[str, np.ndarray]
# Colour and marker of each kind of steps.
LOOKS = {
    "learned": (style.color("reverse_mode"), "o"),
    "chebyshev": (style.tone("indigo"), "s"),
    "constant": (style.tone("olive"), "^"),
    "greedy": (style.tone("wine"), "v"),
    "reversed": (style.tint(style.color("reverse_mode"), 0.5), "D"),
}


def plot(data: Arrays, config: Config, *, verdicts: Sequence[Verdict] = ()) -> dict[str, Figure]:
    """Draw steps and what they leave of each eigenvalue, losses by step, and the training."""
    return {
        "steps": _steps(data, config, verdicts),
        "losses": _losses(data, config, verdicts),
        "training": _training(data, verdicts),
    }


def _name(kind: str) -> str:
    return text(f"learned_steps.name.{kind}")


def _title(figure: str, verdicts: Sequence[Verdict], *claims: str) -> str:
    names = [f"learned_steps.claim.{claim}" for claim in claims]
    return lab.heading(f"learned_steps.figure.{figure}", verdicts, *names)


def _steps(data: Arrays, config: Config, verdicts: Sequence[Verdict]) -> Figure:
    """Draw sorted steps beside exact ones, and |p| over the spectrum."""
    figure, axes = panels.grid(1, 2, title=_title("steps", verdicts, "nodes"))
    left, right = axes[0]
    number = np.arange(1, config.num_steps + 1)
    for kind in ("learned", "chebyshev", "constant"):
        color, marker = LOOKS[kind]
        left.plot(
            number, np.sort(data[f"{kind}_steps"]), marker, color=color, label=_name(kind)
        )  # fmt: skip
    left.plot(
        number, np.sort(data["best_steps"]), "+", color=style.THEORY, markersize=17,
        markeredgewidth=2, label=text("learned_steps.figure.nodes"),
    )  # fmt: skip
    left.set(yscale="log", xticks=number)
    left.set(xlabel=text("learned_steps.figure.rank"), ylabel=text("learned_steps.figure.size"))
    fine = np.geomspace(data["spectrum"][0], data["spectrum"][-1], 800)
    for kind in ("learned", "chebyshev", "constant"):
        p = np.abs(theory.residual(data[f"{kind}_steps"], fine))
        right.plot(fine, p, color=LOOKS[kind][0])
    bound = theory.chebyshev_contraction(fine[0], fine[-1], config.num_steps)
    right.axhline(
        bound, color=style.THEORY, linestyle="--", label=text("learned_steps.figure.contraction")
    )  # fmt: skip
    right.set(xscale="log", yscale="log", ylim=(1e-4, 2))
    right.set(xlabel=text("learned_steps.figure.eigenvalue"))
    right.set(ylabel=text("learned_steps.figure.residual"))
    handles: list[Any] = []
    names: list[str] = []
    for ax in axes[0]:
        more = ax.get_legend_handles_labels()
        handles, names = handles + more[0], names + more[1]
    figure.legend(handles, names, loc="outside lower center", ncols=2)
    return figure


def _losses(data: Arrays, config: Config, verdicts: Sequence[Verdict]) -> Figure:
    """Draw the mean loss on what was held out, step by step."""
    beaten = [f"beats_{kind}" for kind in ("constant", "classical", "chebyshev")]
    figure, axes = panels.grid(
        1, 2, title=_title("losses", verdicts, *beaten, "control_transient", "logistic")
    )
    steps = np.arange(config.num_steps + 1)
    quadratic = ("learned", "reversed", "chebyshev", "constant", "greedy")
    logistic = ("learned", "reversed", "constant", "greedy")
    for kind in quadratic:
        _line(axes[0, 0], steps, data[f"{kind}_curve"], kind)
    for kind in logistic:
        _line(axes[0, 1], steps, data[f"logistic_{kind}_curve"], kind)
    for ax, kind in zip(axes[0], ("quadratic", "logistic"), strict=True):
        ax.set(yscale="log", title=text(f"learned_steps.figure.{kind}"))
        ax.set(xlabel=text("axis.iteration"), xticks=steps)
    axes[0, 0].set(ylabel=text("learned_steps.figure.loss"))
    panels.legend_below(figure, axes[0, 0], cols=3)
    return figure


def _line(ax: Axes, x: np.ndarray, y: np.ndarray, kind: str) -> None:
    color, marker = LOOKS[kind]
    ax.plot(x, y, color=color, marker=marker, label=_name(kind))


def _training(data: Arrays, verdicts: Sequence[Verdict]) -> Figure:
    """Draw the loss over the least one against evaluations, and where both ways have arrived."""
    figure, axes = panels.grid(title=_title("training", verdicts, "calls"))
    least = data["best_loss"]
    calls = float(data["price"]) * data["learned_calls"][1:]
    curves = [
        panels.Curve(
            calls, data["learned_training"][1:] / least, text("method.reverse_mode"), "reverse_mode"
        ),
    ]  # fmt: skip
    two_point = data["two_point_training"][:, 1:] / least
    low, middle, high = np.quantile(two_point, [0.25, 0.5, 0.75], axis=0)
    curves.append(
        panels.Curve(
            data["two_point_calls"][1:], middle, text("method.two_point"), "two_point", low, high
        )
    )
    ends = np.array([data["two_point_calls"][1], calls[-1]])
    theory_lines = [
        panels.Curve(ends, np.ones(2), text("learned_steps.figure.least")),
        panels.Curve(ends, np.full(2, data["constant_loss"] / least), color=LOOKS["constant"][0]),
    ]
    panels.convergence(
        axes[0, 0], curves, references=theory_lines,
        xlabel=text("learned_steps.figure.calls", price=f"{float(data['price']):.2g}"),
        ylabel=text("learned_steps.figure.over_least"),
        legend="upper right",
    )  # fmt: skip
    axes[0, 0].set_ylim(0.8, 12)
    return figure
