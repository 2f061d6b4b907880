"""What a run takes: the arrays that grow with the config, and evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adlab import lab

if TYPE_CHECKING:
    from . import Config


def needs(config: Config) -> lab.Needs:
    """Return the bytes of the largest arrays, by the keys that they grow with."""
    state = 4 * config.batch_size * config.width
    kept = 3 * max(config.lengths) * state  # by reverse mode, the most of the modes
    directions = 2 * config.width * state  # the control's, all at once
    return lab.Needs(
        {
            "lengths, batch_size, width": kept + 4 * config.width**2,
            "width, batch_size": directions,
        },
        evaluations=4 * len(config.loops) * len(config.lengths),
    )
