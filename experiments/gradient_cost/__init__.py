"""A gradient costs 2d values by central differences, and at most 5 by reverse mode, whatever d.

Of a function of d numbers that takes the time T, counted in its operations and on the clock:

    forward differences    d + 1 values                   (d + 1) T
    central differences    2d values                      2d T
    forward mode           d tangents, each <= 3 values   O(d T), but exact
    reverse mode           one sweep                      O(T): at most 5 values' operations

(Linnainmaa 1970; Baur & Strassen 1983, doi:10.1016/0304-3975(83)90110-X; Griewank & Walther 2008,
doi:10.1137/1.9780898717761, sections 3.2 and 3.3.) The bounds hold for functions whose elementary
operations have derivatives as cheap as themselves.

The function does the same work at every d: N numbers go through layers of a z + t, tanh; each of
the d parameters is the start of N/d of them. So ratios to the value's time show the method at any
d, even d = 1. The value, too, is timed in a loop over points, for so differences evaluate it. Calls
of the function are counted as they run, operations in the programs as written. Times are the
processor's, where JAX computes on it, without compiling. On CPU a tangent takes about half a value,
because the compiler moves the value itself, the same for all tangents, out of their loop.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field, model_validator

from adlab import lab
from adlab.core import flops
from adlab.figures import panels, style
from adlab.figures.labels import text
from adlab.gradients import GradientFn, finite_difference, forward_mode, reverse_mode
from adlab.lab import Text, Verdict, timing
from adlab.lab.verdict import Basis

from .needs import needs as needs

Arrays = dict[str, np.ndarray]
METHODS = ("forward", "central", "forward_mode", "reverse_mode")
LOOKS = dict(
    zip(METHODS, ("one_sided", "finite_difference", "forward_mode", "reverse_mode"), strict=True)
)  # whose colour and marker each has
STEP = 2.0**-7
# Operations of a reverse sweep and of a tangent over those of the value, at most: of a product they
# are 5 and 3, where the value takes one.
CHEAP, TANGENT = 5.0, 3.0
COUNTED = 64  # the most parameters at which calls are counted as they run
FEWEST = 4  # sizes that an exponent needs at least
DRAWN = 3  # repeats that a range needs at least
SHORTEST = 5e-2  # seconds below which programs are timed several times in a row
LOOP = 128  # calls of the function in a timed program, at least


class Config(lab.ExperimentConfig):
    """How many parameters, and how much work."""

    dims: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (
        1, 4, 16, 64, 256, 1024, 4096,
    )  # fmt: skip
    """d, the numbers of parameters."""
    points: Annotated[int, Field(ge=2)] = 8192
    """N, the numbers that go through the layers: as many at every d, a multiple of 2d."""
    layers: Annotated[int, Field(ge=1)] = 8
    """Layers that they go through."""
    repeats: Annotated[int, Field(ge=1)] = 11
    """How often each program is timed."""

    @model_validator(mode="after")
    def _shared_evenly(self) -> Config:
        if list(self.dims) != sorted(set(self.dims)):
            raise ValueError(f"dims must rise, each once, got {list(self.dims)}; sort them")
        for d in self.dims:
            if self.points % (2 * d):  # where N = d, the sweeps need no sums: other code
                raise ValueError(
                    f"dims must divide half of points = {self.points}, got {d}; "
                    "take powers of two for both"
                )
        return self


def loss(x: Any, shifts: Any) -> Any:
    """Return a sum over N numbers after all layers; `shifts` has shape (layers, N)."""
    z = jax.lax.optimization_barrier(jnp.repeat(x, shifts.shape[1] // x.size))
    for shift in shifts:
        z = jnp.tanh(1.5 * z + shift)
    return z @ shifts[0]  # a product: XLA fuses a sum with the layers, which then are slower


def gradients(fun: Callable[..., Any]) -> dict[str, GradientFn]:
    """Return the gradient of `fun` by each method, one evaluation or tangent at a time."""
    return {
        "forward": finite_difference(fun, scheme="forward", step=STEP, chunk_size=1),
        "central": finite_difference(fun, scheme="central", step=STEP, chunk_size=1),
        "forward_mode": forward_mode(fun, chunk_size=1),
        "reverse_mode": reverse_mode(fun),
    }


def run(config: Config, progress: lab.Progress) -> Arrays:
    """Count, compile and time the gradients at every d."""
    rows = [
        progress.stage(f"d_{d}", lambda: _measured(config, d, progress))  # noqa: B023
        for d in config.dims
    ]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]} | {
        "dims": np.array(config.dims)
    }


def _measured(config: Config, d: int, progress: lab.Progress) -> Arrays:
    """Return calls and operations of each method, of the value last, and how far the modes part."""
    rng = np.random.default_rng(config.seed)
    shifts = jnp.asarray(rng.normal(size=(config.layers, config.points)), jnp.float32)
    x = jnp.asarray(rng.normal(size=d), jnp.float32)
    found, programs = _of_loss()
    progress.update(0, 2, "compiling")
    started = time.perf_counter()
    counts = [found[name].cost(x, shifts).calls for name in METHODS]
    points = [x * jnp.ones((max(1, LOOP // count), 1), jnp.float32) for count in [*counts, 1]]
    compiled = [
        program.lower(xs, shifts).compile() for program, xs in zip(programs, points, strict=True)
    ]
    ready = time.perf_counter()
    progress.update(1, 2, "timing")
    calls = [
        functools.partial(program, xs, shifts) for program, xs in zip(compiled, points, strict=True)
    ]
    seconds = timing.in_turn(calls, config.repeats, least=SHORTEST, processor=True)
    progress.timing(f"seconds_{d}", seconds / np.array([[len(xs)] for xs in points]))
    progress.seconds(f"d_{d}", compile=ready - started, run=time.perf_counter() - ready)
    work = [flops.count(call, x, shifts).flops for call in found.values()]
    ahead, back = (np.asarray(compiled[k](points[k], shifts))[0] for k in (2, 3))
    return {
        "calls": np.array(counts, dtype=float),
        "called": _called(d) if d <= COUNTED else np.full(len(METHODS), np.nan),
        "operations": np.array(work, dtype=float),
        "difference": np.array(np.max(np.abs(ahead - back)) / np.max(np.abs(back))),
    }


@functools.cache
def _of_loss() -> tuple[dict[str, Any], list[Any]]:
    """Return the gradients of the loss, the loss itself last, and each as a program."""
    found: dict[str, Callable[..., Any]] = {**gradients(loss), "value": loss}
    return found, [jax.jit(_at_all(call)) for call in found.values()]


def _at_all(call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of points, one at a time, in a loop, as differences evaluate theirs."""
    return lambda xs, shifts: jax.lax.map(lambda x: call(x, shifts), xs)


