"""Objectives that descend along a slow tail: f(x) = phi(x_1) + |x_perp|^2 / 2 with L = 1.

The tail phi sets the rate in the number of iterations. The quadratic block has curvature 1 in all
other directions, so that random descent diverges unless its step is O(1/n): the dimension can't be
tuned away. `rank_one` leaves the block out, and then it can.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from adlab.core import checks
from adlab.problems.problem import Problem, Radial

__all__ = ["huber", "logistic_tail", "nonconvex_tail", "power_tail", "rank_one"]


def nonconvex_tail(*, dim: int, power: float = 0.1) -> Problem:
    """Build the tail phi(t) = (1 + t^2)^(-q) / (2q), q = power, from t = 1.

    Not convex (phi''(0) = -1); L = 1, mu = 0, and the infimum 0 isn't attained. Gradient descent
    has |grad f|^2 ~ k^(-(2q + 1)/(q + 1)), that is, nearly 1/k for small q.

    >>> problem = nonconvex_tail(dim=3)
    >>> problem.L, problem.mu, problem.x_star is None
    (1.0, 0.0, True)

    Args:
      dim: number of unknowns, at least 1.
      power: the exponent q > 0.

    Raises:
      ValueError: dim < 1; power <= 0.
    """
    checks.positive("power", power)
    radial = Radial(Partial(_nonconvex, power), Partial(_nonconvex_slope, power))
    return _with_block(radial, dim=dim, start=1.0, x_star=None)


def _nonconvex(power: float, t: jax.Array) -> jax.Array:
    return (1 + t * t) ** (-power) / (2 * power)


def _nonconvex_slope(power: float, t: jax.Array) -> jax.Array:
    return -t * (1 + t * t) ** (-power - 1)


def logistic_tail(*, dim: int) -> Problem:
    """Build the tail phi(t) = 4 log(1 + exp(-t)) from t = 0: logistic loss on separable data.

    Convex; L = 1 (phi''(0) = 1), mu = 0, and the infimum 0 isn't attained. Gradient descent has
    f ~ 1/k at every horizon, up to logarithms.

    >>> problem = logistic_tail(dim=3)
    >>> float(problem.fun(jnp.asarray(problem.x0)))  # 4 ln 2
    2.7725887298583984

    Args:
      dim: number of unknowns, at least 1.

    Raises:
      ValueError: dim < 1.
    """
    return _with_block(_logistic_radial(), dim=dim, start=0.0, x_star=None)


def rank_one(*, dim: int) -> Problem:
    """Build f(x) = 4 log(1 + exp(-x_1)) from the origin: `logistic_tail` without the block.

    L = 1, mu = 0, f_star = 0 not attained. The Hessian has rank one and effective dimension 3,
    hence random descent with the step 1/3 converges at one rate in every dimension: a negative
    control for the claim that the dimension must slow it down.

    >>> rank_one(dim=3).x0
    array([0., 0., 0.])

    Args:
      dim: number of unknowns, at least 1.

    Raises:
      ValueError: dim < 1.
    """
    checks.at_least("dim", dim, 1)
    return Problem(
        fun=Partial(_first_coordinate, _logistic_radial()), x0=np.zeros(dim), L=1.0, mu=0.0,
        f_star=0.0, x_star=None,
    )  # fmt: skip


def _first_coordinate(radial: Radial, x: jax.Array) -> jax.Array:
    return radial.profile(x[0])


def _logistic_radial() -> Radial:
    return Radial(Partial(_logistic), Partial(_logistic_slope))


def _logistic(t: jax.Array) -> jax.Array:
    return 4 * jax.nn.softplus(-t)


def _logistic_slope(t: jax.Array) -> jax.Array:
    return -4 * jax.nn.sigmoid(-t)


def huber(*, dim: int, width: float) -> Problem:
    """Build phi(t) = t^2/2 for |t| <= w, w |t| - w^2/2 beyond, w = width, from t = 1.

    Convex; L = 1, mu = 0, f_star = 0 at the origin, R = |x0 - x_star| = 1. With w = 1/(2K + 1),
    gradient descent of step 1/L ends K iterations at exactly L R^2/(4K + 2), the worst value that
    any such function allows.

    >>> problem = huber(dim=3, width=0.5)
    >>> float(problem.fun(jnp.asarray(problem.x0)))  # w - w^2/2
    0.375

    Args:
      dim: number of unknowns, at least 1.
      width: half-width w > 0 of the parabola.

    Raises:
      ValueError: dim < 1; width <= 0.

    Source: Drori & Teboulle (2014), doi:10.1007/s10107-013-0653-0.
    """
    checks.positive("width", width)
    radial = Radial(Partial(_huber, width), Partial(_huber_slope, width))
    return _with_block(radial, dim=dim, start=1.0, x_star=np.zeros(dim))


def _huber(width: float, t: jax.Array) -> jax.Array:
    size = jnp.abs(t)
    return jnp.where(size <= width, t * t / 2, width * size - width * width / 2)


def _huber_slope(width: float, t: jax.Array) -> jax.Array:
    return jnp.clip(t, -width, width)


def power_tail(*, dim: int, exponent: float) -> Problem:
    """Build phi(t) = |t|^p / (p (p - 1)), p = exponent, from t = 1.

    Beyond |t| = 1 it goes on as its osculating parabola, which makes L = 1 hold everywhere.
    Convex; mu = 0, f_star = 0 at the origin. Gradient descent has f ~ k^(-p/(p - 2)): steeper than
    1/k for every p, and near it only for large p, hence a negative control for that rate.

    >>> problem = power_tail(dim=3, exponent=4.0)
    >>> float(problem.fun(jnp.array([0.0, 1.0, 1.0])))  # the tail is 0 there, the block 1
    1.0

    Args:
      dim: number of unknowns, at least 1.
      exponent: the power p > 2.

    Raises:
      ValueError: dim < 1; exponent <= 2.
    """
    checks.positive("exponent", exponent)
    if exponent <= 2:
        raise ValueError(f"exponent must be > 2, got {exponent!r}")
    radial = Radial(Partial(_power, exponent), Partial(_power_slope, exponent))
    return _with_block(radial, dim=dim, start=1.0, x_star=np.zeros(dim))


def _power(exponent: float, t: jax.Array) -> jax.Array:
    inside, beyond = _split_at_one(t)
    tail = inside**exponent / (exponent * (exponent - 1))
    return tail + beyond / (exponent - 1) + beyond**2 / 2


def _power_slope(exponent: float, t: jax.Array) -> jax.Array:
    inside, beyond = _split_at_one(t)
    return jnp.sign(t) * (inside ** (exponent - 1) / (exponent - 1) + beyond)


def _split_at_one(t: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return |t| as a part up to 1 and the part beyond."""
    size = jnp.abs(t)
    return jnp.minimum(size, 1), jnp.maximum(size - 1, 0)


def _with_block(radial: Radial, *, dim: int, start: float, x_star: np.ndarray | None) -> Problem:
    checks.at_least("dim", dim, 1)
    x0 = np.zeros(dim)
    x0[0] = start
    return Problem(
        fun=Partial(_radial, radial), x0=x0, L=1.0, mu=0.0, f_star=0.0, x_star=x_star,
        radial=radial,
    )  # fmt: skip


def _radial(radial: Radial, x: jax.Array) -> jax.Array:
    return radial.profile(x[0]) + jnp.sum(x[1:] ** 2) / 2
