"""The singular value decomposition, with a derivative at repeated and zero singular values."""

from __future__ import annotations

import functools
from typing import Any, Literal, NamedTuple, overload

import jax
import jax.numpy as jnp

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
from adlab.rules.eigenvalues import eigh

__all__ = ["SVD", "svd"]


class SVD(NamedTuple):
    """The factors of a = u diag(s) vh: unpack them as those of `jax.numpy.linalg.svd`.

    Attributes:
      u: (..., m, k), or (..., m, m) with full matrices: orthonormal columns.
      s: (..., k), k = min(m, n): real, descending, in the units of a.
      vh: (..., k, n), or (..., n, n) with full matrices: orthonormal rows.
    """

    u: jax.Array
    s: jax.Array
    vh: jax.Array


@overload
def svd(
    a: ArrayLike, *, full_matrices: bool = True, compute_uv: Literal[True] = True,
    hermitian: bool = False,
) -> SVD: ...  # fmt: skip


@overload
def svd(
    a: ArrayLike, *, full_matrices: bool = True, compute_uv: Literal[False],
    hermitian: bool = False,
) -> jax.Array: ...  # fmt: skip


def svd(
    a: ArrayLike, *, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False
) -> SVD | jax.Array:
    """Return the singular value decomposition a = u diag(s) vh, differentiable where a loss is.

    Write U' = U X and V' = V Y for the turning of the factors, X and Y antihermitian, and
    C = U^H da V. Then ds = Re diag C, and for singular values i, j

        (X - Y)_ij = (C - C^H)_ij / (s_i + s_j),      (X + Y)_ij = (C + C^H)_ij / (s_j - s_i).

    Where s_i and s_j coincide, turning both factors together changes nothing, so X + Y is a choice
    that a loss of `a` can't see: it is 0 here. The same goes for what multiplies 1/0 at singular
    values 0. All else is kept. The derivative is therefore exact for

    * losses of singular values that treat coinciding ones alike, as sums of f(s);
    * losses of the subspaces of whole clusters of coinciding singular values: their projectors
      u_c u_c^H and v_c v_c^H and the polar parts u_c v_c^H.

    It isn't where the loss tells members of a cluster apart (largest singular value, first singular
    vector: not differentiable there), or sees how a cluster splits: in u_c diag(s_c) vh_c the
    factors don't hold the answer, so that a low-rank part should be written u_c u_c^H a, which is
    exact. So are u diag(f(s)) vh as u `matrix_function(p, f)` of u, p = `polar(a)`, and u vh as
    polar(a).u, with second derivatives, for m >= n and full rank. Where this can be seen,
    derivatives are NaN, never a finite wrong number:

    * reverse mode, where the cotangents of s differ within a cluster whose vectors have cotangents
      too; or where u or vh have cotangents, and so has a singular value 0 that leaves a choice of
      bases, as each does but the only one of a real square matrix; or where the cotangents of u and
      vh see the vectors of a cluster turn into one another, as those of a single one do. So all
      factors of a term must come from one call: of svd(a).u @ svd(a).u.T each half sees them turn.
      Cotangents of s alone are a subgradient, so that nuclear and spectral norms work; a call of
      its own is for such a term alone, which is only added.
    * second derivatives, in every mode, where singular values coincide or leave that choice. They
      hold elsewhere.

    What can't be seen gives a finite number that isn't to be trusted: cotangents of s that happen
    to be equal within a cluster, or differ by less than sqrt(eps) of themselves; a vector of a
    cluster where the loss happens to be stationary in its turning; a zero matrix rebuilt from its
    factors; factors that one loss takes from several calls, as svd(a).s beside
    svd(a).u; and all first derivatives in forward mode, which meets no cotangents.
    `svd_diagnostics` tells these cases apart.

    Singular values whose neighbours differ by at most max(m, n, 24) eps s_1 count as coinciding,
    and those within that of 0 as 0: about twice what rounding blurs. A larger gap g is kept, unless
    LAPACK itself returns equal values, as it may up to some 100 eps s_1; derivatives through it
    are good to about eps s_1 / g.

    >>> u, s, vh = svd(jnp.eye(3))
    >>> jax.grad(lambda a: svd(a).s.sum())(jnp.eye(3))
    Array([[1., 0., 0.],
           [0., 1., 0.],
           [0., 0., 1.]], dtype=float32)

    Args:
      a: matrix (..., m, n), real or complex.
      full_matrices: whether u and vh are square, with bases of the null spaces: (..., m, m) and
        (..., n, n) instead of (..., m, k) and (..., k, n), k = min(m, n). Of these bases, too,
        only the projectors have a derivative.
      compute_uv: whether to return the vectors, or s alone, whose value is cheaper then.
      hermitian: whether to take the Hermitian part of a square `a`, and an eigendecomposition,
        w_i = s_i up to sign, which is cheaper and keeps apart what `eigh` does: s_i and s_j
        coincide only where w_i and w_j do. See there for derivatives, which are Hermitian.

    Returns:
      SVD(u, s, vh), s of shape (..., k), descending; s alone without compute_uv. Of an empty matrix
      what NumPy has: no singular values, and the identity as a basis of a null space.

    Raises:
      ValueError: not a matrix, or with `hermitian` not a square one; NaN or infinity where it can
        be read.
      TypeError: `a` doesn't hold numbers.

    Source: for distinct singular values, Townsend (2016), Differentiating the singular value
    decomposition; for the phase of complex factors, Wan & Zhang (2019), arXiv:1909.02659.
    """
    a = as_matrix("svd", "a", a)
    if hermitian:
        require_square("svd", "a", a)
        found = _of_hermitian(*eigh(a))
        return found if compute_uv else found.s
    if not a.size:
        constant = jax.lax.stop_gradient(a)
        found = SVD(*jnp.linalg.svd(constant, full_matrices=full_matrices))
        return found if compute_uv else found.s
    if not compute_uv:
        values: jax.Array = _values(a)
        return values
    return SVD(*_svd(a, full_matrices and a.shape[-1] != a.shape[-2]))


