"""In the backward pass of a feed-forward network every derivative has the shape of its value.

Forward: v_0 = x (b x d), a_k = v_{k-1} w_k with w_k (n_{k-1} x n_k), v_k = sigma(a_k), the last
layer without sigma, L = |v_K - y|^2 / (2b). Backward, by hand: dL/dv_K = (v_K - y)/b, dL/da_k =
dL/dv_k * sigma'(a_k), dL/dw_k = v_{k-1}^T dL/da_k (n_{k-1} x n_k), dL/dv_{k-1} = dL/da_k w_k^T
(b x n_{k-1}). Reverse mode on the graph of the network must find the same, entry by entry.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from pydantic import Field

from adlab import drawing, graphs, lab, models
from adlab.figures import panels, style
from adlab.figures.labels import text
from adlab.lab import Text, Verdict

from .needs import needs as needs

Arrays = dict[str, np.ndarray]
Width = Annotated[int, Field(ge=1)]
_ROUND_OFF = 1e-13  # of the trace's and NumPy's products in float64, relative to the largest entry


class Config(lab.ExperimentConfig):
    """The network and its batch."""

    x64: Literal[True] = True
    """Compute in float64: the comparison is to the last digits."""
    batch_size: Width = 8
    """Examples b."""
    inputs: Width = 4
    """Length d = n_0 of an example."""
    hidden: Annotated[tuple[Width, ...], Field(min_length=1, max_length=5)] = (6, 5)
    """Widths n_1, ..., n_{K-1}."""
    outputs: Width = 3
    """Number n_K of outputs."""
    activation: Literal["tanh", "relu"] = "tanh"
    """sigma."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Widths n_0, ..., n_K."""
        return (self.inputs, *self.hidden, self.outputs)


def run(config: Config, progress: lab.Progress) -> Arrays:
    """Trace the network backward; store every value and derivative by its name in the lecture."""
    del progress
    graph = _graph(config)
    derivatives = {r.node: r.derivative for r in graphs.reverse_trace(graph)}
    data: Arrays = {}
    for node in graph.nodes:
        data[f"value_{node.name}"] = np.asarray(node.value)
        if node.place in derivatives:
            data[f"derivative_{node.name}"] = np.asarray(derivatives[node.place])
    return data | _jacobians(data, config)


def _jacobians(data: Arrays, config: Config) -> Arrays:
    """Return the Jacobian of each layer at the first example, of shape (n_k, n_{k-1})."""
    sigma = {"tanh": jnp.tanh, "relu": jax.nn.relu}[config.activation]
    depth, found = len(config.sizes) - 1, {}
    for k in range(1, depth + 1):
        state = data[f"value_v{k - 1}" if k > 1 else "value_x"][0]

        def layer(v: Any, w: Any, last: bool = k == depth) -> Any:
            return v @ w if last else sigma(v @ w)

        found[f"jacobian_v{k}"] = np.asarray(jax.jit(jax.jacfwd(layer))(state, data[f"value_w{k}"]))
    return found


def _graph(config: Config) -> graphs.Graph:
    """Return the graph of the loss, its nodes named as the lecture's formulas name them."""
    model = models.mlp(
        inputs=config.inputs, hidden=config.hidden, outputs=config.outputs,
        activation=config.activation, bias=False,
    )  # fmt: skip
    keys = jax.random.split(jax.random.key(config.seed), 3)
    params = model.init(keys[0], jnp.float64)
    x = jax.random.normal(keys[1], (config.batch_size, config.inputs), jnp.float64)
    y = jax.random.normal(keys[2], (config.batch_size, config.outputs), jnp.float64)
    weights = [f"w{k}" for k in range(1, len(params) + 1)]
    loss = functools.partial(_loss, model)
    return _renamed(graphs.build(loss, params, x, y, names=[*weights, "x", "y"]), len(params))


def _loss(model: models.Model, params: Any, x: Any, y: Any) -> Any:
    return jnp.sum((model.apply(params, x) - y) ** 2) / (2 * len(y))


def _renamed(graph: graphs.Graph, depth: int) -> graphs.Graph:
    """Call products a_k and what sigma makes of them v_k; the last product v_K, as it has none."""
    names = {node.place: node.name for node in graph.nodes}
    k = rest = 0
    for step in graph.steps:
        (result,) = step.results
        if step.primitive == "dot_general":
            k += 1
            names[result] = f"a{k}" if k < depth else f"v{k}"
        elif k < depth:
            names[result] = f"v{k}"
        elif names[result] != "L":
            rest += 1
            names[result] = f"r{rest}"
    nodes = tuple(node._replace(name=names[node.place]) for node in graph.nodes)
    return dataclasses.replace(graph, nodes=nodes)


