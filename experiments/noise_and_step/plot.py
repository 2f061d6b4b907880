"""Errors over the noise, beside theory's powers; and errors over the step, at a few noises."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from adlab import lab
from adlab.figures import panels, style
from adlab.figures.labels import text
from adlab.lab import Verdict

from .config import Config
from .measure import RULES, SCHEMES
from .theory import THEORY
from .verdicts import least

Arrays = dict[str, np.ndarray]
# The best step is drawn below the measured one, which should lie on it.
TONES = {
    "relative": style.tone("wine"),
    "best": style.color("finite_difference"),
    "auto": style.tone("indigo"),
}
MARKS = {"best": "", "auto": "o", "relative": "s"}


def plot(data: Arrays, config: Config, *, verdicts: Sequence[Verdict] = ()) -> dict[str, Figure]:
    """Draw what an error grows as, and the two branches that it comes from."""
    del config
    return {"errors": _errors(data, verdicts), "steps": _steps(data)}


def _errors(data: Arrays, verdicts: Sequence[Verdict]) -> Figure:
    claims = [f"noise_and_step.claim.{name}" for name in ("auto", "control_regret")]
    title = lab.heading("noise_and_step.figure.errors", verdicts, *claims)
    figure, axes = panels.grid(1, len(SCHEMES), title=title)
    noises = data["noises"]
    for ax, scheme in zip(axes[0], SCHEMES, strict=True):
        factor, power = THEORY[scheme].error
        best = least(data[f"{scheme}_squares"].mean(axis=0))[0]
        errors = {"best": best} | {
            rule: np.sqrt(data[f"{scheme}_{rule}"].mean(axis=0)) for rule in RULES
        }
        for name in TONES:
            ax.plot(
                noises, errors[name], marker=MARKS[name], color=TONES[name],
                label=text(f"noise_and_step.name.{name}"), linewidth=9 if name == "best" else 2.5,
                alpha=0.5 if name == "best" else 1,
            )  # fmt: skip
        ax.plot(noises, factor * noises**power, "--", color=style.THEORY, zorder=4,
                label=text("panel.theory"))  # fmt: skip
        ax.annotate(
            text(f"noise_and_step.figure.theory_{scheme}"),
            (0.97, 0.05), xycoords="axes fraction", ha="right",
        )  # fmt: skip
        ax.set(xscale="log", yscale="log", title=text(f"noise_and_step.scheme.{scheme}"))
        ax.set(xlabel=text("noise_and_step.figure.noise"))
        _decades(ax)
    axes[0, 0].set(ylabel=text("noise_and_step.figure.error"))
    low, high = np.array([ax.get_ylim() for ax in axes[0]]).T
    for ax in axes[0]:
        ax.set_ylim(low.min(), high.max())
    panels.legend_below(figure, axes[0, 0], cols=2)
    return figure


def _decades(ax: Axes) -> None:
    """Put ticks at few powers of ten, the same on both panels."""
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(numticks=6))
        axis.set_minor_locator(NullLocator())


def _steps(data: Arrays) -> Figure:
    figure, axes = panels.grid(1, len(SCHEMES), title=text("noise_and_step.figure.steps"))
    shown = sorted({0, len(data["noises"]) // 2, len(data["noises"]) - 1})
    for ax, scheme in zip(axes[0], SCHEMES, strict=True):
        for place, tone in zip(shown, style.shades("finite_difference", len(shown)), strict=True):
            _branches(ax, data, scheme, place, tone)
        (a, p), (c, q) = THEORY[scheme].step, THEORY[scheme].error
        ends = np.array([data["noises"][0] / 30, data["noises"][-1] * 3])
        label = text("noise_and_step.figure.best")
        ax.plot(a * ends**p, c * ends**q, ":", color=style.THEORY, label=label)
        ax.set(xscale="log", yscale="log", title=text(f"noise_and_step.scheme.{scheme}"))
        ax.set(xlabel=text("noise_and_step.figure.step"))
        ax.set_ylim(c * ends[0] ** q, 1e3)
        _decades(ax)
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
