"""Not only backpropagation: nesting reverse mode doubles in each order, Taylor mode doesn't.

The derivative of order K along a direction, d^K/dt^K f(x + t v) at t = 0, takes K gradients of
gradients by reverse mode. Each differentiates the whole program of the one before, so that the
operations double with K, and so does forward mode over forward mode. Taylor mode carries the first
K coefficients of the series through every step at once. A product of two series takes
(K + 1)(K + 2)/2 products of coefficients, and no step takes more to leading order: so much times
the function (Griewank & Walther 2008, doi:10.1137/1.9780898717761, chapter 13).

f is a network of tanh layers. Operations are counted as written, before the compiler. What it makes
of them is measured beside: it finds that nested forward modes compute the same again and again, and
that the series of a constant is a constant, but what nested reverse modes repeat it doesn't find.

The derivative is known by Cauchy's integral, K!/(2 pi r^K) times that of f(x + r e^(is) v) e^(-iKs)
over s from 0 to 2 pi, which the trapezoidal rule finds to round-off in complex arithmetic.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import jet
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator
from pydantic import Field

from adlab import lab
from adlab.core import flops
from adlab.figures import panels, style
from adlab.figures.labels import text
from adlab.lab import Text, Verdict, timing

from .needs import needs as needs

Arrays = dict[str, np.ndarray]
METHODS = ("reverse", "forward", "taylor")
LOOKS = dict(zip(METHODS, ("reverse_mode", "forward_mode", "finite_difference"), strict=True))
CONTROL_ORDER, COMPILED_ORDER = 6, 5  # from which on doubling has overtaken what grows slower
DOUBLING = 1.7  # least factor of an order more: 2, less what a cheap first order leaves of it
RADIUS, POINTS = 0.5, 64  # of Cauchy's integral; tanh is regular within pi/2
SHORTEST = 2e-2  # seconds below which programs are timed several times in a row


class Config(lab.ExperimentConfig):
    """Which network is differentiated, how often."""

    x64: Literal[True] = True
    """Compute in float64: high derivatives lose digits."""
    width: Annotated[int, Field(ge=2)] = 64
    """n, units of each layer."""
    depth: Annotated[int, Field(ge=1)] = 2
    """Layers."""
    order: Annotated[int, Field(ge=3, le=10)] = 8
    """The highest K whose operations are counted."""
    compiled_order: Annotated[int, Field(ge=1, le=8)] = 6
    """The highest K that is compiled, run and timed; compiling nested reverse mode doubles too."""
    repeats: Annotated[int, Field(ge=1)] = 15
    """How often each program is timed."""


def network(weights: Any, last: Any, x: Any) -> Any:
    """Return a . tanh(W ... tanh(W x))."""
    for w in weights:
        x = jnp.tanh(w @ x)
    return last @ x


def derivative(method: str, fun: Callable[..., Any], order: int) -> Callable[..., Any]:
    """Return (x, v) -> d^K/dt^K fun(x + t v) at t = 0."""

    def taylor(x: Any, v: Any) -> Any:
        series = (v, *[jnp.zeros_like(v)] * (order - 1))
        return jet.jet(fun, (x,), (series,))[1][-1]

    def nested(x: Any, v: Any) -> Any:
        along = [lambda t: fun(x + t * v)]
        for _ in range(order):
            along.append(_differentiated(method, along[-1]))
        return along[-1](jnp.zeros(()))

    return taylor if method == "taylor" else nested


def _differentiated(method: str, fun: Callable[..., Any]) -> Callable[..., Any]:
    if method == "reverse":
        return jax.grad(fun)
    return lambda t: jax.jvp(fun, (t,), (jnp.ones_like(t),))[1]


def _arguments(config: Config) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, np.ndarray]:
    """Return weights, the last layer, a point and a direction along which |W v| < 1."""
    rng, n = np.random.default_rng(config.seed), config.width
    weights = [rng.normal(size=(n, n)) / np.sqrt(n) for _ in range(config.depth)]
    last, x, v = (rng.normal(size=n) / np.sqrt(n) for _ in range(3))
    return weights, last, x, v / np.max(np.abs(weights[0] @ v))


def run(config: Config, progress: lab.Progress) -> Arrays:
    """Count operations per method and order, over the function's; compile, run and time some."""
    weights, last, x, v = _arguments(config)
    fun = functools.partial(network, [jnp.asarray(w) for w in weights], jnp.asarray(last))
    once = flops.count(fun, x).flops
    orders = np.arange(1, config.order + 1)
    written = [
        [flops.count(derivative(m, fun, k), x, v).flops / once for m in METHODS]
        for k in orders.tolist()
    ]
    data: Arrays = {"orders": orders, "written": np.array(written)}
    rows = []
    for k in range(1, min(config.order, config.compiled_order) + 1):
        compute = functools.partial(_measured, config, fun, k, progress)
        rows.append(progress.stage(f"K_{k}", compute))
    return data | {name: np.array([row[name] for row in rows]) for name in rows[0]}


