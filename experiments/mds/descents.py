"""Descents along gradients and their estimates, from many starts at once; and simplexes."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import optimize

from adlab import lab
from adlab.core import flops
from adlab.gradients import finite_difference, reverse_mode, two_point
from adlab.optimize import minimize
from adlab.problems import effective_dimension, raw_stress, squared_stress

from .config import TARGET, Config

Arrays = dict[str, np.ndarray]
GRADIENTS = {
    "gradient_descent": reverse_mode(squared_stress),
    "finite_difference": finite_difference(squared_stress, step="relative"),
    "two_point": two_point(squared_stress, smoothing="relative"),
    "raw": reverse_mode(raw_stress),
}
SPACING = 10  # iterations of two-point descent from one record to the next


def hessian(points: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Return the Hessian of the squared stress, (N d, N d), in closed form.

    v^T H v = sum_{i,j} 8 ((W_i - W_j).(V_i - V_j))^2 + 4 R_ij |V_i - V_j|^2.
    """
    count, dim = points.shape
    apart = points[:, None] - points[None]
    excess = np.sum(apart**2, axis=-1) - distances**2
    blocks = 16 * apart[..., :, None] * apart[..., None, :]
    blocks += 8 * excess[..., None, None] * np.eye(dim)
    full = -blocks.transpose(0, 2, 1, 3)
    here = np.arange(count)
    full[here, :, here, :] += blocks.sum(axis=1)
    return full.reshape(count * dim, count * dim)


@dataclass(frozen=True)
class Scale:
    """What theory says of steps, at a solution or near one.

    Attributes:
      longest: 1/lambda_max, the step that shortens the gradient's worst direction at once.
      d_eff: the effective dimension.
      slower: how many times shorter a two-point step on the sphere must be, d_eff n/(n + 2).
    """

    longest: float
    d_eff: float
    slower: float


def scale(points: np.ndarray, distances: np.ndarray) -> Scale:
    """Return the scale of steps at points where the loss is small."""
    matrix = hessian(points, distances)
    d_eff = effective_dimension(matrix)
    n = len(matrix)
    return Scale(1 / float(np.linalg.eigvalsh(matrix)[-1]), d_eff, d_eff * n / (n + 2))


def relative(points: Any, distances: Any) -> Any:
    """Return the loss over that of points in one place."""
    return squared_stress(points, distances) / jnp.sum(distances**4)


def _itself(points: Any, distances: Any) -> Any:
    del distances
    return points


def descend(
    gradient: Callable[..., Any], starts: Any, tables: Any, steps: Any, *,
    num_steps: int, every: int, seed: int, progress: lab.Progress, metrics: Any = None,
) -> Arrays:  # fmt: skip
    """Run a descent per start and table, all in one program.

    Returns:
      k (P,), what `metrics` recorded there, by default loss (S, P), and x (S, N, d).
    """
    metrics = tuple((metrics or {"loss": relative}).items())
    keys = jax.random.split(jax.random.key(seed), len(starts))
    args = (gradient, *jax.device_put((starts, tables, steps)), keys)
    started = time.perf_counter()
    lowered = _descents.lower(*args, num_steps=num_steps, every=every, metrics=metrics)
    program = lowered.compile()
    ready = time.perf_counter()
    values, x = jax.block_until_ready(program(*args))
    progress.seconds("descents", compile=ready - started, run=time.perf_counter() - ready)
    recorded = {name: np.asarray(value) for name, value in values.items()}
    return {"k": np.arange(0, num_steps + 1, every), "x": np.asarray(x), **recorded}


@functools.partial(jax.jit, static_argnames=("num_steps", "every", "metrics"))
def _descents(
    gradient: Any, starts: Any, tables: Any, steps: Any, keys: Any, *,
    num_steps: int, every: int, metrics: tuple,
) -> Any:  # fmt: skip
    """Return what was recorded of every descent, and where each ended."""

    def one(x0: Any, table: Any, step: Any, key: Any) -> Any:
        found = minimize(
            gradient, x0, table, optimizer=optax.sgd(step), num_steps=num_steps, key=key,
            record_at=np.arange(0, num_steps + 1, every), metrics=dict(metrics),
        )  # fmt: skip
        return found.values, found.x

    return jax.vmap(one)(starts, tables, steps, keys)


