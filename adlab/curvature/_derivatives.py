"""Results that have no derivative: NaN where somebody asks for one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["without_derivative"]


@jax.custom_jvp
def without_derivative(rows: jax.Array, values: jax.Array) -> jax.Array:
    """Return `rows` (k, d), whose derivatives are NaN wherever those of `values` (k,) aren't lost.

    A cotangent of zeros stays one: who takes the derivative of something else isn't harmed.
    """
    del values
    return rows


@without_derivative.defjvp
def _jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    rows, _ = primals
    unknown = jax.lax.custom_linear_solve(
        lambda x: x,
        jnp.broadcast_to(tangents[1][:, None], rows.shape).astype(rows.dtype),
        solve=lambda _, b: jnp.full_like(b, jnp.nan),
        transpose_solve=lambda _, ct: jnp.where(ct == 0, 0, jnp.nan).astype(ct.dtype),
    )
    return rows, unknown
