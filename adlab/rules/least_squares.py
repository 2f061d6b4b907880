"""Least squares of any shape and rank, and the pseudoinverse."""

from __future__ import annotations

import functools
from typing import Any, Literal, NamedTuple, overload

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks
from adlab.core.types import ArrayLike
from adlab.rules._kept import kept
from adlab.rules._matrices import (
    adjoint,
    as_matrix,
    inexact,
    inverse,
    require_finite,
    require_square,
    tolerance,
)
from adlab.rules.eigenvalues import hermitian as hermitian_part
from adlab.rules.singular_values import svd

__all__ = ["LeastSquares", "lstsq", "pinv"]

Factors = tuple[jax.Array, jax.Array, jax.Array]


class LeastSquares(NamedTuple):
    """A solution with what else is known of it, in the order of `numpy.linalg.lstsq`.

    Attributes:
      x: (..., n) or (..., n, k).
      residuals: (...) or (..., k), |b - a x|^2 of each right-hand side; whatever the rank.
      rank: (...), integers: how many singular values don't count as 0.
      s: (..., min(m, n)), singular values, descending.
    """

    x: jax.Array
    residuals: jax.Array
    rank: jax.Array
    s: jax.Array


@overload
def lstsq(
    a: ArrayLike, b: ArrayLike, *, rcond: float | None = None, unique: bool = False,
    full: Literal[False] = False,
) -> jax.Array: ...  # fmt: skip


@overload
def lstsq(
    a: ArrayLike, b: ArrayLike, *, rcond: float | None = None, unique: bool = False,
    full: Literal[True],
) -> LeastSquares: ...  # fmt: skip


