"""The figures of `zero_order_finetuning`."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from adlab.lab import Verdict

from .config import Config
from .verdicts import Arrays


def plot(data: Arrays, config: Config, *, verdicts: Sequence[Verdict] = ()) -> dict[str, Figure]:
    """Draw."""
    return {}
