"""Steps of differences: how long, and whether they move x at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks, trees

__all__ = ["check_step", "difference", "displacement", "relative_step", "stuck", "usable_step"]

PyTree = Any


def check_step(name: str, step: Any) -> Any:
    """Return None for "auto", else the step itself; raise unless it is positive."""
    if isinstance(step, str):
        checks.one_of(name, step, ["auto"])
        return None
    checks.positive(name, step)
    return step


def difference(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return a - b for two values of one function, in at least float32."""
    dtype = trees.wide_dtype(a)
    return a.astype(dtype) - b.astype(dtype)


def relative_step(dtypes: list[Any], order: int) -> float:
    """Return eps^(1/(order + 1)): it balances a truncation of O(h^order) against round-off eps/h.

    eps is the unit round-off of the coarsest dtype among those of x and of the value.
    """
    return float(max(jnp.finfo(dtype).eps for dtype in dtypes)) ** (1 / (order + 1))


def displacement(fun: Callable, x: PyTree, order: int) -> jax.Array:
    """Return the largest displacement |h u|_inf of an automatic step.

    It is eps^(1/(order + 1)) * max(1, root mean square of x), and a constant to differentiation:
    the root has no derivative at 0.
    """
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(x)] + [jax.eval_shape(fun, x).dtype]
    scale = jnp.sqrt(trees.vdot(x, x) / trees.size(x))
    return jax.lax.stop_gradient(relative_step(dtypes, order) * jnp.maximum(scale, 1))


def stuck(start: PyTree, end: PyTree, u: PyTree) -> jax.Array:
    """Tell whether most coordinates along which u points are the same at both ends of a step."""
    balance: Any = 0  # coordinates that stay, less those that move
    for a, b, c in zip(*map(jax.tree.leaves, (start, end, u)), strict=True):
        balance += jnp.sum(jnp.where(c != 0, jnp.where(a == b, 1.0, -1.0), 0.0), dtype=jnp.float32)
    return balance > 0


def usable_step(x: PyTree, u: PyTree, share: float = 0.5) -> float:
    """Return a step h at which x + h u differs from x in that share of the coordinates.

    Reads values: for concrete input only.
    """
    ratios = []
    for leaf, direction in zip(*map(jax.tree.leaves, (x, u)), strict=True):
        length = np.abs(np.asarray(direction, np.float64)).ravel()
        spacing = float(jnp.finfo(leaf.dtype).eps) * np.abs(np.asarray(leaf, np.float64)).ravel()
        ratios.append(spacing[length > 0] / length[length > 0])
    return 4 * float(np.quantile(np.concatenate(ratios), share))
