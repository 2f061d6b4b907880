"""What the table of rates says of an exponent, and of an estimator's iterations."""

from __future__ import annotations

from typing import Any

import numpy as np

from .config import Config


def exponent(config: Config) -> float:
    """Return the exponent of k in |grad f|^2 along gradient descent on the tail."""
    return -(2 * config.power + 1) / (config.power + 1)


def lecture_factor(spec: Any, n: int, claimed: float) -> float:
    """Return how many times gradient descent's iterations theory gives an estimator.

    What a user's own estimator claims of itself is taken for granted here, and measured by the
    experiment `estimator_variance`.
    """
    if spec.kind in ("reverse_mode", "forward_mode", "finite_difference"):
        return 1.0
    if spec.kind not in ("two_point", "one_sided", "forward_gradient"):
        return claimed
    m = spec.num_probes
    known = {
        "sphere": 1 + (n - 1) / m,
        "rademacher": 1 + (n - 1) / m,
        "coordinate": 1 + (n - 1) / m,
        "gaussian": 1 + (n + 1) / m,
        "orthogonal": n / m,
    }
    return known[spec.law]


def bound_iterations(config: Config, factor: float) -> float:
    """Return when the lecture's bound (1 - mu/(cL))^k falls to the accuracy, c the factor."""
    share = 1 / (factor * config.condition)
    return float(np.log(config.accuracy) / np.log1p(-share)) if share < 1 else 1.0


def plain_two_point(config: Config) -> int | None:
    """Return the place of the lecture's own estimator: one pair of points, v on the sphere."""
    specs: list[Any] = list(config.estimators)
    for i, spec in enumerate(specs):
        if spec.kind == "two_point" and (spec.law, spec.num_probes) == ("sphere", 1):
            return i
    return None


def drawn_two_point(config: Config) -> int | None:
    """Return the place of the two-point estimate that figures show: the plainest there is."""
    specs: list[Any] = list(config.estimators)
    places = [i for i, spec in enumerate(specs) if spec.kind == "two_point"]
    plain = plain_two_point(config)
    return min(places, key=lambda i: (i != plain, specs[i].num_probes), default=None)
