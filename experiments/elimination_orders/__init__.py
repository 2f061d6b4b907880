"""No order of elimination is the best on all graphs, and between the two modes are cheaper ones.

A Jacobian arises from a graph as its vertices are eliminated, each for |pred| |succ|
multiplications. Forward mode does so in topological order, reverse mode in the opposite one. On
layers of n0, n1, ... vertices these cost n0 n1 n2 + n0 n2 n3 + n0 n3 n4 and n2 n3 n4 + n1 n2 n4 +
n0 n1 n4, but through a bottleneck n2 = 1 an order from both ends costs n0 n1 n2 + n2 n3 n4 + n0 n2
n4 only. A single vertex between inputs and outputs leaves nothing to choose. Taking the cheapest
vertex next (Markowitz) is often, not always, the best there is; it was proposed for derivatives by
Griewank & Reese (1991) and is treated in Griewank & Walther (2008),
doi:10.1137/1.9780898717761, chapters 9 and 10.
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import Field

from adlab import graphs, lab
from adlab.graphs import orders
from adlab.lab import Text, Verdict, timing
from adlab.lab.verdict import Basis

from . import mixed
from .known import LAYERS, MODES, ORDERS, OTHERS
from .needs import needs as needs
from .plot import plot as plot
from .shares import interval, shares

Arrays = dict[str, np.ndarray]
Program = Literal["roe_flux", "robot_arm"]


class Config(lab.ExperimentConfig):
    """How many random graphs are drawn, and which programs are differentiated."""

    x64: Literal[True] = True
    """Compute in float64: Jacobians by several orders are compared."""
    num_graphs: Annotated[int, Field(ge=100)] = 1000
    """Random graphs of each size."""
    vertices: Annotated[tuple[Annotated[int, Field(ge=5, le=16)], ...], Field(min_length=1)] = (
        *(6, 8, 10, 12),
    )
    """Sizes of the random graphs, inputs and outputs among them."""
    programs: tuple[Program, ...] = ("roe_flux", "robot_arm")
    """Functions whose Jacobians are formed; none for no such figure."""
    joints: Annotated[int, Field(ge=2)] = 6
    """Joints of the robot arm."""
    batch_size: Annotated[int, Field(ge=1)] = 10_000
    """Points at which the Jacobians are formed at once."""
    repeats: Annotated[int, Field(ge=1)] = 9
    """How often each Jacobian is timed."""


def run(config: Config, progress: lab.Progress) -> Arrays:
    """Count multiplications on known and random graphs; count and time them in programs."""
    known = [_layered(*widths) for widths in LAYERS]
    known += [orders.dag(*graph) for graph in OTHERS.values()]
    data = {
        "known": np.array([_costs(graph) for graph in known]),
        "dense": np.array([orders.dense_sweeps(graph) for graph in known]),
    }
    data |= progress.stage("random", lambda: {"random": _random_costs(config, progress)})
    data |= mixed.run()
    for name in dict.fromkeys(config.programs):
        found = progress.stage(name, lambda: _measured(config, name, progress))  # noqa: B023
        data |= {f"{name}_{key}": array for key, array in found.items()}
    return data


def _layered(*widths: int) -> orders.Dag:
    """Return layers of these widths, each vertex joined to all of the next layer."""
    starts = np.cumsum([0, *widths]).tolist()
    layers = [tuple(range(a, b)) for a, b in itertools.pairwise(starts)]
    edges = [e for a, b in itertools.pairwise(layers) for e in itertools.product(a, b)]
    return orders.dag(edges, layers[0], layers[-1])


def _costs(graph: orders.Dag) -> list[int]:
    return [orders.multiplications(graph, orders.find_order(graph, order)) for order in ORDERS]


def _random_costs(config: Config, progress: lab.Progress) -> np.ndarray:
    """Return multiplications, of shape (sizes, graphs, orders)."""
    rng = np.random.default_rng(config.seed)
    found = []
    for index, size in enumerate(config.vertices):
        progress.update(index, len(config.vertices), str(size))
        found.append([_costs(_random_graph(rng, size)) for _ in range(config.num_graphs)])
    return np.array(found)


def _random_graph(rng: np.random.Generator, size: int) -> orders.Dag:
    """Return 1 to 3 inputs and binary vertices of earlier ones; those nobody uses are outputs."""
    inputs = int(rng.integers(1, 4))
    edges = []
    for v in range(inputs, size):
        edges += [(int(a), v) for a in rng.choice(v, size=min(v, 2), replace=False)]
    ends = sorted(set(range(inputs, size)) - {a for a, _ in edges})
    return orders.dag(edges, range(inputs), ends)


def _measured(config: Config, name: Program, progress: lab.Progress) -> Arrays:
    """Return the counts of three orders, and how far their Jacobians are from JAX's."""
    fun, args = _program(config, name)
    graph = graphs.build(fun, *(arg[0] for arg in args))
    found = [graphs.eliminate(graph, order) for order in ORDERS[:3]]
    places = tuple(range(len(args)))
    jacobians: list[Callable] = [jax.jacfwd(fun, places), jax.jacrev(fun, places)]
    jacobians += [elimination.jacobian for elimination in found]
    started = time.perf_counter()
    compiled = [jax.jit(jax.vmap(jacobian)).lower(*args).compile() for jacobian in jacobians]
    ready = time.perf_counter()
    calls = [functools.partial(program, *args) for program in compiled]
    results = [np.stack(jax.tree.leaves(program(*args))) for program in compiled]
    progress.timing(f"seconds_{name}", timing.in_turn(calls, config.repeats))
    progress.seconds(name, compile=ready - started, run=time.perf_counter() - ready)
    error = max(np.max(abs(result - results[0])) for result in results[1:])
    return {
        "costs": np.array([elimination.multiplications for elimination in found]),
        "size": np.array([len(graph.inputs), len(graph.outputs), len(graph.steps)]),
        "error": np.array(error / np.max(abs(results[0]))),
    }