def _of_hermitian(w: jax.Array, v: jax.Array) -> SVD:
    """Return the decomposition of v diag(w) v^H."""
    order = jnp.argsort(-jnp.abs(w), axis=-1)
    w = jnp.take_along_axis(w, order, axis=-1)
    v = jnp.take_along_axis(v, order[..., None, :], axis=-1)
    signs = jnp.where(w < 0, -1, 1).astype(v.dtype)
    return SVD(v * signs[..., None, :], jnp.abs(w), adjoint(v))


@jax.custom_jvp
def _values(a: jax.Array) -> jax.Array:
    """Return singular values; their derivatives take the vectors, and follow the same rule."""
    return jnp.linalg.svd(a, compute_uv=False)


@_values.defjvp
def _values_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    return jax.jvp(lambda a: _svd(a, False)[1], primals, tangents)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _svd(a: jax.Array, full_matrices: bool) -> tuple[jax.Array, ...]:
    return tuple(jnp.linalg.svd(a, full_matrices=full_matrices))


@_svd.defjvp
@functools.partial(jax.jit, static_argnums=0)
def _svd_jvp(full_matrices: bool, primals: Any, tangents: Any) -> tuple[Any, Any]:
    (a,), (da,) = primals, tangents
    u, s, vh = _svd(a, full_matrices)
    alike = coincidences(a, s)
    k = s.shape[-1]
    fixed = (s, u[..., :k], adjoint(vh)[..., :k])
    values, left, right = map(jax.lax.stop_gradient, fixed)

    def refuse(cotangents: tuple[jax.Array, ...]) -> jax.Array:
        ds, *bases = cotangents
        du, dv = (jnp.max(jnp.abs(basis), axis=-2) for basis in bases)
        shared = jnp.maximum(du[..., :k], dv[..., :k])
        sizes = jnp.concatenate([shared, du[..., k:], dv[..., k:]], axis=-1)
        k_first = ((left, bases[0][..., :k]), (right, bases[1][..., :k]))
        told = tells_apart(values, alike.linked, ds, sizes, void=alike.void)
        return told | turns(alike.linked, k_first, alike.zero)

    clustered = repeated(alike.linked) | jnp.any(alike.void, axis=-1)
    s_, u_, v_ = once((s, u, adjoint(vh)), clustered)
    du, ds, dv = factor_tangents(a, da, u_, s_, v_)
    ds, du, dv = watched((ds, du, dv), refuse)
    return (u, s, vh), (du, ds, adjoint(dv))


class Coincidences(NamedTuple):
    """Where singular values leave a choice of factors."""

    linked: jax.Array
    """Which pairs coincide, (..., k, k)."""
    zero: jax.Array
    """Which can't be told from 0, (..., k)."""
    void: jax.Array
    """Which of these leave a choice: all but the only one of a real square matrix, (..., k)."""


def coincidences(a: jax.Array, s: jax.Array) -> Coincidences:
    """Return where the singular values `s` of `a` coincide, or vanish."""
    tol = spread(s, a.shape)
    zero = s <= tol
    several = jnp.sum(zero, axis=-1, keepdims=True) > 1
    if a.shape[-1] != a.shape[-2] or jnp.iscomplexobj(a):
        several = jnp.ones_like(several)
    return Coincidences(clusters(s, tol), zero, zero & several)


def factor_tangents(
    a: jax.Array, da: jax.Array, u: jax.Array, s: jax.Array, v: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the tangents of u, of s, and of v along `da`, of thin factors or square ones.

    The bases of the null spaces move only as the rest of the basis pushes them.
    """
    k = s.shape[-1]
    du, ds, dv = _turned(a, da, u[..., :k], s, v[..., :k])

    def completed(basis: jax.Array, moved: jax.Array) -> jax.Array:
        kept, null = basis[..., :k], basis[..., k:]
        if not null.shape[-1]:
            return moved
        return jnp.concatenate([moved, -kept @ (adjoint(moved) @ null)], axis=-1)

    return completed(u, du), ds, completed(v, dv)


def _turned(
    a: jax.Array, da: jax.Array, u: jax.Array, s: jax.Array, v: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the tangents of thin factors u, s and v; see `svd`."""
    forward, backward = da @ v, adjoint(da) @ u
    c = adjoint(u) @ forward
    even, odd = c + adjoint(c), c - adjoint(c)
    linked, zero, _ = coincidences(a, s)
    row, column = s[..., :, None], s[..., None, :]
    joint = even * inverse(column - row, ~linked).astype(c.dtype)
    both_zero = zero[..., :, None] & zero[..., None, :]
    against = odd * inverse(column + row, ~both_zero).astype(c.dtype)
    half = jnp.asarray(0.5, c.dtype)
    x, y = half * (joint + against), half * (joint - against)
    scale = inverse(s, ~zero)[..., None, :].astype(c.dtype)
    du, dv = u @ x, v @ y
    if a.shape[-2] > a.shape[-1]:
        du = du + (forward - u @ c) * scale
    if a.shape[-2] < a.shape[-1]:
        dv = dv + (backward - v @ adjoint(c)) * scale
    return du, jnp.real(jnp.diagonal(c, axis1=-2, axis2=-1)), dv
