"""What a run takes: the arrays that grow with the config, and evaluations."""

from __future__ import annotations

from adlab import lab

from .config import Config
from .measure import SCHEMES, STEPS


def needs(config: Config) -> lab.Needs:
    """Return the bytes of the largest arrays, by the keys that they grow with."""
    values = config.num_seeds * config.num_points * len(config.noises)
    return lab.Needs(
        # every step at once: values, estimates, errors, and their copies on the way to the host
        {"num_seeds, num_points, noises": 8 * 10 * len(STEPS) * values},
        evaluations=len(SCHEMES) * 2 * values * (len(STEPS) + 12),
    )
