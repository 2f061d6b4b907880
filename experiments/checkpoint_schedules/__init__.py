"""A chain's gradient in the memory that one chooses: checkpoints buy memory for repeated steps.

The gradient of L equal steps needs their states backwards. Storing all takes L - 1 of them and
repeats nothing; every sqrt(L)-th takes 2 sqrt(L) - 2 and repeats less than L steps (Chen et al.
2016, arXiv:1604.06174); with c slots, the least possible is r L - C(c + r, c + 1) forward steps,
where r is the least number with C(c + r, c) >= L, and a binomial schedule attains it (Griewank &
Walther 2000, doi:10.1145/347837.347846).

Steps are counted as they run. Memory is what the compiled gradient takes beside its arguments and
results; its account is the stored states and three more: the current one, its cotangent, and what
one step needs. Weights are shared, as in a recurrent network, so that their gradient's memory is
the same at any length.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from pydantic import Field

from adlab import lab
from adlab.checkpointing import Schedule, binomial, checkpointed_scan, sqrt, store_all
from adlab.figures import panels, style
from adlab.figures.animation import Movie
from adlab.figures.labels import text
from adlab.lab import Text, Verdict, timing
from adlab.lab.verdict import Basis

from . import pictures
from .needs import needs as needs

Arrays = dict[str, np.ndarray]
Number = Annotated[int, Field(ge=2, le=2000)]
CONSTANT = 3  # states that are alive beside the slots
MARKERS = "oXDs^v*P"
DRAWN = 3  # repeats that an interval needs at least


class Config(lab.ExperimentConfig):
    """Which chains and schedules."""

    lengths: Annotated[tuple[Number, ...], Field(min_length=3)] = (16, 36, 64, 144, 256)
    """Steps of the chain, L; squares suit the claim on the root."""
    slots: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1, max_length=6)] = (
        3,
        5,
        10,
    )
    """Slots of the binomial schedules."""
    width: Annotated[int, Field(ge=1)] = 64
    """Numbers in a state, per example."""
    batch_size: Annotated[int, Field(ge=1)] = 256
    """Examples that go through the chain together."""
    repeats: Annotated[int, Field(ge=1)] = 9
    """How often the gradient of the longest chain is timed."""


def schedules(config: Config) -> list[tuple[str, Schedule]]:
    """Return all schedules, each with its kind."""
    found = [("store_all", store_all()), ("sqrt", sqrt())]
    return found + [("binomial", binomial(slots)) for slots in sorted(set(config.slots))]


def run(config: Config, progress: lab.Progress) -> Arrays:
    """Compile, count and compare gradients under every schedule, and time the longest chain."""
    rows = []
    lengths = sorted(set(config.lengths))
    for length in lengths:
        timed = length == lengths[-1]
        rows.append(
            progress.stage(f"length_{length}", lambda: _measured(config, length, timed, progress))  # noqa: B023
        )
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]} | {
        "lengths": np.array(lengths)
    }


def _measured(config: Config, length: int, timed: bool, progress: lab.Progress) -> Arrays:
    """Return slots, extra steps, bytes, steps run, gradient differences: shape (schedules,)."""
    args = _arguments(config, length)
    chosen = [schedule for _, schedule in schedules(config)]
    expected = _gradient(None, length)(*args)
    found: dict[str, list[Any]] = {"bytes": [], "difference": []}
    found["run"] = _steps_run(chosen, length)
    programs = []
    for place, schedule in enumerate(chosen):
        progress.update(place, len(chosen))
        programs.append(_gradient(schedule, length).lower(*args).compile())
        sizes: Any = programs[-1].memory_analysis()
        found["bytes"].append(np.nan if sizes is None else sizes.temp_size_in_bytes)
        found["difference"].append(_difference(programs[-1](*args), expected))
    if timed:
        calls = [functools.partial(program, *args) for program in programs]
        progress.timing(f"seconds_{length}", timing.in_turn(calls, config.repeats))
    return {name: np.array(values, dtype=float) for name, values in found.items()} | {
        "slots": np.array([schedule.slots(length) for schedule in chosen]),
        "extra": np.array([schedule.extra_forward_steps(length) for schedule in chosen]),
    }


@functools.cache
def _gradient(schedule: Schedule | None, length: int) -> Any:
    """Return the gradient of the loss, by `jax.lax.scan` where there is no schedule."""
    scan = jax.lax.scan if schedule is None else _scan(schedule)
    return jax.jit(jax.grad(_chain(scan, length), argnums=(0, 1)))


def _arguments(config: Config, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Return weights near a rotation, so that gradients neither vanish nor explode, and inputs."""
    rng = np.random.default_rng([config.seed, length])
    rotation, _ = np.linalg.qr(rng.normal(size=(config.width, config.width)))
    x = rng.normal(size=(config.batch_size, config.width))
    return rotation.astype(np.float32), (0.1 * x).astype(np.float32)


