"""Programs in which operations that round the complex step away are done in real numbers.

* XLA makes a complex convolution of three real ones, of sums of real and imaginary parts: these
  sums lose the step. Four products, one for each pair of parts, keep it.
* Its expm1 makes the imaginary part from expm1(x) + 1, which is rounded to 0 for x << 0; and its
  cosh from e^x - e^-x, which cancels for small x. exp and sinh of real numbers don't.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core as jex

from adlab.core import jaxprs
from adlab.gradients._holomorphic_primitives import CALLS, is_complex

__all__ = ["ENTERED", "REPLACED", "body", "keeping_the_step", "scan_sizes"]

# Equations inside which operations are replaced.
ENTERED = CALLS | {"cond", "scan", "while"}


def keeping_the_step(closed: Any) -> Callable[..., list[Any]]:
    """Return the program as a function of its inputs, one by one, with operations replaced."""
    return partial(_run, closed)


def body(eqn: jex.JaxprEqn) -> Any:
    """Return the jaxpr that an equation calls with its own operands."""
    return next(eqn.params[name] for name in ("jaxpr", "call_jaxpr") if name in eqn.params)


def scan_sizes(eqn: jex.JaxprEqn) -> tuple[int, int]:
    """Return how many constants and how many carried values a scan has; then come its slices."""
    inner = _open(eqn.params["jaxpr"])
    # What is sliced or stacked has one axis more outside. This holds in all versions of JAX, whose
    # scans name their parameters differently.
    slices = sum(map(_rank_differs, inner.invars, eqn.invars))
    carried = sum(not _rank_differs(*pair) for pair in zip(inner.outvars, eqn.outvars, strict=True))
    return len(eqn.invars) - slices - carried, carried


def _rank_differs(inside: Any, outside: Any) -> bool:
    return len(inside.aval.shape) != len(outside.aval.shape)


def _open(jaxpr: Any) -> Any:
    return getattr(jaxpr, "jaxpr", jaxpr)


def _run(jaxpr: Any, *args: Any) -> list[Any]:
    """Run a jaxpr, closed or without constants, equation by equation."""
    return jaxprs.walk(jaxprs.closed(jaxpr), args, _step)


def _step(eqn: jex.JaxprEqn, given: list[Any]) -> Sequence[Any]:
    name = eqn.primitive.name
    if name in REPLACED and is_complex(eqn.outvars[0]):
        return [REPLACED[name](eqn.params, *given)]
    if name not in ENTERED or not _has_replaced(eqn):
        return jaxprs.run_equation(eqn, given)
    if name == "cond":
        index, *operands = given
        branches = [partial(_run, branch) for branch in eqn.params["branches"]]
        chosen: list[Any] = jax.lax.switch(index, branches, *operands)
        return chosen
    if name == "scan":
        return _scan(eqn, given)
    if name == "while":
        return _while(eqn, given)
    if name == "shard_map":
        return _shard_map(eqn, given)
    return _run(body(eqn), *given)


def _has_replaced(eqn: jex.JaxprEqn) -> bool:
    inside = eqn.params.get("branches") or [
        eqn.params[name] for name in ("jaxpr", "call_jaxpr", "body_jaxpr") if name in eqn.params
    ]
    found = (e.primitive.name for jaxpr in inside for e in jaxprs.equations(_open(jaxpr)))
    return not REPLACED.keys().isdisjoint(found)


def _scan(eqn: jex.JaxprEqn, given: list[Any]) -> list[Any]:
    first, carried = scan_sizes(eqn)
    constants, init, xs = given[:first], given[first : first + carried], given[first + carried :]

    def step(carry: list[Any], x: list[Any]) -> tuple[list[Any], list[Any]]:
        out = _run(eqn.params["jaxpr"], *constants, *carry, *x)
        return out[:carried], out[carried:]

    options = {name: eqn.params[name] for name in ("length", "reverse", "unroll")}
    carry, ys = jax.lax.scan(step, init, xs, **options)
    return [*carry, *ys]


def _while(eqn: jex.JaxprEqn, given: list[Any]) -> list[Any]:
    tested, stepped = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    for_test, for_step = given[:tested], given[tested : tested + stepped]
    return jax.lax.while_loop(
        lambda carry: _run(eqn.params["cond_jaxpr"], *for_test, *carry)[0],
        lambda carry: _run(eqn.params["body_jaxpr"], *for_step, *carry),
        given[tested + stepped :],
    )


def _shard_map(eqn: jex.JaxprEqn, given: list[Any]) -> Sequence[Any]:
    options = {name: eqn.params[name] for name in ("mesh", "in_specs", "out_specs", "check_vma")}
    mapped: Callable[..., Sequence[Any]] = jax.shard_map(
        lambda *parts: tuple(_run(eqn.params["jaxpr"], *parts)),
        axis_names=eqn.params["newly_manual_axes"],
        **options,
    )
    return mapped(*given)


def _convolve(params: dict[str, Any], lhs: jax.Array, rhs: jax.Array) -> jax.Array:
    options = dict(params)
    dtype = options.pop("preferred_element_type")
    options["preferred_element_type"] = dtype and jnp.finfo(dtype).dtype

    def convolve(lhs: jax.Array, rhs: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(lhs, rhs, **options)

    a, b, c, d = jnp.real(lhs), jnp.imag(lhs), jnp.real(rhs), jnp.imag(rhs)
    return jax.lax.complex(convolve(a, c) - convolve(b, d), convolve(a, d) + convolve(b, c))


def _expm1(_: dict[str, Any], z: jax.Array) -> jax.Array:
    x, y = jnp.real(z), jnp.imag(z)
    real = jnp.expm1(x) * jnp.cos(y) - 2 * jnp.sin(y / 2) ** 2
    return jax.lax.complex(real, jnp.exp(x) * jnp.sin(y))


def _cosh(_: dict[str, Any], z: jax.Array) -> jax.Array:
    x, y = jnp.real(z), jnp.imag(z)
    return jax.lax.complex(jnp.cosh(x) * jnp.cos(y), jnp.sinh(x) * jnp.sin(y))


# From the parameters of the equation, and its operands, of which one is complex.
REPLACED: dict[str, Callable[..., jax.Array]] = {
    "conv_general_dilated": _convolve,
    "cosh": _cosh,
    "expm1": _expm1,
}
