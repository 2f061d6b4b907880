"""Floating-point operations and bytes of a function, counted in its jaxpr.

Bodies of scans count as often as they run, which the compiler's own cost analysis doesn't do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend import core as jex

from adlab.core.jaxprs import CUSTOM_RULES, num_bytes, subjaxprs

__all__ = ["Prices", "Work", "count", "count_jaxpr", "prices"]

_FREE = frozenset(
    [
        "broadcast_in_dim",
        "bitcast_convert_type",
        "concatenate",
        "convert_element_type",
        "copy",
        "copy_p",
        "device_put",
        "dynamic_slice",
        "dynamic_update_slice",
        "gather",
        "iota",
        "optimization_barrier",
        "pad",
        "random_unwrap",
        "random_wrap",
        "reshape",
        "rev",
        "select_n",
        "slice",
        "split",
        "squeeze",
        "stack",
        "stop_gradient",
        "tile",
        "transpose",
        "unstack",
    ]
)
_TWOFOLD = frozenset(["one_minus_square"])  # 1 - t^2 of tanh's derivative, a primitive of new JAX
_BULK = ("reduce", "sort", "scatter")  # beginnings of names: their bodies run for every element
# Of an m x n matrix, to leading order; textbook counts of the usual dense algorithms.
_FACTORISATIONS: dict[str, Callable[[int, int], float]] = {
    "cholesky": lambda _, n: n**3 / 3,
    "lu": lambda m, n: max(m, n) * min(m, n) ** 2 - min(m, n) ** 3 / 3,
    "geqrf": lambda m, n: 2 * max(m, n) * min(m, n) ** 2 - 2 * min(m, n) ** 3 / 3,
    "qr": lambda m, n: 4 * max(m, n) * min(m, n) ** 2 - 4 * min(m, n) ** 3 / 3,  # with its Q
    "householder_product": lambda m, n: 2 * max(m, n) * min(m, n) ** 2 - 2 * min(m, n) ** 3 / 3,
    "eigh": lambda _, n: 9 * n**3,
    "svd": lambda m, n: 14 * max(m, n) * min(m, n) ** 2 + 8 * min(m, n) ** 3,
}
_REDUCTIONS = ("reduce_", "arg", "cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")


@dataclass(frozen=True)
class Work:
    """Work of one call.

    Attributes:
      flops: floating-point operations; a multiply-add counts two, an elementary function one, a
        matrix factorisation its textbook count to leading order.
      bytes: bytes read and written if no two operations were fused: an upper bound of traffic.
      exact: False when the count holds a loop of unknown length (counted once).
    """

    flops: int = 0
    bytes: int = 0
    exact: bool = True

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.bytes + other.bytes, self.exact and other.exact)

    def __mul__(self, times: int) -> Work:
        return Work(self.flops * times, self.bytes * times, self.exact)


def count(fun: Callable[..., Any], *args: Any) -> Work:
    """Count the work of `fun(*args)`; the arguments may be shapes, for nothing is computed.

    >>> import jax.numpy as jnp
    >>> count(lambda a, b: a @ b, jnp.zeros((2, 3)), jnp.zeros((3, 5))).flops
    60
    """
    return count_jaxpr(jax.make_jaxpr(fun)(*args).jaxpr)


@dataclass(frozen=True)
class Prices:
    """What derivatives of a function cost, by operations as written: the same on any machine.

    Attributes:
      value: operations of one evaluation.
      jvp: operations of a value with a Jacobian-vector product, over those of an evaluation.
      vjp: operations of a value with its gradient, over those of an evaluation.
    """

    value: int
    jvp: float
    vjp: float


def prices(fun: Callable[..., Any], x: Any, *args: Any) -> Prices:
    """Price the derivatives of a scalar function in its first argument, an array or a tree.

    >>> prices(lambda x, a: jnp.sum(a * x), jnp.zeros(50), jnp.ones(50))
    Prices(value=100, jvp=2.0, vjp=1.5)

    Raises:
      ValueError: an evaluation counts no operations.
    """

    def ahead(x: Any, tangent: Any, *args: Any) -> Any:
        return jax.jvp(lambda x: fun(x, *args), (x,), (tangent,))

    value = count(fun, x, *args).flops
    if not value:
        raise ValueError("fun must compute something, got a function of no operations")
    jvp, vjp = count(ahead, x, x, *args), count(jax.value_and_grad(fun), x, *args)
    return Prices(value, jvp.flops / value, vjp.flops / value)


def count_jaxpr(jaxpr: jex.Jaxpr) -> Work:
    """Count the work of a jaxpr: loops by their length, a conditional by its dearest branch."""
    return sum((_equation(eqn) for eqn in jaxpr.eqns), Work())


def _equation(eqn: jex.JaxprEqn) -> Work:
    name = eqn.primitive.name
    length: int
    inner = [count_jaxpr(jaxpr) for jaxpr in subjaxprs(eqn)]
    if name == "scan":
        length = eqn.params["length"]
        return inner[0] * length
    if name == "while":
        work = sum(inner, Work())
        return Work(work.flops, work.bytes, exact=False)
    if name == "custom_linear_solve":
        return count_jaxpr(eqn.params["jaxprs"].solve.jaxpr)
    if name == "cond":
        return max(inner, key=lambda work: (work.flops, work.bytes))
    if name in CUSTOM_RULES or (len(inner) == 1 and not name.startswith(_BULK)):
        return inner[0]
    moved = sum(num_bytes(atom.aval) for atom in (*eqn.invars, *eqn.outvars))
    return Work(_flops(eqn), moved)


def _flops(eqn: jex.JaxprEqn) -> int:
    name = eqn.primitive.name
    shapes: list[tuple[int, ...]] = [getattr(v.aval, "shape", ()) for v in eqn.invars]
    out: tuple[int, ...] = getattr(eqn.outvars[0].aval, "shape", ())
    if name == "dot_general":
        (contracted, _), _ = eqn.params["dimension_numbers"]
        lengths: list[int] = [shapes[0][axis] for axis in contracted]
        return 2 * math.prod(out) * math.prod(lengths)
    if name == "conv_general_dilated":
        out_features: int = shapes[1][eqn.params["dimension_numbers"].rhs_spec[0]]
        return 2 * math.prod(out) * math.prod(shapes[1]) // out_features
    if name in _FREE:
        return 0
    if name in _FACTORISATIONS:
        *batch, m, n = shapes[0]
        return round(math.prod(batch) * _FACTORISATIONS[name](m, n))
    if name == "triangular_solve":
        *batch, n, _ = shapes[0]
        return math.prod(shapes[1]) * n
    if "window_dimensions" in eqn.params:
        window: tuple[int, ...] = eqn.params["window_dimensions"]
        return math.prod(out) * math.prod(window)
    if name.startswith((*_REDUCTIONS, *_BULK)):
        return math.prod(shapes[0])
    return math.prod(out) * (2 if name in _TWOFOLD else 1)
