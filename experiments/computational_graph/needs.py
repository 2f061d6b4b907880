"""What a run takes: the arrays that grow with the config, and evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adlab import lab

if TYPE_CHECKING:
    from . import Config


def needs(config: Config) -> lab.Needs:
    """Return the bytes of the largest arrays, by the keys that they grow with."""
    del config
    return lab.Needs(evaluations=1)
