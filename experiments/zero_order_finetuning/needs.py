"""What a run takes: the arrays that grow with the config, and evaluations."""

from __future__ import annotations

from adlab import lab

from .config import Config


def needs(config: Config) -> lab.Needs:
    """Return the bytes of the largest arrays, by the keys that they grow with."""
    tokens = config.batch_size * config.sequence
    weights = 12 * config.layers * config.width**2 + config.width * (
        config.vocabulary + config.sequence
    )
    states = 4 * tokens * config.layers * (40 * config.width + 4 * config.heads * config.sequence)
    seeds, v = config.num_seeds, config.vocabulary
    return lab.Needs(
        {
            "num_seeds, width, layers": 4 * 12 * seeds * weights,
            "num_seeds, batch_size, sequence, width": seeds * states / config.layers,
            "batch_size, sequence, width, layers": states,
            "num_matvecs, width, layers": 4 * (config.num_matvecs + 8) * weights,
            "held_out, sequence, vocabulary": 4 * seeds * config.held_out * config.sequence * 6 * v,
        },
        evaluations=3 * config.pretraining
        + 2 * seeds * len(config.subspaces) * (config.adaptation + 60 * config.gd_steps),
    )
