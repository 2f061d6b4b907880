"""What a run takes: the arrays that grow with the config, and evaluations."""

from __future__ import annotations

from adlab import lab

from .config import Config
from .measure import RESAMPLES


def needs(config: Config) -> lab.Needs:
    """Return the bytes of the largest arrays, by the keys that they grow with."""
    schemes = len(config.schemes) + 1
    curves = 8 * config.num_points * (51 * 5 * schemes + 2 * RESAMPLES)
    # functions of four kinds at their neighbours, at every step
    drawn = 8 * 4 * config.functions * config.neighbours * (51 * 3 + 50)
    largest = max(config.dims, default=0)
    many = 8 * config.starts * largest * (51 * 4 + 4 * largest)
    points = config.num_points + 4 * config.functions * config.neighbours
    return lab.Needs(
        {
            "num_points": curves,
            "functions, neighbours": drawn,
            "dims, starts": many,
        },
        evaluations=len(config.precisions) * schemes * 2 * 53 * points
        + len(config.precisions) * schemes * 4 * 53 * config.starts * sum(config.dims),
    )
