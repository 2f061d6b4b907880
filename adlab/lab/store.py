"""The run folder: written under a temporary name, renamed when complete.

A run lives in `<out>/.partial-<key>` until its last file, `DONE`, is written; then the folder is
renamed to `<out>/<key>`. Every file is written beside its place and moved there. Only one process
at a time holds a key.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from adlab.lab.errors import LabError

State = Literal["done", "underived", "stale", "wreck", "absent"]
_FILES = ("config.toml", "run.json", "data.npz", "timings.npz", "verdicts.json", "log.txt", "DONE")
OWN = frozenset((*_FILES, "figures", "stages"))


@dataclass(frozen=True)
class Place:
    """Where a run is kept.

    Attributes:
      out: the folder of all results.
      key: `<experiment>-<hash of the resolved config>`, the name of the run's own.
    """

    out: Path
    key: str

    @property
    def final(self) -> Path:
        """The finished run."""
        return self.out / self.key

    @property
    def partial(self) -> Path:
        """The run while it is being made."""
        return self.out / f".partial-{self.key}"

    @property
    def retired(self) -> Path:
        """The older run while the newer takes its place."""
        return self.out / f".old-{self.key}"


def state(folder: Path, stamp: Mapping[str, Any]) -> State:
    """Say whether `folder` holds a run with this stamp, one with another, or none.

    Of one whose data are current while its verdicts and figures aren't: "underived".
    """
    if not folder.exists():
        return "absent"
    done = read_json(folder / "DONE")
    if not isinstance(done, dict):
        return "wreck"
    if done == dict(stamp):
        return "done"
    return "underived" if same_data(done, stamp) else "stale"


def same_data(one: Any, other: Mapping[str, Any]) -> bool:
    """Whether two stamps promise the same arrays, whatever is derived from them."""
    return isinstance(one, dict) and {**one, "derived": None} == {**other, "derived": None}


@contextlib.contextmanager
def hold(place: Place) -> Iterator[None]:
    """Keep other processes off this key; the system frees it if this process dies.

    Raises:
      LabError: the folder can't be written, or another process holds the key.
    """
    lock = place.out / f".lock-{place.key}"
    try:
        place.partial.mkdir(parents=True, exist_ok=True)
        file = _locked(lock)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise LabError(
            f"cannot write results to {place.out}: {reason}; choose another folder with --out DIR"
        ) from None
    if file is None:
        pid = lock.read_text(encoding="utf-8").strip() or "unknown"
        raise LabError(f"{place.final} is being computed by process {pid}; wait for it or end it")
    with file:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                place.partial.rmdir()  # only where nothing was written
            lock.unlink(missing_ok=True)


def _locked(path: Path) -> IO[str] | None:
    """Open and lock `path`; None where another process has it."""
    while True:
        file = path.open("a", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            return file
        file.close()  # its last holder removed it between open and lock


def prepare(place: Place, stamp: Mapping[str, Any], *, anew: bool) -> list[str]:
    """Make `place.partial` ready, keeping stages that an interrupted run with this stamp finished.

    Returns:
      What the user should be told.
    """
    notes = []
    stages = place.partial / "stages"
    fits = same_data(read_json(stages / "stamp.json"), stamp)
    if stages.exists() and (anew or not fits):
        if not anew:
            notes.append("the sources changed since the interrupted run: starting anew")
        shutil.rmtree(stages)
    for name in OWN - {"stages", "log.txt"}:
        remove(place.partial / name)
    stages.mkdir(parents=True, exist_ok=True)
    write_json(stages / "stamp.json", dict(stamp))
    if place.retired.exists() and not place.final.exists():
        place.retired.rename(place.final)  # the last run ended between the two renames
    if state(place.final, stamp) == "wreck":
        notes.append(f"{place.final} is incomplete (no DONE): moved to {aside(place.final)}")
    return notes


def publish(place: Place, stamp: Mapping[str, Any]) -> list[str]:
    """Mark `place.partial` done and give it its final name; what stood there stays until then."""
    notes = []
    remove(place.partial / "stages")
    write_json(place.partial / "DONE", dict(stamp))
    if place.retired.exists():
        remove(place.retired)
    if place.final.exists():
        if {p.name for p in place.final.iterdir()} <= OWN:
            place.final.rename(place.retired)
        else:
            notes.append(f"files that aren't the lab's: the older run is now {aside(place.final)}")
    place.partial.rename(place.final)
    remove(place.retired)
    return notes


def aside(path: Path) -> Path:
    """Rename `path` to the first free `<path>.aside-N` and return that."""
    number = 1
    while (target := path.with_name(f"{path.name}.aside-{number}")).exists():
        number += 1
    path.rename(target)
    return target


def remove(path: Path) -> None:
    """Remove a file or a folder; nothing there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def as_arrays(values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return `values` as NumPy arrays that a file can hold without pickling.

    Raises:
      TypeError: not a mapping from names to arrays of numbers, booleans or strings.
    """
    if not isinstance(values, Mapping):
        raise TypeError(f"expected a dict of arrays, got {type(values).__name__}")
    arrays = {str(key): np.asarray(value) for key, value in values.items()}
    for key, array in arrays.items():
        if array.dtype.kind not in "biufcUS":
            raise TypeError(
                f"`{key}` must be an array of numbers or strings, got dtype {array.dtype}; "
                "cast it first, say to float32"
            )
    return arrays


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an .npz whose bytes depend on nothing but the arrays and their order."""
    temporary = path.with_name(f".{path.name}.tmp")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for key, array in arrays.items():
            entry = zipfile.ZipInfo(f"{key}.npy")  # dated 1980
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    temporary.replace(path)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read what `write_arrays` wrote, in its order.

    Raises:
      LabError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise LabError(f"cannot read {path}: {error}") from error


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


class Log:
    """A file to which dated lines are added."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, line: str) -> None:
        """Add a line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{now()} {line}\n")


def now() -> str:
    """Return the time in UTC to the second, as ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def read_json(path: Path) -> Any:
    """Read JSON; None where the file is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