def lstsq(
    a: ArrayLike, b: ArrayLike, *, rcond: float | None = None, unique: bool = False,
    full: bool = False,
) -> jax.Array | LeastSquares:  # fmt: skip
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
      a: matrix (..., m, n), real or complex.
      b: right-hand side (m,), or several, (..., m, k), as for `numpy.linalg.solve`: one for each
        of a batch is b[..., None]. Leading axes are broadcast against those of `a`.
      rcond: singular values up to this share of the largest count as 0; max(m, n, 8) eps unless
        given, eps for -1.
      unique: whether to refuse an `a` of less than full column rank, whose minimiser isn't unique.
      full: whether to return the residuals, the rank and the singular values, too. They have
        derivatives (those of `svd` for the last), and take a second decomposition.

    Returns:
      x, of shape (..., n) or (..., n, k), in the units of b over those of a; with `full` a
      LeastSquares. Without rows x is 0, and without columns empty.

    Raises:
      ValueError: shapes that don't fit; NaN or infinity; rcond outside [0, 1) and not -1; with
        `unique`, a rank below n. Values can't be read under a trace: there NaN goes through, and a
        solution that isn't unique, though asked for, is NaN.
      TypeError: `a` or `b` doesn't hold numbers; rcond isn't one.

    Source: Golub & Pereyra (1973), doi:10.1137/0710036.
    """
    a, b = _of_one_kind(jnp.asarray(a), jnp.asarray(b))
    a = as_matrix("lstsq", "a", a)
    single = b.ndim == 1
    columns = b[:, None] if single else b
    _require_rows(a, b, columns)
    require_finite("lstsq", "b", b)
    columns = inexact("lstsq", "b", columns)
    dtype = jnp.result_type(a, columns)
    a, columns = jnp.asarray(a, dtype), jnp.asarray(columns, dtype)
    factors = _factorise("lstsq", a, rcond)
    x: jax.Array = _solution(factors, a, columns)
    rank = jnp.sum(factors[1] != 0, axis=-1)
    if unique:
        _require_unique(rank, a.shape)
        known = jnp.where(rank == a.shape[-1], 1, jnp.nan).astype(x.dtype)
        x = x * known[..., None, None]  # its derivatives, too
    found = x[..., 0] if single else x
    if not full:
        return found
    squares = jnp.sum(jnp.abs(columns - a @ x) ** 2, axis=-2)
    residuals = squares[..., 0] if single else squares
    return LeastSquares(found, residuals, rank, svd(a, compute_uv=False))


def pinv(
    a: ArrayLike, *, rcond: float | None = None, rtol: float | None = None, hermitian: bool = False
) -> jax.Array:
    """Return the Moore-Penrose pseudoinverse, differentiated along matrices of constant rank.

    dP = -P da P + P P^H da^H (1 - a P) + (1 - P a) da^H P^H P, for any shape and rank. See `lstsq`,
    which is cheaper where P is only applied to vectors.

    >>> pinv(jnp.array([[2.0, 0.0], [0.0, 0.0]])).round(3)
    Array([[0.5, 0. ],
           [0. , 0. ]], dtype=float32)

    Args:
      a: matrix (..., m, n), real or complex.
      rcond: singular values up to this share of the largest count as 0; max(m, n, 8) eps unless
        given, eps for -1.
      rtol: another name of rcond, that of `numpy.linalg.pinv`.
      hermitian: whether to take the Hermitian part of a square `a`, and an eigendecomposition,
        which is cheaper; gradients are Hermitian then.

    Returns:
      The pseudoinverse, (..., n, m); empty where `a` is.

    Raises:
      ValueError: not a matrix, or with `hermitian` not a square one; NaN or infinity; rcond outside
        [0, 1) and not -1; both rcond and rtol.
      TypeError: `a` doesn't hold numbers.

    Source: Golub & Pereyra (1973), doi:10.1137/0710036.
    """
    if rtol is not None:
        if rcond is not None:
            raise ValueError(f"pinv: rtol and rcond are one thing, got {rtol!r} and {rcond!r}")
        rcond = rtol
    matrix = as_matrix("pinv", "a", a)
    if hermitian:
        require_square("pinv", "a", matrix)
        matrix = hermitian_part(matrix)
    factors = _factorise("pinv", matrix, rcond, hermitian=hermitian)
    found: jax.Array = _pseudoinverse(factors, matrix)
    return found


def _require_rows(a: jax.Array, b: jax.Array, columns: jax.Array) -> None:
    """Raise ValueError unless right-hand sides have a row for each of `a`, and its batch."""
    m = a.shape[-2]
    if b.ndim == 0 or columns.shape[-2] != m:
        raise ValueError(
            f"lstsq: b must have shape ({m},) or (..., {m}, k), a row for each of a of shape "
            f"{a.shape}, got {b.shape}" + ("; take b[..., None]" if b.shape == a.shape[:-1] else "")
        )
    try:
        np.broadcast_shapes(a.shape[:-2], columns.shape[:-2])
    except ValueError:
        raise ValueError(
            f"lstsq: leading axes of a and b must broadcast, got shapes {a.shape} and {b.shape}"
        ) from None


def _factorise(function: str, a: jax.Array, rcond: Any, *, hermitian: bool = False) -> Factors:
    """Return u, 1/s (0 for what counts as zero) and v of a = u s v^H: constants to derivatives."""
    if rcond is not None and checks.concrete(rcond):
        if np.ndim(rcond) or not np.issubdtype(np.asarray(rcond).dtype, np.number):
            raise TypeError(f"{function}: rcond must be a number in [0, 1), got {rcond!r}")
        if not (0 <= rcond < 1 or rcond == -1):
            raise ValueError(f"{function}: rcond must be in [0, 1), or -1 for eps, got {rcond!r}")
    factors: Factors = _decomposed(jax.lax.stop_gradient(a), rcond, hermitian)
    return factors


@functools.partial(jax.jit, static_argnums=2)
def _decomposed(a: jax.Array, rcond: Any, hermitian: bool) -> Factors:
    """Of Hermitian matrices s are the eigenvalues, with their signs."""
    if hermitian:
        s, u = jnp.linalg.eigh(a, symmetrize_input=False)
        v = u
    else:
        u, s, vh = jnp.linalg.svd(a, full_matrices=False)
        v = adjoint(vh)
    if rcond is not None:
        rcond = jnp.where(rcond < 0, jnp.finfo(s.dtype).eps, rcond)
    scale = inverse(s, jnp.abs(s) > tolerance(s, a.shape, rcond))
    return u, scale.astype(a.dtype), v


@jax.jit
def _solution(factors: Factors, a: jax.Array, b: jax.Array) -> jax.Array:
    return kept(lambda: _solve(factors, a, b))


@jax.custom_jvp
@jax.jit
def _solve(factors: Factors, a: jax.Array, b: jax.Array) -> jax.Array:
    """Return pinv(a) b for columns b; `factors` are those of `a`."""
    del a
    u, scale, v = factors
    return v @ (scale[..., :, None] * (adjoint(u) @ b))


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
    most = int(np.min(rank, initial=shape[-1])) if checks.concrete(rank) else min(shape[-2:])
    if most < shape[-1]:
        raise ValueError(
            f"lstsq: the solution must be unique, got a of rank {most} < {shape[-1]} unknowns; "
            "drop columns, add a ridge as rows sqrt(c) I of a and 0 of b, or take the solution of "
            "least norm by unique=False"
        )
