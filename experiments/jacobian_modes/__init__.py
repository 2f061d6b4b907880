"""Forward mode wins where a function has fewer inputs than outputs; the modes cross near m/n = 1.

The Jacobian of m numbers in n takes n sweeps forward or m in reverse. Of f(x) = A x a sweep is a
product with A, of 2 m n operations, and so is the value: 2 m n (n + 1) operations against
2 m n (m + 1), whose ratio (m + 1) / (n + 1) is 1 at m = n (Griewank & Walther 2008,
doi:10.1137/1.9780898717761, chapter 3). Choosing by these counts costs at most 1.1 times the better
mode, at any m/n; elimination needs no sweep at all, since A stands in the graph as it is.

Operations are counted in the sweeps as written, before anything runs.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field
from scipy import optimize

from adlab import lab
from adlab.figures import panels, style
from adlab.figures.labels import text
from adlab.jacobians import jacobian, jacobian_costs
from adlab.lab import Text, Verdict, timing

from .needs import needs as needs

Arrays = dict[str, np.ndarray]
MODES = ("forward", "reverse", "auto")
LOOKS = {
    "forward": (style.color("forward_mode"), style.marker("forward_mode")),
    "reverse": (style.color("reverse_mode"), style.marker("reverse_mode")),
    "auto": (style.tone("wine"), "X"),
}
DRAWN = 3  # repeats that a range needs at least
MOST = 1.1  # what "auto" may cost of the better mode
SHORTEST = 5e-2  # seconds below which calls are timed several at a time


class Config(lab.ExperimentConfig):
    """Which products are differentiated."""

    inputs: Annotated[int, Field(ge=2)] = 100
    """n, the numbers that go in."""
    outputs: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=2)] = (
        1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000,
    )  # fmt: skip
    """m, the numbers that come out."""
    repeats: Annotated[int, Field(ge=1)] = 9
    """How often each Jacobian is timed."""


def product(x: Any, matrix: Any) -> Any:
    """Return A x."""
    return matrix @ x


def run(config: Config, progress: lab.Progress) -> Arrays:
    """Count, compile and time the Jacobian of every product."""
    rows: dict[str, list[Any]] = {}
    for m in sorted(set(config.outputs)):
        found = progress.stage(f"m_{m}", lambda: _measured(config, m, progress))  # noqa: B023
        for name, value in found.items():
            rows.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in rows.items()}


def _measured(config: Config, m: int, progress: lab.Progress) -> Arrays:
    """Return m, the flops of the three modes, what auto takes, and which sweep it prefers."""
    keys = jax.random.split(jax.random.key(config.seed))
    x = jax.random.normal(keys[0], (config.inputs,), jnp.float32)
    matrix = jax.random.normal(keys[1], (m, config.inputs), jnp.float32)
    costs = jacobian_costs(product, x, matrix)
    progress.update(0, 2, "compiling")
    started = time.perf_counter()
    programs = [
        jax.jit(jacobian(product, mode=mode)).lower(x, matrix).compile()  # type: ignore[arg-type]
        for mode in MODES
    ]
    ready = time.perf_counter()
    progress.update(1, 2, "timing")
    calls = [functools.partial(program, x, matrix) for program in programs]
    progress.timing(f"seconds_{m}", timing.in_turn(calls, config.repeats, least=SHORTEST))
    progress.seconds(f"m_{m}", compile=ready - started, run=time.perf_counter() - ready)
    flops = [costs[mode].flops for mode in ("forward", "reverse", costs.best)]
    return {
        "m": np.array(m),
        "flops": np.array(flops, dtype=float),
        "best": np.array(costs.best),
        "sweep": np.array(costs.best_sweep),
    }


def verdicts(data: Arrays, config: Config) -> list[Verdict]:
    """Judge where the counts cross and how they part, what auto costs, and the times if given."""
    n, m, flops = config.inputs, data["m"], data["flops"]
    ratio, better = flops[:, 1] / flops[:, 0], flops[:, :2].min(axis=1)
    crossing, slope = _crossing(m / n, ratio), _slope((m + 1) / (n + 1), ratio)
    auto = flops[:, 2] / better
    preferred = np.where(data["sweep"] == "forward", flops[:, 0], flops[:, 1])
    sweep, always = preferred / better, np.max(flops[:, 0] / better)
    found = [
        _counted("crossing", crossing, tolerance=0.05),
        _counted("slope", slope, tolerance=0.01),
        _counted("auto", np.max(auto)),
        _counted("sweep", np.max(sweep)),
        _counted("control", always, control=True),
    ]
    times = _times(data)
    if times is not None and m[0] < n < m[-1]:
        found += _timed(times, m / n)
    return found


def _counted(
    claim: str, value: float, tolerance: float | None = None, *, control: bool = False
) -> Verdict:
    """Judge a ratio of operations counted as written: 1 where it has a tolerance, else a bound."""
    words, ends = Text(f"jacobian_modes.claim.{claim}"), (value, value, value)
    if tolerance is not None:
        return Verdict(words, *ends, 1.0, tolerance, basis="arithmetic")
    return Verdict.at_most(words, *ends, MOST, control=control, basis="arithmetic")


def _timed(times: np.ndarray, ratio: np.ndarray) -> list[Verdict]:
    """Judge times of shape (sizes, 3, repeats): where they cross, within a factor of 2, and auto's.

    The ratio of both modes' times rises with m: the crossing is that of the rising sequence nearest
    to the measured one in its logarithm, the interval that of medians over resampled repeats. Only
    times that could move a verdict have to be steady: those of sizes where one mode isn't always
    ahead of the other, and of sizes where auto does at times as badly as where it does worst.
    """
    again = timing.medians(times)  # (sizes, 3, 1 + resamples)
    crossings = [_rising(ratio, each) for each in (again[:, 1] / again[:, 0]).T]
    # The smaller time of each repeat would be below that of either mode, by chance alone.
    better = np.argmin(np.median(times[:, :2], axis=2), axis=1)
    pairs = np.stack([times[:, 2], times[np.arange(len(times)), better]], axis=1)
    shares = pairs[:, 0] / pairs[:, 1]
    worst = shares[np.argmax(np.median(shares, axis=1))]
    forward, reverse = times[:, 0], times[:, 1]
    ahead = (forward.max(1) < reverse.min(1)) | (reverse.max(1) < forward.min(1))
    as_bad = shares.max(axis=1) >= worst.min()
    crossing = Text("jacobian_modes.claim.crossing_seconds")
    auto = Text("jacobian_modes.claim.auto_seconds")
    crosses = Verdict(crossing, *timing.interval(np.log2(crossings)), 0.0, 1.0, basis="measured")
    costs = Verdict.at_most(auto, *timing.median(worst, len(shares)), MOST, basis="measured")
    return [timing.judged(crosses, times[~ahead]), timing.judged(costs, pairs[as_bad])]


def _rising(x: np.ndarray, ratio: np.ndarray) -> float:
    return _crossing(x, np.exp(optimize.isotonic_regression(np.log(ratio)).x))


def _times(data: Arrays) -> np.ndarray | None:
    names = [f"seconds_{m}" for m in data["m"]]
    return np.stack([data[name] for name in names]) if all(n in data for n in names) else None


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def _crossing(x: np.ndarray, ratio: np.ndarray) -> float:
    """Return where the ratio passes 1, log-log between the points; the middle of several places.

    NaN where it doesn't.
    """
    u, v = np.log(x), np.log(ratio)
    exact = list(u[v == 0])
    for k in np.flatnonzero(v[:-1] * v[1:] < 0):
        exact.append(u[k] - v[k] * (u[k + 1] - u[k]) / (v[k + 1] - v[k]))
    return float(np.exp((min(exact) + max(exact)) / 2)) if exact else float("nan")


def plot(data: Arrays, config: Config, *, verdicts: Sequence[Verdict] = ()) -> dict[str, Figure]:
    """Draw operations over m/n, and times if given often enough."""
    claims = {
        "work": ("jacobian_modes.claim.crossing", "jacobian_modes.claim.slope"),
        "seconds": ("jacobian_modes.claim.crossing_seconds",),
    }
    figures = {"work": _figure(data, data["flops"][:, :, None], "work", config, verdicts, claims)}
    times = _times(data)
    if times is not None and times.shape[-1] >= DRAWN:
        figures["seconds"] = _figure(data, times, "seconds", config, verdicts, claims)
    return figures


def _figure(
    data: Arrays, values: np.ndarray, axis: str, config: Config, verdicts: Sequence[Verdict],
    claims: dict[str, tuple[str, ...]],
) -> Figure:  # fmt: skip
    """Draw values of shape (sizes, 3, repeats): their medians, within their ranges."""
    title = lab.heading(f"jacobian_modes.figure.{axis}_title", verdicts, *claims[axis])
    figure, axes = panels.grid(title=title)
    ax, n, m = axes[0, 0], config.inputs, data["m"]
    middle, low, high = np.median(values, axis=2), values.min(axis=2), values.max(axis=2)
    for k, mode in enumerate(MODES):
        color, marker = LOOKS[mode]
        width = 2.5 if mode == "auto" else 5
        ax.plot(m / n, middle[:, k], marker=marker, color=color, linewidth=width)
        ax.fill_between(m / n, low[:, k], high[:, k], color=color, alpha=0.25, lw=0)
    if axis == "work":
        for sweeps, label in ((n, text("jacobian_modes.figure.theory")), (m, None)):
            line = 2.0 * m * n * (sweeps + 1)
            ax.plot(m / n, line, "--", color=style.THEORY, linewidth=2, label=label)
        ax.legend(loc="upper left")
    ax.set(xscale="log", yscale="log", ylabel=text(f"jacobian_modes.figure.{axis}"))
    ax.set_xlabel(text("jacobian_modes.figure.ratio", n=n))
    ax.axvline(1.0, color=style.THEORY, linestyle=":", zorder=1)
    low_end, high_end = ax.get_ylim()
    ax.set_ylim(low_end / (high_end / low_end) ** 0.12, high_end)  # room for who wins
    ax.minorticks_off()
    _name(ax, m[-1] / n, middle[-1])
    _winners(ax, m / n, verdicts, claims[axis])
    return figure


def _name(ax: Axes, x: float, ends: np.ndarray) -> None:
    """Write each curve's name at its end, none over another."""
    low, high = np.log10(ax.get_ylim())
    place = -np.inf
    for k in np.argsort(ends, stable=True):
        mode = MODES[k]
        place = max(float(np.log10(ends[k])), place + 0.16 * (high - low))
        ax.annotate(
            text(f"jacobian_modes.mode.{mode}"), (x, 10**place), xytext=(16, 0), va="center",
            textcoords="offset points", color=style.ink(LOOKS[mode][0]), annotation_clip=False,
        )  # fmt: skip


def _winners(
    ax: Axes, ratio: np.ndarray, verdicts: Sequence[Verdict], claims: tuple[str, ...]
) -> None:
    """Write below the curves which mode wins on either side of m = n, if that holds."""
    for place, side in ((0.8, "reverse"), (1.25, "forward")):
        if ratio.min() < place < ratio.max():
            words = lab.heading(f"jacobian_modes.figure.{side}_wins", verdicts, *claims)
            ax.text(
                place, 0.03, words, ha="right" if place < 1 else "left", va="bottom", fontsize=22,
                transform=ax.get_xaxis_transform(), color=style.ink(LOOKS[side][0]),
            )  # fmt: skip
