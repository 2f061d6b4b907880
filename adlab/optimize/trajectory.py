"""What a descent leaves behind: observables at chosen iterations, the end point, the account."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks
from adlab.core.cost import Cost
from adlab.core.types import PyTree
from adlab.optimize.rates import log_grid

__all__ = ["Trajectory"]


@dataclass(frozen=True, eq=False)
class Trajectory:
    """The record of one descent, or of many: values, averages and x then lead with the seeds.

    A pytree, so that jit and vmap may return one.

    Attributes:
      record_at: (P,) the iterations k recorded; 0 is the start.
      values: name -> (P, ...) the observable at x_k.
      averages: name -> (P, ...) its mean over x_0, ..., x_k: all of them, not the recorded ones.
      x: the last iterate.
      opt_state: the optimiser's last state, None where there was no optimiser.
      compile_seconds: time to trace and compile, near 0 when that was done before; None in a trace.
      run_seconds: time of the iterations and the recording alone; None in a trace.
      num_steps: number of iterations.
      step_cost: of one iteration of one seed, recording aside; None where that isn't known.
    """

    record_at: np.ndarray
    values: dict[str, Any]
    averages: dict[str, Any]
    x: PyTree
    opt_state: PyTree
    compile_seconds: float | None
    run_seconds: float | None
    num_steps: int
    step_cost: Cost | None

    @property
    def cost(self) -> Cost:
        """What all iterations of one seed cost; ValueError where the gradient doesn't tell."""
        if self.step_cost is None:
            raise ValueError("cost must be told by the gradient's own `cost`, which it lacks")
        return self.step_cost * self.num_steps

    @property
    def oracle_calls(self) -> np.ndarray:
        """(P,) the calls of the objective, of any kind, that one seed spent to reach x_k."""
        return np.asarray(self.record_at, np.int64) * (self.cost.calls // self.num_steps)


jax.tree_util.register_dataclass(
    Trajectory,
    ["record_at", "values", "averages", "x", "opt_state", "compile_seconds", "run_seconds"],
    ["num_steps", "step_cost"],
)

NUM_RECORDS = 24


def record_grid(num_steps: int, record_at: Sequence[int] | np.ndarray | None) -> np.ndarray:
    """Return the iterations to record, checked; by default 0 and a log grid up to `num_steps`."""
    checks.at_least("num_steps", num_steps, 1)
    if record_at is None:
        return np.concatenate([[0], log_grid(num_steps, NUM_RECORDS - 1)])
    grid = np.asarray(record_at)
    if grid.ndim != 1 or grid.size == 0 or not np.issubdtype(grid.dtype, np.integer):
        raise TypeError(f"record_at must be a list of integers, got {record_at!r}")
    if grid[0] < 0 or grid[-1] > num_steps or np.any(np.diff(grid) <= 0):
        raise ValueError(
            f"record_at must increase strictly within 0 and num_steps = {num_steps}, got "
            f"{record_at!r}"
        )
    return grid


def running_mean(mean: Any, value: Any, k: Any) -> Any:
    """Return the mean of k + 1 values, given that of the first k and the last one."""
    return mean + (value.astype(mean.dtype) - mean) / jnp.asarray(k + 1, mean.dtype)
