"""The step that theory prescribes for a gradient estimator on a problem."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from adlab.problems import Problem

__all__ = ["prescribed_step"]


class HasSecondMoment(Protocol):
    """What `prescribed_step` asks of a gradient."""

    def second_moment(self, x: np.ndarray, /) -> float:
        """Return c in E|G|^2 = c |grad|^2 on a linear function."""


def prescribed_step(problem: Problem, gradient: HasSecondMoment) -> float:
    """Return 1/(c L), with E|G|^2 = c |grad|^2 for the estimate G of a linear function's gradient.

    By the descent lemma E f(x - step G) <= f - step |g|^2 + step^2 c L |g|^2 / 2 (up to the bias
    of G), which this step makes smallest: f - |g|^2/(2 c L). So every bound of gradient descent
    (c = 1) holds with c L in the place of L. c is n for one two-point probe on the sphere, n + 2
    for a Gaussian one, 1 + (n - 1)/m and 1 + (n + 1)/m for m of them.

    Args:
      problem: a problem with a constant L.
      gradient: a GradientFn.

    Raises:
      ValueError: the problem's gradient isn't Lipschitz.

    >>> from adlab import gradients, problems
    >>> problem = problems.quadratic(dim=8)
    >>> prescribed_step(problem, gradients.two_point(problem.fun))
    0.125

    Source: Nesterov & Spokoiny (2017), doi:10.1007/s10208-015-9296-2.
    """
    if problem.L is None:
        raise ValueError(
            "problem.L must be finite for a prescribed step, got None: the gradient isn't "
            "Lipschitz; choose the step by hand"
        )
    return 1 / (gradient.second_moment(problem.x0) * problem.L)