def by_hand(data: Arrays, config: Config) -> Arrays:
    """Return the backward pass as derived by hand, in NumPy, named as the trace's."""
    x, y = data["value_x"], data["value_y"]
    depth = len(config.sizes) - 1
    weights = [data[f"value_w{k}"] for k in range(1, depth + 1)]
    states, products = [x], []
    for k, w in enumerate(weights, start=1):
        a = states[-1] @ w
        products.append(a)
        sigma = np.tanh(a) if config.activation == "tanh" else np.maximum(a, 0)
        states.append(a if k == depth else sigma)
    found = {f"v{depth}": (states[-1] - y) / len(y)}
    upstream = found[f"v{depth}"]
    for k in range(depth, 0, -1):
        if k < depth:
            a = products[k - 1]
            slope = 1 - np.tanh(a) ** 2 if config.activation == "tanh" else (a > 0) * 1.0
            upstream = found[f"v{k}"] * slope
            found[f"a{k}"] = upstream
        found[f"w{k}"] = states[k - 1].T @ upstream
        found[f"v{k - 1}" if k > 1 else "x"] = upstream @ weights[k - 1].T
    return found


def shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Return the shape that the lecture gives each derivative, from the widths and the batch."""
    depth, rows = len(config.sizes) - 1, config.batch_size
    found: dict[str, tuple[int, ...]] = {"L": (), "x": (rows, config.inputs)}
    for k, (before, after) in enumerate(itertools.pairwise(config.sizes), start=1):
        found |= {f"w{k}": (before, after), f"v{k}": (rows, after)}
        if k < depth:  # the last layer has no sigma
            found[f"a{k}"] = (rows, after)
    return found


def verdicts(data: Arrays, config: Config) -> list[Verdict]:
    """Judge the shapes of all derivatives, then each by the backward pass derived by hand."""
    traced = {key.removeprefix("derivative_"): array for key, array in data.items()
              if key.startswith("derivative_")}  # fmt: skip
    expected = shapes(config)
    same = [name in traced and traced[name].shape == shape for name, shape in expected.items()]
    alike = sum(same) / len(same)
    claim = Text("feed_forward.claim.shapes", number=len(expected))
    found = [Verdict(claim, alike, alike, alike, 1.0, 0.0, basis="identity")]
    for name, hand in sorted(by_hand(data, config).items()):
        fits = traced[name].shape == hand.shape
        error = np.max(np.abs(traced[name] - hand)) / np.max(np.abs(hand)) if fits else np.inf
        claim = Text("feed_forward.claim.derivative", name=name)
        found.append(Verdict.at_most(claim, error, error, error, _ROUND_OFF, basis="identity"))
    return [*found, _chain(data, config)]


def _chain(data: Arrays, config: Config) -> Verdict:
    """Judge the chain rule through the layers of one example: dL/dx = dL/dv_K J_K ... J_1."""
    row = data[f"derivative_v{len(config.sizes) - 1}"][0]
    for k in range(len(config.sizes) - 1, 0, -1):
        row = row @ data[f"jacobian_v{k}"]
    exact = data["derivative_x"][0]
    error = np.max(np.abs(row - exact)) / np.max(np.abs(exact))
    claim = Text("feed_forward.claim.chain")
    return Verdict.at_most(claim, error, error, error, _ROUND_OFF, basis="identity")


def plot(data: Arrays, config: Config) -> dict[str, Figure]:
    """Draw the network's graph with the shape at each node, and both passes layer by layer."""
    graph = _graph(config)
    shapes = {node.place: f"${_sizes(data[f'value_{node.name}'])}$" for node in graph.nodes}
    title = text("feed_forward.figure.graph")
    network = drawing.draw(graph, title=title, captions=shapes)
    return {"graph": network, "network": _network(data, config), "passes": _passes(data, config)}


def _network(data: Arrays, config: Config) -> Figure:
    """Draw layers of units with the shapes of values, weights and Jacobians that were found."""
    depth = len(config.sizes) - 1
    names = [f"v{k}" if k else "x" for k in range(depth + 1)]
    above, below = [], []
    for k, name in enumerate(names):
        if k:
            jacobian, weight = data[f"jacobian_v{k}"], data[f"derivative_w{k}"]
            below.append(
                rf"$\partial v_{k}/\partial v_{k - 1}$" + f"\n${_sizes(jacobian)}$\n"
                + rf"$\partial L/\partial w_{k}$" + f"\n${_sizes(weight)}$"
            )  # fmt: skip
            above.append(f"$w_{k}$\n${_sizes(data[f'value_w{k}'])}$")
        above.append(f"$v_{k}$\n${_sizes(data[f'value_{name}'])}$")
        derivative = _sizes(data[f"derivative_{name}"])
        below.append(rf"$\partial L/\partial v_{k}$" + f"\n${derivative}$")
    states = [data[f"value_{name}"] for name in names]
    weights = [data[f"value_w{k}"] for k in range(1, depth + 1)]
    title = text("feed_forward.figure.network", batch=config.batch_size)
    return drawing.draw_network(states, weights, title=title, above=above, below=below)


