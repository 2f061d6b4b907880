"""Exact gradients by automatic differentiation: reverse mode and forward mode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks, trees
from adlab.core.calls import Bound
from adlab.core.cost import Cost
from adlab.core.nodes import register
from adlab.core.types import Argnums, Array, ChunkSize, Key, Objective, Params, PyTree, Rest
from adlab.gradients._chunks import chunk_length, over_coordinates
from adlab.gradients.gradient_fn import GradientFn, gradient_fn
from adlab.gradients.method import Method

__all__ = ["forward_mode", "require_finite_slopes", "reverse_mode"]


@register()
@dataclass(frozen=True, eq=False)
class ReverseMode(Method):
    """See `reverse_mode`."""

    reverse: ClassVar[bool] = True

    def arguments(self) -> dict[str, Any]:
        return {}

    def estimate(
        self, fun: Bound, x: PyTree, key: Key | None, value: Array | None = None
    ) -> PyTree:
        del key, value
        return jax.grad(fun)(x)

    def cost(self, x: PyTree, *, value: bool) -> Cost:
        del x, value
        return Cost(vjps=1)

    def value_and_estimate(
        self, fun: Bound, x: PyTree, key: Key | None
    ) -> tuple[Array, Any, PyTree]:
        del key
        (value, aux), gradient = jax.value_and_grad(fun.with_aux, has_aux=True)(x)
        return value, aux, gradient

    def check(self, fun: Bound, x: PyTree, key: Key) -> None:
        _require_finite(fun.name, self.estimate(fun, x, key))


def reverse_mode(
    fun: Objective[Params, Rest], *, argnums: Argnums = 0, has_aux: bool = False
) -> GradientFn[Params, Rest]:
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
    return gradient_fn(fun, argnums, has_aux, ReverseMode(reverse_mode))


@register()
@dataclass(frozen=True, eq=False)
class ForwardMode(Method):
    """See `forward_mode`."""

    chunk_size: ChunkSize

    def arguments(self) -> dict[str, Any]:
        return {"chunk_size": self.chunk_size}

    def estimate(
        self, fun: Bound, x: PyTree, key: Key | None, value: Array | None = None
    ) -> PyTree:
        del key, value
        dim, like, dtype = trees.size(x), trees.probe_like(x), trees.common_dtype(x)

        def slope(index: Array) -> Array:
            unit = (jnp.arange(dim) == index).astype(dtype)
            tangent = trees.cast_like(trees.unravel(unit, like), x)
            along: Array = jax.jvp(fun, (x,), (tangent,))[1]
            return along.astype(dtype)

        return over_coordinates(lambda: (slope, chunk_length(self.chunk_size, fun, x, dim)), x)

    def cost(self, x: PyTree, *, value: bool) -> Cost:
        return Cost(jvps=trees.size(x), evaluations=int(value))

    def check(self, fun: Bound, x: PyTree, key: Key) -> None:
        del key
        require_finite_slopes(fun, x)


def forward_mode(
    fun: Objective[Params, Rest],
    *,
    chunk_size: ChunkSize = "auto",
    argnums: Argnums = 0,
    has_aux: bool = False,
) -> GradientFn[Params, Rest]:
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
    checks.chunk_size(chunk_size)
    return gradient_fn(fun, argnums, has_aux, ForwardMode(forward_mode, chunk_size))


def require_finite_slopes(fun: Bound, x: PyTree) -> None:
    """Raise ValueError unless all partial derivatives of `fun` are finite, by forward sweeps.

    One sweep per leaf, along ones in it: their sum isn't finite where a partial isn't.
    """
    leaves, structure = jax.tree.flatten(x)

    def along(k: int) -> Array:
        def of_leaf(leaf: Array) -> Any:
            return fun(jax.tree.unflatten(structure, [*leaves[:k], leaf, *leaves[k + 1 :]]))

        slope: Array = jax.jvp(of_leaf, (leaves[k],), (jnp.ones_like(leaves[k]),))[1]
        return slope

    slopes = [along(k) for k in range(len(leaves))]
    _require_finite(fun.name, jax.tree.unflatten(structure, slopes))


def _require_finite(name: str, derivatives: PyTree) -> None:
    """Raise ValueError unless all derivatives are finite; name the leaf that they are taken in."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(derivatives):
        bad = ~np.isfinite(np.asarray(leaf, np.float64))
        if np.any(bad):
            place = jax.tree_util.keystr(path) or "x"
            raise ValueError(
                f"{name}: the derivative of fun must be finite at x, got "
                f"{np.asarray(leaf, np.float64)[bad][0]} in {place}: an operation has none there, "
                "or its rule gives none, though the value is finite (a power or a root at 0?); "
                "move x, choose the argument of that operation by jnp.where, or take "
                "finite_difference, which needs values alone"
            )
