"""The eigendecomposition of Hermitian matrices, with a derivative at repeated eigenvalues."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from adlab.rules._tangents import once, tells_apart, watched
from adlab.rules.matrices import adjoint, as_matrix, clusters, inverse, repeated, spread

__all__ = ["Eigh", "eigh"]


class Eigh(NamedTuple):
    """Eigenvalues, ascending, and eigenvectors: unpack them as those of `jax.numpy.linalg.eigh`."""

    eigenvalues: jax.Array
    eigenvectors: jax.Array


def eigh(a: Any) -> Eigh:
    """Return eigenvalues w and eigenvectors v of the Hermitian part of `a`, v diag(w) v^H.

    With C = v^H da v: dw = Re diag C, and dv = v X with X_ij = C_ij / (w_j - w_i), but 0 where w_i
    and w_j coincide: turning their eigenvectors into one another changes nothing that a loss of `a`
    can see. The derivative is exact for losses that treat coinciding eigenvalues alike and see
    their eigenvectors through the projector v_c v_c^H of the whole cluster, and else a convention,
    finite but not to be trusted; for v_c diag(w_c) v_c^H write v_c v_c^H a, which is exact.
    Neighbours that differ by at most n eps max|w| count as coinciding. See `svd`. Second
    derivatives hold where all eigenvalues are distinct.

    Args:
      a: square matrix (..., n, n), real or complex; its Hermitian part (a + a^H)/2 is taken, so
        that gradients are Hermitian.

    Returns:
      Eigh(eigenvalues (..., n), ascending, eigenvectors (..., n, n), in columns).

    Raises:
      ValueError: not a square matrix, or an empty one; NaN or infinity where it can be read.
      TypeError: `a` doesn't hold numbers.

    Source: Magnus (1985), doi:10.1017/S0266466600011129, for distinct eigenvalues.
    """
    a = as_matrix("eigh", "a", a)
    if a.shape[-1] != a.shape[-2]:
        raise ValueError(f"eigh: a must be square, got shape {a.shape}")
    return Eigh(*_eigh((a + adjoint(a)) * jnp.asarray(0.5, a.dtype)))


@jax.custom_jvp
def _eigh(a: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(jnp.linalg.eigh(a, symmetrize_input=False))


@_eigh.defjvp
def _eigh_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    (a,), (da,) = primals, tangents
    w, v = _eigh(a)
    linked = clusters(w, spread(w, a.shape))
    values = jax.lax.stop_gradient(w)

    def refuse(cotangents: tuple[jax.Array, ...]) -> jax.Array:
        dw, dv = cotangents
        return tells_apart(values, linked, dw, jnp.max(jnp.abs(dv), axis=-2))

    moved = factor_tangents(da, *once((w, v), repeated(linked)), linked)
    return (w, v), watched(moved, refuse)


def factor_tangents(
    da: jax.Array, w: jax.Array, v: jax.Array, linked: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the tangents of w and v along a Hermitian `da`; see `eigh`."""
    c = adjoint(v) @ da @ v
    c = (c + adjoint(c)) * jnp.asarray(0.5, c.dtype)  # rounding would turn equal vectors apart
    turn = c * inverse(w[..., None, :] - w[..., :, None], ~linked).astype(c.dtype)
    return jnp.real(jnp.diagonal(c, axis1=-2, axis2=-1)), v @ turn
