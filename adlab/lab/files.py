"""Files that are there whole or not at all: arrays, JSON, text.

Each is written beside its place, brought to the disk, and renamed; the rename is brought to the
disk too, so that after a power loss a file that is there is whole.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from adlab.lab import regular
from adlab.lab.errors import LabError

__all__ = [
    "Log",
    "as_arrays",
    "aside",
    "clear",
    "now",
    "put",
    "read_arrays",
    "read_json",
    "remove",
    "sync",
    "write_arrays",
    "write_json",
    "write_text",
]

UNFINISHED = ".tmp"  # how the name of a file ends that is being written; it begins with a dot


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

    def write(file: IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for key, array in arrays.items():
                entry = zipfile.ZipInfo(f"{key}.npy")  # dated 1980
                with archive.open(entry, "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)

    _replace(path, write)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read what `write_arrays` wrote, in its order.

    Raises:
      LabError: the file is missing or damaged.
    """
    try:
        regular.require(path)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if len(set(archive.files)) < len(archive.files):
                raise ValueError("it holds an array twice")
            return {key: archive[key] for key in archive.files}
    except Exception as error:  # zipfile and NumPy raise a dozen kinds for a damaged file
        raise LabError(f"cannot read {path}: {error}") from error


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    _replace(path, lambda file: file.write(text.encode()))


def _replace(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let `write` fill a file beside `path`, and move it there."""
    unfinished = path.with_name(f".{path.name}{UNFINISHED}")
    try:
        with unfinished.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        put(unfinished, path)
    except OSError as error:
        if error.filename is None:  # of a disk that is full nobody says where
            error.filename = str(path)
        with contextlib.suppress(OSError):
            unfinished.unlink()
        raise
    sync(path.parent)


def put(file: Path, target: Path) -> None:
    """Move a file to `target`; a folder that stands there is put aside."""
    clear(target)
    file.replace(target)


def clear(target: Path) -> None:
    """Put aside a folder where a file shall be."""
    if target.is_dir() and not target.is_symlink():
        aside(target)


def sync(folder: Path) -> None:
    """Bring the names in a folder to the disk, where its file system can."""
    with contextlib.suppress(OSError):
        place = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(place)
        finally:
            os.close(place)


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; None where the file is missing or damaged."""
    try:
        return json.loads(regular.read(path).decode())
    except (OSError, ValueError, RecursionError):
        return None


def remove(path: Path) -> None:
    """Remove a file or a folder; nothing there is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def aside(path: Path) -> Path:
    """Rename `path` to the first free `<path>.aside-N` and return that."""
    number = 1
    while os.path.lexists(target := path.with_name(f"{path.name}.aside-{number}")):
        number += 1
    path.rename(target)
    return target


class Log:
    """A file to which dated lines are added; what isn't a file of its own is put aside."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if os.path.lexists(path) and not (regular.is_regular(path) and not path.is_symlink()):
            aside(path)

    def __call__(self, line: str) -> None:
        """Add a line."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{now()} {line}\n")


def now() -> str:
    """Return the time in UTC to the second, as ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
