"""What a run takes: the arrays that grow with the config, and evaluations."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from adlab import lab

if TYPE_CHECKING:
    from . import Config


def needs(config: Config) -> lab.Needs:
    """Return the bytes of the largest arrays, by the keys that they grow with."""
    sizes = config.sizes
    states = 8 * config.batch_size * sum(sizes)
    weights = 8 * sum(a * b for a, b in itertools.pairwise(sizes))
    keys = "hidden, inputs, outputs"
    return lab.Needs(
        # values, derivatives, both by hand
        {f"{keys}, batch_size": 8 * states, keys: 6 * weights},
        evaluations=1,
    )
