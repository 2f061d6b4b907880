"""Operations, errors and times of every scheme on every program."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab import lab
from adlab.core import flops
from adlab.gradients import GradientFn, finite_difference, forward_mode, reverse_mode
from adlab.lab import timing

from . import symbolic
from .config import Config
from .programs import NAMES, Problem, exact, named, orbit

__all__ = ["CHAOTIC", "PROGRAMS", "SCHEMES", "STEP", "STEPS", "UNIT", "run"]

Arrays = dict[str, np.ndarray]
SCHEMES = (
    "manual", "naive", "expanded", "cse", "kept", "central", "automatic_step", "reverse", "forward",
)  # fmt: skip
CHAOTIC = ("manual", "reverse", "forward", "central")
XLA = ("value", "manual", "reverse", "forward", "central", "automatic_step")
NUMPY = ("value", "manual", "naive", "expanded", "cse", "kept")
PROGRAMS = tuple(f"xla_{name}" for name in XLA) + tuple(f"numpy_{name}" for name in NUMPY)
UNIT = 2.0**-53
STEP = float(np.finfo(float).eps ** (1 / 3))
"""The textbook's step of central differences, for x and f of order one."""
STEPS = 2.0 ** -np.arange(8, 46)
SHORTEST = 2e-3  # seconds below which calls are timed several at a time


def run(config: Config, progress: lab.Progress) -> Arrays:
    """Measure every scheme on every program of every size."""
    symbolic.require()
    data: Arrays = {}
    for name in NAMES:
        sizes, rows = config.sizes(name), []
        for size in sizes:
            rows.append(
                progress.stage(
                    f"{name}_{size}",
                    lambda: _measured(config, name, size, progress),  # noqa: B023
                )
            )
        data |= {f"{name}_{key}": np.stack([row[key] for row in rows]) for key in rows[0]}
        data[f"{name}_sizes"] = np.array(sizes)
    return data


def _measured(config: Config, name: str, size: int, progress: lab.Progress) -> Arrays:
    """Return operations of the value and of each scheme, and errors, of shape (schemes, points)."""
    problem = named(name, config.width)
    x = problem.points(config.seed, size, config.batch)
    started = time.perf_counter()
    gradients = _gradients(problem, size)
    if not (config.automatic_step and size == config.shown(name)):
        del gradients["automatic_step"]
    calls = _compiled(problem, size, gradients, x)
    operations = _counted(problem, size, gradients)
    if size <= config.largest(name):
        expanded = name == "logistic" and size <= config.expanded
        written = symbolic.differentiate(problem, size, expanded)
        operations |= {scheme: found.operations for scheme, found in written.items()}
        calls |= {f"numpy_{scheme}": found.call for scheme, found in written.items()}
    calls["numpy_manual"] = lambda x: problem.manual(list(x), size, np.tanh)
    calls["numpy_value"] = lambda x: problem.value(list(x), size, np.tanh)
    ready = time.perf_counter()
    found = {
        "operations": np.array([operations.get(scheme, np.nan) for scheme in SCHEMES]),
        "value": np.array(operations["value"], dtype=float),
    }
    found |= _errors(problem, size, calls, x, config.points, name == "logistic")
    if size in (config.shown(name), config.largest(name)):
        progress.timing(f"seconds_{name}_{size}", _seconds(calls, x, config.repeats))
    spent = time.perf_counter() - ready
    progress.seconds(f"{name}_{size}", compile=ready - started, run=spent)
    return found


def _value(problem: Problem, size: int) -> Callable[[Any], Any]:
    """Return the program as a function of one vector."""

    def fun(x: Any) -> Any:
        return problem.value(_parts(x), size, jnp.tanh).reshape(())

    return fun


def _parts(x: Any) -> Any:
    return jax.lax.split(x, (1,) * x.shape[0])  # whose transpose is one concatenation


def _gradients(problem: Problem, size: int) -> dict[str, Callable]:
    fun = _value(problem, size)

    def manual(x: Any) -> Any:
        return jnp.concatenate(problem.manual(_parts(x), size, jnp.tanh))

    return {
        "manual": manual,
        "reverse": reverse_mode(fun),
        "forward": forward_mode(fun),
        "central": finite_difference(fun, step=STEP),
        "automatic_step": finite_difference(fun, step="auto"),
    }


def _counted(problem: Problem, size: int, gradients: dict[str, Callable]) -> dict[str, int]:
    """Return operations in the programs as written; differences count their evaluations."""
    like = jax.ShapeDtypeStruct((problem.dim(size),), jnp.float64)
    found = {"value": flops.count(_value(problem, size), like).flops}
    for scheme, gradient in gradients.items():
        evaluations = gradient.cost(like).evaluations if isinstance(gradient, GradientFn) else 0
        counted = evaluations * found["value"] or flops.count(gradient, like).flops
        found[scheme] = counted
    return found


