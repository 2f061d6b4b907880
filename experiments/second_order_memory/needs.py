"""What a run takes: the arrays that grow with the config, and evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adlab import lab

if TYPE_CHECKING:
    from . import Config


def needs(config: Config) -> lab.Needs:
    """Return the bytes of the largest arrays, by the keys that they grow with."""
    n = min(config.sizes)  # the others are compiled only
    return lab.Needs(
        {
            "sizes": 8 * 4 * n * n,
            "num_examples, sizes": 8 * config.num_examples * max(config.sizes),
        },
        evaluations=config.num_steps * (n + 2),
    )
