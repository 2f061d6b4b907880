"""What is read off the stored spectra."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

OUTLIER = 0.1  # of lambda_max: Ritz values above this share are outliers
_SHARP = 0.01  # of lambda_max: the residual of a Ritz value that counts as one eigenvalue


class Series(NamedTuple):
    """Quantities per seed and step, (S, T)."""

    largest: np.ndarray
    smallest: np.ndarray
    residual: np.ndarray
    ratio: np.ndarray
    negative_energy: np.ndarray
    negative_energy_error: np.ndarray
    trace: np.ndarray
    outliers: np.ndarray


def series(data: dict[str, np.ndarray], norm: str) -> Series:
    """Return the extreme Ritz values, |lambda_min|/lambda_max, energies, traces and outliers.

    `residual` is that of the smallest Ritz value, which lambda_min doesn't exceed. The energy's
    error is that over probes, NaN where there is one. Outliers are counted in the first probe's
    Ritz values; only converged ones count.
    """
    nodes, weights, residuals = (data[f"{norm}_{x}"] for x in ("nodes", "weights", "residuals"))
    dim, probes = data[f"{norm}_dim"], nodes.shape[2]
    largest, smallest = nodes.max(axis=(2, 3)), nodes.min(axis=(2, 3))
    place = nodes[..., 0].argmin(axis=2)[..., None]
    residual = np.take_along_axis(residuals[..., 0], place, axis=2)[..., 0]
    below = dim[..., None] * (weights * np.maximum(-nodes, 0)).sum(axis=3)
    spread = below.std(axis=2, ddof=1) if probes > 1 else np.full(largest.shape, np.nan)
    sharp = residuals[:, :, 0] <= _SHARP * largest[..., None]
    outliers = ((nodes[:, :, 0] > OUTLIER * largest[..., None]) & sharp).sum(axis=2)
    return Series(
        largest, smallest, residual, -smallest / largest, below.mean(axis=2),
        spread / np.sqrt(probes), (dim[..., None] * (weights * nodes).sum(axis=3)).mean(axis=2),
        outliers,
    )  # fmt: skip


def smoothed(
    data: dict[str, np.ndarray], norm: str, seed: int, step: int, grid: np.ndarray, width: float
) -> np.ndarray:
    """Return the density of one spectrum on a grid (g,), as Gaussians of deviation `width`."""
    nodes, weights = (data[f"{norm}_{x}"][seed, step].ravel() for x in ("nodes", "weights"))
    bumps = np.exp(-(((grid[:, None] - nodes) / width) ** 2) / 2) / (width * np.sqrt(2 * np.pi))
    return bumps @ weights / data[f"{norm}_nodes"].shape[2]
