"""What a run will take, told before it starts, and refused where this machine hasn't got it.

An experiment says it by `needs(config) -> Needs`, from the config alone: nothing is allocated.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adlab.lab.boundary import foreign
from adlab.lab.errors import ConfigError, brief, shown

if TYPE_CHECKING:
    from adlab.lab.config import Job

__all__ = ["Needs", "available", "check", "estimate", "gigabytes"]

SHARE = 0.8
"""How much of the memory that is free a run may take unless its config says otherwise."""
_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


@dataclass(frozen=True)
class Needs:
    """An estimate of what a run takes, by the rule of thumb that only its largest arrays count.

    Attributes:
      arrays: bytes of the arrays that are in memory at once, per part of the run, by the keys of
        the config that they grow with, the one to lower first: {"num_seeds, dims": 8 * 32 * 512}.
        Parts follow each other: the most of them counts.
      evaluations: of the functions that are differentiated, all together; None where that has no
        meaning.
    """

    arrays: Mapping[str, float] = field(default_factory=dict)
    evaluations: float | None = None

    @property
    def peak(self) -> tuple[str, float]:
        """The keys of the part that takes the most, and its bytes."""
        return max(self.arrays.items(), key=lambda item: item[1], default=("", 0))


def estimate(job: Job) -> Needs | None:
    """Return what the experiment says that a run takes; None where it says nothing.

    Raises:
      UsageError: the experiment's `needs` raises, or returns something else.
    """
    tell = getattr(job.module, "needs", None)
    if tell is None:
        return None
    with foreign(f"needs of {job.name}", job.sources, usage=True):
        try:
            needs = tell(job.config)
        except OverflowError:  # of an integer that no float can hold
            huge = "its numbers are too large for any machine; lower them"
            raise ConfigError(shown(job.config_file), [huge]) from None
        if not isinstance(needs, Needs):
            raise TypeError(f"needs must return lab.Needs, got {type(needs).__name__}")
        if not all(size >= 0 for size in needs.arrays.values()):  # nan isn't either
            raise ValueError(f"bytes must be >= 0, got {dict(needs.arrays)}")
    return needs


def check(job: Job) -> str | None:
    """Say in one line what a run takes; None where its experiment doesn't say.

    Raises:
      ConfigError: more memory than this machine has free, or than `memory_limit` allows.
    """
    needs = estimate(job)
    if needs is None:
        return None
    keys, size = needs.peak
    limit, whose = _limit(job.config.memory_limit)
    if size > limit:
        raise ConfigError(
            shown(job.config_file),
            [
                f"{_valued(job.config, keys)}: arrays of about {gigabytes(size)}, over the "
                f"{gigabytes(limit)} of {whose}; lower {keys.replace(', ', ' or ')}, or set "
                "memory_limit (GB)"
            ],
        )
    calls = needs.evaluations
    counted = "" if calls is None else f", about {_rounded(calls)} evaluations"
    return f"estimated: arrays of {gigabytes(size)}{counted}"


def _limit(wished: float | None) -> tuple[float, str]:
    if wished is not None:
        return wished * 1e9, "memory_limit"
    free = available()
    if free is None:
        return math.inf, ""
    return SHARE * free, f"memory that a run may take here ({SHARE:.0%} of what is free)"


def available() -> int | None:
    """Return the bytes of memory that are free for this process; None where nobody tells."""
    known = [size for size in (_free(), *_groups()) if size is not None]
    return min(known, default=None)


def _free() -> int | None:
    try:
        for line in _MEMINFO.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    try:  # other systems tell only how much there is in all
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError, AttributeError):
        return None


def _groups() -> Iterator[int]:
    """Yield what the control group of a container leaves, by either version of its files."""
    pairs = (
        (_CGROUP / "memory.max", _CGROUP / "memory.current", _CGROUP / "memory.stat"),
        (
            _CGROUP / "memory/memory.limit_in_bytes",
            _CGROUP / "memory/memory.usage_in_bytes",
            _CGROUP / "memory/memory.stat",
        ),
    )
    for most, used, details in pairs:
        try:
            limit = int(most.read_text(encoding="ascii"))  # "max" where there is none
            taken = int(used.read_text(encoding="ascii")) - _cache(details)
        except (OSError, ValueError):
            continue
        yield max(limit - taken, 0)


def _cache(path: Path) -> int:
    """Return the bytes of files in memory that the system drops when asked."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
    except (OSError, ValueError, IndexError):
        return 0


def gigabytes(size: float) -> str:
    """Return a size as people say it.

    >>> gigabytes(8e9), gigabytes(2_500_000), gigabytes(10**400)
    ('8 GB', '2.5 MB', 'over 1e+09 GB')
    """
    if size > 1e18:
        return "over 1e+09 GB"
    if size < 1e6:
        return "less than 1 MB"
    return f"{size / 1e9:.3g} GB" if size >= 1e9 else f"{size / 1e6:.3g} MB"


def _rounded(number: float) -> str:
    if number > 1e18:
        return "over 1e18"
    return f"{number:.2g}" if number >= 1e6 else f"{number:,.0f}"


def _valued(config: Any, keys: str) -> str:
    """Return `num_seeds = 1000, dims = (8, 16)`."""
    names = [key.strip() for key in keys.split(",") if key.strip()]
    return ", ".join(f"{name} = {brief(getattr(config, name, '?'), 40)}" for name in names)
