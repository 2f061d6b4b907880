"""The boundary of the command line: whatever goes wrong inside ends in one line and an exit code.

What a user can mend (an experiment's error, a full disk, too little memory) is told with its place
and remedy. Anything else is a bug of adlab, and is called so, with the file that has its traceback.
ADLAB_TRACEBACK=1 shows the traceback of any error.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from adlab.lab.errors import LabError, UsageError, brief, located, remedy

__all__ = ["Ended", "foreign", "guarded", "leave"]

_WISH = "ADLAB_TRACEBACK"
_WIDEST = 600  # characters of a line: a list of what is known, at most
_NARROWEST = 20  # columns; below that nothing can be read


class Ended(Exception):
    """How tyro ends after help and after its own errors: with this exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def guarded(act: Callable[[], int], typed: Sequence[str]) -> int:
    """Return the exit code of `act`: 0 done, 1 failed, 2 refused, 130 interrupted.

    Args:
      act: runs the command and returns its exit code.
      typed: the command line, to be shown where it can be typed again.
    """
    _make_readable()
    try:
        if any("\0" in word for word in typed):
            raise UsageError("a null byte can't be part of a command")
        code = act()
        sys.stdout.flush()  # here a full disk still has somebody to tell
        return code
    except Ended as error:
        return error.code
    except KeyboardInterrupt:
        again = shlex.join(["adlab", *typed])
        print(f"interrupted; finished stages are kept, to resume: {again}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as head, has enough
        _close_output()
        return 1
    except BaseException as error:
        return _told(error)


def leave(code: int) -> None:
    """End the process at once, with this exit code; what was written is flushed.

    An interrupted program still runs in the threads of the device: if the interpreter went on to
    take down what they use, every fifth process would end in a segmentation fault.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


@contextlib.contextmanager
def foreign(what: str, own: Sequence[Path] = (), *, usage: bool = False) -> Iterator[None]:
    """Turn whatever code that isn't adlab's raises into a LabError of one line.

    Args:
      what: whose code runs, such as "table of rates"; begins the message.
      own: its files; the line of the error is looked for in them first.
      usage: raise UsageError, since nothing was computed.

    Raises:
      LabError: the code raised anything but LabError and KeyboardInterrupt, even SystemExit.
    """
    try:
        yield
    except (LabError, KeyboardInterrupt):
        raise
    except BaseException as error:
        kind = UsageError if usage else LabError
        raise kind(f"{what}: {located(error, own)}") from error


def _told(error: BaseException) -> int:
    """Say on standard error what happened, and return the exit code."""
    lines = None if isinstance(error, LabError) else _line(error)
    message = str(error) if lines is None else lines
    message = "\n".join(
        part if len(part) <= _WIDEST else f"{part[:_WIDEST]}..." for part in message.split("\n")
    )
    if os.environ.get(_WISH, "") not in ("", "0"):
        with contextlib.suppress(RecursionError):
            traceback.print_exception(error)
    with contextlib.suppress(OSError):
        print(f"error: {message}", file=sys.stderr)
    return error.exit_code if isinstance(error, LabError) else 1


def _line(error: BaseException) -> str:
    """Say in one line what an error is that no part of adlab expected."""
    if isinstance(error, MemoryError):
        return (
            f"out of memory {_place(error)}: {brief(error)}; make the config smaller "
            f"(adlab run CONFIG --help lists its sizes). {_WISH}=1 shows where"
        )
    if isinstance(error, OSError):
        return _system(error)
    if isinstance(error, RecursionError):
        return f"too deeply nested {_place(error)}: make the input flatter. {_WISH}=1 shows where"
    if isinstance(error, UnicodeError):
        return (
            f"text that can't be read or written {_place(error)}: {brief(error)}; "
            f"save it as UTF-8. {_WISH}=1 shows where"
        )
    if not isinstance(error, Exception):  # SystemExit, say: no reason to believe it
        return f"some code that was run raised {located(error)}; {_WISH}=1 shows where"
    return f"a bug of adlab: {located(error)}; please report it. {_kept(error)}"


def _system(error: OSError) -> str:
    reason = error.strerror or brief(error)
    named = error.filename if error.filename is not None else _output_of(error)
    at = f"{brief(named, 120)}: " if named is not None else ""
    return f"{at}{reason}{remedy(error)}. {_WISH}=1 shows where"


def _output_of(error: OSError) -> str | None:
    """Return "standard output" where writing to it is what failed; it takes no more then."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return None
    line = frames[-1].line or ""
    printing = "print(" in line or "stdout" in line or Path(frames[-1].filename).parts[-2] == "rich"
    if printing:
        _close_output()
    return "standard output" if printing else f"in {frames[-1].name}"


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    return f"in {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "somewhere"


def _kept(error: BaseException) -> str:
    """Write the traceback to a file of its own, and say where."""
    try:
        handle, name = tempfile.mkstemp(prefix="adlab-", suffix=".traceback")
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            traceback.print_exception(error, file=file)
    except OSError:
        return f"{_WISH}=1 shows the traceback"
    return f"Its traceback: {name}"


def _make_readable() -> None:
    """Let every terminal show what it can: replacements for what its encoding lacks, some width."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors != "replace":
            stream.reconfigure(errors="replace")
    wished = os.environ.get("COLUMNS", "")
    if wished.isdecimal() and int(wished) < _NARROWEST:  # some tools that run others set 0
        del os.environ["COLUMNS"]


def _close_output() -> None:
    """Let what is still to be written to standard output vanish, rather than fail again at exit."""
    with contextlib.suppress(OSError, ValueError):  # a stand-in of a test has no number
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