def _called(d: int) -> np.ndarray:
    """Return how often each method calls a function of d numbers, counted as it runs."""
    seen: list[str] = []

    def counted(name: str, x: Any) -> Any:
        jax.debug.callback(lambda: seen.append(name))
        return jnp.sum(jnp.sin(x))

    def everything(x: Any) -> Any:
        return [gradients(lambda x, name=name: counted(name, x))[name](x) for name in METHODS]

    jax.block_until_ready(jax.jit(everything)(jnp.ones(d, jnp.float32)))
    jax.effects_barrier()
    return np.array([seen.count(name) for name in METHODS], dtype=float)


def theory(dims: np.ndarray) -> np.ndarray:
    """Return the calls of each method, of shape (sizes, methods)."""
    return np.stack([dims + 1, 2 * dims, dims, np.ones_like(dims)], axis=1)


def verdicts(data: Arrays, config: Config) -> list[Verdict]:
    """Judge calls and operations, and growth on the clock if times are given."""
    del config
    dims, expected, found = data["dims"], theory(data["dims"]), []
    ratios = data["operations"][:, :-1] / data["operations"][:, -1:]
    for k, method in enumerate(METHODS):
        called = data["called"][:, k] / expected[:, k]
        called = called[np.isfinite(called)]
        calls = data["calls"][:, k] / expected[:, k]
        found.append(_within("called", called, 1.0, 0.0, method, "identity"))
        found.append(_within("calls", calls, 1.0, 0.0, method, "arithmetic"))
    for k, method in enumerate(METHODS[:2]):
        shares = ratios[:, k] / expected[:, k]
        found.append(_within("operations", shares, 1.0, 0.05, method, "arithmetic"))
    for method, bound in (("forward_mode", TANGENT), ("reverse_mode", CHEAP)):
        values = ratios[:, METHODS.index(method)] / expected[:, METHODS.index(method)]
        claim = Text(f"gradient_cost.claim.{method}")
        found.append(_below(claim, values, bound))
    control = ratios[dims > CHEAP, METHODS.index("forward_mode")]
    if len(control):
        claim = Text("gradient_cost.claim.control")
        found.append(_below(claim, control, CHEAP, control=True))
    claim = Text("gradient_cost.claim.difference")
    found.append(Verdict.worst(claim, data["difference"], 1e-4, side="at_most", basis="identity"))
    times = _times(data)
    return found if times is None else found + _timed(times, dims)


