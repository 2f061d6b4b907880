"""What the lab says when it can't go on: one exception per exit code, and the nearest match."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import ClassVar


class LabError(Exception):
    """Something went wrong while running; the message is all that the user needs to read."""

    exit_code: ClassVar[int] = 1


class UsageError(LabError):
    """The request itself is wrong, and was refused before anything was computed."""

    exit_code: ClassVar[int] = 2


class ConfigError(UsageError):
    """All problems of one config at once.

    Args:
      source: the file (or object) that holds the problems.
      problems: one line each.

    Attributes:
      source: the file, as text.
      problems: as given.
    """

    def __init__(self, source: object, problems: Sequence[str]) -> None:
        self.source = str(source)
        self.problems = list(problems)
        count = f"{len(self.problems)} problem{'' if len(self.problems) == 1 else 's'}"
        super().__init__("\n  ".join([f"{self.source}: {count}", *self.problems]))


def nearest(word: str, known: Iterable[str], quote: str = "'") -> str:
    """Return `; did you mean 'x'?` for the closest known word, or nothing.

    >>> nearest("twopoint", ["two_point", "one_sided"])
    "; did you mean 'two_point'?"
    """
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {quote}{match[0]}{quote}?" if match else ""
