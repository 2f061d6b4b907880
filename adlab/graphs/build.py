"""From a JAX function to its computational graph, through its jaxpr."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks, jaxprs
from adlab.core.types import PyTree, TreeFn
from adlab.graphs.graph import Graph, LiteralOperand, Node, Step

__all__ = ["build"]

_FOLDED = 2**16  # numbers up to which what depends on nothing is a constant, computed at once
_COMMUTATIVE = frozenset(["add", "mul", "max", "min", "add_any"])


def build(
    fun: TreeFn,
    *args: PyTree,
    names: Sequence[str] | None = None,
    inline: Sequence[str] = (),
) -> Graph:
    """Take a JAX function apart into its computational graph at `args`.

    Nested jit and checkpoint are inlined. Functions with a derivative rule of their own, loops and
    branches are single steps, whose derivative is what JAX makes of them. The same primitive with
    the same operands is one node, however often the function writes it; what no output needs is
    left out.

    >>> fun = lambda w1, w2: w2 * jnp.log(w1) + jnp.sqrt(w2 * jnp.log(w1))
    >>> graph = build(fun, 2.0, 3.0)
    >>> [(graph.nodes[step.results[0]].name, step.primitive) for step in graph.steps]
    [('v1', 'log'), ('v2', 'mul'), ('v3', 'sqrt'), ('L', 'add')]

    Args:
      fun: traceable by JAX; arguments and results are pytrees.
      *args: numbers or arrays, or `jax.ShapeDtypeStruct` for a graph without values.
      names: of the leaves of `args`, in order; by default those of the parameters of `fun`, with
        the path of the leaf, as in `params.kernel`.
      inline: names of functions with a rule of their own ("relu", ...), or "custom" for all of
        them, to be taken apart too; their derivative then is that of their parts.

    Returns:
      The Graph.

    Raises:
      TypeError: `fun` isn't callable, or JAX can't trace it.
      ValueError: not one name per leaf, or names that aren't unique; `fun` uses mutable
        references.
    """
    if not callable(fun):
        raise TypeError(f"fun must be callable, got {fun!r}")
    closed, shape = jax.make_jaxpr(fun, return_shape=True)(*args)
    leaves, in_tree = jax.tree.flatten(args)
    found = list(names) if names is not None else _names(fun, args)
    if len(found) != len(leaves) or len(set(found)) < len(found):
        raise ValueError(f"names must be {len(leaves)} different ones, got {found}")
    reader = _Reader(frozenset(inline))
    inputs = [
        reader.node("input", var.aval, leaf)
        for var, leaf in zip(closed.jaxpr.invars, leaves, strict=True)
    ]
    outputs = reader.read(closed, inputs)
    outputs = [
        reader.constant(out.value) if isinstance(out, LiteralOperand) else out for out in outputs
    ]
    return reader.graph(inputs, outputs, found, in_tree, jax.tree.structure(shape))


def _names(fun: Callable[..., Any], args: tuple[Any, ...]) -> list[str]:
    """Name every leaf of the arguments: by parameter and path."""
    try:
        parameters = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    several = [p for p in parameters if p.kind is p.VAR_POSITIONAL]
    single = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    rest = several[0].name if several else "x"
    heads = single[: len(args)]
    numbered = (f"{rest}{i}" for i in itertools.count(1))
    free = (name for name in numbered if name not in single)
    heads += itertools.islice(free, len(args) - len(heads))
    names = []
    for head, arg in zip(heads, args, strict=True):
        for path, _ in jax.tree_util.tree_leaves_with_path(arg):
            tail = jax.tree_util.keystr(path, simple=True, separator=".")
            names.append(f"{head}.{tail}" if tail else head)
    return names


class _Reader:
    """Collects nodes and steps from a jaxpr and those within it."""

    def __init__(self, inline: frozenset[str]) -> None:
        self.inline = inline
        self.nodes: list[Node] = []
        self.steps: list[Step] = []
        self.seen: dict[Any, tuple[int, ...]] = {}
        self.constants: dict[int, tuple[int, Any]] = {}

    def node(self, kind: Any, aval: Any, value: Any) -> int:
        self.nodes.append(Node(len(self.nodes), "", kind, tuple(aval.shape), aval.dtype, value))
        return len(self.nodes) - 1

    def constant(self, value: Any) -> int:
        """Return the node of a constant array, the same for the same array."""
        if id(value) not in self.constants:
            self.constants[id(value)] = (self.node("constant", jax.typeof(value), value), value)
        return self.constants[id(value)][0]

    def read(
        self, closed: Any, inputs: Sequence[int | LiteralOperand]
    ) -> list[int | LiteralOperand]:
        """Read a closed jaxpr whose inputs are these operands; return its outputs."""

        def step(equation: Any, operands: list[int | LiteralOperand]) -> list[int | LiteralOperand]:
            inner = self._inner(equation)
            return self.read(inner, operands) if inner else self._step(equation, operands)

        def constant(value: Any) -> int | LiteralOperand:
            return LiteralOperand(value) if _is_number(value) else self.constant(value)

        return jaxprs.walk(closed, inputs, step, literal=LiteralOperand, constant=constant)

    def _inner(self, equation: Any) -> Any:
        """Return the closed jaxpr to read in place of the equation, or None."""
        name = equation.primitive.name
        custom = name in jaxprs.CUSTOM_RULES
        if custom and not self.inline.isdisjoint({"custom", _own_name(equation)}):
            return jaxprs.called(equation)
        calls = name in jaxprs.CALLS or name in jaxprs.CHECKPOINTS
        return jaxprs.called(equation) if calls else None

    def _step(
        self, equation: Any, operands: list[int | LiteralOperand]
    ) -> list[int | LiteralOperand]:
        if _changes_nothing(equation):
            return operands
        _require_pure(equation)
        key = _identity(equation, operands)
        if key is not None and key in self.seen:
            return list(self.seen[key])
        size = sum(math.prod(var.aval.shape) for var in equation.outvars)
        fixed = not any(isinstance(operand, int) for operand in operands)
        if fixed and not equation.effects and size <= _FOLDED:
            constants = [self.constant(value) for value in _function(equation, operands)()]
            self.seen[key] = tuple(constants)
            return list(constants)
        results = tuple(self.node("step", var.aval, None) for var in equation.outvars)
        fun = _function(equation, operands)
        self.steps.append(
            Step(_own_name(equation), tuple(operands), results, dict(equation.params), fun)
        )
        if key is not None:
            self.seen[key] = results
        return list(results)

    def graph(
        self,
        inputs: list[int],
        outputs: list[Any],
        names: list[str],
        in_tree: jax.tree_util.PyTreeDef,
        out_tree: jax.tree_util.PyTreeDef,
    ) -> Graph:
        """Keep what the outputs need, in order, under new indices; name it and evaluate it."""
        needed = set(outputs)
        for step in reversed(self.steps):
            if needed.intersection(step.results):
                needed.update(step.parents)
                needed.update(step.results)
        needed.update(inputs)
        kept = [node for node in self.nodes if node.place in needed]
        new = {node.place: place for place, node in enumerate(kept)}
        steps = tuple(
            Step(
                step.primitive,
                tuple(new[op] if isinstance(op, int) else op for op in step.operands),
                tuple(new[index] for index in step.results),
                step.params,
                step.fun,
            )
            for step in self.steps
            if needed.intersection(step.results)
        )
        ends = tuple(new[index] for index in outputs)
        labels = _labels(kept, [new[index] for index in inputs], names, ends)
        nodes = [node._replace(place=place, name=labels[place]) for place, node in enumerate(kept)]
        starts = tuple(new[index] for index in inputs)
        return Graph(_evaluated(nodes, steps), steps, starts, ends, in_tree, out_tree)


def _labels(
    nodes: list[Node], inputs: list[int], names: list[str], outputs: tuple[int, ...]
) -> dict[int, str]:
    """Return a name for every node."""
    labels = dict(zip(inputs, names, strict=True))
    free = [end for end in dict.fromkeys(outputs) if end not in labels]
    letter = "L" if len(free) == 1 and nodes[free[0]].shape == () else "y"
    wanted = [letter] if len(free) == 1 else [f"y{i + 1}" for i in range(len(free))]
    while not set(names).isdisjoint(wanted):
        wanted = [f"out_{name}" for name in wanted]
    labels |= dict(zip(free, wanted, strict=True))
    counts = {"constant": 0, "step": 0}
    used = set(labels.values())
    for place, node in enumerate(nodes):
        if place in labels:
            continue
        letter = "c" if node.kind == "constant" else "v"
        while True:
            counts[node.kind] += 1
            name = f"{letter}{counts[node.kind]}"
            if name not in used:
                break
        labels[place] = name
    return labels


def _evaluated(nodes: list[Node], steps: tuple[Step, ...]) -> tuple[Node, ...]:
    """Fill in values, or shapes where an argument is a shape or is being traced."""
    values: dict[int, Any] = {n.place: n.value for n in nodes if n.kind != "step"}
    abstract = any(isinstance(value, jax.ShapeDtypeStruct) for value in values.values())
    for step in steps:
        if abstract or not checks.concrete(list(values.values())):
            results = [jax.ShapeDtypeStruct(nodes[i].shape, nodes[i].dtype) for i in step.results]
        else:
            results = step.fun(*(values[index] for index in step.parents))
        values.update(zip(step.results, results, strict=True))
    return tuple(node._replace(value=values[node.place]) for node in nodes)


def _function(equation: Any, operands: list[int | LiteralOperand]) -> Callable[..., list[Any]]:
    """Return the equation as a function of the operands that are nodes."""
    numbers = {k: op.value for k, op in enumerate(operands) if isinstance(op, LiteralOperand)}
    return jaxprs.step_function(equation, numbers)


def _own_name(equation: Any) -> str:
    """Return the primitive's name, or that of the function whose derivative rule it carries."""
    name, params = equation.primitive.name, equation.params
    if name not in jaxprs.CUSTOM_RULES:
        return str(name)
    inner = params.get("call_jaxpr") or params.get("fun_jaxpr")
    debug = getattr(getattr(inner, "jaxpr", inner), "debug_info", None)
    return str(params.get("name") or getattr(debug, "func_name", None) or name)


