"""Logistic regression on the tables that ship with scikit-learn."""

from __future__ import annotations

import functools
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from adlab.core import checks
from adlab.problems.problem import Problem

__all__ = ["logistic_regression"]

Table = Literal["breast_cancer", "digits"]


def logistic_regression(*, data: Table = "breast_cancer", l2: float = 1e-2) -> Problem:
    """Build f(w) = mean_j log(1 + exp(-y_j z_j^T w)) + l2 |w|^2 / 2 from w = 0.

    z_j is a row of the table with its columns standardised (constant ones dropped) and a 1 for the
    bias, y_j = +-1; the penalty covers the bias too. With Z of N rows, L = lambda_max(Z^T Z)/(4N)
    + l2, reached at w = 0, and mu = l2, approached far from it. x_star and f_star by Newton's
    method in float64, to a gradient of at most 1e-12.

    >>> problem = logistic_regression(data="breast_cancer", l2=0.1)
    >>> problem.dim, round(problem.f_star, 2)  # 30 columns and the bias
    (31, 0.2)

    Args:
      data: "breast_cancer" (569 x 30: is the tumour benign?) or "digits" (1797 x 64, made binary:
        is the digit 5 or more?).
      l2: weight of the penalty, > 0, without which separable data have no minimiser.

    Raises:
      ImportError: scikit-learn isn't installed.
      ValueError: unknown data; l2 <= 0.
    """
    checks.one_of("data", data, get_args(Table))
    checks.positive("l2", l2)
    rows = _signed_rows(data)
    gram = np.linalg.eigvalsh(rows.T @ rows)[-1]
    x_star = _newton(rows, l2)
    return Problem(
        fun=Partial(_loss, rows, l2),
        x0=np.zeros(rows.shape[1]),
        L=float(gram / (4 * len(rows)) + l2),
        mu=float(l2),
        f_star=float(np.mean(np.logaddexp(0, -rows @ x_star)) + l2 * x_star @ x_star / 2),
        x_star=x_star,
    )


def _loss(rows: np.ndarray, l2: float, w: jax.Array) -> jax.Array:
    margins = jnp.asarray(rows, w.dtype) @ w
    return jnp.mean(jax.nn.softplus(-margins)) + l2 * jnp.sum(w * w) / 2


@functools.cache
def _signed_rows(data: Table) -> np.ndarray:
    """Return the rows y_j z_j: the loss sees labels and features through them only."""
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(
            f"data = {data!r} needs scikit-learn's tables; install them by "
            "pip install -e '.[data]' in adlab's folder"
        ) from error
    table = datasets.load_breast_cancer() if data == "breast_cancer" else datasets.load_digits()
    features = np.asarray(table.data, np.float64)
    positive = table.target >= (1 if data == "breast_cancer" else 5)
    varying = features[:, features.std(axis=0) > 0]
    standard = (varying - varying.mean(axis=0)) / varying.std(axis=0)
    rows = np.column_stack([standard, np.ones(len(standard))]) * np.where(positive, 1, -1)[:, None]
    rows.setflags(write=False)  # cached: every problem on this table shares it
    return rows


def _newton(rows: np.ndarray, l2: float) -> np.ndarray:
    """Minimise the loss by Newton's method with halved steps; its gradient ends below 1e-12."""
    w = np.zeros(rows.shape[1])

    def value(w: np.ndarray) -> float:
        return float(np.mean(np.logaddexp(0, -rows @ w)) + l2 * w @ w / 2)

    for _ in range(100):
        chance = 0.5 * (1 + np.tanh(-0.5 * rows @ w))  # of the wrong label
        gradient = -rows.T @ chance / len(rows) + l2 * w
        if np.abs(gradient).max() <= 1e-12:
            return w
        curvature = (rows.T * (chance * (1 - chance))) @ rows / len(rows)
        move = np.linalg.solve(curvature + l2 * np.eye(len(w)), gradient)
        size = 1.0
        # Near the minimum values differ by round-off only; there full steps are the right ones.
        while size > 1e-3 and value(w - size * move) > value(w) + 1e-13:
            size /= 2
        w = w - size * move
    raise ArithmeticError(f"Newton's method must end within 100 steps, got {gradient} at l2 = {l2}")
