"""Reading files of which nobody knows where they come from: regular ones only.

A name in a folder of results may be that of a folder, of a pipe that nobody writes to, of a device
without end, or of a link to one. Such a file is as good as missing, and isn't waited for.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = ["is_regular", "read", "require"]


def is_regular(path: Path) -> bool:
    """Whether `path` is a regular file or a link to one; False for a name that can't be one."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):  # missing, too long, a circle of links; a null byte
        return False


def require(path: Path) -> None:
    """Raise OSError unless `path` is a regular file or a link to one."""
    try:
        mode = path.stat().st_mode
    except ValueError as error:
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def read(path: Path) -> bytes:
    """Return what the file `path` holds.

    Raises:
      OSError: it can't be read, or isn't a regular file.
    """
    require(path)
    return path.read_bytes()
