"""Exact gradients by automatic differentiation: reverse mode and forward mode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from adlab.core import trees
from adlab.core.cost import Cost
from adlab.core.nodes import as_data, register
from adlab.gradients._chunks import check_chunk_size, chunk_length
from adlab.gradients.gradient_fn import (
    ChunkSize,
    GradientFn,
    PyTree,
    check_arguments,
    check_derivatives,
    leaf_slopes,
)

__all__ = ["forward_mode", "reverse_mode"]


@register("fun")
@dataclass(frozen=True, eq=False)
class ReverseMode(GradientFn):
    """See `reverse_mode`."""

    _aux_cost = 0
    _reverse = True

    def _cost(self, dim: int) -> Cost:
        del dim
        return Cost(vjps=1)

    def _gradient(self, fun: Callable, x: PyTree, key: Any, value: Any) -> PyTree:
        del key, value
        return jax.grad(fun)(x)

    def _check_step(self, fun: Callable, x: PyTree, key: jax.Array) -> None:
        check_derivatives(self._name, self._gradient(fun, x, key, None))

    def _value_aux_gradient(self, fun: Callable, x: PyTree, key: Any) -> tuple[Any, Any, PyTree]:
        del key
        (value, aux), gradient = jax.value_and_grad(fun, has_aux=True)(x)
        return value, aux, gradient


def reverse_mode(
    fun: Callable[..., Any], *, argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> GradientFn:
    """Return the exact gradient of `fun` by one reverse sweep: `jax.grad`, as a `GradientFn`.

    No bias and no variance: correct to rounding. Costs one vector-Jacobian product, which is at
    most about 4 evaluations whatever the dimension, and stores the intermediates of `fun`.

    >>> g = reverse_mode(lambda x: jnp.sum(x**3))
    >>> g(jnp.array([1.0, 2.0]))
    Array([ 3., 12.], dtype=float32)

    Args:
      fun: differentiable by JAX; returns a real scalar, or (scalar, aux).
      argnums: which positional argument to differentiate, or a tuple of several.
      has_aux: whether `fun` returns auxiliary data beside its value.

    Returns:
      A GradientFn with the signature of `fun`; `key` is accepted and ignored.

    Raises:
      TypeError: `fun` isn't scalar; a leaf isn't real floating-point (when called).
      ValueError: outside of jit, `fun` calls a jitted function that donates an array which its
        derivative needs; inside of `jax.shard_map`, the derivative of the sum over devices may be
        meant, or that of each device's value (when called).

    Source: Baur & Strassen (1983), doi:10.1016/0304-3975(83)90110-X.
    """
    check_arguments(argnums, has_aux)
    return ReverseMode(as_data(fun), argnums, has_aux)


@register("fun")
@dataclass(frozen=True, eq=False)
class ForwardMode(GradientFn):
    """See `forward_mode`."""

    chunk_size: ChunkSize

    def _cost(self, dim: int) -> Cost:
        return Cost(jvps=dim)

    def _gradient(self, fun: Callable, x: PyTree, key: Any, value: Any) -> PyTree:
        del key, value
        dim, like = trees.size(x), trees.probe_like(x)

        def slope(index: jax.Array) -> jax.Array:
            unit = (jnp.arange(dim) == index).astype(trees.common_dtype(x))
            tangent = trees.cast_like(trees.unravel(unit, like), x)
            return jax.jvp(fun, (x,), (tangent,))[1].astype(trees.common_dtype(x))

        chunk = chunk_length(self.chunk_size, fun, x, dim)
        slopes = jax.lax.map(slope, jnp.arange(dim), batch_size=chunk if chunk > 1 else None)
        return trees.unravel(slopes, like)

    def _check_step(self, fun: Callable, x: PyTree, key: jax.Array) -> None:
        del key
        check_derivatives(self._name, leaf_slopes(fun, x))


def forward_mode(
    fun: Callable[..., Any],
    *,
    chunk_size: ChunkSize = "auto",
    argnums: int | tuple[int, ...] = 0,
    has_aux: bool = False,
) -> GradientFn:
    """Return the exact gradient of `fun` by one forward sweep per coordinate.

    grad_i = d/dt fun(x + t e_i) at t = 0. No bias and no variance. Costs d Jacobian-vector products
    for x of d numbers, and stores no intermediates: memory O(chunk_size * d).

    >>> g = forward_mode(lambda x: jnp.sum(x**3))
    >>> g(jnp.array([1.0, 2.0]))
    Array([ 3., 12.], dtype=float32)

    Args:
      fun: differentiable by JAX in forward mode; returns a real scalar, or (scalar, aux).
      chunk_size: how many coordinates are pushed through `fun` at a time.
      argnums: which positional argument to differentiate, or a tuple of several.
      has_aux: whether `fun` returns auxiliary data beside its value.

    Returns:
      A GradientFn with the signature of `fun`; `key` is accepted and ignored.

    Raises:
      ValueError: chunk_size < 1.
      TypeError: `fun` isn't scalar; a leaf isn't real floating-point (when called).

    Source: Wengert (1964), doi:10.1145/355586.364791.
    """
    check_arguments(argnums, has_aux)
    check_chunk_size(chunk_size)
    return ForwardMode(as_data(fun), argnums, has_aux, chunk_size)
