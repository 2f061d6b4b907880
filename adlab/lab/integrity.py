"""What vouches for a run: the hashes of its files, in two sheets that vouch for themselves.

`DONE` is written once, when the data are stored: it holds the run's stamp, the full hash of its
resolved config, and the sha256 of every file that was computed. `derived.json` is of what is made
from those data, verdicts and figures, with the code that made each; it is written again whenever
they are. A sheet carries the hash of itself, so that no change of either goes unseen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, TypeVar

import pydantic

from adlab.lab import files, regular
from adlab.lab.errors import LabError

__all__ = [
    "DATA",
    "Derived",
    "Done",
    "Made",
    "Sheet",
    "damaged",
    "hashes",
    "identity",
    "of_older_format",
    "read_derived",
    "read_done",
    "read_sheet",
    "require_whole",
    "seal",
    "write_sheet",
]

DATA = ("config.toml", "run.json", "data.npz", "timings.npz")
"""What DONE vouches for; the last only where something was timed."""


def _inside(name: str) -> str:
    parts = PurePosixPath(name).parts
    if PurePosixPath(name).is_absolute() or ".." in parts:
        raise ValueError(f"{name} is outside of the run's folder")
    if not parts or "\0" in name:
        raise ValueError(f"{name!r} isn't the name of a file")
    return name


Hashes = dict[Annotated[str, pydantic.AfterValidator(_inside)], str]
"""Path in the run's folder -> sha256."""


class Sheet(pydantic.BaseModel):
    """A file that carries the hash of itself."""

    model_config = pydantic.ConfigDict(strict=True, frozen=True, extra="forbid")


SheetType = TypeVar("SheetType", bound=Sheet)


class Done(Sheet):
    """What `DONE` says.

    Attributes:
      format: of this sheet.
      computed: hash of the code that the arrays depend on.
      versions: of Python and of what the run imported.
      config: hash of the resolved config, in full.
      files: what was computed.
    """

    format: Literal[2] = 2
    computed: str
    versions: dict[str, str]
    config: str
    files: Hashes


class Made(Sheet):
    """Files that were derived, and the hash of the code that made them."""

    code: str
    files: Hashes


class Derived(Sheet):
    """What `derived.json` says.

    Attributes:
      verdicts: verdicts.json.
      figures: language -> its figures.
      movies: language and kind, such as "en.gif" -> the movies.
    """

    verdicts: Made | None = None
    figures: dict[str, Made] = {}
    movies: dict[str, Made] = {}

    @property
    def files(self) -> set[str]:
        """All files that it vouches for."""
        made = [*self.figures.values(), *self.movies.values()]
        made += [self.verdicts] if self.verdicts else []
        return {file for each in made for file in each.files}


def _digest(path: Path) -> str:
    """Return the sha256 of a file."""
    regular.require(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hashes(folder: Path, names: Iterable[str]) -> Hashes:
    """Return the sha256 of files in a folder."""
    return {name: _digest(folder / name) for name in names}


def damaged(folder: Path, wanted: Mapping[str, str]) -> list[str]:
    """Return which files are missing, unreadable or others than those vouched for."""
    return [name for name, known in wanted.items() if not _is(folder / name, known)]


def _is(path: Path, known: str) -> bool:
    try:
        return _digest(path) == known
    except OSError:
        return False


def seal(folder: Path, stamp: Mapping[str, Any]) -> None:
    """Vouch for a run's data as they lie in `folder`: write its DONE."""
    present = [name for name in DATA if (folder / name).exists()]
    about = {key: stamp[key] for key in ("computed", "versions", "config")}
    write_sheet(folder / "DONE", Done(**about, files=hashes(folder, present)))


def read_done(folder: Path) -> Done | None:
    """Return what DONE says; None where it is missing, damaged or of another format."""
    return read_sheet(folder / "DONE", Done)


def read_derived(folder: Path) -> Derived:
    """Return what derived.json says; nothing where it is missing or damaged."""
    return read_sheet(folder / "derived.json", Derived) or Derived()


def of_older_format(folder: Path) -> bool:
    """Whether DONE is one of the first format: a stamp without hashes of files."""
    done = files.read_json(folder / "DONE")
    return isinstance(done, dict) and done.keys() == {"computed", "derived", "versions"}


def write_sheet(path: Path, sheet: Sheet) -> None:
    """Write a sheet with the hash of itself."""
    files.write_text(path, _text(sheet.model_dump(mode="json")))


def read_sheet(path: Path, kind: type[SheetType]) -> SheetType | None:
    """Return a sheet; None unless it is to the last byte what `write_sheet` wrote."""
    try:
        text = regular.read(path).decode()
        values = json.loads(text)
        del values["sha256"]
        return kind.model_validate(values) if _text(values) == text else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _text(values: Mapping[str, Any]) -> str:
    plain = json.dumps(values, sort_keys=True)
    own = {**values, "sha256": hashlib.sha256(plain.encode()).hexdigest()}
    return json.dumps(own, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def require_whole(folder: Path, remedy: str) -> None:
    """Raise unless a finished run's data are those that DONE vouches for.

    Of a run of the older format only its arrays' own checksums can tell.

    Raises:
      LabError: DONE or one of its files is damaged; with the remedy.
    """
    done = read_done(folder)
    if done is not None:
        broken = damaged(folder, done.files)
    elif of_older_format(folder):
        needed = ("config.toml", "data.npz")
        broken = [name for name in needed if not regular.is_regular(folder / name)]
    else:
        broken = ["DONE"]
    if broken:
        names = " and ".join(broken)
        said = "is damaged or missing" if len(broken) == 1 else "are damaged or missing"
        raise LabError(f"{folder}: {names} {said}; compute it again with: {remedy}")


def identity(tables: Mapping[str, Any]) -> str:
    """Return the hash of a resolved config, in full."""
    text = json.dumps(tables, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