def _measured(config: Config, fun: Any, order: int, progress: lab.Progress) -> Arrays:
    """Return operations as compiled, over the function's, and values with Cauchy's last."""
    weights, last, x, v = _arguments(config)
    point, direction = jnp.asarray(x), jnp.asarray(v)
    started = time.perf_counter()
    programs = [
        jax.jit(derivative(m, fun, order)).lower(point, direction).compile() for m in METHODS
    ]
    single = jax.jit(fun).lower(point).compile()
    ready = time.perf_counter()
    calls = [functools.partial(program, point, direction) for program in programs]
    calls.append(functools.partial(single, point))
    progress.timing(f"seconds_{order}", timing.in_turn(calls, config.repeats, least=SHORTEST))
    progress.seconds(f"K_{order}", compile=ready - started, run=time.perf_counter() - ready)
    work = [(program.cost_analysis() or {}).get("flops", np.nan) for program in (*programs, single)]
    values = [float(call()) for call in calls[:-1]]
    exact = cauchy(weights, last, x, v, order)
    return {
        "compiled": np.array(work[:-1], dtype=np.float64) / work[-1],
        "values": np.array([*values, exact]),
    }


def cauchy(
    weights: list[np.ndarray], last: np.ndarray, x: np.ndarray, v: np.ndarray, order: int
) -> float:
    """Return the derivative of that order by the trapezoidal rule on a circle, in NumPy."""
    circle = np.exp(2j * np.pi * np.arange(POINTS) / POINTS)
    state = x[:, None] + RADIUS * circle * v[:, None]
    for w in weights:
        state = np.tanh(w @ state)
    mean = np.mean((last @ state) * circle**-order)
    return float(math.factorial(order) * mean.real / RADIUS**order)


def theory(orders: np.ndarray) -> np.ndarray:
    """Return the products of coefficients that a product of two series takes."""
    return np.asarray((orders + 1) * (orders + 2) / 2)


