"""Two objectives without a Lipschitz gradient: the norm and Rosenbrock's valley."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from adlab.core import checks
from adlab.problems.problem import Problem

__all__ = ["norm", "rosenbrock"]


def norm(*, dim: int) -> Problem:
    """Build f(x) = |x| from x0 = (1, ..., 1)/sqrt(n), at distance R = 1 of the minimiser 0.

    Convex and 1-Lipschitz; the gradient x/|x| jumps at the origin (there `fun` has the gradient
    0), so L is None; mu = 0, f_star = 0. With a step R/sqrt(n K), K random steps leave an average
    error of order sqrt(n/K).

    >>> problem = norm(dim=4)
    >>> float(problem.fun(jnp.asarray(problem.x0))), problem.L
    (1.0, None)

    Args:
      dim: number n of unknowns, at least 1.

    Raises:
      ValueError: dim < 1.

    Source of the rate: Duchi, Jordan, Wainwright & Wibisono (2015), doi:10.1109/TIT.2015.2409256.
    """
    checks.at_least("dim", dim, 1)
    return Problem(
        fun=Partial(_norm), x0=np.full(dim, dim**-0.5), L=None, mu=0.0, f_star=0.0,
        x_star=np.zeros(dim),
    )  # fmt: skip


def _norm(x: jax.Array) -> jax.Array:
    # Scaled by its largest entry, lest small entries underflow when squared; the inner `where`
    # keeps the derivative at the origin finite.
    largest = jnp.max(jnp.abs(x))
    scale = jnp.where(largest > 0, largest, 1)
    squares = jnp.sum((x / scale) ** 2)
    return jnp.where(largest > 0, scale * jnp.sqrt(jnp.where(largest > 0, squares, 1)), 0)


def rosenbrock(*, dim: int) -> Problem:
    """Build f(x) = sum_i 100 (x_{i+1} - x_i^2)^2 + (1 - x_i)^2 from (-1.2, 1, -1.2, 1, ...).

    f_star = 0 at (1, ..., 1). The gradient isn't Lipschitz (L is None) and f isn't convex
    (mu = 0); from n = 4 on there is a second local minimum near (-1, 1, ..., 1).

    >>> problem = rosenbrock(dim=2)
    >>> float(problem.fun(jnp.asarray(problem.x_star)))
    0.0

    Args:
      dim: number of unknowns, at least 2.

    Raises:
      ValueError: dim < 2.

    Source: Rosenbrock (1960), doi:10.1093/comjnl/3.3.175.
    """
    checks.at_least("dim", dim, 2)
    x0 = np.where(np.arange(dim) % 2 == 0, -1.2, 1.0)
    return Problem(fun=Partial(_rosenbrock), x0=x0, L=None, mu=0.0, f_star=0.0, x_star=np.ones(dim))


def _rosenbrock(x: jax.Array) -> jax.Array:
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