def _within(
    claim: str, values: np.ndarray, expected: float, tolerance: float, method: str, basis: Basis
) -> Verdict:
    words = Text(f"gradient_cost.claim.{claim}", method=Text(f"gradient_cost.method.{method}"))
    return Verdict.worst(words, values, expected, tolerance, kind="range", basis=basis)


def _below(claim: Text, counts: np.ndarray, bound: float, *, control: bool = False) -> Verdict:
    """Judge that all operations, counted as written, are at most a bound."""
    return Verdict.worst(
        claim, counts, bound, side="at_most", control=control, kind="range", basis="arithmetic"
    )


def _times(data: Arrays) -> np.ndarray | None:
    """Return times of shape (sizes, methods and the value, repeats), if they are there."""
    names = [f"seconds_{d}" for d in data["dims"]]
    return np.stack([data[name] for name in names]) if all(n in data for n in names) else None


def _timed(times: np.ndarray, dims: np.ndarray) -> list[Verdict]:
    """Judge the growth of times over the value's, and reverse mode's: medians over repeats.

    Their intervals are those over resampled repeats.
    """
    again = timing.medians(times)
    ratios = again[:, :-1] / again[:, -1:]  # (sizes, methods, 1 + resamples)
    late = dims >= 16  # where d + 1 grows as d, and no loop is a single call
    found = []
    for k, method in enumerate(METHODS):
        growth = 0.0 if method == "reverse_mode" else 1.0
        slopes = np.full(ratios.shape[2], np.nan)
        if np.sum(late) >= FEWEST:
            slopes = np.polyfit(np.log(dims[late]), np.log(ratios[late, k]), 1)[0]
        words = Text("gradient_cost.claim.growth", method=Text(f"gradient_cost.method.{method}"))
        ends = timing.interval(slopes)
        found.append(Verdict(words, *ends, growth, 0.15, basis="measured"))
    for k, method in enumerate(METHODS[:2]):
        shares = np.median(ratios[:, k] / theory(dims)[:, k : k + 1], axis=0)
        words = Text("gradient_cost.claim.seconds", method=Text(f"gradient_cost.method.{method}"))
        found.append(Verdict(words, *timing.interval(shares), 1.0, 0.5, basis="measured"))
    reverse = np.median(ratios[:, METHODS.index("reverse_mode")], axis=0)
    claim = Text("gradient_cost.claim.reverse_seconds")
    found.append(Verdict.at_most(claim, *timing.interval(reverse), CHEAP, basis="measured"))
    return [timing.judged(verdict, times) for verdict in found]


