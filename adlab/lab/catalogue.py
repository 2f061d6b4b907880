"""What `adlab list` shows of a checkout, read without importing an experiment, jax or NumPy."""

from __future__ import annotations

import ast
import contextlib
import errno
import json
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adlab.lab import experiment, regular
from adlab.lab.errors import brief

__all__ = ["Entry", "Last", "entries", "last_runs"]

_OUTCOMES = ("holds", "fails", "undecided")


@dataclass(frozen=True)
class Entry:
    """One config with the experiment it runs.

    Attributes:
      config: the file.
      experiment: its name.
      claim: the first line of its docstring.
      profiles: the names of the config's profiles.
      moves: whether it has movies.
    """

    config: Path
    experiment: str
    claim: str
    profiles: tuple[str, ...]
    moves: bool


@dataclass(frozen=True)
class Last:
    """The run of an experiment that finished last.

    Attributes:
      folder: its name.
      outcomes: how many verdicts have which outcome.
      seconds: what it took; None where that isn't known.
      profile: the profile it was run with, where that is known.
    """

    folder: str
    outcomes: Mapping[str, int]
    seconds: float | None
    profile: str | None

    def __str__(self) -> str:
        total = sum(self.outcomes.values())
        rest = [f"{n} {o}" for o, n in self.outcomes.items() if o != "holds" and n]
        verdicts = f"{self.outcomes['holds']} of {total} hold" if total else "no verdicts"
        spent = [] if self.seconds is None else [f"{self.seconds:.1f} s"]
        named = [f"profile {self.profile}"] if self.profile else []
        return ", ".join([verdicts, *rest, *spent, *named, self.folder])


def entries(checkout: Path) -> list[Entry]:
    """Return what can be run in `checkout`, sorted by file name."""
    return [_entry(path, checkout) for path in sorted((checkout / "configs").glob("*.toml"))]


def _entry(path: Path, checkout: Path) -> Entry:
    try:
        tables: dict[str, Any] = tomllib.loads(regular.read(path).decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        return Entry(path, path.stem, f"(unreadable: {brief(error)})", (), False)
    name = str(tables.get("experiment", path.stem))
    known = experiment.NAME.fullmatch(name)
    file = experiment.file_of(checkout / "experiments", name) if known else None
    where = experiment.shown(checkout / "experiments")
    claim = experiment.claim(file) if file else f"(no experiment '{brief(name, 60)}' in {where})"
    profiles = tables.get("profiles", {})
    names = tuple(profiles) if isinstance(profiles, dict) else ()
    return Entry(path, name, claim, names, file is not None and _moves(file))


def _moves(head: Path) -> bool:
    """Whether the head of an experiment defines or imports `movies`."""
    try:
        body = ast.parse(regular.read(head)).body
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return "movies" in _bound(body)


def _bound(body: Sequence[ast.stmt]) -> Iterator[str]:
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.ImportFrom(names=names) | ast.Import(names=names):
                yield from (each.asname or each.name for each in names)
            case ast.Assign(targets=targets):
                yield from (each.id for each in targets if isinstance(each, ast.Name))


def finished(out: Path) -> list[Path]:
    """Return the finished runs in a folder of results, without those that were put aside.

    Raises:
      PermissionError: it can't be read, so that nobody knows which there are.
    """
    if out.is_dir() and not os.access(out, os.R_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(out))
    found = out.glob("[!.]*/DONE") if out.is_dir() else ()
    runs = [done.parent for done in found if regular.is_regular(done)]
    return [run for run in runs if ".aside-" not in run.name]


def last_runs(out: Path) -> dict[str, Last]:
    """Return the last finished run of every experiment in the folder of results, by its name.

    What is damaged is left out: a list isn't the place to mend it.
    """
    found: dict[str, tuple[float, Last]] = {}
    runs: list[Path] = []
    with contextlib.suppress(PermissionError):
        runs = finished(out)
    for folder in runs:
        done = folder / "DONE"
        about = _object(folder / "run.json")
        name = str(about.get("experiment", folder.name.rpartition("-")[0]))
        try:
            when = done.stat().st_mtime
        except OSError:
            continue
        if name not in found or when > found[name][0]:
            found[name] = when, _last(folder, about)
    return {name: last for name, (_, last) in found.items()}


def _last(folder: Path, about: Mapping[str, Any]) -> Last:
    verdicts = _read(folder / "verdicts.json")
    listed = [v.get("outcome") for v in _list(verdicts) if isinstance(v, dict)]
    seconds = about.get("seconds")
    total = seconds.get("total") if isinstance(seconds, dict) else None
    profile = about.get("profile")
    return Last(
        folder.name,
        {outcome: listed.count(outcome) for outcome in _OUTCOMES},
        _seconds(total),
        brief(profile, 40) if isinstance(profile, str) else None,
    )


def _seconds(total: Any) -> float | None:
    try:
        return float(total) if isinstance(total, int | float) else None
    except OverflowError:  # hundreds of digits
        return None


def _list(value: Any) -> list[Any]:
    """Return the list of verdicts, bare or under the key "verdicts"."""
    inner = value.get("verdicts") if isinstance(value, dict) else value
    return inner if isinstance(inner, list) else []


def _object(path: Path) -> dict[str, Any]:
    value = _read(path)
    return value if isinstance(value, dict) else {}


def _read(path: Path) -> Any:
    try:
        return json.loads(regular.read(path).decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None
