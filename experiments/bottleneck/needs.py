"""What a run takes: the arrays that grow with the config, and evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adlab import lab

if TYPE_CHECKING:
    from . import Config


def needs(config: Config) -> lab.Needs:
    """Return the bytes of the largest arrays, by the keys that they grow with."""
    s = max(config.sizes)
    return lab.Needs(
        {"sizes": 4 * 3 * 15 * s * s},  # Jacobians of 5 s by 3 s numbers
        evaluations=config.repeats * sum(9 * size for size in config.sizes),
    )
