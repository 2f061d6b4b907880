"""Forward and reverse mode on a graph, one step at a time, as records.

The local derivatives are JAX's own, one primitive at a time, so that every primitive which JAX can
differentiate can be traced.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks
from adlab.core.types import ArrayLike
from adlab.graphs import formulas
from adlab.graphs.graph import Graph, Step
from adlab.graphs.records import (
    STYLES,
    LocalPartial,
    Record,
    Records,
    Written,
    forward_chain,
    fraction,
    reverse_chain,
)

__all__ = ["forward_trace", "reverse_trace"]


def forward_trace(
    graph: Graph, wrt: str, tangent: ArrayLike | None = None, *, zeros: bool = False
) -> Records:
    """Carry derivatives in the input `wrt` from the inputs to the outputs.

    A record for the input and one for each result of a step, in the order of computation. Nodes
    that don't depend on `wrt` have derivative 0.

    >>> from adlab.graphs import build
    >>> graph = build(lambda w1, w2: w2 * jnp.log(w1), 2.0, 3.0)
    >>> [forward_trace(graph, "w1", zeros=keep)[-1].chain["text"][-1] for keep in (False, True)]
    ['w2·∂v1/∂w1', 'v1·∂w2/∂w1 + w2·∂v1/∂w1']

    Args:
      graph: built at concrete arguments.
      wrt: the name of an input.
      tangent: its direction, shaped as it; 1 where it is a number.
      zeros: whether to write out terms that are 0 because a parent doesn't depend on `wrt`, with a
        record for each other floating-point input, after that of `wrt`. Derivatives are the same.

    Raises:
      ValueError: no input of that name; one that isn't floating-point; no tangent for an array, or
        one of another shape; a graph without values; a value or derivative that isn't finite where
        those before it are, such as the logarithm of a negative number: the node is named.
    """
    _require_values(graph)
    names = {graph.nodes[index].name: index for index in graph.inputs}
    checks.one_of("wrt", wrt, names)
    source = names[wrt]
    tangents: dict[int, Any] = {source: _tangent(graph, source, tangent)}
    if zeros:
        tangents |= {k: v for k, v in _zeros(graph, graph.inputs).items() if k != source}
    records = [_source_record(graph, k, wrt, tangents[k]) for k in tangents]
    for step in graph.steps:
        _push(graph, step, tangents)
        for index in step.results:
            derivative = tangents.get(index, np.zeros(graph.nodes[index].shape))
            _require_finite(graph, step, index, derivative)
            partials = tuple(
                part for part in _partials(graph, step, index) if part.parent in tangents
            )
            chain = {style: forward_chain(graph, index, wrt, partials, style) for style in STYLES}
            records.append(
                Record(index, "forward", _formula(graph, step), graph.nodes[index].value,
                       partials, derivative, chain)
            )  # fmt: skip
    return Records(graph, records)


def reverse_trace(graph: Graph, output: str | None = None, *, zeros: bool = False) -> Records:
    """Carry derivatives of a scalar output from it back to all inputs.

    A record for the output and one for each node that it depends on, in the order in which their
    derivatives become final: children first.

    Args:
      graph: built at concrete arguments.
      output: the name of the output, where there are several.
      zeros: whether to keep what is 0 because the output doesn't depend on it: the records of such
        floating-point nodes, and the terms of such children. The output's record still comes first.

    Raises:
      ValueError: the output isn't a single floating-point number; several outputs and no name; a
        graph without values; a value or derivative that isn't finite.
    """
    _require_values(graph)
    target = _target(graph, output)
    for step in graph.steps:
        for index in step.results:
            _require_finite(graph, step, index, None)
    cotangents = _zeros(graph, range(len(graph.nodes))) if zeros else {}
    cotangents[target] = jnp.ones((), graph.nodes[target].dtype)
    entering: dict[int, list[LocalPartial]] = {}
    for step in reversed(graph.steps):
        if not any(index in cotangents for index in step.results):
            continue
        _pull(graph, step, cotangents)
        for index in step.results:
            for part in _partials(graph, step, index):
                if part.parent in cotangents and index in cotangents:
                    entering.setdefault(part.parent, []).append(part)
    makers = {index: step for step in graph.steps for index in step.results}
    records = []
    for node in sorted(reversed(graph.nodes), key=lambda node: node.place != target):
        if node.place not in cotangents:
            continue
        made = makers.get(node.place)
        _require_finite(graph, made, node.place, cotangents[node.place])
        partials = () if node.place == target else tuple(entering.get(node.place, ()))
        chain = {
            style: reverse_chain(graph, node.place, target, partials, style) for style in STYLES
        }
        written = None if made is None else _formula(graph, made)
        records.append(
            Record(
                node.place, "reverse", written, node.value, partials, cotangents[node.place], chain
            )
        )
    return Records(graph, records)


def _source_record(graph: Graph, source: int, wrt: str, tangent: Any) -> Record:
    chain: dict[formulas.Style, tuple[str, ...]] = {
        style: (fraction(graph, source, wrt, style),) for style in STYLES
    }
    return Record(source, "forward", None, graph.nodes[source].value, (), tangent, chain)


def _formula(graph: Graph, step: Step) -> Written:
    return {style: formulas.formula(graph, step, style) for style in STYLES}


def _require_values(graph: Graph) -> None:
    if any(isinstance(node.value, jax.ShapeDtypeStruct) for node in graph.nodes):
        raise ValueError("graph must hold values to be traced: build it at numbers, not at shapes")


def _require_finite(graph: Graph, step: Step | None, index: int, derivative: Any) -> None:
    """Raise ValueError where the value or the derivative of a node, if given, isn't finite."""
    node = graph.nodes[index]
    if not jnp.issubdtype(node.dtype, jnp.inexact):
        return
    for what, value in (("value", node.value), ("derivative", derivative)):
        if value is None or np.all(np.isfinite(np.asarray(value))):
            continue
        written = node.name if step is None else f"{node.name} = {formulas.formula(graph, step)}"
        parents = (index,) if step is None else step.parents
        operands = ", ".join(
            f"{graph.nodes[parent].name} = {graph.nodes[parent].value!s}"
            for parent in dict.fromkeys(parents)
        )
        raise ValueError(
            f"the {what} of {written} must be finite, got {np.asarray(value)!s} at {operands}"
        )


