"""The computational graph of any JAX function: values as nodes, primitives as steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks
from adlab.core.types import Array, PyTree
from adlab.graphs import _notebook

__all__ = ["Graph", "LiteralOperand", "Node", "Step"]

Kind = Literal["input", "constant", "step"]


class Node(NamedTuple):
    """A value of the function.

    Attributes:
      place: its index in `Graph.nodes`.
      name: the argument's for inputs (`w1`, `params.kernel`), c1, c2, ... for constant arrays, v1,
        v2, ... in the order of computation for results of steps, but L for the one scalar output,
        and y or y1, y2, ... for other outputs.
      kind: where it comes from.
      shape: of the value.
      dtype: of the value.
      value: at the arguments that the graph was built at; a shape where these were shapes.
    """

    place: int
    name: str
    kind: Kind
    shape: tuple[int, ...]
    dtype: np.dtype
    value: Any


class LiteralOperand(NamedTuple):
    """An operand that is a literal of the program, such as the 2.0 of x ** 2.0.

    Attributes:
      value: the number, mostly without a shape.
    """

    value: Any


@dataclass(frozen=True, eq=False)
class Step:
    """A primitive applied to operands.

    Attributes:
      primitive: its name in JAX; of a function with a derivative rule of its own, that function's.
      operands: indices of nodes, and literals.
      results: indices of nodes.
      params: of the primitive.
      fun: maps the values of the operands that are nodes, in order, to the list of results; JAX
        differentiates it by the primitive's own rule.
    """

    primitive: str
    operands: tuple[int | LiteralOperand, ...]
    results: tuple[int, ...]
    params: dict[str, Any]
    fun: Callable[..., list[Any]]

    def __repr__(self) -> str:
        return f"Step({self.primitive}, {self.operands} -> {self.results})"

    @property
    def parents(self) -> tuple[int, ...]:
        """The operands that are nodes, in order."""
        return tuple(operand for operand in self.operands if isinstance(operand, int))

    @property
    def has_own_rule(self) -> bool:
        """Whether it is a function with a derivative rule of its own, which may have any name."""
        return not self.params.keys().isdisjoint({"jvp_jaxpr_fun", "fwd_jaxpr_thunk"})


@dataclass(frozen=True, eq=False)
class Graph:
    """A function as nodes and steps; see `build`. A notebook shows its picture.

    Attributes:
      nodes: in topological order, parents first.
      steps: in the order of computation.
      inputs: indices of nodes, one per leaf of the arguments.
      outputs: indices of nodes, one per leaf of what the function returns.
      in_tree: the structure of the arguments.
      out_tree: the structure of what the function returns.
    """

    nodes: tuple[Node, ...]
    steps: tuple[Step, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    in_tree: jax.tree_util.PyTreeDef
    out_tree: jax.tree_util.PyTreeDef

    def __repr__(self) -> str:
        ends = (
            ", ".join(self.nodes[place].name for place in end)
            for end in (self.inputs, self.outputs)
        )
        sizes = f"{len(self.nodes)} nodes, {len(self.steps)} steps"
        return f"Graph({' -> '.join(ends)}: {sizes})"

    def _repr_html_(self) -> str:
        return _notebook.picture(self)

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Pairs (parent, child) of indices of nodes, each once, in the order of computation."""
        pairs = [(a, b) for step in self.steps for b in step.results for a in step.parents]
        return tuple(dict.fromkeys(pairs))

    def named(self, name: str) -> Node:
        """Return the node of that name.

        Raises:
          ValueError: there is none; the nearest match is given.
        """
        found = {node.name: node for node in self.nodes}
        checks.one_of("name", name, found)
        return found[name]

    def values(self, *args: PyTree) -> list[Array]:
        """Return the values of all nodes at `args`; traceable.

        Raises:
          ValueError: `args` are of another structure, or a leaf is of another shape.
        """
        leaves, tree = jax.tree.flatten(args)
        if tree != self.in_tree:
            raise ValueError(f"arguments must have the structure {self.in_tree}, got {tree}")
        values: list[Array] = [node.value for node in self.nodes]
        for index, leaf in zip(self.inputs, leaves, strict=True):
            node = self.nodes[index]
            if np.shape(leaf) != node.shape:
                raise ValueError(
                    f"{node.name} must have shape {node.shape}, as the graph was built, got "
                    f"{np.shape(leaf)}"
                )
            values[index] = jnp.asarray(leaf, node.dtype)
        for step in self.steps:
            results = step.fun(*(values[index] for index in step.parents))
            for index, value in zip(step.results, results, strict=True):
                values[index] = value
        return values

    def __call__(self, *args: PyTree) -> PyTree:
        """Evaluate the function."""
        values = self.values(*args)
        return jax.tree.unflatten(self.out_tree, [values[index] for index in self.outputs])
