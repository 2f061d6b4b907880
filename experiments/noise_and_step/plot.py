"""Errors over the noise, beside theory's powers; and errors over the step, at a few noises."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adlab import lab
from adlab.figures import panels, style
from adlab.figures.labels import text
from adlab.figures.panels import Curve

from .config import Config
from .measure import RULES, SCHEMES
from .theory import THEORY
from .verdicts import least

Arrays = dict[str, np.ndarray]
TONES = {"best": style.THEORY, "auto": style.tone("green"), "relative": style.tone("vermilion")}
MARKS = {"best": "two_point", "auto": "forward_mode", "relative": "one_sided"}


ASSERTED = {  # figure -> the claims that its title asserts
    "errors": ("noise_and_step.claim.auto", "noise_and_step.claim.control_regret"),
    "steps": ("noise_and_step.claim.step", "noise_and_step.claim.constant"),
}


def plot(
    data: Arrays, config: Config, *, verdicts: Sequence[lab.Verdict] = ()
) -> dict[str, Figure]:
    """Draw what an error grows as, and the two branches that it comes from."""
    del config
    figures = {"errors": _errors(data), "steps": _steps(data)}
    for name, claims in ASSERTED.items():
        figures[name].suptitle(lab.heading(f"noise_and_step.figure.{name}", verdicts, *claims))
    return figures


def _errors(data: Arrays) -> Figure:
    figure, axes = panels.grid(1, len(SCHEMES))
    noises = data["noises"]
    for ax, scheme in zip(axes[0], SCHEMES, strict=True):
        factor, power = THEORY[scheme].error
        best = least(data[f"{scheme}_squares"].mean(axis=0))[0]
        errors = {"best": best} | {
            rule: np.sqrt(data[f"{scheme}_{rule}"].mean(axis=0)) for rule in RULES
        }
        curves = [
            Curve(noises, y, text(f"noise_and_step.name.{name}"), MARKS[name], color=TONES[name])
            for name, y in errors.items()
        ]
        label = text(f"noise_and_step.figure.theory_{scheme}")
        panels.convergence(
            ax, curves, references=[Curve(noises, factor * noises**power, label)],
            xlabel=text("noise_and_step.figure.noise"), ylabel=text("noise_and_step.figure.error"),
            title=text(f"noise_and_step.scheme.{scheme}"), legend="upper left",
        )  # fmt: skip
    low, high = np.array([ax.get_ylim() for ax in axes[0]]).T
    for ax in axes[0]:
        ax.set_ylim(low.min(), 100 * high.max())  # room for the legend
    return figure


def _steps(data: Arrays) -> Figure:
    figure, axes = panels.grid(1, len(SCHEMES))
    shown = sorted({0, len(data["noises"]) // 2, len(data["noises"]) - 1})
    for ax, scheme in zip(axes[0], SCHEMES, strict=True):
        for place, tone in zip(shown, style.shades("two_point", len(shown)), strict=True):
            _branches(ax, data, scheme, place, tone)
        (a, p), (c, q) = THEORY[scheme].step, THEORY[scheme].error
        ends = np.array([data["noises"][0] / 30, data["noises"][-1] * 3])
        label = text("noise_and_step.figure.best")
        ax.plot(a * ends**p, c * ends**q, ":", color=style.THEORY, label=label)
        ax.set(xscale="log", yscale="log", title=text(f"noise_and_step.scheme.{scheme}"))
        ax.set(xlabel=text("noise_and_step.figure.step"))
        ax.set_ylim(c * ends[0] ** q, 1e3)
    axes[0, 0].set(ylabel=text("noise_and_step.figure.error"))
    panels.legend_below(figure, axes[0, 0], cols=3)
    return figure


def _branches(ax: Axes, data: Arrays, scheme: str, place: int, tone: str) -> None:
    """Draw measured errors at one noise as dots, and the sum of both branches."""
    noise, h = float(data["noises"][place]), data["steps"]
    errors = np.sqrt(data[f"{scheme}_squares"][:, place].mean(axis=0))
    label = text("noise_and_step.figure.noise_is", exponent=f"{np.log10(noise):.2g}")
    ax.plot(h, errors, "o", color=tone, markersize=7, label=label)
    theory = np.sqrt(THEORY[scheme].square(h, noise))
    name = text("panel.theory") if place == 0 else "_nolegend_"
    ax.plot(h, theory, "--", color=style.THEORY, linewidth=1.5, zorder=3, label=name)