def verdicts(data: Arrays, config: Config) -> list[Verdict]:
    """Judge growth of nesting, the cost of Taylor mode, the values, and the times if given."""
    del config
    orders, written, compiled = data["orders"], data["written"], data["compiled"]
    last, ran = int(orders[-1]), len(compiled)
    growth, taylor = written[-1] / written[-2], METHODS.index("taylor")
    found = []
    for place, method in enumerate(METHODS[:2]):
        name = Text(f"taylor_mode.method.{method}")
        claim = Text("taylor_mode.claim.doubles", method=name, order=last)
        found.append(
            Verdict.worst(claim, growth[place], DOUBLING, side="at_least", basis="arithmetic")
        )
    claim = Text("taylor_mode.claim.taylor", order=last)
    shares = written / theory(orders)[:, None]
    found.append(
        Verdict.worst(claim, shares[:, taylor], 1.0, 0.2, kind="range", basis="arithmetic")
    )
    if last >= CONTROL_ORDER:
        claim = Text("taylor_mode.claim.control", order=last)
        found.append(
            Verdict.worst(
                claim, shares[-1, 0], 1.2, side="at_most", control=True, basis="arithmetic"
            )
        )
    if ran >= COMPILED_ORDER:
        doubled = compiled[-1, 0] / compiled[-2, 0]
        claim = Text("taylor_mode.claim.compiled", order=ran)
        found.append(Verdict.worst(claim, doubled, DOUBLING, side="at_least", basis="measured"))
    off = np.abs(data["values"][:, :-1] / data["values"][:, -1:] - 1)
    claim = Text("taylor_mode.claim.values", order=ran)
    found.append(Verdict.worst(claim, off, 1e-8, side="at_most", basis="identity"))
    times = data.get(f"seconds_{ran}")
    return found if times is None else [*found, _timed(times, ran)]


def _timed(times: np.ndarray, order: int) -> Verdict:
    """Judge times of shape (4, repeats): nested reverse mode's over Taylor mode's."""
    again = timing.medians(times)
    ratio = timing.interval(again[0] / again[METHODS.index("taylor")])
    claim = Text("taylor_mode.claim.seconds", order=order)
    return timing.judged(Verdict.at_least(claim, *ratio, 1.0, basis="measured"), times)


def plot(data: Arrays, config: Config) -> dict[str, Figure]:
    """Draw operations over the order, as written and as compiled, and times if given."""
    del config
    orders = data["orders"]
    ran = orders[: len(data["compiled"])]
    figure, axes = panels.grid(1, 2, title=text("taylor_mode.figure.title"))
    for ax, name, x in zip(axes[0], ("written", "compiled"), (orders, ran), strict=True):
        _curves(ax, x, data[name][:, :, None])
        ax.set(title=text(f"taylor_mode.figure.{name}"), xlim=(0.7, orders[-1] + 0.3))
    line = text("taylor_mode.figure.theory")
    axes[0, 0].plot(orders, theory(orders), "--", color=style.THEORY, linewidth=2, label=line)
    low, high = np.array([ax.get_ylim() for ax in axes[0]]).T
    for ax in axes[0]:
        ax.set_ylim(low.min(), high.max())
    axes[0, 0].set(ylabel=text("taylor_mode.figure.operations"))
    panels.legend_below(figure, axes[0, 0], cols=2)
    figures = {"operations": figure}
    names = [f"seconds_{k}" for k in ran]
    if all(name in data and data[name].shape[1] >= timing.REPEATS for name in names):
        times = np.stack([data[name] for name in names])
        figure, axes = panels.grid(title=text("taylor_mode.figure.seconds"))
        _curves(axes[0, 0], ran, times[:, :-1] / times[:, -1:])
        axes[0, 0].set(ylabel=text("taylor_mode.figure.time"))
        panels.legend_below(figure, axes[0, 0], cols=3)
        figures["seconds"] = figure
    return figures


def _curves(ax: Axes, orders: np.ndarray, values: np.ndarray) -> None:
    """Draw values (orders, methods, repeats): medians with quartiles."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75], axis=2)
    for k, method in enumerate(METHODS):
        look, label = LOOKS[method], text(f"taylor_mode.method.{method}")
        ax.plot(orders, middle[:, k], color=style.color(look), marker=style.marker(look),
                label=label)  # fmt: skip
        ax.fill_between(orders, low[:, k], high[:, k], color=style.color(look), alpha=0.2, lw=0)
    ax.set(yscale="log", xlabel=text("taylor_mode.figure.order"))
    ax.set_xticks(orders, [str(k) for k in orders])
    ax.yaxis.set_major_locator(LogLocator(base=2, numticks=12))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.minorticks_off()
    ax.tick_params(labelsize=18)
