"""The eigendecomposition of Hermitian matrices, with a derivative at repeated eigenvalues."""

from __future__ import annotations

import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from adlab.core import checks
from adlab.core.types import ArrayLike
from adlab.rules._matrices import (
    adjoint,
    as_matrix,
    clusters,
    inverse,
    repeated,
    require_square,
    spread,
)
from adlab.rules._tangents import once, tells_apart, turns, watched

__all__ = ["Eigh", "eigh"]


class Eigh(NamedTuple):
    """Eigenvalues and eigenvectors: unpack them as those of `jax.numpy.linalg.eigh`.

    Attributes:
      eigenvalues: (..., n), real, ascending, in the units of a.
      eigenvectors: (..., n, n), orthonormal columns in the order of the eigenvalues.
    """

    eigenvalues: jax.Array
    eigenvectors: jax.Array


def eigh(a: ArrayLike, UPLO: Literal["L", "U"] | None = None) -> Eigh:
    """Return eigenvalues w and eigenvectors v of the Hermitian part of `a`, v diag(w) v^H.

    With C = v^H da v: dw = Re diag C, and dv = v X with X_ij = C_ij / (w_j - w_i), but 0 where w_i
    and w_j coincide: turning their eigenvectors into one another changes nothing that a loss of `a`
    can see. The derivative is exact for losses that treat coinciding eigenvalues alike and see
    their eigenvectors through the projector v_c v_c^H of the whole cluster. Neighbours that differ
    by at most max(n, 24) eps max|w| count as coinciding.

    Losses that see how a cluster splits, such as <W, v diag(w) v^H> and matrix functions built from
    eigenvectors, may well have a derivative, but the factors don't hold it: write v diag(f(w)) v^H
    as `matrix_function(a, f)`, which has second derivatives, too, and v_c diag(w_c) v_c^H as
    v_c v_c^H a. Both are exact. Where this can be seen, derivatives are NaN:

    * reverse mode, where the cotangents of w differ within a cluster whose vectors have cotangents
      too (any vectors, where the cluster is that of 0), or see them turn into one another, as those
      of a single eigenvector do: take v from one call, not half of v v^H from each of two.
      Cotangents of w alone are a subgradient, so that a spectral norm works; a call of its own is
      for such a term alone, which is only added.
    * second derivatives, in every mode, where any two eigenvalues coincide. They hold elsewhere.

    What can't be seen gives a finite number that isn't to be trusted: losses whose cotangents of w
    happen to be equal within a cluster, or differ by less than sqrt(eps) of themselves (at the
    identity, W with equal entries on the diagonal; at a zero matrix, whose v diag(w) has cotangents
    0, any W); a vector of a cluster where the loss happens to be stationary in its turning, as
    v[0, 0] of the identity; factors that one loss takes from several calls, as eigh(a).eigenvalues
    beside eigh(a).eigenvectors; and all first derivatives in forward mode, which meets no
    cotangents. `eigh_diagnostics` tells these cases apart.

    >>> def rebuilt(a):
    ...     w, v = eigh(a)
    ...     return jnp.sum(jnp.arange(4.0).reshape(2, 2) * (v @ jnp.diag(w) @ v.T))
    >>> jax.grad(rebuilt)(jnp.eye(2))
    Array([[nan, nan],
           [nan, nan]], dtype=float32)
    >>> jax.grad(rebuilt)(jnp.diag(jnp.array([1.0, 2.0])))
    Array([[0. , 1.5],
           [1.5, 3. ]], dtype=float32)

    Args:
      a: square matrix (..., n, n), real or complex; its Hermitian part (a + a^H)/2 is taken, so
        that gradients are Hermitian.
      UPLO: "L" or "U" to read the lower or the upper triangle alone, as NumPy does, whose default
        is "L"; gradients are of that triangle then. None for the Hermitian part.

    Returns:
      Eigh(eigenvalues (..., n), ascending, eigenvectors (..., n, n), in columns).

    Raises:
      ValueError: not a square matrix; another UPLO; NaN or infinity where it can be read.
      TypeError: `a` doesn't hold numbers.

    Source: Magnus (1985), doi:10.1017/S0266466600011129, for distinct eigenvalues.
    """
    a = as_matrix("eigh", "a", a)
    require_square("eigh", "a", a)
    if UPLO is not None:
        checks.one_of("UPLO", UPLO, ("L", "U"))
    whole = hermitian(a) if UPLO is None else _mirrored(a, UPLO)
    if not a.size:
        return Eigh(*jnp.linalg.eigh(jax.lax.stop_gradient(whole)))
    return Eigh(*_eigh(whole))


@functools.partial(jax.jit, static_argnums=1)
def _mirrored(a: jax.Array, triangle: str) -> jax.Array:
    """Return the Hermitian matrices that have this triangle, and a real diagonal."""
    strict = jnp.tril(a, -1) if triangle == "L" else jnp.triu(a, 1)
    diagonal = jnp.real(a * jnp.eye(a.shape[-1], dtype=a.dtype)).astype(a.dtype)
    return strict + diagonal + adjoint(strict)


@jax.jit
def hermitian(a: jax.Array) -> jax.Array:
    """Return the Hermitian part of matrices (..., n, n)."""
    return (a + adjoint(a)) * jnp.asarray(0.5, a.dtype)


@jax.custom_jvp
def _eigh(a: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(jnp.linalg.eigh(a, symmetrize_input=False))


@_eigh.defjvp
@jax.jit
def _eigh_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    (a,), (da,) = primals, tangents
    w, v = _eigh(a)
    linked = clusters(w, spread(w, a.shape))
    values, vectors = jax.lax.stop_gradient(w), jax.lax.stop_gradient(v)

    def refuse(cotangents: tuple[jax.Array, ...]) -> jax.Array:
        dw, dv = cotangents
        told = tells_apart(values, linked, dw, jnp.max(jnp.abs(dv), axis=-2))
        return told | turns(linked, [(vectors, dv)], jnp.zeros(values.shape, bool))

    seen_w, seen_v = once((w, v), repeated(linked))
    return (w, v), watched(factor_tangents(da, seen_w, seen_v, linked), refuse)


def factor_tangents(
    da: jax.Array, w: jax.Array, v: jax.Array, linked: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the tangents of w and v along a Hermitian `da`; see `eigh`."""
    c = adjoint(v) @ da @ v
    c = (c + adjoint(c)) * jnp.asarray(0.5, c.dtype)  # rounding would turn equal vectors apart
    turn = c * inverse(w[..., None, :] - w[..., :, None], ~linked).astype(c.dtype)
    return jnp.real(jnp.diagonal(c, axis1=-2, axis2=-1)), v @ turn