def race(
    config: Config, starts: Any, tables: Any, steps: Any, slower: Any, progress: lab.Progress, *,
    methods: Sequence[str], num_steps: int, metrics: Any = None,
) -> tuple[np.ndarray, np.ndarray, dict[str, Arrays]]:  # fmt: skip
    """Run descents; return calls to the target and last losses, (methods, S), and all else."""
    records, hits = {}, []
    for place, method in enumerate(methods):
        progress.update(place, len(methods), method)
        random = method == "two_point"
        longest = int(np.ceil(num_steps * np.mean(slower) / SPACING)) * SPACING
        records[method] = descend(
            GRADIENTS[method], starts, tables, steps / slower if random else steps,
            num_steps=longest if random else num_steps, every=SPACING if random else 1,
            seed=config.seed, progress=progress, metrics=metrics,
        )  # fmt: skip
        calls = records[method]["k"] * GRADIENTS[method].cost(starts[0], tables[0]).calls
        records[method]["calls"] = calls
        hits.append(first_hit(calls, records[method]["loss"]))
    return np.array(hits), np.array([r["loss"][:, -1] for r in records.values()]), records


def keep_paths() -> dict[str, Callable[..., Any]]:
    """Return metrics that keep the points beside the loss."""
    return {"loss": relative, "path": _itself}


def first_hit(calls: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Return the calls at the first record at which each loss (..., P) is at the target, or NaN."""
    below = losses <= TARGET
    return np.where(below.any(axis=-1), calls[np.argmax(below, axis=-1)], np.nan)


def work(points: np.ndarray) -> tuple[int, int]:
    """Return the operations of one value and of one gradient."""
    shape = jax.ShapeDtypeStruct(points.shape, points.dtype)
    table = jax.ShapeDtypeStruct((len(points), len(points)), points.dtype)
    value = flops.count(squared_stress, shape, table).flops
    gradient = flops.count(GRADIENTS["gradient_descent"], shape, table).flops
    return value, gradient


class _Enough(Exception):
    """Raised in the objective to end SciPy's loop."""


def simplex(
    start: np.ndarray, distances: np.ndarray, *, adaptive: bool, edge: float | None, budget: int,
    keep: np.ndarray | None = None, target: float = TARGET,
) -> Arrays:  # fmt: skip
    """Run SciPy's Nelder & Mead until the relative loss is at the target or the budget is spent.

    Args:
      start: (N, d).
      distances: (N, N).
      adaptive: whether its parameters follow the dimension (Gao & Han 2012,
        doi:10.1007/s10589-010-9329-3).
      edge: of the first simplex, along each axis; None is SciPy's own, 5 % of each coordinate.
      budget: evaluations.
      keep: at which numbers of evaluations the best points so far are kept.
      target: where to stop.

    Returns:
      evaluations, the best loss after each (evaluations,), and paths (len(keep), N, d).
    """
    squares, total = distances**2, float(np.sum(distances**4))
    losses: list[float] = []
    paths: list[np.ndarray] = []
    lowest, best = np.inf, start

    def value(flat: np.ndarray) -> float:
        nonlocal lowest, best
        points = flat.reshape(start.shape)
        lengths = np.sum(points**2, axis=1)
        gram = points @ points.T
        excess = lengths[:, None] + lengths - 2 * gram - squares
        loss = float(np.vdot(excess, excess)) / total
        if loss < lowest:
            lowest, best = loss, points.copy()
        losses.append(lowest)
        if keep is not None and len(paths) < len(keep) and len(losses) >= keep[len(paths)]:
            paths.append(best)
        if loss <= target or len(losses) >= budget:
            raise _Enough
        return loss

    flat = np.ravel(start)
    options: dict[str, Any] = {"adaptive": adaptive, "xatol": 0.0, "fatol": 0.0}
    options |= {"maxfev": 2 * budget, "maxiter": 2 * budget}
    if edge is not None:
        options["initial_simplex"] = np.concatenate([flat[None], flat + edge * np.eye(flat.size)])
    with contextlib.suppress(_Enough):
        optimize.minimize(value, flat, method="Nelder-Mead", options=options)
    paths += [best] * (0 if keep is None else len(keep) - len(paths))
    return {"loss": np.array(losses), "path": np.array(paths)}