def _scan(schedule: Schedule) -> Callable[..., Any]:
    return lambda body, init, length: checkpointed_scan(
        body, init, schedule=schedule, length=length
    )


def _chain(scan: Callable[..., Any], length: int) -> Callable[..., Any]:
    """Return the loss of a recurrent network of so many steps."""

    def loss(weights: Any, x: Any) -> Any:
        end, _ = scan(lambda h, _: (jnp.tanh(h @ weights), None), x, length=length)
        return jnp.sum(end**2)

    return loss


def _difference(found: Any, expected: Any) -> float:
    """Return the largest difference over the largest entry, of all arrays the worst."""
    return max(
        float(np.max(np.abs(a - b)) / np.max(np.abs(b)))
        for a, b in zip(map(np.asarray, found), map(np.asarray, expected), strict=True)
    )


def _steps_run(chosen: list[Schedule], length: int) -> list[int]:
    """Return how often steps really run: forward, again, and within their backward steps."""
    calls: list[int] = []

    def counted(place: int, h: Any) -> Any:
        def step(h: Any, _: None) -> tuple[Any, None]:
            jax.debug.callback(lambda: calls.append(place))
            return jnp.sin(h), None

        return _scan(chosen[place])(step, h, length)[0]

    places = range(len(chosen))
    total = jax.jit(jax.grad(lambda hs: sum(counted(k, hs[k]) for k in places)))
    jax.block_until_ready(total([np.float32(0.5)] * len(chosen)))
    jax.effects_barrier()
    return [calls.count(place) for place in places]


def account(slots: np.ndarray, config: Config) -> np.ndarray:
    """Return the bytes of so many stored states, and of those beside them."""
    return (slots + CONSTANT) * 4 * config.batch_size * config.width


def closed_form(length: int, slots: int) -> int:
    """Return the least number of forward steps with so many slots, the forward pass included."""
    r = next(r for r in range(length) if math.comb(slots + r, slots) >= length)
    return r * length - math.comb(slots + r, slots + 1)


def verdicts(data: Arrays, config: Config) -> list[Verdict]:
    """Judge memory and steps of each schedule, the growth of memory, and the gradients."""
    lengths, found = data["lengths"], []
    for place, (kind, schedule) in enumerate(schedules(config)):
        slots = getattr(schedule, "num_slots", 0)
        name = Text(f"checkpoint_schedules.name.{kind}", slots=slots)
        ratios = data["bytes"][:, place] / account(data["slots"][:, place], config)
        found.append(_within("memory", ratios, 1.0, 0.15, "measured", schedule=name))
        ratios = data["run"][:, place] / (2 * lengths + data["extra"][:, place])
        found.append(_within("counted", ratios, 1.0, 0.0, "identity", schedule=name))
        if kind == "binomial":
            least = np.array([closed_form(int(length), slots) for length in lengths])
            # Without the last step of the forward pass, and those within the backward steps.
            ratios = (data["run"][:, place] - lengths - 1) / least
            found.append(_within("closed_form", ratios, 1.0, 0.0, "identity", schedule=name))
    growth = [exponent(lengths, data["bytes"][:, place]) for place in (0, 1)]
    found.append(_within("exponent", growth[1:], 0.5, 0.05, "measured"))
    found.append(_within("control_all", growth[:1], 0.5, 0.05, "measured", control=True))
    claim = Text("checkpoint_schedules.claim.gradients")
    worst = Verdict.worst(claim, data["difference"], 1e-4, side="at_most", basis="identity")
    return [*found, worst]


def _within(
    claim: str,
    values: Any,
    expected: float,
    tolerance: float,
    basis: Basis,
    *,
    control: bool = False,
    **params: Any,
) -> Verdict:  # fmt: skip
    """Judge all values at once, by their range."""
    words = Text(f"checkpoint_schedules.claim.{claim}", **params)
    return Verdict.worst(
        words, values, expected, tolerance, control=control, kind="range", basis=basis
    )


