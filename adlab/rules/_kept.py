"""Values and tangents that keep their rule wherever JAX takes programs apart.

A rule here may hold the factors of a matrix as constants, and tell by `jax.custom_jvp` how its
result depends on the matrix. JAX inlines a custom_jvp whose argument is a tangent, in reverse mode,
and jax 0.10 inlines those in a scan that is differentiated in reverse mode, too. What is left then
depends on constants alone, and a second derivative would be 0 in silence.

`lax.custom_linear_solve` isn't inlined. For a linear L, the system

    [0  1] [x]   [p]
    [1 -L] [y] = [q],        solved by y = p, x = q + L p,

holds the rule of L in its matrix, and it is symmetric if L is. So L may be differentiated, and
transposed, by the rules of a linear solve.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["applied", "kept"]


def applied(linear: Callable[[jax.Array], jax.Array], argument: jax.Array) -> jax.Array:
    """Return linear(argument), of the same shape and dtype, with the derivatives of `linear`.

    Args:
      linear: a linear map with a symmetric matrix, without conjugation.
      argument: what it is applied to; a tangent, for instance.
    """

    def system(unknown: jax.Array) -> jax.Array:
        x, y = unknown
        return jnp.stack([y, x - linear(y)])

    def solved(_: Any, right: jax.Array) -> jax.Array:
        p, q = right
        return jnp.stack([q + linear(p), p])

    # one array, since the transpose expects a cotangent of each
    right = jnp.stack([argument, jnp.zeros_like(argument)])
    found: jax.Array = lax.custom_linear_solve(system, right, solved, symmetric=True)
    return found[0]


def kept(value: Callable[[], jax.Array]) -> jax.Array:
    """Return value(), with the derivatives of its rule: as a diagonal map, applied to 1."""
    like = jax.eval_shape(value)
    return applied(lambda ones: ones * value(), jnp.ones(like.shape, like.dtype))