def _compiled(
    problem: Problem, size: int, gradients: dict[str, Callable], x: np.ndarray
) -> dict[str, Callable]:
    """Return value and gradients as compiled programs of points, of shape (dim, count)."""
    fun = _value(problem, size)
    found = {f"xla_{scheme}": _batched(gradient) for scheme, gradient in gradients.items()}
    found["xla_value"] = jax.jit(jax.vmap(fun, 1))

    @jax.jit
    def central(x: Any, step: Any) -> Any:
        return jax.vmap(finite_difference(fun, step=step), 1, 1)(x)

    found["xla_central"] = lambda x, step=STEP: central(x, step)
    for call in found.values():
        jax.block_until_ready(call(x))
    return found


def _batched(gradient: Callable) -> Callable:
    return jax.jit(jax.vmap(gradient, 1, 1))


def _errors(
    problem: Problem, size: int, calls: dict[str, Callable], x: np.ndarray, count: int, chaos: bool
) -> Arrays:
    """Return relative errors against the exact derivative; of the logistic map, more of them."""
    points = x[:, :count]
    truth = exact(problem, size, points)
    estimates = {}
    for scheme in SCHEMES:
        call = calls.get(f"xla_{scheme}", calls.get(f"numpy_{scheme}"))
        if call is not None:
            rows = call(x)
            estimates[scheme] = np.stack([np.broadcast_to(r, x.shape[1:]) for r in rows])[:, :count]
    missing = np.full((problem.dim(size), count), np.nan)
    found = {
        "error": np.stack([_relative(estimates.get(s, missing), truth) for s in SCHEMES]),
    }
    if chaos:
        central = calls["xla_central"]
        swept = [np.asarray(central(x, step))[:, :count] for step in STEPS]
        own = of_rounded_orbit(points[0], size)
        with jax.disable_jit():  # as IEEE has it: compilers contract a * b + c to one rounding
            gradients = _gradients(problem, size)
            stepwise = {s: jax.vmap(gradients[s], 1, 1)(points) for s in CHAOTIC[:-1]}
        estimates |= {s: np.asarray(rows) for s, rows in stepwise.items()}
        found |= {
            "swept": np.stack([_relative(estimate, truth) for estimate in swept]),
            "own": np.stack([_relative(estimates[s], own[None]) for s in CHAOTIC]),
            "bound": rounding_bound(points[0], size),
            "condition": np.abs(exact(problem, size, -points)[0] / truth[0]),
        }
    return found


def _relative(estimate: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return |estimate - truth| / |truth| at each point; NaN where there is no estimate."""
    length = np.linalg.norm(truth, axis=0)
    return np.asarray(np.linalg.norm(estimate - truth, axis=0) / length)


def of_rounded_orbit(x: np.ndarray, steps: int) -> np.ndarray:
    """Return the derivative of l_n along the orbit that float64 follows: prod 4 (1 - 2 l_i)."""
    import mpmath

    with mpmath.workprec(300):
        found = [mpmath.mpf(1)] * len(x)
        for state in orbit(x, steps - 1):
            found = [p * (4 - 8 * mpmath.mpf(float(l))) for p, l in zip(found, state, strict=True)]
        return np.array([float(value) for value in found])


def rounding_bound(x: np.ndarray, steps: int) -> np.ndarray:
    """Return what roundings can do to the derivative along a given orbit, relatively.

    Of d/dl [4 l (1 - l)] = 4 (1 - l) - 4 l, as the product rule has it: 1 - l, both products and
    the difference are rounded, u (2 - l)/|1 - 2l| + u in all, to first order.
    """
    states = np.stack(orbit(x, steps - 1))
    return UNIT * np.sum((2 - states) / np.abs(1 - 2 * states) + 1, axis=0)


def _seconds(calls: dict[str, Callable], x: np.ndarray, repeats: int) -> np.ndarray:
    """Return seconds per call, of shape (programs, repeats), NaN for programs that aren't there."""
    inputs = {"xla": jnp.asarray(x), "numpy": x}
    there = [name for name in PROGRAMS if name in calls]
    bound = [functools.partial(calls[name], inputs[name.partition("_")[0]]) for name in there]
    times = np.full((len(PROGRAMS), repeats), np.nan)
    times[[PROGRAMS.index(name) for name in there]] = timing.in_turn(
        bound, repeats, least=SHORTEST, processor=True
    )
    return times
