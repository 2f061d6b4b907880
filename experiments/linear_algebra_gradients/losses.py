"""Losses of singular factors, the same code for NumPy's arrays and JAX's."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab import rules

from .config import Loss
from .matrices import GROUPS

METHODS = ("jnp", "rules", "differences")
SVD: dict[str, Callable] = {"jnp": jnp.linalg.svd, "rules": rules.svd}
SPLITTING: tuple[Loss, ...] = ("vector", "leading")
"""Losses that tell apart the two singular values which come close."""


def value(loss: Loss, factors: tuple[Any, Any, Any], a: Any, w: Any, z: Any) -> Any:
    """Return a loss at factors (u, s, vh) of `a`, over any leading axes.

    <w, u_c u_c^T> for the groups c of `matrices.GROUPS` and for the left null space; <z, u vh>;
    sums of s; and <z, .> of the part of rank 3, from its factors or as u_c u_c^T a.
    """
    u, s, vh = factors
    if loss == "nuclear":
        return s.sum(-1)
    if loss == "largest":
        return s[..., 0]
    if loss == "polar":
        return (z * (u @ vh)).sum((-2, -1))
    group = GROUPS[loss]
    first, last = (group.stop, None) if loss == "null" else (group.start, group.stop)
    kept = u[..., first:last]
    if loss == "factors":
        scaled = kept * s[..., None, : group.stop]
        return (z * (scaled @ vh[..., : group.stop, :])).sum((-2, -1))
    if loss == "projected":
        return (z * (kept @ (kept.mT @ a))).sum((-2, -1))
    return (w * (kept @ kept.mT)).sum((-2, -1))


def gradients(method: str, losses: tuple[Loss, ...], a: Any, w: Any, z: Any) -> np.ndarray:
    """Return gradients through `jnp` or `rules`, of shape (losses, k, 8, 4); NaN if refused.

    `jax.numpy.linalg.svd` refuses derivatives of square factors of a matrix that isn't.
    """
    able = tuple(loss for loss in losses if not (loss == "null" and method == "jnp"))
    found = _through(SVD[method], able, a, w, z)
    return np.stack([np.asarray(found.get(loss, np.full(a.shape, np.nan))) for loss in losses])


@functools.partial(jax.jit, static_argnums=(0, 1))
def _through(svd: Callable, losses: tuple[Loss, ...], a: Any, w: Any, z: Any) -> dict[Loss, Any]:
    def at(a: Any, w: Any, z: Any) -> dict[Loss, Any]:
        def through(loss: Loss) -> Any:
            full = loss == "null"
            return jax.grad(lambda a: value(loss, svd(a, full_matrices=full), a, w, z))(a)

        return {loss: through(loss) for loss in losses}

    return jax.vmap(at)(a, w, z)


def differences(loss: Loss, a: np.ndarray, w: Any, z: Any, gap: np.ndarray) -> np.ndarray:
    """Return central differences of `loss` at matrices (k, 8, 4), entry by entry.

    Their step is eps^(1/3) times the length on which the loss varies: the gap (k,), with eps over
    the gap as the noise, for losses that see it, and 1 for others.
    """
    eps = float(np.finfo(float).eps)
    if loss in SPLITTING:
        step = gap * np.cbrt(eps / np.where(gap > 0, gap, np.nan))
    else:
        step = np.full_like(gap, eps ** (1 / 3))
    units = np.eye(a[0].size).reshape(-1, *a.shape[1:])
    sides = []
    for sign in (1, -1):
        moved = a[:, None] + sign * step[:, None, None, None] * units
        known = np.isfinite(step)
        factors = np.linalg.svd(moved[known], full_matrices=loss == "null")
        values = np.full(moved.shape[:2], np.nan)
        values[known] = value(loss, factors, moved[known], w[known][:, None], z[known][:, None])
        sides.append((values, (moved * units).sum((-2, -1))))
    (up, above), (down, below) = sides
    return ((up - down) / np.where(above > below, above - below, np.nan)).reshape(a.shape)
