"""Through a bottleneck from 3 inputs to 5 outputs forward mode beats reverse mode, 5 to 3.

A sweep costs one product with the derivative of each layer, and the Jacobian takes as many sweeps
as there are inputs (forward) or outputs (reverse): 3 against 5 through the graph of 3 inputs, one
node and 5 outputs, of 3 + 5 edges: 24 multiplications against 40. The Jacobian itself is a product
of a column and a row, 15 multiplications: eliminating the node takes these alone, in any order.

To be timed, the graph is widened: y = B tanh(A x) with 3 s numbers in, s in the middle and 5 s out.
Then the three cost 24 s^3, 40 s^3 and 15 s^3 multiplications, and a few times s^2 for the rest. The
clock is asked which is the quickest, and by how much.
"""

from __future__ import annotations

import functools
import time
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from pydantic import Field

from adlab import drawing, graphs, lab
from adlab.core import flops
from adlab.figures import panels, style
from adlab.figures.labels import text
from adlab.graphs import orders
from adlab.jacobians import jacobian
from adlab.lab import Text, Verdict, timing

from .needs import needs as needs

Arrays = dict[str, np.ndarray]
INPUTS, OUTPUTS = 3, 5
MODES = ("forward", "reverse", "mixed")
LOOKS = dict(zip(MODES, ("forward_mode", "reverse_mode", "finite_difference"), strict=True))
COSTS = np.array([24.0, 40.0, 15.0])  # multiplications over s^3
SHORTEST = 1e-2  # seconds below which calls are timed several at a time
NEAR = 0.25  # tolerance of a ratio of times, relative


class Config(lab.ExperimentConfig):
    """How wide the graph is made."""

    sizes: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (
        32, 64, 128, 256, 512,
    )  # fmt: skip
    """Widths s of the bottleneck; 3 s numbers go in and 5 s come out."""
    repeats: Annotated[int, Field(ge=1)] = 15
    """How often each Jacobian is timed."""


@jax.custom_jvp
def middle(w1: Any, w2: Any, w3: Any) -> Any:
    """Return the bottleneck of the small graph: a single step of three numbers."""
    return jnp.tanh(w1 * w2 - w3)


@middle.defjvp
def _middle_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    w1, w2, w3 = primals
    v = jnp.tanh(w1 * w2 - w3)
    inner = w2 * tangents[0] + w1 * tangents[1] - tangents[2]
    return v, (1 - v * v) * inner


def small(w1: Any, w2: Any, w3: Any) -> tuple:
    """Return five numbers of one, itself of three: the graph 3-1-5."""
    v = middle(w1, w2, w3)
    return jnp.sin(v), jnp.cos(v), jnp.exp(v), jnp.square(v), jnp.sqrt(v)


def wide(x: Any, first: Any, second: Any) -> Any:
    """Return B tanh(A x)."""
    return second @ jnp.tanh(first @ x)


def run(config: Config, progress: lab.Progress) -> Arrays:
    """Count on the small graph; count, compile and time the wide ones."""
    graph = graphs.build(small, 1.5, 1.0, 0.5)
    dag = orders.dag(graph.edges, graph.inputs, graph.outputs)
    names: tuple[orders.Order, ...] = ("forward", "reverse", "markowitz", "optimal")
    data: Arrays = {
        "sizes": np.array(sorted(set(config.sizes))),
        "sweeps": np.array(orders.dense_sweeps(dag)),
        "eliminations": np.array([graphs.eliminate(graph, n).multiplications for n in names]),
    }
    rows: dict[str, list[Any]] = {}
    for s in data["sizes"].tolist():
        found = progress.stage(f"s_{s}", functools.partial(_measured, config, s, progress))
        for name, value in found.items():
            rows.setdefault(name, []).append(value)
    return data | {name: np.array(values) for name, values in rows.items()}


def _measured(config: Config, s: int, progress: lab.Progress) -> Arrays:
    """Return flops of each way, and how far their Jacobians are from the closed form."""
    rng = np.random.default_rng([config.seed, s])
    shapes = ((INPUTS * s,), (s, INPUTS * s), (OUTPUTS * s, s))
    x, first, second = (rng.normal(size=shape) / np.sqrt(shape[-1]) for shape in shapes)
    args = [jnp.asarray(each, jnp.float32) for each in (x, first, second)]
    programs = [jacobian(wide, mode=mode) for mode in MODES]  # type: ignore[arg-type]
    started = time.perf_counter()
    compiled = [jax.jit(program).lower(*args).compile() for program in programs]
    ready = time.perf_counter()
    calls = [functools.partial(program, *args) for program in compiled]
    exact = second @ ((1 - np.tanh(first @ x) ** 2)[:, None] * first)
    off = [np.max(np.abs(np.asarray(call()) - exact)) / np.max(np.abs(exact)) for call in calls]
    progress.timing(f"seconds_{s}", timing.in_turn(calls, config.repeats, least=SHORTEST))
    progress.seconds(f"s_{s}", compile=ready - started, run=time.perf_counter() - ready)
    counts = [flops.count(program, *args).flops for program in programs]
    return {"flops": np.array(counts, dtype=np.float64), "error": np.array(max(off))}


