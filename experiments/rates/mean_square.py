"""The exact mean square of random descent on a quadratic.

Let x+ = x - step G on f(x) = sum_i lambda_i x_i^2 / 2, with g = grad f(x) and an estimate G whose
second moment is E[G G^T | x] = p |g|^2 I + q g g^T. Then m_i = E x_i^2 obeys a linear recursion,

    m+ = [diag(1 - 2 s lambda + s^2 q lambda^2) + s^2 p 1 (lambda^2)^T] m,        s = step,

which the variables lambda_i^2 m_i make symmetric: its spectrum is real, and E f after k steps is a
sum of n exponentials, known without simulating.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from adlab.core import checks

__all__ = ["MeanSquare", "mean_square"]

Law = Literal["sphere", "gaussian", "orthogonal"]
Criterion = Literal["value", "square"]


@dataclass(frozen=True, eq=False)
class MeanSquare:
    """The mean square of a descent as a sum of exponentials.

    Attributes:
      spectrum: (n,) eigenvalues lambda > 0 of the Hessian.
      rates: (n,) eigenvalues of the recursion, ascending.
      modes: (n, n) its orthonormal eigenvectors in the variables lambda m, as columns.
    """

    spectrum: np.ndarray
    rates: np.ndarray
    modes: np.ndarray

    @property
    def rate(self) -> float:
        """The factor by which E f shrinks per step in the end: the spectral radius."""
        return float(np.abs(self.rates).max())

    def expected_value(self, x0: Any, iterations: Any) -> np.ndarray:
        """Return E f(x_k) for the iterations k given, from x0 in the eigenvectors' coordinates."""
        return self._sum(np.full_like(self.spectrum, 0.5), x0, iterations)

    def expected_square(self, x0: Any, iterations: Any) -> np.ndarray:
        """Return E |x_k|^2, likewise."""
        return self._sum(1 / self.spectrum, x0, iterations)

    def _sum(self, weights: np.ndarray, x0: Any, iterations: Any) -> np.ndarray:
        """Return sum_i weights_i lambda_i m_i after the iterations given."""
        x0 = np.asarray(x0, np.float64)
        if x0.shape != self.spectrum.shape:
            raise ValueError(f"x0 must have the shape {self.spectrum.shape}, got {x0.shape}")
        amplitudes = (self.modes.T @ weights) * (self.modes.T @ (self.spectrum * x0**2))
        return self.rates ** np.asarray(iterations)[..., None] @ amplitudes

    def iterations(self, x0: Any, accuracy: float, of: Criterion = "value") -> int:
        """Return the first k with E f(x_k) <= accuracy * f(x0), or the same of |x|^2.

        Args:
          x0: (n,) the start, in the eigenvectors' coordinates.
          accuracy: the reduction asked for, within (0, 1).
          of: "value" for f, "square" for |x|^2.

        Raises:
          ValueError: an argument out of range, or the mean square doesn't converge.
        """
        checks.positive("accuracy", accuracy)
        checks.one_of("of", of, get_args(Criterion))
        if accuracy >= 1:
            raise ValueError(f"accuracy must be < 1, got {accuracy!r}")
        if self.rate >= 1:
            raise ValueError(f"rate must be < 1 to reach an accuracy, got {self.rate}")
        expected = self.expected_value if of == "value" else self.expected_square
        goal = accuracy * expected(x0, 0)
        first, last = 0, 1
        while expected(x0, last) > goal:
            first, last = last, 2 * last
        while last - first > 1:
            middle = (first + last) // 2
            first, last = (middle, last) if expected(x0, middle) > goal else (first, middle)
        return last


def mean_square(
    spectrum: Any, *, step: float, law: Law = "sphere", num_probes: int = 1
) -> MeanSquare:
    """Solve the recursion of two-point descent on a quadratic of the given spectrum.

    With n unknowns and m probes per step:

    - sphere, independent: p = n/((n + 2) m), q = 2 p + 1 - 1/m;
    - gaussian, independent: p = 1/m, q = 2 p + 1 - 1/m;
    - orthogonal, m <= n (uniformly distributed): p = n (n - m)/(m (n - 1)(n + 2)), and
      q = n (m + 2)/(m (n + 2)) - p. At m = n this is gradient descent itself.

    Args:
      spectrum: (n,) eigenvalues > 0 of the Hessian.
      step: the step > 0.
      law: distribution of the probes.
      num_probes: number m of probes per step.

    Raises:
      ValueError: an argument out of range.
    """
    spectrum = np.asarray(spectrum, np.float64)
    if spectrum.ndim != 1 or spectrum.size == 0 or not np.all(spectrum > 0):
        raise ValueError(f"spectrum must be a list of positive numbers, got {spectrum!r}")
    checks.positive("step", step)
    checks.at_least("num_probes", num_probes, 1)
    spread, along = _second_moment(law, spectrum.size, num_probes)
    matrix = step**2 * spread * np.outer(spectrum, spectrum)
    matrix += np.diag(1 - 2 * step * spectrum + step**2 * along * spectrum**2)
    return MeanSquare(spectrum, *np.linalg.eigh(matrix))


def _second_moment(law: Law, n: int, m: int) -> tuple[float, float]:
    """Return p and q in E[G G^T] = p |g|^2 I + q g g^T."""
    checks.one_of("law", law, get_args(Law))
    if law == "orthogonal":
        if m > n:
            raise ValueError(f"num_probes must be <= {n} for orthogonal probes, got {m}")
        spread = n * (n - m) / (m * (n - 1) * (n + 2)) if n > 1 else 0.0
        return spread, n * (m + 2) / (m * (n + 2)) - spread
    c = n / (n + 2) if law == "sphere" else 1.0
    return c / m, 2 * c / m + 1 - 1 / m
