"""What a run takes: the arrays that grow with the config, and evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adlab import lab

if TYPE_CHECKING:
    from . import Config


def needs(config: Config) -> lab.Needs:
    """Return the bytes of the largest arrays, by the keys that they grow with."""
    from . import LOOP

    values = config.layers * config.points
    largest = max(config.dims)
    calls = sum(2 * d + d + 1 + d for d in config.dims)
    return lab.Needs(
        {
            "points, layers": 24
            * values,  # drawn in float64, kept in float32, stored on the way back
            "dims": 4 * 4 * LOOP * largest,
        },
        evaluations=calls * config.repeats,
    )
