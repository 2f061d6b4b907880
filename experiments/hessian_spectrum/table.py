"""The spectra as tidy rows: one per training and step."""

from __future__ import annotations

from typing import Any

import numpy as np

from .config import Config
from .spectra import series

Row = dict[str, Any]


def table(data: dict[str, np.ndarray], config: Config) -> list[Row]:
    """Return loss, accuracy and the extremes of the spectrum for every training and step."""
    rows = []
    for norm in config.norms:
        found = series(data, norm)
        for seed, step in np.ndindex(found.largest.shape):
            rows.append(
                {
                    "norm": norm, "training": seed, "step": config.steps[step],
                    "loss": float(data[f"{norm}_loss"][seed, step]),
                    "test_accuracy": float(data[f"{norm}_accuracy"][seed, step]),
                    "lambda_max": float(found.largest[seed, step]),
                    "lambda_min": float(found.smallest[seed, step]),
                    "lambda_min_residual": float(found.residual[seed, step]),
                    "ratio": float(found.ratio[seed, step]),
                    "negative_energy": float(found.negative_energy[seed, step]),
                    "negative_energy_standard_error": float(
                        found.negative_energy_error[seed, step]
                    ),
                    "trace": float(found.trace[seed, step]),
                    "outliers": int(found.outliers[seed, step]),
                }
            )  # fmt: skip
    return rows
