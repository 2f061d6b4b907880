"""What a run takes: the arrays that grow with the config, and evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adlab import lab

if TYPE_CHECKING:
    from . import Config


def needs(config: Config) -> lab.Needs:
    """Return the bytes of the largest arrays, by the keys that they grow with."""
    m, n = max(config.outputs), config.inputs
    sizes = sum(set(config.outputs))
    return lab.Needs(
        {"outputs, inputs": 4 * 4 * m * n},  # the matrix, a Jacobian, and one on its way
        evaluations=config.repeats * (sizes + 2 * n * len(set(config.outputs))),
    )
