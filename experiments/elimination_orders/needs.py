"""What a run takes: the arrays that grow with the config, and evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adlab import lab

if TYPE_CHECKING:
    from . import Config


def needs(config: Config) -> lab.Needs:
    """Return the bytes of the largest arrays, by the keys that they grow with."""
    counts = 250 * config.num_graphs * len(config.vertices)  # lists of Python's integers
    jacobians = 8 * config.batch_size * (6 * config.joints * 8 + 50)
    return lab.Needs(
        {
            "num_graphs": counts,
            "batch_size, joints": jacobians,
            "joints": 20_000 * config.joints,  # the graph of the arm
        },
        evaluations=5 * config.repeats * config.batch_size * len(config.programs),
    )
