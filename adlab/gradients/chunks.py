"""How many probes or coordinates are evaluated at a time."""

from __future__ import annotations

from typing import Any

from adlab.core import checks
from adlab.gradients.base import ChunkSize

__all__ = ["check_chunk_size", "chunk_length"]

_MOST = 16
_NUMBERS = 160_000


def check_chunk_size(chunk_size: Any) -> None:
    """Raise unless `chunk_size` is "auto" or an integer of 1 or more."""
    if isinstance(chunk_size, str):
        checks.one_of("chunk_size", chunk_size, ["auto"])
    else:
        checks.at_least("chunk_size", chunk_size, 1)


def chunk_length(chunk_size: ChunkSize, dim: int, count: int) -> int:
    """Return the chunk length to use for `count` points of `dim` numbers each.

    "auto" evaluates at most 16 points together, as long as they stay in the processor's cache.
    """
    if chunk_size == "auto":
        chunk_size = max(1, min(_MOST, _NUMBERS // dim))
    return min(int(chunk_size), count)
