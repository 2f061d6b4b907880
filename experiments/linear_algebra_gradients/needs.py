"""What a run takes: the arrays that grow with the config, and evaluations."""

from __future__ import annotations

from adlab import lab

from .config import Config
from .losses import METHODS
from .matrices import COLUMNS, ROWS, SPECTRA
from .squares import KINDS


def needs(config: Config) -> lab.Needs:
    """Return the bytes of the largest arrays, by the keys that they grow with."""
    spectra = len(config.exponents) + 1 + len(SPECTRA)
    methods, losses = len(METHODS), len(config.losses)
    gradients = 8 * ROWS * COLUMNS * losses * (methods + 4)
    largest = max(rows * columns for rows, columns in config.shapes)
    entries, times = config.rows * config.columns, config.num_times
    return lab.Needs(
        {
            "num_matrices": spectra * config.num_matrices * (gradients + 10_000),
            "num_systems, shapes": 8 * len(KINDS) * config.num_systems * 12 * largest,
            "rows, columns": 8 * 40 * entries + 8 * 8 * max(config.rows, config.columns) ** 2,
            "num_times, num_harmonics": 8 * 30 * times * (2 * config.num_harmonics + 1),
        },
        evaluations=spectra * config.num_matrices * losses * (methods + 1 + 2 * ROWS * COLUMNS),
    )
