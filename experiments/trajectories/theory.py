"""Exact mean and second moment of descent along estimates on a quadratic.

With f(x) = x^T H x / 2 and x+ = x - s G, let E[G | x] = H x + b. Then

    E x+       = E x - s (H E x + b)
    E x+ x+^T  = M - s (C + C^T) + s^2 E G G^T,    M = E x x^T,  C = E x (H x + b)^T = M H + E x b^T

and E G G^T follows from the law of the probe u = sqrt(n) v, of which eps is the length of h u:

    two-point, sphere     p tr(H M H) I + 2 p H M H,    p = n/(n + 2)
    one-sided, sphere     the same, plus eps^2/4 n/((n + 2) (n + 4)) times
                          (t^2 + 2 F) I + 4 t H + 8 H^2,    t = tr H, F = tr H^2
    one-sided coordinate  n diag of the diagonal of E c c^T, c = H x + b, b = eps/2 diag H

The term of the one-sided sphere is h^2/4 E (u^T H u)^2 u u^T: a sixth moment.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

Kind = Literal["exact", "forward", "two_point", "sphere", "coordinate"]


class Moments(NamedTuple):
    """(K + 1, n) means and (K + 1, n, n) second moments of the iterates."""

    mean: np.ndarray
    second: np.ndarray

    @property
    def square(self) -> np.ndarray:
        """(K + 1,) E |x_k|^2."""
        return np.trace(self.second, axis1=1, axis2=2)

    @property
    def covariance(self) -> np.ndarray:
        """(K + 1, n, n)."""
        return self.second - self.mean[:, :, None] * self.mean[:, None, :]

    @property
    def spread(self) -> np.ndarray:
        """(K + 1,) E |x_k - E x_k|^2, without the cancellation's negative rest."""
        return np.maximum(np.trace(self.covariance, axis1=1, axis2=2), 0.0)


def moments(
    kind: Kind, hessian: np.ndarray, x0: np.ndarray, *, step: float, eps: float, num_steps: int
) -> Moments:
    """Run the recursion; `exact` and `forward` are the deterministic gradient and differences."""
    bias = bias_of(kind, hessian, eps)
    mean, second = x0, np.outer(x0, x0)
    means, seconds = [mean], [second]
    for _ in range(num_steps):
        cross = second @ hessian + np.outer(mean, bias)
        slope = hessian @ mean
        square = hessian @ second @ hessian + np.outer(slope, bias) + np.outer(bias, slope)
        scattered = _scattered(kind, hessian, square + np.outer(bias, bias), eps)
        second = second - step * (cross + cross.T) + step**2 * scattered
        mean = mean - step * (slope + bias)
        means.append(mean)
        seconds.append(second)
    return Moments(np.array(means), np.array(seconds))


def bias_of(kind: Kind, hessian: np.ndarray, eps: float) -> np.ndarray:
    """Return b in E[G | x] = H x + b."""
    biased = kind in ("forward", "coordinate")
    return eps / 2 * np.diag(hessian) * (1.0 if biased else 0.0)


def displaced(hessian: np.ndarray, eps: float) -> np.ndarray:
    """Return where descent along forward differences ends: -eps/2 H^-1 diag H."""
    return -eps / 2 * np.linalg.solve(hessian, np.diag(hessian))


def _scattered(kind: Kind, hessian: np.ndarray, square: np.ndarray, eps: float) -> np.ndarray:
    """Return E G G^T, given E c c^T with c = E[G | x]."""
    n = len(hessian)
    if kind in ("exact", "forward"):
        return square
    if kind == "coordinate":
        return n * np.diag(np.diag(square))
    p = n / (n + 2)
    scattered = p * np.trace(square) * np.eye(n) + 2 * p * square
    if kind == "two_point":
        return scattered
    trace, frobenius = np.trace(hessian), np.sum(hessian**2)
    sixth = (trace**2 + 2 * frobenius) * np.eye(n) + 4 * trace * hessian + 8 * hessian @ hessian
    return scattered + eps**2 / 4 * n / ((n + 2) * (n + 4)) * sixth
