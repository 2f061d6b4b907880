"""Losses that see close singular values alike, as functions of the matrix, not of its factors."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab import rules

from .config import Loss

WINDOWS: dict[Loss, tuple[float, float]] = {
    "cluster": (0.5, 2.5),
    "null": (-np.inf, 0.125),
    "factors": (0.5, np.inf),
    "projected": (0.5, np.inf),
}
"""Which eigenvalues of a a^T, squares of (2, 1 + gap, 1, 1/2) and 0, a projector keeps."""


def able(losses: tuple[Loss, ...]) -> tuple[Loss, ...]:
    """Return those that are functions of the matrix, in their order."""
    return tuple(loss for loss in losses if loss in WINDOWS or loss == "polar")


def gradients(losses: tuple[Loss, ...], a: np.ndarray, w: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return gradients of able losses at matrices (k, 8, 4): (losses, k, 8, 4)."""
    return np.stack([np.asarray(_through(loss, a, w, z)) for loss in losses])


@functools.partial(jax.jit, static_argnums=0)
def _through(loss: Loss, a: Any, w: Any, z: Any) -> Any:
    return jax.vmap(jax.grad(functools.partial(_value, loss)))(a, w, z)


def _value(loss: Loss, a: Any, w: Any, z: Any) -> Any:
    """Return what `losses.value` is of the factors; a part of rank 3 is a projection in both."""
    if loss == "polar":
        return jnp.sum(z * rules.polar(a).u)
    low, high = WINDOWS[loss]
    projector = rules.matrix_function(
        a @ a.T, lambda x: jnp.where((low < x) & (x < high), 1.0, 0.0)
    )
    return (
        jnp.sum(z * (projector @ a)) if loss in ("factors", "projected") else jnp.sum(w * projector)
    )
