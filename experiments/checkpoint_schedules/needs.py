"""What a run takes: the arrays that grow with the config, and evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adlab import lab

if TYPE_CHECKING:
    from . import Config


def needs(config: Config) -> lab.Needs:
    """Return the bytes of the largest arrays, by the keys that they grow with."""
    states = 4 * config.batch_size * config.width
    longest, matrices = max(config.lengths), config.width**2
    programs = len(config.slots) + 2
    return lab.Needs(
        {
            # of the longest chain all states are stored, and each program keeps what it returned
            "lengths, batch_size, width": (longest + 8 + 2 * programs) * states,
            "width": 48 * matrices,  # drawn and orthogonalised in float64
        },
        evaluations=programs * (2 * len(config.lengths) + config.repeats),
    )
