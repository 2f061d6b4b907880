"""What the table of rates says of an exponent, and of an estimator's iterations."""

from __future__ import annotations

from typing import Any

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
