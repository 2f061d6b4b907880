"""Fair timing: all contestants in one process, in turn, with one malloc, compile time outside."""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import jax
from rich.console import Console
from rich.table import Table

_SHORTEST = 5e-3
_MALLOC = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "1000000000000",
}


def with_one_malloc() -> None:
    """Start this process again with a malloc that keeps its memory, which steadies all timings."""
    if any(os.environ.get(name) != value for name, value in _MALLOC.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | _MALLOC)


def seconds(contestants: Mapping[str, Callable[[], object]], repeats: int = 9) -> dict[str, float]:
    """Return the median seconds per call of each contestant, in turn, after one call to warm up.

    Short calls are repeated until the clock has something to measure.
    """
    for run in contestants.values():
        jax.block_until_ready(run())
    calls = {name: max(1, int(_SHORTEST / _clock(run, 1))) for name, run in contestants.items()}
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, run in contestants.items():
            times[name].append(_clock(run, calls[name]))
    return {name: statistics.median(values) for name, values in times.items()}


def _clock(run: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        jax.block_until_ready(run())
    return (time.perf_counter() - start) / calls


@dataclass(frozen=True)
class Target:
    """A ratio of two times and the most it may be."""

    what: str
    ratio: float
    most: float

    @property
    def met(self) -> bool:
        """Whether the ratio is within its target."""
        return self.ratio <= self.most


def report(rows: list[tuple[str, str, float]], targets: list[Target]) -> int:
    """Print times (in microseconds) and ratios; return 1 when a target isn't met."""
    console = Console(width=None if sys.stdout.isatty() else 120)
    table = Table("setting", "contestant", "us")
    for setting, name, value in rows:
        table.add_row(setting, name, f"{value * 1e6:.4g}")
    console.print(table)
    ratios = Table("ratio of times", "measured", "at most", "")
    for target in targets:
        outcome = "met" if target.met else "MISSED"
        ratios.add_row(target.what, f"{target.ratio:.3g}", f"{target.most:.3g}", outcome)
    console.print(ratios)
    return int(not all(target.met for target in targets))