def _sizes(array: np.ndarray) -> str:
    return r" \times ".join(map(str, array.shape)) or "1"


def _passes(data: Arrays, config: Config) -> Figure:
    """Draw a table: a row per layer, forward downward and backward upward, shapes below."""
    figure, grid = panels.grid(title=text("feed_forward.figure.passes"))
    ax, depth, tone = grid[0, 0], len(config.sizes) - 1, style.color("reverse_mode")
    ax.set_axis_off()
    rows = depth + 2  # one of them for the heads, and for the rule
    columns = ((0.0, "forward", style.THEORY), (0.345, "state", tone), (0.69, "weight", tone))
    for place, head, color in columns:
        label = text(f"feed_forward.figure.{head}")
        ax.text(place, 1.0, label, fontsize=23, weight="bold", va="center", color=color)
    cells = [_row(data, k, depth) for k in range(depth + 1)]
    longest = max(sum(map(str.isdigit, shapes)) for row in cells for _, shapes in row)
    sizes = (27, 21 if longest <= 9 else 18)  # so that three products stand side by side
    for k, row in enumerate(cells):
        top = 1 - (k + 0.5) / rows
        ax.axhline(top, color=style.tone("pale"), linewidth=1.5)
        for (place, _, color), cell in zip(columns, row, strict=True):
            for line, shift, size in zip(cell, (0.31, 0.73), sizes, strict=True):
                ax.text(place, top - shift / rows, line, fontsize=size, va="center", color=color)
    ends = 1 - 0.6 / rows, 1 - (depth + 1.4) / rows
    for place, (start, end), color in (
        (-0.025, ends, style.THEORY), (0.32, ends[::-1], tone),
    ):  # fmt: skip
        arrow = {"arrowstyle": "-|>", "color": color, "linewidth": 3.5, "mutation_scale": 28}
        ax.annotate("", (place, end), (place, start), arrowprops=arrow)
    ax.axhline(ends[1] - 0.1 / rows, color=style.tone("pale"), linewidth=1.5)
    rule = r"$a_k = v_{k-1} w_k$,   $\partial L/\partial a_k = \partial L/\partial v_k"
    ax.text(0.345, 0.02, rule + r" \odot \sigma'(a_k)$", fontsize=21, va="center")
    ax.set(xlim=(-0.04, 1), ylim=(-0.03, 1.05))
    return figure


def _row(data: Arrays, k: int, depth: int) -> tuple[tuple[str, str], ...]:
    """Return for layer k the formulas of v_k and of the derivatives in v_k and w_k, with shapes."""
    name = f"v{k}" if k else "x"
    states = {j: data[f"value_{f'v{j}' if j else 'x'}"] for j in range(depth + 1)}
    state = (f"$(v_{k} - y)/b$", f"${_sizes(data[f'derivative_{name}'])}$")
    if k < depth:
        above = "v" if k + 1 == depth else "a"  # the last layer has no sigma
        w = data[f"value_w{k + 1}"]
        state = (
            rf"$\partial L/\partial {above}_{k + 1}\; w_{k + 1}^T$",
            _product(states[k + 1], w.T, data[f"derivative_{name}"]),
        )
    if not k:
        return ("$v_0 = x$", f"${_sizes(states[0])}$"), state, ("", "")
    product = rf"v_{k - 1} w_{k}"
    forward = f"$v_{k} = {product}$" if k == depth else rf"$v_{k} = \sigma({product})$"
    mine = "v" if k == depth else "a"
    before, weight = states[k - 1], data[f"derivative_w{k}"]
    return (
        (forward, _product(before, data[f"value_w{k}"], states[k])),
        state,
        (
            rf"$v_{k - 1}^T\; \partial L/\partial {mine}_{k}$",
            _product(before.T, states[k], weight),
        ),
    )


def _product(one: np.ndarray, other: np.ndarray, result: np.ndarray) -> str:
    """Return the shapes of two factors and of what was found as their product."""
    return rf"$({_sizes(one)})\,({_sizes(other)}) \to {_sizes(result)}$"
