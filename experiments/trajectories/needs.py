"""What a run takes: the arrays that grow with the config, and evaluations."""

from __future__ import annotations

from adlab import lab

from .config import Config
from .measure import DIM


def needs(config: Config) -> lab.Needs:
    """Return the bytes of the largest arrays, by the keys that they grow with."""
    paths = 8 * config.num_seeds * (config.num_steps + 1) * DIM
    runs = 4 * len(config.eps) + 2
    return lab.Needs(
        # the paths of a kind, and distances and deviations of as many numbers
        {"num_seeds, num_steps": 4 * paths},
        evaluations=2 * runs * config.num_seeds * config.num_steps,
    )
