"""Hutch++, XTrace and the trace itself, written once for arrays of NumPy and for those of JAX."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from adlab.curvature._lengths import lengths, unit_of

__all__ = ["hutchpp", "inner_products", "whole", "xtrace"]

_LEFT = 0.01  # length; a probe's own is sqrt(d) or so, round-off far below
_BLOCK = 2**16  # entries that are converted to float64 at a time


def inner_products(first: Any, second: Any, xp: Any) -> Any:
    """Return the inner products of rows (k, d); in NumPy summed in float64, block by block."""
    if xp is jnp:
        return jax.vmap(jnp.vdot)(first, second)
    cuts = range(0, first.shape[1], _BLOCK)
    blocks = [
        [
            np.vdot(
                u[cut : cut + _BLOCK].astype(np.float64), v[cut : cut + _BLOCK].astype(np.float64)
            )
            for cut in cuts
        ]
        for u, v in zip(first, second, strict=True)
    ]
    return np.sum(blocks, axis=1)


def _basis(rows: Any, xp: Any) -> tuple[Any, Any]:
    """Return Q (k, d) with orthonormal rows, and R (k, k) upper triangular, rows = R^T Q.

    From the host Q takes the place of `rows`; NumPy's own would compute in float64.
    """
    if xp is np:
        q, r = scipy.linalg.qr(rows.T, mode="economic", overwrite_a=True, check_finite=False)
    else:
        q, r = jnp.linalg.qr(rows.T)
    return q.T, r


def hutchpp(
    products: Any, starts: Any, num_matvecs: int, dim: int, rotated: bool, xp: Any
) -> tuple[Any, Any]:
    """Return the samples of Hutch++: k sketches, k products with their basis, the rest probes.

    And whether the products with the rest vanish: then samples that agree are exact.
    """
    del rotated
    sketches = num_matvecs // 3
    image = products(starts(np.arange(sketches)))
    image /= unit_of(image, xp)
    basis, _ = _basis(image, xp)
    del image
    again = products(basis)
    exact, size = xp.sum(inner_products(basis, again, xp)), xp.max(lengths(again, xp))
    del again
    rest = starts(np.arange(sketches, num_matvecs - sketches))
    rest -= (rest @ basis.T) @ basis
    del basis
    left = products(rest)
    round_off = 64 * dim**0.5 * float(xp.finfo(rest.dtype).eps)
    # Where little is left of the probes themselves, that their products vanish says nothing.
    said = (lengths(left, xp) <= round_off * size) & (lengths(rest, xp) > _LEFT)
    known = xp.all(said) | (sketches >= dim)
    return (exact + inner_products(rest, left, xp)).astype(rest.dtype), known


def whole(
    products: Any, starts: Any, num_matvecs: int, dim: int, rotated: bool, xp: Any
) -> tuple[Any, Any]:
    """Return the trace itself, from d products, as often as XTrace has samples."""
    del rotated
    basis = xp.eye(dim, dtype=starts(np.arange(1)).dtype)
    found = xp.sum(inner_products(basis, products(basis), xp)).astype(basis.dtype)
    return xp.full(num_matvecs // 2, found), xp.asarray(True)


def xtrace(
    products: Any, starts: Any, num_matvecs: int, dim: int, rotated: bool, xp: Any
) -> tuple[Any, Any]:
    """Return the samples of XTrace, one per probe, each with the range of the other probes.

    With Y = A Omega = Q R, the range of all columns of Y but the i-th is that of Q (I - s s^T),
    where s is the normalised i-th column of R^-T: no second factorisation is needed. The rest w of
    a probe outside of that range has E[w w^T] = I there. `rotated` says that no rotation
    changes the law of the probes: their w has a uniform direction, and is made as long as expected.
    """
    count = num_matvecs // 2
    omega = starts(np.arange(count))
    image = products(omega)
    whole = inner_products(omega, image, xp)
    unit = unit_of(image, xp)
    image /= unit
    basis, r = _basis(image, xp)
    del image
    again = products(basis)
    inner, mixed = basis @ again.T, again @ omega.T  # Q^T A Q, and (A Q)^T Omega
    s, r = _left_out(r, xp), unit * r
    along = basis @ omega.T
    p = along - s * xp.sum(s * along, axis=0)  # coordinates of the projected probes
    quadratic = (
        whole - xp.sum(p * r, axis=0) - xp.sum(p * mixed, axis=0) + xp.sum(p * (inner @ p), axis=0)
    )
    if rotated:
        outside = inner_products(omega, omega, xp) - xp.sum(p**2, axis=0)
        quadratic = quadratic * (dim - count + 1) / xp.where(outside > 0, outside, 1)
    samples = xp.trace(inner) - xp.sum(s * (inner @ s), axis=0) + quadratic
    return samples.astype(omega.dtype), xp.asarray(True)


def _left_out(r: Any, xp: Any) -> Any:
    """Return the columns of R^-T, normalised; a singular R is made regular at round-off."""
    size = abs(xp.diagonal(r))
    tiny = xp.finfo(r.dtype).eps * xp.where(xp.max(size) > 0, xp.max(size), 1)
    r = r + xp.diag(xp.where(size < tiny, tiny, 0))
    columns = xp.linalg.inv(r).T
    return columns / xp.sqrt(xp.sum(columns**2, axis=0))
