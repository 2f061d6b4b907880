"""What a run takes: the arrays that grow with the config, and evaluations."""

from __future__ import annotations

from adlab import lab

from .config import Config


def needs(config: Config) -> lab.Needs:
    """Return the bytes of the largest arrays, by the keys that they grow with."""
    width = config.width
    largest = max(*config.factors, *(width * (width + 1) * depth for depth in config.depths))
    table = 8 * config.batch * largest
    # one row per scheme, and forward mode with all tangents at once
    return lab.Needs({"batch": table * (largest + 14)})