def _program(config: Config, name: Program) -> tuple[Callable, tuple]:
    """Return a function of numbers with its arguments, each of shape (batch_size,)."""
    rng = np.random.default_rng(config.seed)
    if name == "robot_arm":
        return robot_arm, tuple(rng.uniform(-1, 1, (config.joints, config.batch_size)))
    density, velocity, pressure = (
        rng.uniform(low, high, (2, config.batch_size))
        for low, high in ((0.5, 2), (-1, 1), (0.5, 2))
    )
    energy = pressure / 0.4 + density * velocity**2 / 2
    left, right = zip(density, density * velocity, energy, strict=True)
    return roe_flux, (*left, *right)


def roe_flux(*states: Any) -> tuple:
    """Return Roe's numerical flux (3 numbers) between two states (density, momentum, energy).

    Of an ideal gas in one dimension, heat capacity ratio 1.4, without entropy fix.
    Source: Roe (1981), doi:10.1016/0021-9991(81)90128-5.
    """
    left, right = states[:3], states[3:]
    (u1, h1, flux1), (u2, h2, flux2) = (_gas(*state) for state in (left, right))
    w1, w2 = jnp.sqrt(left[0]), jnp.sqrt(right[0])
    u, h = (w1 * u1 + w2 * u2) / (w1 + w2), (w1 * h1 + w2 * h2) / (w1 + w2)
    square = 0.4 * (h - u * u / 2)
    c = jnp.sqrt(square)
    d1, d2, d3 = (b - a for a, b in zip(left, right, strict=True))
    middle = 0.4 / square * ((h - u * u) * d1 + u * d2 - d3)
    first = ((u + c) * d1 - d2 - c * middle) / (2 * c)
    waves = (
        (first, u - c, h - u * c),
        (middle, u, u * u / 2),
        (d1 - first - middle, u + c, h + u * c),
    )
    weights = [abs(speed) * a for (a, _, _), speed in zip(waves, (u - c, u, u + c), strict=True)]
    vectors = zip(*((1.0, speed, energy) for _, speed, energy in waves), strict=True)
    return tuple(
        (f + g) / 2 - sum(w * r for w, r in zip(weights, row, strict=True)) / 2
        for f, g, row in zip(flux1, flux2, vectors, strict=True)
    )


