"""Steps that need no learning: exact answers for quadratics, in NumPy alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import linalg, optimize

Array = np.ndarray


def residual(steps: Array, eigenvalues: Array) -> Array:
    """Return p(lambda) = prod_j (1 - s_j lambda)."""
    return np.prod(1 - np.multiply.outer(eigenvalues, steps), axis=-1)


def final_loss(steps: Array, spectrum: Array, squares: Array) -> float:
    """Return sum_i c_i lambda_i p(lambda_i)^2 / 2."""
    return float(np.sum(squares * spectrum * residual(steps, spectrum) ** 2) / 2)


def loss_gradient(steps: Array, spectrum: Array, squares: Array) -> Array:
    """Return its derivatives by the steps: - sum_i c_i lambda_i^2 p p_j, p_j without factor j."""
    others = [residual(np.delete(steps, j), spectrum) for j in range(len(steps))]
    weights = -squares * spectrum**2 * residual(steps, spectrum)
    return np.array(others) @ weights


def single_curvature(steps: Array, spectrum: Array, squares: Array) -> float:
    """Return the second derivative of the loss by the first step: sum c_i lambda_i^3 p_1^2.

    At equal steps all mixed ones are twice that: the curvature is -1 of it along differences of
    steps and 2k - 1 of it along all at once. The best constant step is a saddle.
    """
    other = residual(steps[1:], spectrum)
    return float(np.sum(squares * spectrum**3 * other**2))


def best_steps(spectrum: Array, squares: Array, num_steps: int) -> Array:
    """Return the steps of the least loss, ascending: inverse Gauss nodes of c_i lambda_i^2.

    The nodes are the eigenvalues of the Jacobi matrix of that measure, which Lanczos' method makes
    from diag(lambda) and the vector of the weights' roots.
    """
    vectors = [np.sqrt(squares) * spectrum / np.linalg.norm(np.sqrt(squares) * spectrum)]
    diagonal, beside = [], []
    for _ in range(num_steps):
        ahead = spectrum * vectors[-1]
        diagonal.append(ahead @ vectors[-1])
        for _ in range(2):  # against all before, twice: round-off would bring nodes back
            ahead = ahead - np.array(vectors).T @ (np.array(vectors) @ ahead)
        beside.append(np.linalg.norm(ahead))
        vectors.append(ahead / beside[-1])
    nodes = linalg.eigh_tridiagonal(
        np.array(diagonal), np.array(beside[:-1]), eigvals_only=True
    )  # fmt: skip
    return np.sort(1 / nodes)


def chebyshev_steps(mu: float, L: float, num_steps: int) -> Array:
    """Return the steps of the least contraction on [mu, L], ascending."""
    angles = (2 * np.arange(num_steps) + 1) * np.pi / (2 * num_steps)
    return np.sort(1 / ((L + mu) / 2 + (L - mu) / 2 * np.cos(angles)))


def chebyshev_contraction(mu: float, L: float, num_steps: int) -> float:
    """Return 1/T_k((L + mu)/(L - mu)), the largest |p| of these steps on [mu, L]."""
    return float(1 / np.cosh(num_steps * np.arccosh((L + mu) / (L - mu))))


def best_constant(spectrum: Array, squares: Array, num_steps: int) -> float:
    """Return the constant step of the least loss, which is convex in it."""

    def loss(step: Any) -> float:
        return final_loss(np.full(num_steps, float(step)), spectrum, squares)

    ends = (1 / spectrum.max(), 2 / spectrum.min())
    return float(optimize.minimize_scalar(loss, bounds=ends, options={"xatol": 1e-10}).x)


def greedy_steps(spectrum: Array, squares: Array, num_steps: int) -> Array:
    """Return steps of which each makes the loss right after it least, in their order."""
    steps: list[float] = []
    for _ in range(num_steps):
        left = squares * spectrum * residual(np.array(steps), spectrum) ** 2
        steps.append(float((left @ spectrum) / (left @ spectrum**2)))
    return np.array(steps)
