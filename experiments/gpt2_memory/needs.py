"""What a run takes: the arrays that grow with the config, and evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from adlab import lab

if TYPE_CHECKING:
    from .config import Config

PEAKS = {"tiny": 1e8, "small": 9e8, "gpt2": 2.5e9, "gpt2-xl": 0.0}
"""Bytes of a process that runs a gradient, about: the largest is for a device's own memory.

What is only counted is never allocated.
"""


def needs(config: Config) -> lab.Needs:
    """Return the bytes of the largest arrays, by the keys that they grow with."""
    return lab.Needs({"measured": max(map(PEAKS.__getitem__, config.measured), default=0.0)})
