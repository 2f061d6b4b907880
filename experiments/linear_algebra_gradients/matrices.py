"""Matrices whose singular factors are known exactly, and derivatives from those factors."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from .config import Loss

ROWS, COLUMNS = 8, 4
SPECTRA = {
    "distinct": (2.0, 1.5, 1.0, 0.5),
    "pair": (2.0, 1.0, 1.0, 0.5),
    "orthonormal": (1.0, 1.0, 1.0, 1.0),
    "rank_two": (2.0, 1.0, 0.0, 0.0),
    "rank_two_equal": (1.0, 1.0, 0.0, 0.0),
}
GROUPS: dict[Loss, range] = {
    "vector": range(1, 2),
    "leading": range(2),
    "cluster": range(1, 3),
    "null": range(4),
    "largest": range(1),
    "factors": range(3),
    "projected": range(3),
}
"""Which singular vectors a loss sees: the second and third singular values come close."""


class Known:
    """A matrix u[:, :n] diag(s) v^T, of shape (8, 4), with these very factors."""

    def __init__(self, rng: np.random.Generator, s: Collection[float]) -> None:
        self.u, self.v = reflected(rng, ROWS, 2), reflected(rng, COLUMNS, 1)
        self.s = np.array(s, dtype=float)
        self.a = (self.u[:, :COLUMNS] * self.s) @ self.v.T

    def differentiable(self, loss: Loss) -> bool:
        """Return whether a loss that is generic within its kind has a derivative here."""
        if loss in ("polar", "nuclear"):
            return bool(np.all(self.s > 0))
        group = GROUPS[loss]
        padded = self._padded()
        inside, outside = padded[list(group)], np.delete(padded, list(group))
        if loss == "largest":
            outside = outside[:COLUMNS]
        return not np.isin(inside, outside).any()

    def through_factors(self, loss: Loss) -> bool:
        """Return whether the cotangents of the factors hold that derivative."""
        seen = self.s[list(GROUPS["factors"])]
        return self.differentiable(loss) and (
            loss != "factors" or len(np.unique(seen)) == len(seen)
        )

    def gradient(self, loss: Loss, w: np.ndarray, z: np.ndarray) -> np.ndarray:
        """Return the gradient of a loss with weights `w` (8, 8), `z` (8, 4); NaN if it has none.

        Closed forms of first-order perturbation, in the exact factors.
        """
        if not self.differentiable(loss):
            return np.full_like(self.a, np.nan)
        u, v, s = self.u[:, :COLUMNS], self.v, self.s
        if loss == "nuclear":
            return u @ v.T
        if loss == "largest":
            return np.outer(u[:, 0], v[:, 0])
        if loss == "polar":
            t = u.T @ z @ v
            inside = (t - t.T) / (s[:, None] + s)
            return u @ inside @ v.T + (z - u @ (u.T @ z)) @ (v / s) @ v.T
        group = GROUPS[loss]
        if loss == "null":
            return -self._projector(w, group)
        if loss in ("factors", "projected"):
            kept = u[:, list(group)]
            return self._projector(z @ self.a.T, group) + kept @ (kept.T @ z)
        return self._projector(w, group)

    def _projector(self, w: np.ndarray, group: Collection[int]) -> np.ndarray:
        """Return the gradient of <w, u_c u_c^T>; terms within the group cancel, and aren't there.

        d(u_c u_c^T) turns u_i, i in c, towards u_j, j outside, by (s_i C_ji + s_j C_ij) over
        s_i^2 - s_j^2, where C = u^T da v; the left null space has s_j = 0.
        """
        s, v = self._padded(), np.zeros((COLUMNS, ROWS))
        v[:, :COLUMNS] = self.v
        seen = self.u.T @ (w + w.T) @ self.u
        total = np.zeros_like(self.a)
        for i in group:
            for j in set(range(ROWS)) - set(group):
                turn = s[i] * np.outer(self.u[:, j], v[:, i])
                turn += s[j] * np.outer(self.u[:, i], v[:, j])
                total += seen[i, j] / ((s[i] - s[j]) * (s[i] + s[j])) * turn
        return total

    def _padded(self) -> np.ndarray:
        return np.concatenate([self.s, np.zeros(ROWS - COLUMNS)])


def reflected(rng: np.random.Generator, size: int, layers: int) -> np.ndarray:
    """Return an orthogonal matrix of multiples of 2^-layers, exact in floating point.

    Each layer reflects random fours of coordinates at vectors (+-1/2, +-1/2, +-1/2, +-1/2).
    """
    q = np.eye(size)[rng.permutation(size)]
    for _ in range(layers):
        order = rng.permutation(size)
        for four in np.split(order, size // 4):
            mirror = np.zeros(size)
            mirror[four] = rng.choice([-0.5, 0.5], 4)
            q = q - 2 * np.outer(mirror, mirror @ q)
    return q


def near(gap: float) -> tuple[float, ...]:
    """Return singular values of which two are `gap` apart."""
    return (2.0, 1.0 + gap, 1.0, 0.5)
