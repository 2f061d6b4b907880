"""Peaks of memory: of one gradient in a fresh process, and what was foretold of it."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adlab import checkpointing, lab
from adlab.checkpointing import MemoryReport
from adlab.lab import fresh

from . import gradient
from .config import Config, Run

Arrays = dict[str, np.ndarray]
ACCOUNTS = ("saved", "unfused", "temporary", "output")
CHECKPOINTS = (False, True)
TIMED = 3  # gradients that each process times, after the one whose peak counts
LEAST = 10e6  # bytes per process: below, its threads and buffers are what is measured


class Spec(NamedTuple):
    """A model, and the tokens of its batch; whether a CPU is too small or too slow for it."""

    model: dict[str, int]
    sequence: int
    batch: int
    gpu: bool = False

    @property
    def state(self) -> int:
        """Numbers in the states of all layers, b s h L."""
        return self.batch * self.sequence * self.model["width"] * self.model["layers"]


def _spec(sizes: tuple[int, int, int, int], sequence: int, batch: int, gpu: bool = False) -> Spec:
    names = ("layers", "heads", "width", "vocabulary")
    model = dict(zip(names, sizes, strict=True)) | {"context": max(sequence, 16)}
    return Spec(model, sequence, batch, gpu)


SPECS: dict[Run, Spec] = {
    "tiny": _spec((2, 2, 32, 64), 16, 2),
    "small": _spec((8, 9, 288, 8192), 256, 4),
    "gpt2": _spec((12, 12, 768, 50257), 256, 1),
    "gpt2-xl": _spec((48, 25, 1600, 50257), 1024, 4, gpu=True),
}


def measured(config: Config, name: Run, progress: lab.Progress) -> Arrays:
    """Account for the gradients of a model, and run them; what was run goes to the timings.

    NaN where it can't be run here, which leaves its verdicts undecided; the display says why.
    """
    spec, platform = SPECS[name], jax.default_backend()
    dtype = "float32" if platform == "cpu" else "bfloat16"
    peaks = np.full((len(CHECKPOINTS), config.processes), np.nan)
    seconds = np.full((*peaks.shape, TIMED), np.nan)
    for row, checkpoints in enumerate(CHECKPOINTS):
        for column in range(config.processes):
            progress.update(row * config.processes + column, peaks.size, name)
            found = _run(config, spec, dtype, checkpoints)
            if isinstance(found, fresh.Peak):
                peaks[row, column] = found.peak_bytes
                seconds[row, column] = found.seconds
            else:
                progress.update(row * config.processes + column, peaks.size, f"{name}: {found}")
    progress.timing(f"peaks_{name}", peaks)
    progress.timing(f"seconds_{name}", seconds.reshape(len(CHECKPOINTS), -1))
    return {
        f"account_{name}": np.array(_accounts(spec, dtype)),
        f"width_{name}": np.array(jnp.dtype(dtype).itemsize),
    }


def _run(config: Config, spec: Spec, dtype: str, checkpoints: bool) -> fresh.Peak | str:
    if spec.gpu and jax.default_backend() == "cpu":
        return "needs a GPU"
    arguments: dict[str, Any] = {
        "model": spec.model, "sequence": spec.sequence, "batch": spec.batch, "dtype": dtype,
        "checkpoints": checkpoints, "seed": config.seed,
    }  # fmt: skip
    file = Path(gradient.__file__)
    return fresh.peak(file, "prepare", arguments, repeats=TIMED)


def _accounts(spec: Spec, dtype: str) -> list[list[float]]:
    """Return bytes in ACCOUNTS, one row of CHECKPOINTS each: by shapes, unfused, as compiled."""
    reports: list[MemoryReport] = []
    for checkpoints in CHECKPOINTS:
        model, fun = gradient.loss(spec.model, dtype, checkpoints)
        init = functools.partial(model.init, dtype=jnp.dtype(dtype))
        params = jax.eval_shape(init, jax.random.key(0))
        tokens = jax.ShapeDtypeStruct((spec.batch, spec.sequence), np.int32)
        options: dict[str, Any] = {"baseline": reports[0]} if reports else {}
        reports.append(
            checkpointing.memory_report(
                fun, params, tokens, tokens, **options, compile=not spec.gpu
            )
        )
    told = [(r.saved_bytes, r.peak_bytes, r.temporary_bytes, r.output_bytes) for r in reports]
    return [[np.nan if each is None else each for each in row] for row in told]


def formula(data: Arrays, name: Run) -> float:
    """Return the bytes of the lecture's formula, 12 b s h L numbers, in the type that was run."""
    return 12.0 * SPECS[name].state * float(data[f"width_{name}"])


def compiled(data: Arrays, name: Run) -> np.ndarray:
    """Return temporary and output bytes of the compiled gradient, without and with checkpoints."""
    return np.asarray(data[f"account_{name}"][:, 2:].sum(axis=1))


def known(data: Arrays, name: Run) -> np.ndarray:
    """Return peaks (2, processes); NaN where there are none, or they are too low to be told."""
    found = data.get(f"peaks_{name}", np.full((len(CHECKPOINTS), 1), np.nan))
    large = np.nanmin(compiled(data, name)) > LEAST
    return np.asarray(found) if large else np.full_like(found, np.nan)
