"""Least squares of any shape and rank, and the pseudoinverse."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks
from adlab.core.types import ArrayLike
from adlab.rules._kept import kept
from adlab.rules._matrices import adjoint, as_matrix, inexact, inverse, require_finite, tolerance

__all__ = ["lstsq", "pinv"]

Factors = tuple[jax.Array, jax.Array, jax.Array]


def lstsq(
    a: ArrayLike, b: ArrayLike, *, rcond: float | None = None, unique: bool = False
) -> jax.Array:
    """Return the x of least norm among the minimisers of |a x - b|, that is pinv(a) b.

    Its derivative is that along matrices of constant rank r: with P = pinv(a), y = P^H x and the
    residual r = b - a x,

        dx = P (db - da x + P^H da^H r) + (1 - P a) da^H y.

    It exists for any shape and any rank; x jumps where the rank changes, so that a direction which
    changes the rank has no derivative, and this one leaves it out. Singular values that coincide
    don't matter. One singular value decomposition serves the value and derivatives of all orders.

    >>> x = lstsq(jnp.array([[1.0, 0.0], [0.0, 0.0]]), jnp.array([2.0, 3.0]))
    >>> x.round(3)
    Array([2., 0.], dtype=float32)

    Args:
      a: matrix (m, n), real or complex; `jax.vmap` takes several.
      b: right-hand side (m,), or several (m, k).
      rcond: singular values up to this share of the largest count as 0; max(m, n, 8) eps unless
        given.
      unique: whether to refuse an `a` of less than full column rank, whose minimiser isn't unique.

    Returns:
      x, of shape (n,) or (n, k), in the units of b over those of a.

    Raises:
      ValueError: shapes that don't fit; no rows or columns; NaN or infinity; rcond outside [0, 1);
        with `unique`, a rank below n. Values can't be read under a trace: there NaN goes through,
        and a solution that isn't unique, though asked for, is NaN.
      TypeError: `a` or `b` doesn't hold numbers; rcond isn't one.

    Source: Golub & Pereyra (1973), doi:10.1137/0710036.
    """
    a, b = _of_one_kind(jnp.asarray(a), jnp.asarray(b))
    a = as_matrix("lstsq", "a", a, batched=False)
    if b.ndim not in (1, 2) or b.shape[0] != a.shape[0]:
        raise ValueError(
            f"lstsq: b must have shape ({a.shape[0]},) or ({a.shape[0]}, k), a row for each of a, "
            f"got {b.shape}"
        )
    require_finite("lstsq", "b", b)
    b = inexact("lstsq", "b", b)
    a, b = jnp.asarray(a, jnp.result_type(a, b)), jnp.asarray(b, jnp.result_type(a, b))
    factors = _factorise("lstsq", a, rcond)
    columns = b if b.ndim == 2 else b[:, None]
    x: jax.Array = _solution(factors, a, columns)
    if unique:
        rank = jnp.sum(factors[1] != 0)
        _require_unique(rank, a.shape)
        x = x * jnp.where(rank == a.shape[1], 1, jnp.nan).astype(x.dtype)  # its derivatives, too
    return x if b.ndim == 2 else x[:, 0]


def pinv(a: ArrayLike, *, rcond: float | None = None) -> jax.Array:
    """Return the Moore-Penrose pseudoinverse, differentiated along matrices of constant rank.

    dP = -P da P + P P^H da^H (1 - a P) + (1 - P a) da^H P^H P, for any shape and rank. See `lstsq`,
    which is cheaper where P is only applied to vectors.

    >>> pinv(jnp.array([[2.0, 0.0], [0.0, 0.0]])).round(3)
    Array([[0.5, 0. ],
           [0. , 0. ]], dtype=float32)

    Args:
      a: matrix (..., m, n), real or complex.
      rcond: singular values up to this share of the largest count as 0; max(m, n, 8) eps unless
        given.

    Returns:
      The pseudoinverse, (..., n, m).

    Raises:
      ValueError: not a matrix, or an empty one; NaN or infinity; rcond outside [0, 1).
      TypeError: `a` doesn't hold numbers.

    Source: Golub & Pereyra (1973), doi:10.1137/0710036.
    """
    a = as_matrix("pinv", "a", a)
    found: jax.Array = _pseudoinverse(_factorise("pinv", a, rcond), a)
    return found


def _factorise(function: str, a: jax.Array, rcond: Any) -> Factors:
    """Return u, 1/s (0 for what counts as zero) and v of a = u s v^H: constants to derivatives."""
    if rcond is not None and checks.concrete(rcond):
        if np.ndim(rcond) or not np.issubdtype(np.asarray(rcond).dtype, np.number):
            raise TypeError(f"{function}: rcond must be a number in [0, 1), got {rcond!r}")
        if not 0 <= rcond < 1:
            raise ValueError(f"{function}: rcond must be in [0, 1), got {rcond!r}")
    factors: Factors = _decomposed(jax.lax.stop_gradient(a), rcond)
    return factors


@jax.jit
def _decomposed(a: jax.Array, rcond: Any) -> Factors:
    u, s, vh = jnp.linalg.svd(a, full_matrices=False)
    scale = inverse(s, s > tolerance(s, a.shape, rcond))
    return u, scale.astype(a.dtype), adjoint(vh)


@jax.jit
def _solution(factors: Factors, a: jax.Array, b: jax.Array) -> jax.Array:
    return kept(lambda: _solve(factors, a, b))


@jax.custom_jvp
@jax.jit
def _solve(factors: Factors, a: jax.Array, b: jax.Array) -> jax.Array:
    """Return pinv(a) b for columns b; `factors` are those of `a`."""
    del a
    u, scale, v = factors
    return v @ (scale[:, None] * (adjoint(u) @ b))


@_solve.defjvp
@jax.jit
def _solve_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    """See `lstsq`. The tangents meet matrices alone, whose own derivatives have rules."""
    (factors, a, b), (_, da, db) = primals, tangents
    x, p = _solution(factors, a, b), _pseudoinverse(factors, a)
    turned = adjoint(da) @ (adjoint(p) @ x)
    seen = adjoint(p) @ (adjoint(da) @ (b - a @ x))
    return x, turned + p @ (db - da @ x + seen - a @ turned)


@jax.jit
def _pseudoinverse(factors: Factors, a: jax.Array) -> jax.Array:
    if a.shape[-2] >= a.shape[-1]:
        return kept(lambda: _tall(factors, a))
    u, scale, v = factors
    return adjoint(kept(lambda: _tall((v, scale, u), adjoint(a))))


@jax.custom_jvp
@jax.jit
def _tall(factors: Factors, a: jax.Array) -> jax.Array:
    """Return pinv(a) for m >= n; `factors` are those of `a`."""
    del a
    u, scale, v = factors
    return (v * scale[..., None, :]) @ adjoint(u)


@_tall.defjvp
@jax.jit
def _tall_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    """See `pinv`; no product here is larger than n x m."""
    (factors, a), (_, da) = primals, tangents
    p, dah = kept(lambda: _tall(factors, a)), adjoint(da)
    seen, turned = (p @ adjoint(p)) @ dah, dah @ adjoint(p)
    return p, seen + (turned - p @ (a @ turned) - p @ da - seen @ a) @ p


def _of_one_kind(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return both, integers in the dtype of the other."""
    if jnp.issubdtype(a.dtype, jnp.integer) and jnp.issubdtype(b.dtype, jnp.inexact):
        return a.astype(b.dtype), b
    if jnp.issubdtype(b.dtype, jnp.integer) and jnp.issubdtype(a.dtype, jnp.inexact):
        return a, b.astype(a.dtype)
    return a, b


def _require_unique(rank: jax.Array, shape: tuple[int, ...]) -> None:
    """Raise ValueError where the rank, or already the shape, leaves the solution open."""
    most = int(rank) if checks.concrete(rank) else min(shape)
    if most < shape[1]:
        raise ValueError(
            f"lstsq: the solution must be unique, got a of rank {most} < {shape[1]} unknowns; drop "
            "columns, add a ridge as rows sqrt(c) I of a and 0 of b, or take the solution of least "
            "norm by unique=False"
        )
