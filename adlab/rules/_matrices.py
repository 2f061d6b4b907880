"""Matrices as arguments, and which of their singular or eigenvalues can be told apart."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks
from adlab.core.types import ArrayLike

__all__ = [
    "adjoint",
    "as_matrix",
    "clusters",
    "inexact",
    "inverse",
    "repeated",
    "require_finite",
    "require_square",
    "spread",
    "tolerance",
    "top",
]

# Round-off doesn't grow with n while n is small, so that n eps alone has no margin there. Measured
# through jax.numpy.linalg on the CPU, in all four dtypes, in units of eps times the largest value:
# neighbours that should be equal are at most 7, 9, 11 apart for n = 2, 3, 4 (4,000 matrices each),
# 13 for n <= 24, 16 for n <= 48; singular values that should be 0 are at most 2.3 for n <= 8 in
# products of factors (20,000 matrices each), but reach 1.8 at n = 2. A projector 1 - q q^H comes
# out with 9: what is off in its own entries is no matter of a default.
COPIES = 24
ZEROS = 8


def as_matrix(function: str, name: str, a: ArrayLike, *, single: bool = False) -> jax.Array:
    """Return `a` as an array (..., m, n) of inexact dtype; or one (m, n) that isn't empty.

    Raises:
      TypeError: it holds no numbers, or half-precision ones.
      ValueError: it isn't a matrix, not a `single` one, or holds NaN or infinity (where it can be
        read).
    """
    array = jnp.asarray(a)
    if array.ndim < 2 or (array.ndim > 2 and single):
        wanted = "(m, n); use jax.vmap for several" if single else "(..., m, n)"
        raise ValueError(
            f"{function}: {name} must be a matrix of shape {wanted}, got shape {array.shape}"
        )
    if array.size == 0 and single:
        raise ValueError(
            f"{function}: {name} must have at least one row and column, got shape {array.shape}"
        )
    require_finite(function, name, array)
    return inexact(function, name, array)


def require_square(function: str, name: str, a: jax.Array) -> None:
    """Raise ValueError unless the matrices are square."""
    if a.shape[-1] != a.shape[-2]:
        raise ValueError(f"{function}: {name} must be square, got shape {a.shape}")


def inexact(function: str, name: str, array: jax.Array) -> jax.Array:
    """Return an array in a dtype that LAPACK has: integers become floats.

    Raises:
      TypeError: it holds no numbers, or half-precision ones.
    """
    if not jnp.issubdtype(array.dtype, jnp.number):
        raise TypeError(f"{function}: {name} must hold numbers, got {array.dtype}")
    if not jnp.issubdtype(array.dtype, jnp.inexact):
        return array.astype(jnp.result_type(float))
    if jnp.finfo(array.dtype).bits < 32:
        raise TypeError(
            f"{function}: {name} must be of 32 or 64 bits, got {array.dtype}; convert it by "
            ".astype(jnp.float32)"
        )
    return array


def require_finite(function: str, name: str, array: jax.Array) -> None:
    """Raise ValueError, naming the first place, unless all entries that can be read are finite."""
    if not checks.concrete(array):
        return
    bad = np.argwhere(~np.isfinite(np.asarray(array)))
    if len(bad):
        place = tuple(int(i) for i in bad[0])
        raise ValueError(
            f"{function}: {name} must be finite, got {array[place]} at {list(place)}"
            + (f" and {len(bad) - 1} more places" if len(bad) > 1 else "")
        )


def tolerance(s: jax.Array, shape: tuple[int, ...], relative: float | None = None) -> jax.Array:
    """Return what can't be told from 0 among values `s` (..., k) of matrices of that shape.

    It is `relative`, or max(m, n, 8) eps, times the largest |s|; of shape (..., 1).
    """
    return _share(s, shape, ZEROS) if relative is None else jnp.asarray(relative, s.dtype) * top(s)


def spread(s: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Return how far neighbours that should be equal may be apart among values `s` (..., k).

    It is max(m, n, 24) eps times the largest |s|; of shape (..., 1).
    """
    return _share(s, shape, COPIES)


def top(s: jax.Array) -> jax.Array:
    """Return the largest |s| of values (..., k), of shape (..., 1); 0 of none."""
    if not s.shape[-1]:
        return jnp.zeros((*s.shape[:-1], 1), jnp.finfo(s.dtype).dtype)
    return jnp.max(jnp.abs(s), axis=-1, keepdims=True)


def _share(s: jax.Array, shape: tuple[int, ...], least: int) -> jax.Array:
    relative = max(*shape[-2:], least) * float(jnp.finfo(s.dtype).eps)
    return jnp.asarray(relative, s.dtype) * top(s)


def clusters(s: jax.Array, tol: jax.Array) -> jax.Array:
    """Return for sorted values (..., k) which pairs (..., k, k) are linked by gaps within `tol`."""
    steps = jnp.abs(jnp.diff(s, axis=-1)) > tol
    first = jnp.zeros_like(steps[..., :1], shape=(*s.shape[:-1], 1))
    group = jnp.cumsum(jnp.concatenate([first, steps], axis=-1), axis=-1)
    return group[..., :, None] == group[..., None, :]


def repeated(linked: jax.Array) -> jax.Array:
    """Return whether any two values are linked, of the batch shape of `linked` (..., k, k)."""
    return jnp.sum(linked, axis=(-2, -1)) > linked.shape[-1]


def inverse(x: jax.Array, keep: jax.Array) -> jax.Array:
    """Return 1/x where `keep`, else 0; without NaN in any derivative."""
    one = jnp.ones((), x.dtype)
    return jnp.where(keep, one / jnp.where(keep, x, one), jnp.zeros((), x.dtype))


def adjoint(a: jax.Array) -> jax.Array:
    """Return the conjugate transpose of matrices (..., m, n)."""
    return jnp.conj(a).mT
