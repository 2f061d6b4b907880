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

from adlab.lab import store

if TYPE_CHECKING:
    from rich.console import Console

Arrays = dict[str, np.ndarray]


class Progress:
    """What an experiment's `run` reports to.

    Args:
      stages: folder where finished stages are kept; None keeps nothing.
      console: where progress is shown; None shows nothing.
      log: takes each line for the log.

    Attributes:
      spent: compile and run seconds by name.
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
        self.spent: dict[str, dict[str, float]] = {}
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
            self._say(f"{name}: taken from the interrupted run")
            return self._restore(path)
        before = ({k: dict(v) for k, v in self.spent.items()}, set(self.timings))
        started = time.perf_counter()
        with self._display(name):
            arrays = store.as_arrays(compute())
        if path:
            self._keep(path, arrays, *before)
        self._say(f"{name}: done in {time.perf_counter() - started:.1f} s")
        return arrays

    def update(self, done: float, total: float, detail: str = "") -> None:
        """Say how far the current stage is."""
        self._advance(done, total, detail)

    def seconds(self, name: str, *, compile: float | None = 0.0, run: float | None = 0.0) -> None:
        """Add to the compile and run seconds of `name`; they go to run.json."""
        entry = self.spent.setdefault(name, {"compile": 0.0, "run": 0.0})
        entry["compile"] += compile or 0.0
        entry["run"] += run or 0.0

    def timing(self, name: str, array: Any) -> None:
        """Keep measured times; they go to timings.npz, apart from what repeats bit for bit."""
        self.timings.update(store.as_arrays({name: array}))

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
        store.write_arrays(path, kept)

    def _restore(self, path: Path) -> Arrays:
        arrays: Arrays = {}
        for key, value in store.read_arrays(path).items():
            group, _, name = key.partition("/")
            if group == "seconds":
                self.seconds(name, compile=value[0], run=value[1])
            elif group == "timing":
                self.timings[name] = value
            else:
                arrays[name] = value
        return arrays

    @contextlib.contextmanager
    def _display(self, name: str) -> Iterator[None]:
        """Show a bar on a terminal, a line elsewhere."""
        if self._console is None or not self._console.is_terminal:
            if self._console:
                self._console.print(f"  {name} ...", highlight=False, markup=False)
            yield
            return
        import rich.progress as bars
        from rich.markup import escape

        columns = ("  {task.description}", bars.BarColumn(), "{task.fields[detail]}")
        with bars.Progress(*columns, bars.TimeRemainingColumn(), console=self._console,
                           transient=True) as display:  # fmt: skip
            task = display.add_task(escape(name), total=None, detail="")
            self._advance = lambda done, total, detail: display.update(
                task, completed=done, total=total, detail=escape(detail)
            )
            try:
                yield
            finally:
                self._advance = _ignore


def _ignore(*args: object) -> None:
    del args
