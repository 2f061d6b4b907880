"""What a run takes: the arrays that grow with the config, and evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adlab import lab

if TYPE_CHECKING:
    from . import Config


_PROGRAM = 5e6  # bytes of a compiled program, of which there is one for each estimator


def needs(config: Config) -> lab.Needs:
    """Return the bytes of the largest arrays, by the keys that they grow with."""
    n, draws = config.dim, config.num_draws
    probes = [getattr(spec, "num_probes", 1) for spec in config.estimators]
    calls = 2 * sum(probes) + 2 * 3 * sum(config.probes)
    programs = _PROGRAM * (len(config.estimators) + 3 * len(config.probes))
    # draws in batches of 1000: some arrays of all their points, and probes by the chunk
    batch = 8 * (5 * n**2 + 1000 * n * (20 + min(max(probes, default=1), 100)))
    return lab.Needs(
        {
            # estimates, errors, their squares
            "num_draws, dim": programs + batch + 8 * draws * (4 * n + 4),
            "dim": programs + batch,
        },
        evaluations=calls * draws,
    )