def verdicts(data: Arrays, config: Config) -> list[Verdict]:
    """Judge the small graph, the operations of the widest, and its times if given."""
    del config
    forward, reverse = data["sweeps"]
    spread = np.ptp(data["eliminations"])
    s = float(data["sizes"][-1])
    flat = [Text("bottleneck.claim.sweeps"), reverse / forward, OUTPUTS / INPUTS]
    found = [
        Verdict(flat[0], flat[1], flat[1], flat[1], flat[2], 1e-12, basis="arithmetic"),
        Verdict.at_most(
            Text("bottleneck.claim.orders"), spread, spread, spread, 0.0, basis="arithmetic"
        ),
    ]
    # A multiplication comes with an addition; the tanh and its derivative are of order s^2.
    shares = data["flops"][-1] / (2 * COSTS * s**3)
    found.append(
        Verdict.worst(
            Text("bottleneck.claim.counts", size=int(s)), shares, 1.0, 0.1, basis="arithmetic"
        )
    )
    claim = Text("bottleneck.claim.error")
    found.append(Verdict.worst(claim, data["error"], 1e-4, side="at_most", basis="identity"))
    times = data.get(f"seconds_{int(s)}")
    return found if times is None else found + _timed(times, int(s))


def _timed(times: np.ndarray, s: int) -> list[Verdict]:
    """Judge times of shape (3, repeats) by the ratios of multiplications."""
    again = timing.medians(times)
    found = []
    for name, above, below in (("reverse", 1, 0), ("mixed", 0, 2)):
        ratio = timing.interval(again[above] / again[below])
        claim = Text(f"bottleneck.claim.{name}_quicker", size=s)
        found.append(Verdict.at_least(claim, *ratio, 1.0, basis="measured"))
        expected = COSTS[above] / COSTS[below]
        claim = Text(f"bottleneck.claim.{name}_seconds", size=s)
        found.append(Verdict(claim, *ratio, expected, NEAR * expected, basis="measured"))
    return [timing.judged(verdict, times) for verdict in found]


def plot(data: Arrays, config: Config) -> dict[str, Figure]:
    """Draw the small graph, operations of the wide ones, and times if given."""
    del config
    graph = graphs.build(small, 1.5, 1.0, 0.5)
    forward, reverse = (int(cost) for cost in data["sweeps"])
    title = text("bottleneck.figure.graph", forward=forward, reverse=reverse,
                 best=int(data["eliminations"].min()))  # fmt: skip
    figures = {"graph": drawing.draw(graph, title=title, captions={})}
    figures["operations"] = _bars(data["flops"][-1] / data["flops"][-1, 0], int(data["sizes"][-1]))
    names = [f"seconds_{s}" for s in data["sizes"]]
    if all(name in data and data[name].shape[1] >= timing.REPEATS for name in names):
        figures["seconds"] = _seconds(data["sizes"], np.stack([data[name] for name in names]))
    return figures


def _bars(values: np.ndarray, s: int) -> Figure:
    """Draw operations over forward mode's."""
    figure, axes = panels.grid(title=text("bottleneck.figure.operations", inputs=INPUTS * s, size=s,
                                          outputs=OUTPUTS * s))  # fmt: skip
    ax, rows = axes[0, 0], np.arange(len(MODES))
    tones = [style.color(LOOKS[mode]) for mode in MODES]
    ax.barh(rows, values, color=tones, height=0.55)
    expected = COSTS / COSTS[0]
    label = text("bottleneck.figure.theory")
    ax.vlines(expected, rows - 0.36, rows + 0.36, style.THEORY, linewidth=3, label=label)
    for row, value in zip(rows, values, strict=True):
        ax.annotate(f"{value:.2f}", (value, row), (14, 0), textcoords="offset points",
                    va="center", fontsize=20)  # fmt: skip
    ax.set_yticks(rows, [text(f"bottleneck.mode.{mode}") for mode in MODES], fontsize=19)
    ax.tick_params(axis="x", labelsize=18)
    ax.set(xlim=(0, 2.0), ylim=(len(MODES) - 0.4, -0.6), xlabel=text("bottleneck.figure.ratio"))
    ax.grid(visible=False, axis="y")
    ax.legend(loc="lower right", fontsize=18)
    return figure


def _seconds(sizes: np.ndarray, times: np.ndarray) -> Figure:
    """Draw times (sizes, 3, repeats) over forward mode's: medians with quartiles over repeats."""
    figure, axes = panels.grid(title=text("bottleneck.figure.seconds"))
    ax = axes[0, 0]
    low, middle_, high = np.quantile(times / times[:, :1], [0.25, 0.5, 0.75], axis=2)
    for k, mode in enumerate(MODES):
        tone = style.color(LOOKS[mode])
        label = text(f"bottleneck.mode.{mode}")
        ax.plot(sizes, middle_[:, k], color=tone, marker=style.marker(LOOKS[mode]), label=label)
        ax.fill_between(sizes, low[:, k], high[:, k], color=tone, alpha=0.2, linewidth=0)
        line = text("bottleneck.figure.theory") if k == 0 else "_nolegend_"
        ax.axhline(COSTS[k] / COSTS[0], color=style.THEORY, linestyle="--", linewidth=2, label=line)
    top = 1.4 * max(np.max(middle_), COSTS[1] / COSTS[0])
    ax.set(xscale="log", xlabel=text("bottleneck.figure.size"), ylim=(0, top))
    ax.set(ylabel=text("bottleneck.figure.time"))
    ax.set_xticks(sizes, [str(s) for s in sizes])
    ax.minorticks_off()
    ax.tick_params(labelsize=18)
    panels.legend_below(figure, ax, cols=2)
    return figure
