"""What a run takes: the arrays that grow with the config, and evaluations."""

from __future__ import annotations

from adlab import lab

from .config import LAWS, Config


def needs(config: Config) -> lab.Needs:
    """Return the bytes of the largest arrays, by the keys that they grow with."""
    spectra, dim = len(config.spectra), config.dim
    draws = sum(
        config.num_draws if name in LAWS else config.num_other_draws for name in config.estimators
    )
    rows = len(config.num_matvecs) * spectra
    return lab.Needs(
        {
            "hidden": 8 * dim**2 * (2 * spectra + 4),
            "num_draws, num_other_draws": 8 * 6 * rows * draws,
            "num_matvecs, hidden": 8 * 6 * max(config.num_matvecs) * dim,
        },
        evaluations=spectra * draws * sum(config.num_matvecs),
    )
