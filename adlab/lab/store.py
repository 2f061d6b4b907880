"""The run folder: written under a temporary name, renamed when its data are complete.

A run lives in `<out>/.partial-<key>` until its data are stored and `DONE` vouches for them; then
the folder is renamed to `<out>/<key>`. Verdicts and figures are made from the data before the
rename, or after it where a process ended in between. Only one process at a time holds a key.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from adlab.lab import integrity, regular
from adlab.lab.errors import LabError
from adlab.lab.files import (
    UNFINISHED,
    Log,
    as_arrays,
    aside,
    now,
    read_arrays,
    read_json,
    remove,
    sync,
    write_arrays,
    write_json,
    write_text,
)

__all__ = [
    "FIGURES_NEW",
    "OWN",
    "Log",
    "Place",
    "State",
    "as_arrays",
    "aside",
    "hold",
    "now",
    "place",
    "prepare",
    "publish",
    "read_arrays",
    "read_json",
    "recover",
    "remove",
    "same_data",
    "state",
    "tidy",
    "write_arrays",
    "write_json",
    "write_text",
]

State = Literal["done", "stale", "damaged", "wreck", "absent"]
Purpose = Literal["run", "plot"]
FIGURES_NEW = ".figures-new"
OWN = frozenset((*integrity.DATA, "verdicts.json", "derived.json", "log.txt", "DONE",
                 "figures", "stages", FIGURES_NEW))  # fmt: skip
_WAIT = 0.1  # seconds between two looks at a lock
_PATIENCE = 600.0  # seconds for which another process may draw this run's figures


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


def place(out: Path, name: str, identity: str) -> Place:
    """Return where the run of a config is kept: under 8 digits of its hash where these are free.

    Two configs may share 8 digits. The later one of them gets a longer name.

    Args:
      out: the folder of all results.
      name: of the experiment.
      identity: hash of the resolved config, in full.
    """
    places = [Place(out, f"{name}-{identity[:digits]}") for digits in (8, 16, len(identity))]
    owners = [_owner(each) for each in places]
    own = [each for each, owner in zip(places, owners, strict=True) if owner == identity]
    free = [each for each, owner in zip(places, owners, strict=True) if owner is None]
    return [*own, *free, places[-1]][0]


def _owner(place: Place) -> str | None:
    """Return the hash of the config that has this place; None where it is free or can't tell.

    A hash that isn't the folder's name is of a damaged file, and tells nothing.
    """
    digits = place.key.rpartition("-")[2]
    folders = (place.final, place.retired, place.partial)
    for found in (each for folder in folders for each in _identities(folder)):
        if found.startswith(digits):
            return found
    return None


def _identities(folder: Path) -> Iterator[str]:
    done = integrity.read_done(folder)
    if done:
        yield done.config
    stages = read_json(folder / "stages" / "stamp.json")
    if isinstance(stages, dict):
        yield str(stages.get("config", ""))
    with contextlib.suppress(OSError, ValueError, RecursionError):
        tables = tomllib.loads(regular.read(folder / "config.toml").decode())
        yield integrity.identity(tables)


def state(folder: Path, stamp: Mapping[str, Any]) -> State:
    """Say whether `folder` holds a run with this stamp, one with another, or none.

    One whose files aren't those that it vouches for is damaged, one that vouches for none a wreck.
    What is derived from the data doesn't count here.
    """
    if not folder.exists():
        return "absent"
    done = integrity.read_done(folder)
    if done is None:
        return "stale" if integrity.of_older_format(folder) else "wreck"
    if not same_data(done.model_dump(), stamp):
        return "stale"
    return "damaged" if integrity.damaged(folder, done.files) else "done"


def same_data(one: Any, other: Mapping[str, Any]) -> bool:
    """Whether two stamps promise the same arrays, whatever is derived from them."""
    keys = ("computed", "versions", "config")
    return isinstance(one, dict) and all(one.get(key) == other[key] for key in keys)


@contextlib.contextmanager
def hold(place: Place, purpose: Purpose = "run") -> Iterator[None]:
    """Keep other processes off this key; the system frees it if this process dies.

    A process that draws is waited for, one that computes isn't.

    Raises:
      LabError: the folder can't be written, or another process holds the key.
    """
    try:
        if purpose == "run":
            place.partial.mkdir(parents=True, exist_ok=True)
        file = _acquired(place, purpose)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        other = "choose another folder with --out DIR"
        if isinstance(error, FileExistsError | IsADirectoryError):  # of a name that is the lab's
            other = f"remove {error.filename}, or {other}"
        doing = "write results to" if purpose == "run" else "draw in"
        raise LabError(f"cannot {doing} {place.out}: {reason}; {other}") from None
    with file:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                place.partial.rmdir()  # only where nothing was written
            with contextlib.suppress(OSError):
                _lock(place).unlink(missing_ok=True)


def _lock(place: Place) -> Path:
    return place.out / f".lock-{place.key}"


def _acquired(place: Place, purpose: Purpose) -> IO[str]:
    """Open and lock the file of a key.

    Raises:
      LabError: a process that computes holds it, or one that draws for too long.
    """
    deadline, last = time.monotonic() + _PATIENCE, ""
    while (file := _locked(_lock(place), purpose)) is None:
        pid, _, doing = _said(_lock(place)).partition(" ")
        told = f"{pid} {doing}"
        # Said twice: its last holder may have died, and the next one not yet written its name.
        computing = bool(pid) and told == last and doing != "plot"
        if computing or time.monotonic() > deadline:
            what = "drawn" if doing == "plot" else "computed"
            raise LabError(
                f"{place.final} is being {what} by process {pid or 'unknown'}; "
                "wait for it or end it"
            )
        last = told
        time.sleep(_WAIT)
    return file


def _said(lock: Path) -> str:
    try:
        return lock.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def _locked(path: Path, purpose: Purpose) -> IO[str] | None:
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
            file.write(f"{os.getpid()} {purpose}\n")
            file.flush()
            return file
        file.close()  # its last holder removed it between open and lock


def recover(place: Place) -> None:
    """Finish what a process that was killed had begun to rename; call it while holding the key."""
    whole = _whole(place.partial)
    if whole:
        _swap(place)
    elif place.retired.exists() and not place.final.exists():
        place.retired.rename(place.final)
    if place.final.exists():
        remove(place.retired)
        remove(place.final / "stages")


def tidy(place: Place) -> None:
    """Remove what a killed process left about a finished run, unless another one is at work."""
    left = [place.final / "stages", place.final / FIGURES_NEW, place.retired, _lock(place)]
    if not any(path.exists() for path in left):
        return
    with contextlib.suppress(OSError):
        file = _locked(_lock(place), "plot")
        if file is not None:
            with file:
                for path in left:
                    remove(path)


def _whole(folder: Path) -> bool:
    done = integrity.read_done(folder)
    return done is not None and not integrity.damaged(folder, done.files)


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
        remove(stages)
    for name in OWN - {"stages", "log.txt"}:
        remove(place.partial / name)
    stages.mkdir(parents=True, exist_ok=True)
    write_json(stages / "stamp.json", dict(stamp))
    notes += _cleared(place, stamp)
    return notes


def _cleared(place: Place, stamp: Mapping[str, Any]) -> list[str]:
    """Put aside what stands in the run's place and isn't a whole run; say so."""
    found = state(place.final, stamp)
    if found == "wreck":
        what = "incomplete" if not (place.final / "DONE").exists() else "damaged"
        why = "no DONE" if what == "incomplete" else "its DONE can't be read"
        return [f"{place.final} is {what} ({why}): moved to {aside(place.final)}"]
    if found == "damaged":
        done = integrity.read_done(place.final)
        names = ", ".join(integrity.damaged(place.final, done.files)) if done else "DONE"
        moved = aside(place.final)
        return [f"{place.final} is damaged ({names}): moved to {moved}, computing it again"]
    return []


def publish(place: Place) -> list[str]:
    """Give the sealed `place.partial` its final name; what stood there stays until then."""
    notes = _swap(place)
    remove(place.final / "stages")
    return notes


def _swap(place: Place) -> list[str]:
    notes = []
    if place.final.exists():
        if _only_ours(place.final):
            remove(place.retired)
            place.final.rename(place.retired)
        else:
            notes.append(f"files that aren't the lab's: the older run is now {aside(place.final)}")
    sync(place.partial)
    place.partial.rename(place.final)
    sync(place.out)
    remove(place.retired)
    return notes


def _only_ours(folder: Path) -> bool:
    """Whether all that a run's folder holds was written by the lab."""
    derived = integrity.read_derived(folder).files
    for path in folder.rglob("*"):
        inside = path.relative_to(folder)
        if inside.parts[0] not in OWN and not _unfinished(path):
            return False
        known = not derived or path.is_dir() or inside.as_posix() in derived or _unfinished(path)
        if inside.parts[0] == "figures" and not known:
            return False
    return True


def _unfinished(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(UNFINISHED)