def _gas(density: Any, momentum: Any, energy: Any) -> tuple:
    """Return velocity, enthalpy per mass, and flux."""
    u = momentum / density
    pressure = 0.4 * (energy - momentum * u / 2)
    flux = (momentum, momentum * u + pressure, u * (energy + pressure))
    return u, (energy + pressure) / density, flux


def robot_arm(*angles: Any) -> tuple:
    """Return position and pointing direction (6 numbers) of an arm of rotating joints.

    Joint i turns about the axis that alternates between z and y, and is followed by a link of
    length 1/(i + 1) along x; computed from the hand to the base.
    """
    position, direction = (0.0, 0.0, 0.0), (1.0, 0.0, 0.0)
    for i in reversed(range(len(angles))):
        cos, sin = jnp.cos(angles[i]), jnp.sin(angles[i])
        x, y, z = position
        position = _turned((x + 1 / (i + 1), y, z), cos, sin, i % 2)
        direction = _turned(direction, cos, sin, i % 2)
    return (*position, *direction)


def _turned(vector: tuple, cos: Any, sin: Any, axis: int) -> tuple:
    x, y, z = vector
    if axis:
        return cos * x + sin * z, y, cos * z - sin * x
    return cos * x - sin * y, sin * x + cos * y, z


def closed_form(widths: Sequence[int]) -> tuple[int, int, int]:
    """Return the multiplications forward, in reverse, and from both ends of layers.

    The last is the least where the middle of five layers is a single vertex.
    """
    if len(widths) == 3:
        return (widths[0] * widths[1] * widths[2],) * 3
    a, b, c, d, e = widths
    return (
        a * b * c + a * c * d + a * d * e,
        c * d * e + b * c * e + a * b * e,
        a * b * c + c * d * e + a * c * e,
    )


def verdicts(data: Arrays, config: Config) -> list[Verdict]:
    """Judge counts against closed forms, shares of the largest random graphs, and programs."""
    forms = np.array([closed_form(widths) for widths in LAYERS])
    off = np.max(abs(data["known"][: len(LAYERS)][:, [0, 1, 3]] / forms - 1))
    found = [_exactly("layers", off)]
    spread = np.ptp(data["known"][0])
    forward, reverse = map(int, data["dense"][0])
    found.append(_exactly("bottleneck", spread, forward=forward, reverse=reverse))
    total, last = config.num_graphs, int(np.argmax(config.vertices))
    dearer, beaten = shares(data["random"][last])
    claim = Text("elimination_orders.claim.beaten", vertices=max(config.vertices), number=total)
    found.append(Verdict.at_least(claim, *interval(beaten, total), 0.05, basis="measured"))
    for order, count in zip(ORDERS, dearer, strict=True):
        name = Text(f"elimination_orders.order.{order}")
        control = order == "optimal"
        kind = "control" if control else "dearer"
        claim = Text(f"elimination_orders.claim.{kind}", order=name)
        basis: Basis = "identity" if control else "measured"  # nothing is below the least
        ends = interval(count, total)
        found.append(Verdict.at_least(claim, *ends, 0.02, control=control, basis=basis))
    found.append(mixed.verdict(data))
    for program in dict.fromkeys(config.programs):
        name = Text(f"elimination_orders.program.{program}")
        costs, error = data[f"{program}_costs"], float(data[f"{program}_error"])
        ratio = costs[2] / min(costs[MODES])
        claim = Text("elimination_orders.claim.program", program=name)
        found.append(Verdict.at_most(claim, ratio, ratio, ratio, 1.0, basis="arithmetic"))
        claim = Text("elimination_orders.claim.agrees", program=name)
        found.append(Verdict.at_most(claim, error, error, error, 1e-10, basis="identity"))
    return found


def _exactly(claim: str, off: float, **params: Any) -> Verdict:
    """Judge counts that must be equal."""
    words = Text(f"elimination_orders.claim.{claim}", **params)
    return Verdict.at_most(words, off, off, off, 0.0, basis="identity")