def exponent(lengths: np.ndarray, memory: np.ndarray) -> float:
    """Return the p of the least-squares fit memory = a + b L^p: the constant is fitted, too."""
    if not np.all(np.isfinite(memory)):
        return math.nan
    powers = np.linspace(0.05, 1.5, 1451)
    scaled = memory / np.max(memory)

    def misfit(power: float) -> float:
        columns = np.stack([np.ones(len(lengths)), (lengths / lengths[-1]) ** power], axis=1)
        best, *_ = np.linalg.lstsq(columns, scaled)
        return float(np.sum((columns @ best - scaled) ** 2))

    return float(min(powers, key=misfit))


def _legend(config: Config) -> list[str]:
    """Return the schedules' names in the current language."""
    return [
        text(f"checkpoint_schedules.schedule.{kind}", slots=getattr(schedule, "num_slots", 0))
        for kind, schedule in schedules(config)
    ]


def _colors(config: Config) -> list[str]:
    """Return the schedules' colours: plain reverse mode's, the root's, shades of binomial ones."""
    slots, olive = len(set(config.slots)), style.tone("olive")
    weights = np.linspace(0.5, 1, slots) if slots > 1 else [1.0]
    shades = [style.tint(olive, float(weight)) for weight in weights]
    return [style.color("reverse_mode"), style.tone("wine"), *shades]


def plot(data: Arrays, config: Config) -> dict[str, Figure]:
    """Draw growth with the length, memory against work and time, and what is stored when."""
    longest = int(data["lengths"][-1])
    work = 1 + data["extra"][-1] / (4 * longest)
    figures = {
        "growth": _growth(data, config),
        "pareto": _pareto(data, config, work[:, None], "work"),
        "timelines": _timelines(config, int(data["lengths"][0])),
        "moments": _moments(config, int(data["lengths"][0])),
    }
    seconds = data.get(f"seconds_{longest}")
    if seconds is not None and seconds.shape[1] >= DRAWN:
        medians = timing.medians(seconds)
        figures["seconds"] = _pareto(data, config, medians / medians[0], "time")
    return figures


def _growth(data: Arrays, config: Config) -> Figure:
    """Draw memory and repeated steps against the length: points measured, lines computed."""
    title = text("checkpoint_schedules.figure.growth")
    figure, axes = panels.grid(1, 2, title=title)
    fine = np.unique(np.geomspace(data["lengths"][0], data["lengths"][-1], 40).astype(int))
    state, colors = 4 * config.batch_size * config.width, _colors(config)
    for place, (name, (_, schedule)) in enumerate(
        zip(_legend(config), schedules(config), strict=True)
    ):
        look = {"color": colors[place], "zorder": 2}
        slots = np.array([schedule.slots(int(length)) for length in fine])
        extra = np.array([schedule.extra_forward_steps(int(length)) for length in fine])
        axes[0, 0].plot(fine, account(slots, config) / state, **look)
        axes[0, 1].plot(fine, extra / fine, **look)
        look |= {"marker": MARKERS[place], "linestyle": "none", "label": name}
        axes[0, 0].plot(data["lengths"], data["bytes"][:, place] / state, **look)
        counted = data["run"][:, place] / data["lengths"] - 2
        axes[0, 1].plot(data["lengths"], counted, **look)
    for ax, label in zip(axes[0], ("memory", "extra"), strict=True):
        ax.set_xscale("log", base=2)
        ax.set_xticks(data["lengths"], [str(length) for length in data["lengths"]])
        ax.minorticks_off()
        ax.set(xlabel=text("checkpoint_schedules.figure.length"))
        ax.set(ylabel=text(f"checkpoint_schedules.figure.{label}"))
    axes[0, 0].set_yscale("log", base=2)
    axes[0, 0].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes[0, 1].set_title(text("checkpoint_schedules.figure.measured"), fontsize=18)
    panels.legend_below(figure, axes[0, 0], cols=3)
    return figure