def plot(data: Arrays, config: Config, *, verdicts: Sequence[Verdict] = ()) -> dict[str, Figure]:
    """Draw operations over those of the value against d, and times if given often enough."""
    del config
    operations = data["operations"][:, :-1] / data["operations"][:, -1:]
    title = lab.heading(
        "gradient_cost.figure.operations_title", verdicts, "gradient_cost.claim.operations",
        "gradient_cost.claim.reverse_mode", "gradient_cost.claim.control",
    )  # fmt: skip
    figures = {"operations": _figure(data["dims"], operations[:, :, None], "operations", title)}
    times = _times(data)
    if times is not None and times.shape[-1] >= DRAWN:
        title = lab.heading(
            "gradient_cost.figure.time_title", verdicts, "gradient_cost.claim.growth",
            "gradient_cost.claim.reverse_seconds",
        )  # fmt: skip
        ratios = times[:, :-1] / times[:, -1:]
        figures["seconds"] = _figure(data["dims"], ratios, "time", title)
    return figures


def _figure(dims: np.ndarray, ratios: np.ndarray, kind: str, title: str) -> Figure:
    """Draw ratios of shape (sizes, methods, repeats): medians within their ranges; the bound."""
    figure, axes = panels.grid(title=title)
    ax = axes[0, 0]
    middle = np.median(ratios, axis=2)
    for k, method in enumerate(METHODS):
        look, width = LOOKS[method], 6 if method == "reverse_mode" else 2.5
        color = style.color(look)
        ax.plot(dims, middle[:, k], marker=style.marker(look), color=color, linewidth=width)
        edges = ratios[:, k].min(axis=1), ratios[:, k].max(axis=1)
        ax.fill_between(dims, *edges, color=color, alpha=0.25, lw=0)
    ax.set(xscale="log", yscale="log", xlabel=text("gradient_cost.figure.dim"))
    ax.set(ylabel=text(f"gradient_cost.figure.{kind}"), ylim=(0.8, None))
    ax.axhspan(0.8, CHEAP, color=style.THEORY, alpha=0.08, lw=0)
    ax.text(
        dims[-1], 0.85, text("gradient_cost.figure.bound"), ha="right", va="bottom",
        color=style.THEORY,
    )  # fmt: skip
    if kind == "operations":
        for line in (dims + 1, 2 * dims):
            ax.plot(dims, line, "--", color=style.THEORY, linewidth=2)
    shown = dims[:: -1 if len(dims) < 9 else -2]  # whose numbers have room
    ax.set_xticks(shown, [str(d) for d in shown])
    ax.minorticks_off()
    _name(ax, dims[-1], middle[-1], kind)
    return figure


def _name(ax: Axes, d: int, ends: np.ndarray, kind: str) -> None:
    """Write each method's name and what it costs at the end of its curve, none over another."""
    low, high = np.log10(ax.get_ylim())
    ax.set_ylim(10**low, 10 ** (high + 0.03 * (high - low)))
    place = -np.inf
    for k in np.argsort(ends):
        method = METHODS[k]
        place = max(float(np.log10(ends[k])), place + 0.12 * (high - low))
        words = text(
            f"gradient_cost.figure.end_{kind}", method=text(f"gradient_cost.method.{method}"),
            ratio=_rounded(ends[k]), theory=text(f"gradient_cost.theory.{method}"),
        )  # fmt: skip
        ax.annotate(
            words, (d, 10**place), xytext=(16, 0), textcoords="offset points", va="center",
            color=style.ink(style.color(LOOKS[method])), annotation_clip=False,
            fontweight="bold" if method == "reverse_mode" else "normal",
        )  # fmt: skip


def _rounded(value: float) -> str:
    """Return two digits of a number, in thousands apart: 2.1, 37, 4 200."""
    digits = 1 - int(np.floor(np.log10(value)))
    return f"{round(value, digits):,.{max(0, digits)}f}".replace(",", "\N{NO-BREAK SPACE}")
