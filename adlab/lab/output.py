"""Files that a user names with --out: written whole or not at all, and never replaced by another.

A link stays a link, to a file with new content; what isn't a regular file (a device, a pipe) is
written to as it stands; a file keeps its permissions.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from adlab.lab.errors import UsageError, brief, remedy

__all__ = ["require_csv", "write"]

_OTHER_TABLES = frozenset(
    f".{kind}"
    for kind in (
        "7z", "bz2", "db", "feather", "gif", "gz", "h5", "hdf5", "html", "jpg", "json", "mat", "md",
        "mp4", "npy", "npz", "ods", "parquet", "pdf", "pickle", "pkl", "png", "sqlite", "svg",
        "tar", "tgz", "toml", "xls", "xlsx", "xml", "xz", "yaml", "zip", "zst",
    )
)  # fmt: skip


def require_csv(path: Path) -> None:
    """Raise UsageError where a file is named as one of another kind than text that is a table."""
    if path.suffix.lower() in _OTHER_TABLES:
        stem = Path(path.stem)  # of x.csv.gz: x.csv
        better = stem if stem.suffix.lower() == ".csv" else path.with_suffix(".csv").name
        raise UsageError(
            f"adlab export writes CSV, and {brief(path)} is the name of another kind of file: "
            f"choose {brief(better)}; the arrays themselves are in the "
            "result's data.npz"
        )


def write(path: Path, make: Callable[[Path], object], *, parents: bool = False) -> bool:
    """Let `make` write a file, and put it at `path`; say whether that is a file with a name.

    Args:
      path: where the content is wanted.
      make: writes it to the path that it is given, whose suffix is that of `path`.
      parents: make the folders that are missing.

    Raises:
      UsageError: it can't be written there.
    """
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        target = Path(os.path.realpath(path))
        found = _status(target)
        if _is_output(path) or (found and not stat.S_ISREG(found.st_mode)):
            _pour(path, make)
            return False
        _replace(target, make, found)
    except OSError as error:
        helps = "; make its folder first" if isinstance(error, FileNotFoundError) else remedy(error)
        reason = f"{error.strerror or error}{helps}"
        raise UsageError(f"cannot write {brief(path)}: {reason}") from None
    return True


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _is_output(path: Path) -> bool:
    """Whether `path`, such as /dev/stdout, is what this process prints to."""
    if not str(path.absolute()).startswith(("/dev/", "/proc/")):
        return False
    try:
        return os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):  # a stand-in of a test has no number
        return False


def _pour(path: Path, make: Callable[[Path], object]) -> None:
    """Write into what stands at `path`, which can't be replaced by a file."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    with tempfile.TemporaryDirectory(prefix="adlab-") as folder:
        whole = Path(folder) / f"out{path.suffix}"
        make(whole)
        with whole.open("rb") as source:
            if _is_output(path):
                sys.stdout.flush()
                shutil.copyfileobj(source, sys.stdout.buffer)
                sys.stdout.buffer.flush()
                return
            with path.open("wb") as sink:
                shutil.copyfileobj(source, sink)


def _replace(target: Path, make: Callable[[Path], object], found: os.stat_result | None) -> None:
    """Write beside `target`, and move the file there when it is whole."""
    temporary = target.with_name(f".adlab-{os.getpid()}{target.suffix}")
    try:
        make(temporary)
        if found:
            temporary.chmod(stat.S_IMODE(found.st_mode))
        temporary.replace(target)
    finally:
        with contextlib.suppress(OSError):  # mostly it has its new name by now
            temporary.unlink()
