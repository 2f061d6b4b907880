"""Quadratics, whose constants are the ends of their spectra."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from adlab.core import checks
from adlab.problems.problem import Problem

__all__ = ["lecture_quadratic", "quadratic", "tridiagonal"]


def quadratic(*, dim: int, condition: float = 10.0, spectrum: list[float] | None = None) -> Problem:
    """Build f(x) = sum_i lambda_i x_i^2 / 2 from x0 = (1, ..., 1).

    L = max lambda, mu = min lambda, f_star = 0 at x_star = 0. The Hessian is diagonal, hence
    coordinate probes see its eigenvectors; sphere and Gaussian probes don't care.

    >>> problem = quadratic(dim=2, spectrum=[1.0, 4.0])
    >>> problem.L, problem.mu, float(problem.fun(jnp.asarray(problem.x0)))
    (4.0, 1.0, 2.5)

    Args:
      dim: number of unknowns, at least 1.
      condition: L / mu >= 1; the spectrum is then geometric from 1/condition to 1, so that L = 1
        (a single unknown gets the eigenvalue 1/condition).
      spectrum: the `dim` eigenvalues themselves, none negative and not all zero, instead.

    Raises:
      ValueError: dim < 1; condition < 1; a spectrum of another length, or with such entries.
    """
    checks.at_least("dim", dim, 1)
    if not (np.isfinite(condition) and condition >= 1):
        raise ValueError(f"condition must be >= 1 and finite, got {condition!r}")
    if spectrum is None:
        eigenvalues = np.geomspace(1 / condition, 1, dim)
    else:
        eigenvalues = np.asarray(spectrum, np.float64)
        if eigenvalues.shape != (dim,):
            raise ValueError(
                f"spectrum must be a list of dim = {dim} numbers, got shape {eigenvalues.shape}"
            )
        if not np.all(np.isfinite(eigenvalues)) or eigenvalues.min() < 0 or not eigenvalues.any():
            raise ValueError(f"spectrum must be finite, >= 0 and not all zero, got {spectrum!r}")
    return Problem(
        fun=Partial(_diagonal, eigenvalues),
        x0=np.ones(dim),
        L=float(eigenvalues.max()),
        mu=float(eigenvalues.min()),
        f_star=0.0,
        x_star=np.zeros(dim),
    )


def _diagonal(eigenvalues: np.ndarray, x: jax.Array) -> jax.Array:
    return jnp.sum(jnp.asarray(eigenvalues, x.dtype) * x * x) / 2


def lecture_quadratic() -> Problem:
    """Build f(x, y) = x^2 + 3 y^2 + 2 x y from (4, 4), the lecture's picture of descent.

    The Hessian [[2, 2], [2, 6]] has eigenvalues 4 +- 2 sqrt(2): L = 6.83, mu = 1.17, f_star = 0 at
    the origin.

    >>> problem = lecture_quadratic()
    >>> round(problem.L, 2), round(problem.mu, 2)
    (6.83, 1.17)
    """
    root = float(np.sqrt(8.0))
    return Problem(
        fun=Partial(_lecture), x0=np.array([4.0, 4.0]), L=4 + root, mu=4 - root, f_star=0.0,
        x_star=np.zeros(2),
    )  # fmt: skip


def _lecture(x: jax.Array) -> jax.Array:
    return x[0] ** 2 + 3 * x[1] ** 2 + 2 * x[0] * x[1]


def tridiagonal(*, dim: int) -> Problem:
    """Build Nesterov's function f(x) = [x_1^2 + sum_i (x_i - x_{i+1})^2 + x_n^2]/8 - x_1/4, x0 = 0.

    The Hessian is A/4 with A = tridiag(-1, 2, -1), of eigenvalues 2 - 2 cos(pi i / (n + 1)), hence
    L = (1 + cos(pi/(n + 1)))/2 and mu = (1 - cos(pi/(n + 1)))/2; x_star_i = 1 - i/(n + 1) and
    f_star = (1/(n + 1) - 1)/8.

    The worst case for methods whose k-th iterate stays in the span of k gradients, that is, for
    accelerated ones. Plain descent on it never shows the rate 1/k: a negative control.

    >>> problem = tridiagonal(dim=3)
    >>> float(problem.fun(jnp.asarray(problem.x_star))), problem.f_star
    (-0.09375, -0.09375)

    Args:
      dim: number n of unknowns, at least 1.

    Raises:
      ValueError: dim < 1.

    Source: Nesterov, Introductory Lectures on Convex Optimization (2004), section 2.1.2,
    doi:10.1007/978-1-4419-8853-9.
    """
    checks.at_least("dim", dim, 1)
    cosine = float(np.cos(np.pi / (dim + 1)))
    return Problem(
        fun=Partial(_tridiagonal),
        x0=np.zeros(dim),
        L=(1 + cosine) / 2,
        mu=float(np.sin(np.pi / (2 * dim + 2)) ** 2),  # (1 - cosine)/2 without cancellation
        f_star=(1 / (dim + 1) - 1) / 8,
        x_star=1 - np.arange(1, dim + 1) / (dim + 1),
    )


def _tridiagonal(x: jax.Array) -> jax.Array:
    ends = x[0] ** 2 + x[-1] ** 2
    return (ends + jnp.sum((x[1:] - x[:-1]) ** 2)) / 8 - x[0] / 4