def _tangent(graph: Graph, source: int, tangent: Any) -> Any:
    node = graph.nodes[source]
    if not jnp.issubdtype(node.dtype, jnp.floating):
        raise ValueError(f"wrt must name a floating-point input, got {node.name} of {node.dtype}")
    if tangent is None and node.shape:
        raise ValueError(
            f"tangent must be given for the array {node.name} of shape {node.shape}, got None; "
            "pass the direction along which to differentiate"
        )
    tangent = jnp.asarray(1.0 if tangent is None else tangent, node.dtype)
    if tangent.shape != node.shape:
        raise ValueError(f"tangent must have shape {node.shape}, got {tangent.shape}")
    return tangent


def _zeros(graph: Graph, places: Iterable[int]) -> dict[int, Any]:
    """Return a zero for each of these nodes that is floating-point and no constant."""
    nodes = [graph.nodes[place] for place in places]
    return {
        node.place: jnp.zeros(node.shape, node.dtype)
        for node in nodes
        if jnp.issubdtype(node.dtype, jnp.inexact) and node.kind != "constant"
    }


def _target(graph: Graph, output: str | None) -> int:
    names = {graph.nodes[index].name: index for index in graph.outputs}
    if output is None and len(names) > 1:
        raise ValueError(f"output must be one of {', '.join(names)}, got None")
    if output is not None:
        checks.one_of("output", output, names)
    target = names[output] if output is not None else graph.outputs[0]
    node = graph.nodes[target]
    if node.shape != () or not jnp.issubdtype(node.dtype, jnp.floating):
        raise ValueError(
            f"the output of a reverse trace must be one floating-point number, got {node.name} of "
            f"shape {node.shape} and dtype {node.dtype}"
        )
    return target


def _moving(graph: Graph, step: Step) -> list[int]:
    """Return the places among the step's parents that are floating-point and no constants."""
    return [
        place
        for place, parent in enumerate(step.parents)
        if jnp.issubdtype(graph.nodes[parent].dtype, jnp.inexact)
        and graph.nodes[parent].kind != "constant"
    ]


