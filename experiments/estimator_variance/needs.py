"""What a run takes: the arrays that grow with the config, and evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adlab import lab

if TYPE_CHECKING:
    from . import Config


def needs(config: Config) -> lab.Needs:
    """Return the bytes of the largest arrays, by the keys that they grow with."""
    n, draws = config.dim, config.num_draws
    probes = [getattr(spec, "num_probes", 1) for spec in config.estimators]
    calls = 2 * sum(probes) + 2 * 3 * sum(config.probes)
    return lab.Needs(
        {
            "num_draws, dim": 8 * draws * (4 * n + 4),  # estimates, errors, their squares
            "dim": 8 * (5 * n**2 + 1000 * n * max(probes, default=1)),  # draws in batches of 1000
        },
        evaluations=calls * draws,
    )
