"""Which results there are: by whom, when and how each was made, in a line."""

from __future__ import annotations

import datetime
import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pydantic

from adlab.lab import experiment, integrity, regular, store
from adlab.lab.records import RunRecord
from adlab.lab.verdict import Verdict

__all__ = ["Run", "about", "command", "lines", "newest_first", "stored_verdicts", "table"]

_WIDTH = 40  # characters of overrides that a line shows


_Number = float | Literal["inf", "-inf", "nan"]


class _Stored(pydantic.BaseModel):
    """A verdict as verdicts.json has it."""

    model_config = pydantic.ConfigDict(extra="allow", strict=True)

    claim: str
    measured: _Number
    low: _Number
    high: _Number
    expected: _Number
    tolerance: _Number
    outcome: Literal["holds", "fails", "undecided"]
    side: Literal["both", "at_most", "at_least"]
    control: bool


_VERDICTS = pydantic.TypeAdapter(list[_Stored])


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, what run.json says, and when it was finished."""

    folder: Path
    about: RunRecord
    finished: datetime.datetime


def about(folder: Path) -> RunRecord:
    """Return what run.json says; nothing where it is missing or damaged."""
    try:
        return RunRecord.model_validate(store.read_json(folder / "run.json"))
    except pydantic.ValidationError:
        return RunRecord()


def stored_verdicts(folder: Path) -> list[dict[str, Any]] | None:
    """Return the entries of verdicts.json; None where it is missing, damaged or of another form."""
    made = integrity.read_derived(folder).verdicts
    vouched = made is not None and not integrity.damaged(folder, made.files)
    if not vouched and not integrity.of_older_format(folder):
        return None
    entries = store.read_json(folder / "verdicts.json")
    try:
        _VERDICTS.validate_python(entries)
        for entry in entries:
            Verdict.from_json(entry)
    except (KeyError, TypeError, ValueError, OverflowError):  # of which pydantic's is one
        return None
    return list(entries)


def newest_first(folders: Iterable[Path]) -> list[Run]:
    """Return runs in the order in which they were finished, the last one first."""
    runs = [_run(folder) for folder in folders]
    return sorted(runs, key=lambda run: (run.finished, _stored(run.folder)), reverse=True)


def _run(folder: Path) -> Run:
    said = about(folder)
    return Run(folder, said, _finished(said.finished or "") or _dated(_stored(folder)))


def _finished(told: str) -> datetime.datetime | None:
    """Return the time that run.json names, in UTC; None where that is none."""
    try:
        when = datetime.datetime.fromisoformat(told)
        return (
            when.replace(tzinfo=datetime.UTC)
            if when.tzinfo is None
            else when.astimezone(datetime.UTC)
        )
    except (ValueError, OverflowError):  # the latter at the ends of the calendar
        return None


def _dated(stored: float) -> datetime.datetime:
    try:
        return datetime.datetime.fromtimestamp(stored, datetime.UTC).replace(microsecond=0)
    except (ValueError, OverflowError, OSError):  # a file system's own idea of time
        return datetime.datetime.fromtimestamp(0, datetime.UTC)


def _stored(folder: Path) -> float:
    return (folder / "DONE").stat().st_mtime


def lines(runs: Sequence[Run]) -> list[str]:
    """Return a line per run: name, date, profile, overrides."""
    rows = [
        (run.folder.name, _date(run), run.about.profile or "base", _overrides(run)) for run in runs
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    padded = [[f"{cell:<{n}}" for cell, n in zip(row, widths, strict=False)] for row in rows]
    return ["  ".join([*cells, row[3]]).rstrip() for cells, row in zip(padded, rows, strict=True)]


def table(states: Mapping[Path, str]) -> Iterator[tuple[str, ...]]:
    """Yield name, date, profile, overrides, verdicts, size and state of runs, the newest first."""
    for run in newest_first(states):
        yield (
            run.folder.name,
            _date(run),
            run.about.profile or "base",
            _overrides(run),
            _verdicts(run.folder),
            _size(run.folder),
            states[run.folder],
        )


def command(folder: Path) -> str:
    """Return the command that computes a run again, as far as its files can tell."""
    done = integrity.read_done(folder)
    broken = integrity.damaged(folder, done.files) if done else ["run.json"]
    said = RunRecord() if "run.json" in broken else about(folder)
    named = said.files.config if said.files else None
    out = [] if folder.parent == Path("results") else ["--out", str(folder.parent)]
    if named and regular.is_regular(config := Path(named)):
        profile = ["--profile", said.profile] if said.profile else []
        plugins = [word for name in said.plugins for word in ("--plugin", name)]
        words = [experiment.shown(config), *profile, *_flags(said.overrides), *plugins]
    elif done and "config.toml" not in broken:
        words = [str(folder / "config.toml")]
    else:
        return "adlab run CONFIG --force"
    return shlex.join(["adlab", "run", *words, *out, "--force"])


def _flags(overrides: Mapping[str, Any]) -> Iterator[str]:
    for path, value in overrides.items():
        if path == "x64" and value is True:
            yield "--x64"
            continue
        yield f"--{path.replace('_', '-')}"
        yield from (str(each) for each in (value if isinstance(value, list) else [value]))


def _overrides(run: Run) -> str:
    text = " ".join(_flags(run.about.overrides))
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 3]}..."


def _date(run: Run) -> str:
    return run.finished.strftime("%Y-%m-%d %H:%M")


def _verdicts(folder: Path) -> str:
    entries = stored_verdicts(folder)
    if entries is None:
        return "no verdicts"
    holds = sum(entry["outcome"] == "holds" for entry in entries)
    return f"{holds} of {len(entries)} hold"


def _size(folder: Path) -> str:
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    power = min(max(int(math.log10(max(total, 1))) // 3, 1), 4)
    return f"{total / 1000**power:.1f} {('', 'kB', 'MB', 'GB', 'TB')[power]}"
