"""Which known word a misspelt one was meant to be. Imports no jax: the command line asks, too."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["closest", "nearest"]


def closest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known word closest to `word`; None where none is as much like it as `cutoff`.

    >>> closest("two_piont", ["one_sided", "two_point"])
    'two_point'

    Args:
      word: what was written.
      known: what might have been meant.
      cutoff: from 0, where any word will do, to 1, where only the same one does.
    """
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return match[0] if match else None


def nearest(word: object, known: Iterable[str], quote: str = "'", cutoff: float = 0.6) -> str:
    """Return "; did you mean 'x'?", which ends a message, for the closest known word, or nothing.

    >>> nearest("twopoint", ["two_point", "one_sided"])
    "; did you mean 'two_point'?"
    """
    match = closest(str(word), known, cutoff)
    return "" if match is None else f"; did you mean {quote}{match}{quote}?"
