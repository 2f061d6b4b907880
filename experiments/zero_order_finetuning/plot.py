"""The figures of `zero_order_finetuning`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adlab import lab
from adlab.figures import panels, style
from adlab.figures.labels import text
from adlab.lab import Verdict

from . import verdicts as judged
from .config import Config
from .verdicts import Arrays

MARKERS = {"all": "s", "biases": "D", "low_rank": "^"}


def plot(data: Arrays, config: Config, *, verdicts: Sequence[Verdict] = ()) -> dict[str, Figure]:
    """Draw the slowdown beside the one foretold, and what adapting gains and costs."""
    return {
        "slowdown": _slowdown(data, config, verdicts),
        "adaptation": _adaptation(data, config, verdicts),
    }


def _title(figure: str, verdicts: Sequence[Verdict], *claims: str) -> str:
    names = [f"zero_order_finetuning.claim.{claim}" for claim in claims]
    return lab.heading(f"zero_order_finetuning.figure.{figure}", verdicts, *names)


def _name(name: str) -> str:
    return text(f"zero_order_finetuning.name.{name}")


def _words(name: str, **params: str) -> str:
    return text(f"zero_order_finetuning.figure.{name}", **params)


def _kinds(config: Config) -> list[str]:
    return list(dict.fromkeys(config.subspaces))


def _tones(config: Config) -> list[str]:
    return style.shades("two_point", len(_kinds(config)) + 1)[1:]


def _slowdown(data: Arrays, config: Config, verdicts: Sequence[Verdict]) -> Figure:
    """Draw the measured slowdown against the one foretold, of the GPT and of the quadratic."""
    title = _title("slowdown", verdicts, "slowdown", "dimension", "control", "isotropic")
    figure, axes = panels.grid(title=title)
    ax, dim = axes[0, 0], int(data["dim"])
    for kind, tone in zip(_kinds(config), _tones(config), strict=True):
        expected, found = judged.foretold(data, kind), judged.slowdowns(data, kind)
        _point(ax, expected, found, _name(kind), tone, MARKERS[kind])
    slow = judged.isotropic_slowdowns(data, config)
    _point(ax, dim + 2.0, slow, _name("isotropic"), style.tone("indigo"), "X")
    ends = np.array([1.0, 10.0 * dim])
    ax.plot(ends, ends, "--", color=style.THEORY, label=_words("diagonal"))
    ax.axhline(dim, color=style.THEORY, linestyle=":", linewidth=2)
    ax.annotate(
        _words("dimension", number=f"{dim:,}".replace(",", " ")), (1.3, dim), xytext=(0, 8),
        textcoords="offset points", fontsize=20, va="bottom",
    )  # fmt: skip
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    ax.set(xlabel=_words("foretold"), ylabel=_words("measured"))
    ax.legend(loc="lower right")
    return figure


def _point(
    ax: Axes, expected: float, found: np.ndarray, label: str, color: str, marker: str
) -> None:
    """Draw the geometric mean and the range over seeds."""
    reached = found[np.isfinite(found) & (found > 0)]
    if not reached.size:
        return
    middle = float(np.exp(np.log(reached).mean()))
    bars = np.array([[middle - reached.min()], [reached.max() - middle]])
    ax.errorbar(
        [expected], [middle], yerr=np.maximum(bars, 0), fmt=marker, color=color, label=label,
        markersize=16, capsize=5,
    )  # fmt: skip


def _adaptation(data: Arrays, config: Config, verdicts: Sequence[Verdict]) -> Figure:
    """Draw what is lost beyond the entropy against the work, and the memory of a step."""
    title = _title("adaptation", verdicts, "fall", "memory", "operations")
    figure, axes = panels.grid(1, 2, title=title)
    left, right = axes[0]
    for kind, tone in zip(_kinds(config), _tones(config), strict=True):
        gaps, work = data[f"{kind}_gaps"], judged.operations(data, kind)[1:]
        middle = np.median(gaps, axis=0)[1:]
        left.plot(work, middle, color=tone, marker=MARKERS[kind], markevery=20, label=_name(kind))
        left.fill_between(
            work, gaps.min(axis=0)[1:], gaps.max(axis=0)[1:], color=tone, alpha=0.2, linewidth=0
        )
    color = style.color("reverse_mode")
    work = judged.operations(data, "adam")[1:]
    left.plot(work, data["adam_gaps"][1:], color=color, marker="o", label=_name("adam"))
    left.set(xscale="log", xlabel=_words("work"), ylabel=_words("gap"))
    left.set_ylim(bottom=0)
    shares = data["temporaries"] / float(data["weight_bytes"])
    colors = (style.tone("olive"), style.color("two_point"), color)
    names = [_name(name) for name in ("inference", "two_point", "gradient")]
    bars = right.bar(names, shares, color=colors)
    right.bar_label(bars, [f"{share:.2g}" for share in shares], fontsize=22)
    right.set_ylabel(_words("memory"))
    right.margins(y=0.12)
    panels.legend_below(figure, left, cols=2)
    return figure
