"""The figures of `learned_steps`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adlab import lab
from adlab.figures import panels, style
from adlab.figures.labels import text

from . import theory
from .config import Config

Arrays = dict[str, np.ndarray]
# Name, tone and marker of each kind of steps.
LOOKS = {
    "learned": (style.tone("indigo"), "o"),
    "chebyshev": (style.tone("vermilion"), "s"),
    "constant": (style.tone("green"), "^"),
    "greedy": (style.tone("orange"), "v"),
    "reversed": (style.tone("wine"), "D"),
    "equal": (style.tone("purple"), "P"),
}


ASSERTED = {  # figure -> the claims that its title asserts
    "steps": ("learned_steps.claim.nodes", "learned_steps.claim.optimum"),
    "losses": ("learned_steps.claim.beats", "learned_steps.claim.logistic"),
}


def plot(
    data: Arrays, config: Config, *, verdicts: Sequence[lab.Verdict] = ()
) -> dict[str, Figure]:
    """Draw steps and what they leave of each eigenvalue, losses by step, and the training."""
    figures = {
        "steps": _steps(data, config),
        "losses": _losses(data, config),
        "training": _training(data),
    }
    for name, claims in ASSERTED.items():
        figures[name].suptitle(lab.heading(f"learned_steps.figure.{name}", verdicts, *claims))
    return figures


def _name(kind: str) -> str:
    return text(f"learned_steps.name.{kind}")


def _steps(data: Arrays, config: Config) -> Figure:
    """Draw sorted steps beside exact ones, and |p| over the spectrum."""
    figure, axes = panels.grid(1, 2)
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
    left.legend(loc="upper left")
    right.legend(loc="lower left")
    return figure


def _losses(data: Arrays, config: Config) -> Figure:
    """Draw the mean loss on what was held out, step by step."""
    figure, axes = panels.grid(1, 2)
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


def _training(data: Arrays) -> Figure:
    """Draw the loss over the least one against evaluations."""
    figure, axes = panels.grid(title=text("learned_steps.figure.training"))
    least = data["best_loss"]
    calls = float(data["price"]) * data["learned_calls"][1:]
    curves = [
        panels.Curve(
            calls, data["learned_training"][1:] / least, text("method.reverse_mode"), "reverse_mode"
        ),
        panels.Curve(
            calls, data["equal_training"][1:] / least, _name("equal"), "forward_gradient"
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
        panels.Curve(ends, np.full(2, data["constant_loss"] / least)),
    ]
    panels.convergence(
        axes[0, 0], curves, references=theory_lines,
        xlabel=text("learned_steps.figure.calls", price=f"{float(data['price']):.2g}"),
        ylabel=text("learned_steps.figure.over_least"),
        legend="upper right",
    )  # fmt: skip
    axes[0, 0].set_ylim(0.8, 60)
    return figure