def _restricted(graph: Graph, step: Step, values: Sequence[Any]) -> tuple[Any, list[int]]:
    """Return the step as a function of its floating-point parents, with their places."""
    moving = _moving(graph, step)

    def fun(*inputs: Any) -> list[Any]:
        full = list(values)
        for place, value in zip(moving, inputs, strict=True):
            full[place] = value
        return step.fun(*full)

    return fun, moving


def _push(graph: Graph, step: Step, tangents: dict[int, Any]) -> None:
    parents = step.parents
    values = [graph.nodes[parent].value for parent in parents]
    fun, moving = _restricted(graph, step, values)
    if not any(parents[place] in tangents for place in moving):
        return
    primals = [jnp.asarray(values[place]) for place in moving]
    directions = [
        tangents.get(parents[place], jnp.zeros_like(x))
        for place, x in zip(moving, primals, strict=True)
    ]
    try:
        _, out = jax.jvp(fun, primals, directions)
    except TypeError as error:
        if "forward-mode" not in str(error):
            raise
        node = graph.nodes[step.results[0]]
        raise ValueError(
            f"{node.name} = {formulas.formula(graph, step)} must have a rule for forward mode, got "
            "one for reverse mode alone; take reverse_trace, or build the graph with "
            f"inline=[{step.primitive!r}]"
        ) from error
    for index, derivative in zip(step.results, out, strict=True):
        if jnp.issubdtype(graph.nodes[index].dtype, jnp.inexact):
            tangents[index] = derivative


def _pull(graph: Graph, step: Step, cotangents: dict[int, Any]) -> None:
    parents = step.parents
    values = [graph.nodes[parent].value for parent in parents]
    fun, moving = _restricted(graph, step, values)
    if not moving:
        return
    out, pull = jax.vjp(fun, *(jnp.asarray(values[place]) for place in moving))
    seeds = [
        cotangents.get(index, _zero(value)) for index, value in zip(step.results, out, strict=True)
    ]
    for place, addend in zip(moving, pull(seeds), strict=True):
        parent = parents[place]
        cotangents[parent] = cotangents[parent] + addend if parent in cotangents else addend


def _zero(value: Any) -> Any:
    if jnp.issubdtype(value.dtype, jnp.inexact):
        return jnp.zeros_like(value)
    return np.zeros(value.shape, jax.dtypes.float0)


def _partials(graph: Graph, step: Step, index: int) -> list[LocalPartial]:
    """Return the local derivatives of one result in each operand that is a node, in order.

    An operand that stands in several places has one for each.
    """
    found: list[LocalPartial] = []
    if not jnp.issubdtype(graph.nodes[index].dtype, jnp.inexact):
        return found
    parents = step.parents
    values = [graph.nodes[parent].value for parent in parents]
    fun, moving = _restricted(graph, step, values)
    output = step.results.index(index)
    scalar = graph.nodes[index].shape == () and all(
        graph.nodes[parents[place]].shape == () for place in moving
    )
    floating = all(
        jnp.issubdtype(graph.nodes[place].dtype, jnp.floating)
        for place in (index, *(parents[place] for place in moving))
    )
    places = [place for place, op in enumerate(step.operands) if isinstance(op, int)]
    primals = [jnp.asarray(values[place]) for place in moving]
    for k, place in enumerate(moving):
        value = None
        if scalar and floating:
            value = _slope(fun, primals, k, output)
        written = {style: formulas.partial(graph, step, places[place], style) for style in STYLES}
        formula = {s: w for s, w in written.items() if w is not None} or None
        found.append(LocalPartial(index, parents[place], formula, value))
    return found


def _slope(fun: Any, primals: list[Any], place: int, output: int) -> float:
    """Return the derivative of one scalar result in one scalar operand."""
    unit = [jnp.ones_like(x) if j == place else jnp.zeros_like(x) for j, x in enumerate(primals)]
    try:
        return float(jax.jvp(fun, primals, unit)[1][output])
    except TypeError:  # a rule for reverse mode alone
        out, pull = jax.vjp(fun, *primals)
        seeds = [jnp.ones_like(x) if j == output else _zero(x) for j, x in enumerate(out)]
        return float(pull(seeds)[place])
