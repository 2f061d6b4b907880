"""The polar decomposition, with derivatives of all orders at repeated singular values."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from adlab.core import checks
from adlab.core.types import ArrayLike
from adlab.rules._kept import kept
from adlab.rules._matrices import adjoint, as_matrix, tolerance

__all__ = ["Polar", "polar"]


class Polar(NamedTuple):
    """The factors of a = u p: unpack them as those of `scipy.linalg.polar`.

    Attributes:
      u: (..., m, n), orthonormal columns.
      p: (..., n, n), Hermitian and positive definite, in the units of a.
    """

    u: jax.Array
    p: jax.Array


class _Factors(NamedTuple):
    """a = w diag(s) v^H: constants to all derivatives."""

    w: jax.Array
    s: jax.Array
    v: jax.Array


def polar(a: ArrayLike) -> Polar:
    """Return u with orthonormal columns and p = (a^H a)^(1/2) of a = u p, of full column rank.

    Its derivatives of all orders are exact in every mode, whatever singular values coincide. With
    x = u^H du, which is skew, and singular values s_i and vectors v,

        p x + x p = u^H da - da^H u,       du = u x + (1 - u u^H) da p^-1,      dp = u^H da - x p.

    The first one is solved in the basis v by division by s_i + s_j, and nothing cancels. Singular
    vectors from `svd` give the same first derivatives, and no second ones where values coincide.
    u is the nearest matrix with orthonormal columns.

    >>> u, p = polar(jnp.array([[0.0, -2.0], [3.0, 0.0]]))
    >>> u.round(3) + 0.0
    Array([[ 0., -1.],
           [ 1.,  0.]], dtype=float32)
    >>> jax.grad(lambda a: polar(a).u[0, 1])(jnp.eye(2))
    Array([[ 0. ,  0.5],
           [-0.5,  0. ]], dtype=float32)

    Args:
      a: matrix (..., m, n), m >= n, real or complex.

    Returns:
      Polar(u (..., m, n), p (..., n, n)).

    Raises:
      ValueError: not a matrix; m < n; NaN or infinity; a singular value within
        max(m, 8) eps s_1 of 0, where u is a choice and p has no derivative. Values can't be read
        under a trace by jit or vmap: there u and all derivatives are NaN.
      TypeError: `a` doesn't hold numbers.

    Source: Higham (2008), Functions of Matrices, SIAM, doi:10.1137/1.9780898717778, chapter 8.
    """
    a = as_matrix("polar", "a", a)
    if a.shape[-2] < a.shape[-1]:
        raise ValueError(
            f"polar: a must have at least as many rows as columns, got shape {a.shape}; take "
            "u, p = polar(a^H), so that a = p u^H"
        )
    factors, singular = _decomposed(lax.stop_gradient(a))
    if checks.concrete(singular) and np.any(singular):
        raise ValueError(
            "polar: a must have full column rank, or u is a choice; got the smallest singular "
            f"value {np.min(factors.s):.3g} beside the largest {np.max(factors.s):.3g}; "
            'p alone is matrix_function(a^H a, "sqrt")'
        )
    return Polar(*_both(factors, singular, a))


@jax.jit
def _both(factors: _Factors, singular: jax.Array, a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return u and p, with all their derivatives."""
    u = kept(lambda: _polar(factors, singular, a)[0])
    return u, kept(lambda: _polar(factors, singular, a)[1])


@jax.jit
def _decomposed(a: jax.Array) -> tuple[_Factors, jax.Array]:
    """Return the factors, and whether the rank is less than the number of columns."""
    w, s, vh = jnp.linalg.svd(a, full_matrices=False)
    return _Factors(w, s, adjoint(vh)), jnp.any(s <= tolerance(s, a.shape), axis=-1)


@jax.custom_jvp
@jax.jit
def _polar(factors: _Factors, singular: jax.Array, a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return u and p; `factors` are those of `a`."""
    del a
    w, s, v = factors
    once = jnp.where(singular, jnp.nan, jnp.ones((), s.dtype))[..., None, None].astype(w.dtype)
    return w @ adjoint(v) * once, (v * s[..., None, :].astype(v.dtype)) @ adjoint(v)


@_polar.defjvp
@jax.jit
def _polar_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    """See `polar`. The tangents meet u and p alone, whose own derivatives have this rule."""
    (factors, singular, a), (_, _, da) = primals, tangents
    u, p = _both(factors, singular, a)
    along = adjoint(u) @ da
    x = _sylvester(factors, p, along - adjoint(along))
    du = u @ x
    if a.shape[-2] > a.shape[-1]:
        du = du + _divided(factors, p, da - u @ along)
    return (u, p), (du, along - x @ p)


def _sylvester(factors: _Factors, p: jax.Array, right: jax.Array) -> jax.Array:
    """Solve p x + x p = right, with derivatives in p."""
    _, s, v = factors
    sums = (s[..., :, None] + s[..., None, :]).astype(v.dtype)

    def solve(_: Any, b: jax.Array) -> jax.Array:
        return v @ ((adjoint(v) @ b @ v) / sums) @ adjoint(v)

    def transposed(_: Any, b: jax.Array) -> jax.Array:
        return solve(None, b.mT).mT

    found: jax.Array = lax.custom_linear_solve(lambda x: p @ x + x @ p, right, solve, transposed)
    return found


def _divided(factors: _Factors, p: jax.Array, right: jax.Array) -> jax.Array:
    """Solve x p = right, with derivatives in p."""
    _, s, v = factors

    def solve(_: Any, b: jax.Array) -> jax.Array:
        return (b @ v / s[..., None, :].astype(v.dtype)) @ adjoint(v)

    def transposed(_: Any, b: jax.Array) -> jax.Array:
        return (b @ jnp.conj(v) / s[..., None, :].astype(v.dtype)) @ v.mT

    found: jax.Array = lax.custom_linear_solve(lambda x: x @ p, right, solve, transposed)
    return found
