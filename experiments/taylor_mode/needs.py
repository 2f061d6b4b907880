"""What a run takes: the arrays that grow with the config, and evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adlab import lab

if TYPE_CHECKING:
    from . import Config


def needs(config: Config) -> lab.Needs:
    """Return the bytes of the largest arrays, by the keys that they grow with."""
    layers = 8 * 2 * config.depth * config.width**2
    nested = 8 * config.depth * config.width * 2**config.compiled_order
    return lab.Needs(
        {"width, depth": layers + nested},
        evaluations=4 * config.repeats * 2**config.compiled_order,
    )
