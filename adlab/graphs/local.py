"""The derivative of each step in each operand, with the structure that its primitive gives it.

A program is a list of steps v_j = phi_j(v_i : i a parent of j), a directed acyclic graph. The chain
rule gives the derivative of an output y in an input x as a sum over paths,

    dy/dx = sum over paths x = v_0, ..., v_k = y of  C_{v_k v_{k-1}} ... C_{v_2 v_1} C_{v_1 v_0},

where C_{ji} is the derivative of phi_j in operand i with the other operands held fixed: the local
partial, one per edge. An operand in two places has one partial in each, and they add on its edge.
This module gives C_{ji}; `partials` multiplies and adds them; `elimination` orders the products.

Of arrays, C_{ji} is a linear map from the numbers of v_i to those of v_j, both in row-major order:
a matrix (m, n) that is mostly zeros or copies, and is written out only where nothing else is known.

* An elementwise step on an operand of its own shape has entry (v_j)_p depend on (v_i)_p alone, so
  that C_{ji} is diagonal, and one product with a vector of ones is that diagonal, exactly.
* A dot product is linear in each operand: C_{ji} holds entries of the other operand. Where all axes
  of this operand are summed over, it is the other operand itself, its axes permuted.
* Any other step stays what JAX makes of it: a map known by C_{ji} t (jvp) and by r^T C_{ji} (vjp).

None of these approximates: they are ways to hold the same matrix. Only primitives that are listed
are taken to have a structure; of an unknown one nothing is assumed.

A complex node of n entries is 2 n real numbers, all real parts before the imaginary ones: every
derivative is a linear map of real numbers, whether or not its step is holomorphic.

Source: Griewank & Walther (2008), Evaluating Derivatives, chapters 2 and 9 (the chain rule on a
graph, local partials), doi:10.1137/1.9780898717761.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core.flops import count_jaxpr
from adlab.graphs.graph import Graph, Node, Step
from adlab.graphs.partials import Edge, Form, add, add_cost

__all__ = ["local_edges", "local_forms", "work_dtype"]

Pair = tuple[int, int]
# Entry p of the result depends on entry p of each operand of the result's shape, and on no other.
_ELEMENTWISE = frozenset(
    [
        *("abs", "acos", "acosh", "add", "add_any", "asin", "asinh", "atan", "atan2", "atanh"),
        *("bessel_i0e", "bessel_i1e", "cbrt", "clamp", "convert_element_type", "copy", "cos"),
        *("cosh", "digamma", "div", "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "igamma"),
        *("integer_pow", "lgamma", "log", "log1p", "logistic", "max", "min", "mul", "neg"),
        *("nextafter", "pow", "reduce_precision", "rem", "rsqrt", "select_n", "sin"),
        *("sinh", "sqrt", "square", "sub", "tan", "tanh"),
    ]
)
# Of those, the ones whose derivative is 1 in every operand: no diagonal is computed.
_ONES = frozenset(["add", "add_any", "convert_element_type", "copy"])
# These copy, drop or add up entries: a product with their derivative multiplies nothing.
_MOVES = frozenset(
    [
        *("broadcast_in_dim", "complex", "concatenate", "conj", "cumsum", "dynamic_slice"),
        *("dynamic_update_slice", "expand_dims", "gather", "imag", "pad", "real", "reduce_sum"),
        *("reshape", "rev", "slice", "split", "squeeze", "stack", "transpose"),
    ]
)


class _Place(NamedTuple):
    """One operand of one step, and one result of it: where a derivative stands.

    Attributes:
      step: that computes the result.
      output: place of the result among the step's.
      parent: index of the operand's node.
      result: index of the result's node.
      place: of the operand among the step's parents.
      operand: place of it among all operands, literals included.
    """

    step: Step
    output: int
    parent: int
    result: int
    place: int
    operand: int


def work_dtype(graph: Graph) -> np.dtype:
    """Return the dtype of the elimination: the widest of all nodes, of complex ones their parts."""
    dtypes = [jnp.finfo(n.dtype).dtype for n in graph.nodes if _has_derivative(n)]
    return functools.reduce(np.promote_types, dtypes, np.dtype(np.float32))


def _has_derivative(node: Node) -> bool:
    """Tell whether the node holds numbers to differentiate: of floating point, and at least one."""
    return jnp.issubdtype(node.dtype, jnp.inexact) and math.prod(node.shape) > 0


def _is_complex(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.complexfloating)


def _numbers(node: Node) -> int:
    """Return how many real numbers the node holds."""
    return math.prod(node.shape) * (2 if _is_complex(node.dtype) else 1)


def _places(graph: Graph) -> list[_Place]:
    """Return the edges along which derivatives go, all of which begin at an argument."""
    moving = {index for index in graph.inputs if _has_derivative(graph.nodes[index])}
    found = []
    for step in graph.steps:
        if step.primitive == "stop_gradient" and not step.has_own_rule:
            continue
        operands = [place for place, op in enumerate(step.operands) if isinstance(op, int)]
        reached = []
        for k, (parent, operand) in enumerate(zip(step.parents, operands, strict=True)):
            for output, result in enumerate(step.results):
                if parent in moving and _has_derivative(graph.nodes[result]):
                    found.append(_Place(step, output, parent, result, k, operand))
                    reached.append(result)
        moving.update(reached)
    return found


def local_forms(graph: Graph) -> dict[Pair, Form]:
    """Return the form of the derivative on every edge (parent, child)."""
    forms: dict[Pair, Form] = {}
    for place in _places(graph):
        pair, form = (place.parent, place.result), _form(graph, place)
        forms[pair] = add_cost(forms[pair], form)[0] if pair in forms else form
    return forms


def local_edges(graph: Graph, values: list[Any]) -> dict[Pair, Edge]:
    """Return the derivative on every edge at the values of all nodes; traceable."""
    dtype = work_dtype(graph)
    edges: dict[Pair, Edge] = {}
    for place in _places(graph):
        pair, edge = (place.parent, place.result), _edge(graph, place, values, dtype)
        edges[pair] = add(edges[pair], edge, dtype) if pair in edges else edge
    return edges


def _form(graph: Graph, place: _Place) -> Form:
    parent, result = graph.nodes[place.parent], graph.nodes[place.result]
    rows, cols = _numbers(result), _numbers(parent)
    real = not (_is_complex(result.dtype) or _is_complex(parent.dtype))
    if rows == cols == 1:
        return Form("dense", 1, 1, 1)
    if place.step.has_own_rule:
        return Form("map", rows, cols, _work(graph, place))
    if real and place.step.primitive in _ELEMENTWISE and parent.shape == result.shape:
        return Form("diagonal", rows, cols, rows)
    if real and place.step.primitive == "dot_general":
        if _contracted(graph, place) is not None:
            return Form("dense", rows, cols, rows * cols)
        (contracting, _), _ = place.step.params["dimension_numbers"]
        first = place.step.operands[0]
        shape = graph.nodes[first].shape if isinstance(first, int) else np.shape(first.value)
        return Form("map", rows, cols, rows * math.prod(shape[axis] for axis in contracting))
    if place.step.primitive in _MOVES:
        return Form("map", rows, cols, 0)
    return Form("map", rows, cols, _work(graph, place))


def _work(graph: Graph, place: _Place) -> int:
    """Return the multiplications of one product with the derivative: half of its operations."""
    shapes = [
        jax.ShapeDtypeStruct(graph.nodes[index].shape, graph.nodes[index].dtype)
        for index in place.step.parents
    ]

    def push(tangent: Any, *values: Any) -> Any:
        return jax.jvp(_alone(place, values), (values[place.place],), (tangent,))[1]

    def pull(cotangent: Any, *values: Any) -> Any:
        return jax.vjp(_alone(place, values), values[place.place])[1](cotangent)[0]

    def value(*values: Any) -> Any:
        return place.step.fun(*values)[place.output]

    try:
        linear = jax.make_jaxpr(push)(shapes[place.place], *shapes)
    except TypeError:  # its rule is for reverse mode alone
        linear = jax.make_jaxpr(pull)(jax.eval_shape(value, *shapes), *shapes)
    both = count_jaxpr(linear.jaxpr).flops
    alone = count_jaxpr(jax.make_jaxpr(value)(*shapes).jaxpr).flops
    return max(1, int(both - alone) // 2)


def _alone(place: _Place, values: Any) -> Any:
    """Return the step as a function of one operand, for one result.

    JAX differentiates linear solves only where every operand has a derivative: zero, here.
    """

    def fun(x: Any) -> Any:
        full = list(values)
        if place.step.primitive == "custom_linear_solve" and not place.step.has_own_rule:
            full = [_tied(value, x) for value in full]
        full[place.place] = x
        return place.step.fun(*full)[place.output]

    return fun


def _tied(value: Any, x: Any) -> Any:
    """Return the value with a zero derivative in x, where it is floating-point."""
    floating = jnp.issubdtype(jnp.result_type(value), jnp.inexact)
    return value + 0 * jnp.sum(jnp.real(x)).astype(value.dtype) if floating else value


def _contracted(graph: Graph, place: _Place) -> tuple[tuple[int, ...], int] | None:
    """Return how the other operand of a dot product is the derivative's matrix, where it is.

    That is where all axes of this operand are summed over: the axes of the other operand in the
    order of the matrix, and how many of them are its rows'.
    """
    (contracting, batch) = place.step.params["dimension_numbers"]
    if batch[0]:
        return None
    own, others = contracting[place.operand], contracting[1 - place.operand]
    if len(own) != len(graph.nodes[place.parent].shape):
        return None
    other = place.step.operands[1 - place.operand]
    rank = len(graph.nodes[other].shape) if isinstance(other, int) else np.ndim(other.value)
    free = [axis for axis in range(rank) if axis not in others]
    paired = [others[own.index(axis)] for axis in range(len(own))]
    return (*free, *paired), len(free)


def _edge(graph: Graph, place: _Place, values: list[Any], dtype: Any) -> Edge:
    form = _form(graph, place)
    operands = [values[index] for index in place.step.parents]
    fun, x = _alone(place, operands), operands[place.place]
    if form.kind == "diagonal":
        if place.step.primitive in _ONES or (place.step.primitive == "sub" and place.operand == 0):
            return Edge(form)
        slopes = jax.jvp(fun, (x,), (jnp.ones_like(x),))[1]
        return Edge(form, entries=slopes.reshape(-1).astype(dtype))
    if form.kind == "dense":
        if place.step.primitive == "dot_general" and form.work > 1:
            return Edge(
                form, matrix=_matrix(graph, place, values).reshape(form.rows, -1).astype(dtype)
            )
        push = _map(form, fun, x, dtype).push
        assert push is not None
        return Edge(form, matrix=push(jnp.ones((1, 1), dtype)))
    return _map(form, fun, x, dtype)


def _matrix(graph: Graph, place: _Place, values: list[Any]) -> Any:
    found = _contracted(graph, place)
    assert found is not None
    other = place.step.operands[1 - place.operand]
    value = values[other] if isinstance(other, int) else jnp.asarray(other.value)
    return jnp.transpose(value, found[0])


def _map(form: Form, fun: Any, x: Any, dtype: Any) -> Edge:
    """Return a map by the step's own rules, one vector at a time under vmap.

    A step that JAX differentiates in one mode only has its matrix for the other.
    """

    def push(columns: Any) -> Any:
        def one(column: Any) -> Any:
            return _parts(jax.jvp(fun, (x,), (_joined(column, x),))[1], dtype)

        return jax.vmap(one, in_axes=1, out_axes=1)(columns)

    def pull(rows: Any) -> Any:
        out, back = jax.vjp(fun, x)

        def one(row: Any) -> Any:
            # a cotangent's pairing in JAX is Re(c t): a row's is Re(conj(c) t)
            return _parts(jnp.conj(back(jnp.conj(_joined(row, out)))[0]), dtype)

        return jax.vmap(one)(rows)

    def on_columns(columns: Any) -> Any:
        try:
            return push(columns)
        except TypeError:  # a rule for reverse mode alone
            return pull(jnp.eye(form.rows, dtype=dtype)) @ columns

    def on_rows(rows: Any) -> Any:
        try:
            return pull(rows)
        except ValueError:  # a loop whose length isn't known, which reverse mode can't run
            return rows @ push(jnp.eye(form.cols, dtype=dtype))

    return Edge(form, push=on_columns, pull=on_rows)


def _parts(array: Any, dtype: Any) -> Any:
    """Return the numbers of an array in a row; of complex ones all real parts, then imaginary."""
    flat = array.reshape(-1)
    if _is_complex(flat.dtype):
        flat = jnp.concatenate([jnp.real(flat), jnp.imag(flat)])
    return flat.astype(dtype)


def _joined(numbers: Any, like: Any) -> Any:
    """Return the array whose `_parts` these are, of the shape and dtype of `like`."""
    if _is_complex(like.dtype):
        part = jnp.finfo(like.dtype).dtype
        return jax.lax.complex(*jnp.split(numbers.astype(part), 2)).reshape(like.shape)
    return numbers.astype(like.dtype).reshape(like.shape)
