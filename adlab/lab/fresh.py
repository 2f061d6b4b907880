"""Runs one call in a fresh process, and tells how far its memory rose: `python -m adlab.lab.fresh`.

A process remembers the most memory that it ever held, and compiling holds more than many programs
do; what an allocator took once it rarely gives back. So a peak is measured where nothing else ran.

The child reads a request from its standard input and writes one line to its standard output, both
JSON; nothing else goes in or out, and it opens no connection.

    request   {"file": "/…/gradient.py", "function": "prepare", "arguments": {…}, "repeats": 1}
    answer    {"peak_bytes": …, "held_bytes": …, "seconds": […], "platform": "cpu"}

`function(**arguments)` compiles and allocates what the call needs, and returns the call, without
arguments. On CPU the peak is the process's resident memory (Linux: the high-water mark, set back
right before the call); on a GPU it is that of JAX's allocator, less what was in use before.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Peak", "peak"]

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Peak:
    """What one call took.

    Attributes:
      peak_bytes: the most that was held during the first call, beyond what was held before.
      held_bytes: what was held before: arguments, programs, Python.
      seconds: of each further call, by the clock.
      platform: of the device, such as "cpu".
    """

    peak_bytes: int
    held_bytes: int
    seconds: tuple[float, ...]
    platform: str


def peak(
    file: Path | str,
    function: str,
    arguments: Mapping[str, Any],
    *,
    repeats: int = 0,
    timeout: float = 1800.0,
) -> Peak | str:
    """Return what `function(**arguments)()` took in a process of its own.

    Where that can't be told the answer is a line that says why: no process can be started, it
    fails or takes too long, or the system doesn't tell its memory.

    Args:
      file: a Python file that defines the function; its imports must not be relative.
      function: its name; called with the arguments, it returns the call to measure.
      arguments: values of JSON.
      repeats: how often the call is timed afterwards.
      timeout: seconds after which the process is stopped.
    """
    request = {"file": str(file), "function": function, "arguments": dict(arguments)}
    import adlab

    root = str(Path(adlab.__file__).parents[1])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    try:
        done = subprocess.run(
            [sys.executable, "-m", "adlab.lab.fresh"],
            input=json.dumps(request | {"repeats": repeats}), text=True, capture_output=True,
            timeout=timeout, env=os.environ | {"PYTHONPATH": path}, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        return f"no fresh process: {type(error).__name__}: {error}"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return f"the fresh process ended with {done.returncode}: {last}"
    answer = json.loads(done.stdout.splitlines()[-1])
    if isinstance(answer, str):
        return answer
    return Peak(**answer | {"seconds": tuple(answer["seconds"])})


def _measured(call: Callable[[], Any], repeats: int) -> dict[str, Any] | str:
    """Return the answer for a call that is ready to run."""
    import jax

    device = jax.devices()[0]
    memory = _of_process if device.platform == "cpu" else lambda _: _of_device(device)
    before = memory(True)
    if before is None:
        return f"the memory held on {device.platform} can't be told here"
    jax.block_until_ready(call())
    after = memory(False)
    assert after is not None
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        jax.block_until_ready(call())
        seconds.append(time.perf_counter() - started)
    held, highest = before[0], after[1]
    told = {"peak_bytes": highest - held, "held_bytes": held, "seconds": seconds}
    return told | {"platform": device.platform}


def _of_process(reset: bool) -> tuple[int, int] | None:
    """Return resident bytes now and at most; None where the system doesn't tell."""
    with contextlib.suppress(OSError):
        if reset:
            _RESET.write_text("5")  # sets the high-water mark back to what is resident now
        lines = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
        now, most = (1024 * int(lines[name].split()[0]) for name in ("VmRSS", "VmHWM"))
        return now, most
    return None


def _of_device(device: Any) -> tuple[int, int] | None:
    """Return the allocator's bytes in use now and at most."""
    told = device.memory_stats() or {}
    if not {"bytes_in_use", "peak_bytes_in_use"} <= told.keys():
        return None
    return told["bytes_in_use"], told["peak_bytes_in_use"]


def main() -> None:
    """Answer the request on standard input."""
    request = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):  # what the function prints isn't the answer
        prepare = runpy.run_path(request["file"])[request["function"]]
        answer = _measured(prepare(**request["arguments"]), request["repeats"])
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
