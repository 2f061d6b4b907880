"""What an objective tells about itself: where to start, its constants and its minimum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
import numpy.typing as npt

from adlab.core.types import ScalarFn

__all__ = ["Problem", "Radial", "effective_dimension"]


@dataclass(frozen=True)
class Radial:
    """The profile of f(x) = profile(x_1) + |x_perp|^2 / 2, where x_perp is the rest of x.

    Such an f depends on two numbers only, which is what lets random descent on it be simulated
    exactly at any dimension. A pytree: the parameters of the profile are data.

    Attributes:
      profile: t -> phi(t), elementwise and traceable by JAX.
      slope: t -> phi'(t), likewise.
    """

    profile: Callable[[jax.Array], jax.Array]
    slope: Callable[[jax.Array], jax.Array]


jax.tree_util.register_dataclass(Radial, ["profile", "slope"], [])


@dataclass(frozen=True, eq=False)
class Problem:
    """Minimise `fun` from `x0`, with the constants that theory asks for.

    `fun` maps an array of the shape of `x0` to a scalar of the same dtype, float32 or float64
    alike. It is a pytree callable (`jax.tree_util.Partial`): its parameters are data, so that two
    problems of one kind and size share what was compiled. Building a problem runs NumPy only.

    Attributes:
      fun: the objective.
      x0: the starting point, float64.
      L: Lipschitz constant of the gradient on the whole space, the least one; None where the
        gradient isn't Lipschitz.
      mu: constant of strong convexity, the largest one; 0 where `fun` isn't strongly convex.
      f_star: infimum of `fun`.
      x_star: a minimiser, or None where the infimum isn't attained.
      radial: the profile, where `fun` has that form.
    """

    fun: ScalarFn
    x0: np.ndarray
    L: float | None
    mu: float
    f_star: float
    x_star: np.ndarray | None
    radial: Radial | None = None

    @property
    def dim(self) -> int:
        """The number of unknowns."""
        return self.x0.size


def effective_dimension(hessian: npt.ArrayLike) -> float:
    """Return (tr H + 2 lambda_max) / lambda_max: what slows random descent down, in place of n.

    A two-point step with Gaussian probes has E f(x+) = f - step |g|^2 + step^2 (g^T H g + |g|^2
    tr H / 2) on a quadratic, hence the step 1/(tr H + 2 lambda_max): that of gradient descent over
    this number. It is n + 2 for a multiple of the identity and 3 for rank one, whatever n.

    Args:
      hessian: a symmetric positive semi-definite matrix, not zero.

    Raises:
      ValueError: the matrix isn't square, finite and symmetric with a positive eigenvalue.

    >>> effective_dimension(np.eye(10))
    12.0
    """
    matrix = np.asarray(hessian, np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not np.all(np.isfinite(matrix)):
        raise ValueError(f"hessian must be a finite square matrix, got shape {matrix.shape}")
    if not np.allclose(matrix, matrix.T, rtol=1e-4, atol=1e-6 * np.abs(matrix).max()):
        raise ValueError("hessian must be symmetric, got a matrix that isn't")
    largest = np.linalg.eigvalsh(matrix)[-1]
    if largest <= 0:
        raise ValueError(f"hessian must have a positive eigenvalue, got at most {largest}")
    return float((np.trace(matrix) + 2 * largest) / largest)