def _pareto(data: Arrays, config: Config, price: np.ndarray, kind: str) -> Figure:
    """Draw memory against the price of each schedule, of shape (schedules, 1 + resamples).

    For the longest chain; beside work, the front of binomial schedules, and beside time, work.
    """
    longest = int(data["lengths"][-1])
    title = "pareto" if kind == "work" else "pareto_seconds"
    figure, axes = panels.grid(title=text(f"checkpoint_schedules.figure.{title}", length=longest))
    ax, state = axes[0, 0], 4 * config.batch_size * config.width
    memory, alone = data["bytes"][-1] / state, 1 + data["extra"][-1] / (4 * longest)
    if kind == "work":
        held = np.arange(min(config.slots), longest)
        steps = np.array([closed_form(longest, int(slots)) for slots in held])
        work, front = 1 + (steps - longest + 1) / (4 * longest), account(held, config) / state
        label = text("checkpoint_schedules.figure.front")
        ax.plot(work, front, "--", color=style.THEORY, label=label)
    else:
        label = text("checkpoint_schedules.figure.work_alone")
        ax.scatter(
            alone, memory, marker="|", s=700, linewidths=3,
            color=style.THEORY, label=label, zorder=1,
        )  # fmt: skip
    ends = np.array([each[0] if len(each) == 1 else timing.interval(each)[2] for each in price])
    ends = ends if kind == "work" else np.maximum(ends, alone)
    for place, (name, color) in enumerate(zip(_legend(config), _colors(config), strict=True)):
        x, y = price[place, 0], memory[place]
        ax.plot(x, y, MARKERS[place], color=color, markersize=20)
        if price.shape[1] > 1:
            ax.hlines(y, *timing.interval(price[place])[1:], color=color, linewidth=5)
        ax.annotate(
            name, (ends[place], y), xytext=(16, 3), textcoords="offset points", fontsize=20,
            va="bottom",
            color=style.ink(color),
        )  # fmt: skip
    ax.set_yscale("log", base=2)
    ax.margins(x=0.05, y=0.15)
    left, right = ax.get_xlim()
    ax.set_xlim(left, right + 0.45 * (right - left))  # room for names
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set(xlabel=text(f"checkpoint_schedules.figure.{kind}"))
    ax.set(ylabel=text("checkpoint_schedules.figure.memory"))
    ax.legend(loc="upper right")
    return figure


def alive(schedule: Schedule, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what `pictures` draws: what is stored, what is current, steps left."""
    moments = schedule.timeline(length)
    stored = np.zeros((len(moments), length), bool)
    for row, moment in zip(stored, moments, strict=True):
        row[[state for state in moment.slots if state is not None]] = True
    current = np.array([moment.current for moment in moments])
    return stored, current, np.array([length - moment.done for moment in moments])


def _timelines(config: Config, length: int) -> Figure:
    """Draw the states stored after each action, a panel per schedule, at most four."""
    chosen = list(zip(_legend(config), schedules(config), strict=True))[:4]
    title = text("checkpoint_schedules.figure.timelines", length=length)
    figure, axes = panels.grid(2, 2, title=title)
    for ax, (name, (_, schedule)) in zip(axes.flat, chosen, strict=False):
        stored, current, _ = alive(schedule, length)
        extra = schedule.extra_forward_steps(length)
        words = text("checkpoint_schedules.figure.panel", schedule=name, extra=extra)
        pictures.timeline(ax, stored, current, title=words)
    for ax in axes.flat[len(chosen) :]:
        ax.set_visible(False)
    return figure


def _moments(config: Config, length: int) -> Figure:
    """Draw a few frames of the animation of the leanest binomial schedule."""
    slots, length = min(config.slots), min(length, 16)
    stored, current, left = alive(binomial(slots), length)
    chosen = np.linspace(0, len(stored) - 1, 5).astype(int)
    words: dict[str, Any] = {"slots": slots, "length": length}
    figure, axes = panels.grid(
        len(chosen), 1, title=text("checkpoint_schedules.figure.moments", **words)
    )
    for ax, k in zip(axes.flat, chosen, strict=True):
        title = pictures.caption(int(stored[k].sum()), len(stored), int(k))
        pictures.states(ax, stored[k], int(current[k]), int(left[k]), title=title)
    return figure


def movies(data: Arrays, config: Config) -> dict[str, Movie]:
    """Show the shortest chain under every schedule, action by action; 16 steps at most."""
    length = min(int(data["lengths"][0]), 16)
    return {
        f"chain_{kind}{getattr(schedule, 'num_slots', '')}": pictures.movie(
            *alive(schedule, length)
        )
        for kind, schedule in schedules(config)
    }
