"""On which share of random graphs an order is the best."""

from __future__ import annotations

from typing import Any

import numpy as np

from .known import MODES


def shares(costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return on how many graphs (..., graphs, orders) each order costs more than the best.

    And on how many the best costs less than both modes.
    """
    best = costs.min(axis=-1)
    dearer = (costs > best[..., None]).sum(axis=-2)
    return dearer, (best < costs[..., MODES].min(axis=-1)).sum(axis=-1)


def interval(count: Any, total: Any) -> tuple[Any, Any, Any]:
    """Return a share with its 95 % interval.

    Source: Wilson (1927), doi:10.1080/01621459.1927.10502953.
    """
    z, share = 1.96, np.asarray(count) / total
    middle = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    low, high = (np.clip(middle + sign * half, 0.0, 1.0) for sign in (-1, 1))
    return share, np.minimum(share, low), np.maximum(share, high)