def _changes_nothing(equation: Any) -> bool:
    """Tell whether the result is the operand: a copy, or a cast to the dtype it has."""
    name = equation.primitive.name
    if name in ("copy", "copy_p"):
        return True
    if name != "convert_element_type":
        return False
    before, after = equation.invars[0].aval, equation.outvars[0].aval
    return (before.shape, before.dtype) == (after.shape, after.dtype)


def _require_pure(equation: Any) -> None:
    """Raise ValueError where the equation makes, reads or writes a mutable reference."""
    avals = [atom.aval for atom in (*equation.invars, *equation.outvars)]
    if equation.primitive.name in ("new_ref", "mutable_array", "freeze") or any(
        type(aval).__name__ == "AbstractRef" for aval in avals
    ):
        raise ValueError(
            f"fun must not use mutable references, got {equation.primitive.name}; a node has one "
            "value"
        )


def _is_number(value: Any) -> bool:
    """Tell whether the value can stand in the program itself: a number that is known."""
    known = checks.concrete(value) and np.ndim(value) == 0
    return known and not jnp.issubdtype(jax.typeof(value).dtype, jax.dtypes.extended)


def _identity(equation: Any, operands: list[int | LiteralOperand]) -> Any:
    """Return what two equations share when they compute the same; None where it can't be told."""
    if equation.effects:
        return None
    parts = [
        op
        if isinstance(op, int)
        else (np.asarray(op.value).tobytes(), str(atom.aval.dtype), atom.aval.shape)
        for atom, op in zip(equation.invars, operands, strict=True)
    ]
    if equation.primitive.name in _COMMUTATIVE:
        parts = sorted(parts, key=repr)
    params = sorted(equation.params.items(), key=lambda item: item[0])
    key = (equation.primitive.name, tuple(parts), tuple(params))
    try:
        hash(key)
    except TypeError:
        return None
    return key
