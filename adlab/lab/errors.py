"""What the lab says when it can't go on: one exception per exit code, and the nearest match."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from adlab.core.spelling import nearest as nearest

_LONGEST = 160  # characters of a message that isn't adlab's own
_REMEDIES = {
    errno.ENOSPC: "free some space, or choose another folder with --out DIR",
    errno.EFBIG: "raise the limit of the size of files (ulimit -f)",
    errno.EDQUOT: "free some space, or choose another folder with --out DIR",
    errno.EROFS: "choose another folder with --out DIR",
    errno.EACCES: "change its permissions, or name another place",
    errno.EPERM: "change its permissions, or name another place",
    errno.ENOENT: "was it removed meanwhile? run the command again",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.EISDIR: "name a file, not a folder",
    errno.ENOTDIR: "name a folder, not a file",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ELOOP: "mend the circle of links",
}


class LabError(Exception):
    """Something went wrong while running; the message is all that the user needs to read."""

    exit_code: ClassVar[int] = 1


class UsageError(LabError):
    """The request itself is wrong, and was refused before anything was computed."""

    exit_code: ClassVar[int] = 2


class ConfigError(UsageError):
    """All problems of one config at once.

    Args:
      source: the file (or object) that holds the problems.
      problems: one line each.

    Attributes:
      source: the file, as text.
      problems: as given.
    """

    def __init__(self, source: object, problems: Sequence[str]) -> None:
        self.source = str(source)
        self.problems = list(problems)
        count = f"{len(self.problems)} problem{'' if len(self.problems) == 1 else 's'}"
        super().__init__("\n  ".join([f"{self.source}: {count}", *self.problems]))


def brief(value: object, longest: int = _LONGEST) -> str:
    """Return what `value` says, on one line and cut to `longest` characters.

    >>> brief(["a", "b"] * 9, longest=12)
    "['a', 'b'..."
    """
    try:
        text = str(value)
    except Exception:  # an error that can't even be told
        text = f"(unreadable {type(value).__name__})"
    text = " ".join(text[: 4 * longest].split())
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def located(error: BaseException, own: Sequence[Path] = ()) -> str:
    """Say in one line what failed and where, preferring the files `own` over all others."""
    name, said = type(error).__name__, brief(error)
    message = f"{name}: {said}" if said else name
    if isinstance(error, BaseExceptionGroup):
        message += f"; the first: {type(error.exceptions[0]).__name__}"
    frames = traceback.extract_tb(error.__traceback__)
    wanted = {path.absolute() for path in own}
    inside = [frame for frame in frames if Path(frame.filename).absolute() in wanted]
    if not frames:
        return message
    frame = (inside or list(frames))[-1]
    return f"{message} ({shown(Path(frame.filename))}:{frame.lineno}, in {frame.name})"


def passes(error: BaseException, own: Sequence[Path]) -> bool:
    """Whether an error came through one of the files `own`."""
    wanted = {path.absolute() for path in own}
    frames = traceback.extract_tb(error.__traceback__)
    return any(Path(frame.filename).absolute() in wanted for frame in frames)


def remedy(error: BaseException) -> str:
    """Return what helps against an error of the system, to go behind its message; else nothing."""
    known = _REMEDIES.get(error.errno or 0) if isinstance(error, OSError) else None
    return f"; {known}" if known else ""


def shown(path: Path) -> str:
    """Return `path` as a user would type it: relative where it lies below the current folder."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except (ValueError, OSError):  # elsewhere; or the current folder is gone
        return str(path)
