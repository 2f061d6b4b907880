"""What a run has cost so far: the seconds of all attempts, of those that were interrupted too."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from pydantic import Field

from adlab.lab import integrity
from adlab.lab.progress import Progress

Seconds = Annotated[float, Field(ge=0)]
Parts = dict[str, dict[str, Seconds]]
_INTERVAL = 10.0  # seconds between two notes while a stage goes on


class _Attempts(integrity.Sheet):
    """Attempts that ended, and the one that goes on, as far as it was noted."""

    seconds: list[Seconds] = Field(default_factory=list)
    parts: Parts = Field(default_factory=dict)


class Ledger:
    """Notes what an attempt costs, beside the stages, often enough that a killed one counts.

    Args:
      path: the file.
      progress: of this attempt.
    """

    def __init__(self, path: Path, progress: Progress) -> None:
        self._path = path
        self._progress = progress
        self._before = integrity.read_sheet(path, _Attempts) or _Attempts()
        self._started = self._noted = time.perf_counter()
        progress.watch(self._beat)
        self.note()

    def note(self) -> tuple[Parts, list[float]]:
        """Write and return compile and run seconds by part, and the seconds of each attempt."""
        self._noted = time.perf_counter()
        seconds = [*self._before.seconds, self._noted - self._started]
        parts = self._parts()
        integrity.write_sheet(self._path, _Attempts(seconds=seconds, parts=parts))
        return parts, seconds

    def _beat(self, finished: bool) -> None:
        if finished or time.perf_counter() - self._noted > _INTERVAL:
            self.note()

    def _parts(self) -> Parts:
        """Add what this attempt spent to what was noted; never less than finished stages say."""
        spent, restored, parts = self._progress.spent, self._progress.restored, self._before.parts
        total: Parts = {name: dict(part) for name, part in parts.items()}
        for name, part in spent.items():
            entry = total.setdefault(name, {})
            for key, value in part.items():
                new = value - restored.get(name, {}).get(key, 0.0)
                entry[key] = max(entry.get(key, 0.0) + new, value)
        return total
