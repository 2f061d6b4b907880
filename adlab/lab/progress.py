"""Progress of a run: stages that are shown, timed, and kept so that an interrupted run resumes."""

from __future__ import annotations

import contextlib
import re
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from adlab.lab import files, integrity

if TYPE_CHECKING:
    from rich.console import Console

Arrays = dict[str, np.ndarray]
_INTERVAL = 10.0  # seconds between two lines where the output is no terminal


class Progress:
    """What an experiment's `run` reports to.

    Args:
      stages: folder where finished stages are kept; None keeps nothing.
      console: where progress is shown; None shows nothing.
      log: takes each line for the log.

    Attributes:
      spent: compile and run seconds by name.
      restored: those of them that an interrupted run spent, in stages that it finished.
      timings: measured times by name, any shape, in seconds.
    """

    def __init__(
        self,
        stages: Path | None = None,
        console: Console | None = None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self._stages = stages
        self._console = console
        self._log = log or _ignore
        self._seen: set[str] = set()
        self._advance: Callable[[float, float, str], None] = _ignore
        self._beat: Callable[[bool], None] = _ignore
        self.spent: dict[str, dict[str, float]] = {}
        self.restored: dict[str, dict[str, float]] = {}
        self.timings: Arrays = {}

    @classmethod
    def silent(cls) -> Progress:
        """Return one that shows and keeps nothing, for tests and for use as a library."""
        return cls()

    def stage(self, name: str, compute: Callable[[], Mapping[str, Any]]) -> Arrays:
        """Return what `compute` gives, or gave in an interrupted run that finished the stage.

        Raises:
          ValueError: the name was used before; a value isn't an array of numbers or strings.
        """
        if name in self._seen:
            raise ValueError(f"stage name must be new in a run, got '{name}' again")
        self._seen.add(name)
        path = self._path(name)
        if path and path.exists():
            kept = self._kept(path)
            if kept is not None:
                self._say(f"{name}: taken from the interrupted run")
                return self._restore(kept)
            self._say(f"{name}: what the interrupted run kept of it is damaged; computing it again")
        before = ({k: dict(v) for k, v in self.spent.items()}, set(self.timings))
        started = time.perf_counter()
        with self._display(name):
            arrays = files.as_arrays(compute())
        if path:
            self._keep(path, arrays, *before)
        self._say(f"{name}: done in {time.perf_counter() - started:.1f} s")
        self._beat(True)
        return arrays

    def watch(self, beat: Callable[[bool], None]) -> None:
        """Let `beat` be called at each sign of life: with True when a stage is finished."""
        self._beat = beat

    def update(self, done: float, total: float, detail: str = "") -> None:
        """Say how far the current stage is."""
        self._beat(False)
        self._advance(done, total, detail)

    def seconds(self, name: str, *, compile: float | None = 0.0, run: float | None = 0.0) -> None:
        """Add to the compile and run seconds of `name`; they go to run.json."""
        entry = self.spent.setdefault(name, {"compile": 0.0, "run": 0.0})
        entry["compile"] += compile or 0.0
        entry["run"] += run or 0.0

    def timing(self, name: str, array: Any) -> None:
        """Keep measured times; they go to timings.npz, apart from what repeats bit for bit."""
        self.timings.update(files.as_arrays({name: array}))

    def _say(self, line: str) -> None:
        self._log(line)
        if self._console:
            self._console.print(f"  {line}", highlight=False, markup=False)

    def _path(self, name: str) -> Path | None:
        if self._stages is None:
            return None
        readable = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:60]
        return self._stages / f"{readable}-{zlib.crc32(name.encode()):08x}.npz"

    def _keep(self, path: Path, arrays: Arrays, spent: Mapping[str, Any], timed: set[str]) -> None:
        kept = {f"data/{key}": value for key, value in arrays.items()}
        kept |= {f"timing/{k}": v for k, v in self.timings.items() if k not in timed}
        for key, entry in self.spent.items():
            old = spent.get(key, {"compile": 0.0, "run": 0.0})
            delta = [entry["compile"] - old["compile"], entry["run"] - old["run"]]
            kept[f"seconds/{key}"] = np.array(delta)
        files.write_arrays(path, kept)
        integrity.write_sheet(_sheet(path), _Kept(files=integrity.hashes(path.parent, [path.name])))

    def _kept(self, path: Path) -> Arrays | None:
        """Return what a finished stage left; None where that is damaged, and is thrown away."""
        sheet = integrity.read_sheet(_sheet(path), _Kept)
        if sheet and path.name in sheet.files and not integrity.damaged(path.parent, sheet.files):
            return files.read_arrays(path)
        files.remove(path)
        return None

    def _restore(self, kept: Arrays) -> Arrays:
        arrays: Arrays = {}
        for key, value in kept.items():
            group, _, name = key.partition("/")
            if group == "seconds":
                self.seconds(name, compile=value[0], run=value[1])
                entry = self.restored.setdefault(name, {"compile": 0.0, "run": 0.0})
                entry["compile"] += float(value[0])
                entry["run"] += float(value[1])
            elif group == "timing":
                self.timings[name] = value
            else:
                arrays[name] = value
        return arrays

    @contextlib.contextmanager
    def _display(self, name: str) -> Iterator[None]:
        """Show a bar on a terminal; elsewhere a line now and then."""
        if self._console is None:
            yield
            return
        if not self._console.is_terminal:
            self._console.print(f"  {name} ...", highlight=False, markup=False)
            self._advance = self._lines(name)
            try:
                yield
            finally:
                self._advance = _ignore
            return
        import rich.progress as bars
        from rich.markup import escape

        columns = ("  {task.description}", bars.BarColumn(), "{task.fields[count]}",
                   "{task.fields[detail]}")  # fmt: skip
        with bars.Progress(*columns, bars.TimeRemainingColumn(), console=self._console,
                           transient=True) as display:  # fmt: skip
            task = display.add_task(escape(name), total=None, count="", detail="")
            self._advance = lambda done, total, detail: display.update(
                task, completed=done, total=total, count=f"{done:g} of {total:g}",
                detail=escape(detail),
            )  # fmt: skip
            try:
                yield
            finally:
                self._advance = _ignore

    def _lines(self, name: str) -> Callable[[float, float, str], None]:
        """Return what prints how far a stage is and what is left, a line at most every 10 s."""
        started = said = time.perf_counter()

        def advance(done: float, total: float, detail: str) -> None:
            nonlocal said
            now = time.perf_counter()
            if now - said < _INTERVAL or not 0 < done < total or self._console is None:
                return
            said = now
            left = (now - started) * (total - done) / done
            line = f"  {name}: {done:g} of {total:g}, about {_duration(left)} left"
            self._console.print(f"{line}  {detail}".rstrip(), highlight=False, markup=False)

        return advance


class _Kept(integrity.Sheet):
    """What vouches for a stage."""

    files: integrity.Hashes


def _sheet(path: Path) -> Path:
    return path.with_suffix(".json")


def _duration(seconds: float) -> str:
    """Return `40 s`, `12 min` or `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _ignore(*args: object) -> None:
    del args
