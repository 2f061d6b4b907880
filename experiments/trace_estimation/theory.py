"""The variances of one probe."""

from __future__ import annotations

import numpy as np

from .measure import Arrays


def formulas(data: Arrays, law: str) -> np.ndarray:
    """Return the variance of v^T A v for one probe v, of shape (S,)."""
    trace, squares, diagonal = data["trace"], data["squares"], data["diagonal"]
    n = data["eigenvalues"].shape[-1]
    return {
        "rademacher": 2 * (squares - diagonal),
        "gaussian": 2 * squares,
        "sphere": 2 * n / (n + 2) * (squares - trace**2 / n),
    }[law]
