"""Gradient estimators beside their peers: descent along two-point estimates, finite differences.

Run by `make bench`. Every figure is a ratio of two medians taken in turn in this process; the
targets are asserted, so that a change which slows an estimator down makes this fail.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numdifftools
import numpy as np
import optax
from evosax.algorithms import Open_ES
from measure import Target, report, seconds, with_one_malloc
from scipy import differentiate, optimize

from adlab.gradients import finite_difference, two_point

Run = Callable[[], Any]
Rows = list[tuple[str, str, float]]
SMOOTHING, STEP = 1e-2, 1e-4
LAWS = ("rademacher", "gaussian", "sphere")


def descent(dim: int, num_steps: int) -> tuple[Rows, list[Target]]:
    """Time an iteration of random descent on a quadratic in float32."""
    spectrum = jnp.asarray(np.geomspace(0.1, 1, dim), jnp.float32)

    def fun(x: Any) -> Any:
        return 0.5 * jnp.vdot(spectrum, x * x)

    x0, key = jnp.ones(dim, jnp.float32), jax.random.key(0)
    runs = {"two evaluations": _limit(fun, dim), "random words": _random_words(dim)}
    for law in LAWS:
        g = two_point(fun, law=law, smoothing=SMOOTHING)
        runs[f"two_point, {law}"] = lambda x, key, g=g: x - STEP * g(x, key=key)
        runs[f"plain scan, {law}"] = _plain(fun, law, dim)
    contestants = {name: _scanned(step, x0, key, num_steps) for name, step in runs.items()}
    contestants["evosax Open_ES"] = _evosax(fun, x0, key, num_steps)
    contestants["NumPy loop"] = _numpy_loop(np.asarray(spectrum), num_steps)
    times = {name: value / num_steps for name, value in seconds(contestants).items()}
    where = f"descent, n = {dim}"
    return [(where, name, value) for name, value in times.items()], _targets(where, times, dim)


def _targets(where: str, times: dict[str, float], dim: int) -> list[Target]:
    limit, rademacher = times["two evaluations"], times["two_point, rademacher"]
    # Above a plain scan stands the price of dividing by the distance that x really went.
    found = [
        Target(
            f"{where}: {law} / plain scan",
            times[f"two_point, {law}"] / times[f"plain scan, {law}"],
            1.25,
        )
        for law in ("gaussian", "sphere")
    ]
    found.append(
        Target(f"{where}: Rademacher / NumPy loop", rademacher / times["NumPy loop"], 1 / 4)
    )
    over_evosax = rademacher / times["evosax Open_ES"]
    if dim > 1000:
        found.append(Target(f"{where}: Rademacher / two evaluations", rademacher / limit, 4))
        return [*found, Target(f"{where}: Rademacher / evosax", over_evosax, 1 / 4)]
    # Here jax.random takes longer for four words than two evaluations take four times over.
    both = rademacher / (limit + times["random words"])
    found.append(Target(f"{where}: Rademacher / (two evaluations + random words)", both, 1.3))
    return [*found, Target(f"{where}: Rademacher / evosax", over_evosax, 1 / 2)]


def _scanned(step: Callable, x0: Any, key: Any, num_steps: int) -> Run:
    @jax.jit
    def program(x: Any, key: Any) -> Any:
        keys = jax.random.split(key, num_steps)
        return jax.lax.scan(lambda x, key: (step(x, key), None), x, keys)[0]

    return lambda: program(x0, key)


def _limit(fun: Callable, dim: int) -> Callable:
    """Evaluate twice along a direction that is there already."""
    shift = SMOOTHING * jax.random.rademacher(jax.random.key(1), (dim,), jnp.float32)
    return lambda x, _: x - STEP * (fun(x + shift) - fun(x - shift)) * shift


def _random_words(dim: int) -> Callable:
    """Draw what random signs are made of, and nothing else."""
    words = -(-dim // 32)

    def step(x: Any, key: Any) -> Any:
        return x + jax.random.bits(key, (words,), jnp.uint32).sum().astype(x.dtype)

    return step


def _plain(fun: Callable, law: str, dim: int) -> Callable:
    """Write the estimator out by hand, as one would in a script."""

    def direction(key: Any) -> Any:
        if law == "rademacher":
            return jax.random.rademacher(key, (dim,), jnp.float32)
        z = jax.random.normal(key, (dim,), jnp.float32)
        return z if law == "gaussian" else z * jnp.sqrt(dim / jnp.vdot(z, z))

    def advance(x: Any, key: Any) -> Any:
        u = direction(key)
        slope = (fun(x + SMOOTHING * u) - fun(x - SMOOTHING * u)) / (2 * SMOOTHING)
        return x - STEP * slope * u

    return advance


def _evosax(fun: Callable, x0: Any, key: Any, num_steps: int) -> Run:
    strategy = Open_ES(
        population_size=2, solution=x0, optimizer=optax.sgd(STEP),
        std_schedule=optax.constant_schedule(SMOOTHING),
        fitness_shaping_fn=lambda _, fitness, *__: fitness,
        metrics_fn=lambda *_: {},
    )  # fmt: skip
    params = strategy.default_params

    def advance(state: Any, key: Any) -> Any:
        ask, tell = jax.random.split(key)
        population, state = strategy.ask(ask, state, params)
        state, _ = strategy.tell(tell, population, jax.vmap(fun)(population), state, params)
        return state, None

    @jax.jit
    def program(x: Any, key: Any) -> Any:
        state = strategy.init(key, x, params)
        return jax.lax.scan(advance, state, jax.random.split(key, num_steps))[0].mean

    return lambda: program(x0, key)


def _numpy_loop(spectrum: np.ndarray, num_steps: int) -> Run:
    rng = np.random.default_rng(0)

    def fun(x: np.ndarray) -> Any:
        return 0.5 * np.dot(spectrum, x * x)

    def run() -> np.ndarray:
        x = np.ones(len(spectrum), np.float32)
        for _ in range(num_steps):
            u = rng.standard_normal(len(x), dtype=np.float32)
            slope = (fun(x + SMOOTHING * u) - fun(x - SMOOTHING * u)) / (2 * SMOOTHING)
            x = x - STEP * slope * u
        return x

    return run


def rosenbrock(x: Any) -> Any:
    """Return the chained Rosenbrock function; the coordinates lie on the first axis."""
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum(axis=0)


def differences(dim: int) -> tuple[Rows, list[Target]]:
    """Time a central-difference gradient of the Rosenbrock function in float64."""
    x = np.random.default_rng(0).normal(size=dim)
    compiled = jax.jit(rosenbrock)

    def host(x: Any) -> float:
        return float(compiled(x))

    def chunked(chunk_size: Any, step: Any = "relative") -> Run:
        program = jax.jit(finite_difference(rosenbrock, step=step, chunk_size=chunk_size))
        return lambda: program(x)

    runs = {f"chunk_size={c}": chunked(c) for c in ("auto", 1, 2, 4, 8, 16)}
    best = seconds(runs, repeats=7)
    # The peers' steps are relative; numdifftools and scipy.differentiate try several.
    runs = {"adlab": chunked("auto"), "approx_fprime": lambda: optimize.approx_fprime(x, host)}
    runs["measured step"] = chunked("auto", "auto")
    if dim <= 1000:
        central = numdifftools.Gradient(host, method="central")
        runs["numdifftools"] = lambda: central(x)
        runs["scipy.differentiate"] = lambda: differentiate.jacobian(compiled, x).df
    times = seconds(runs, repeats=5 if dim <= 1000 else 3)
    where = f"differences, n = {dim}"
    targets = [
        Target(f"{where}: adlab / {name}", times["adlab"] / value, most)
        for name, value in times.items()
        if name not in ("adlab", "measured step")
        for most in [1 / 1.5 if dim > 1000 else 1 / 7]
    ]
    ratio = times["measured step"] / times["approx_fprime"]
    most = 1 / 1.5 if dim > 1000 else 1 / 7
    targets.append(Target(f"{where}: measured step / approx_fprime", ratio, most))
    chosen = best["chunk_size=auto"] / min(best.values())
    targets.append(Target(f"{where}: auto chunk / best chunk", chosen, 1.3))
    memory = jax.jit(finite_difference(rosenbrock)).lower(x).compile().memory_analysis()
    mebibytes = memory.temp_size_in_bytes / 2**20
    targets.append(Target(f"{where}: temporary MiB / 16 MiB", mebibytes / 16, 1))
    return [(where, name, value) for name, value in (best | times).items()], targets


def main() -> int:
    """Run all benchmarks and print their tables."""
    rows: Rows = []
    targets: list[Target] = []
    for dim, num_steps in ((100, 20_000), (10_000, 1000)):
        found = descent(dim, num_steps)
        rows, targets = rows + found[0], targets + found[1]
    with jax.enable_x64(True):
        for dim in (10, 100, 1000, 10_000):
            found = differences(dim)
            rows, targets = rows + found[0], targets + found[1]
    return report(rows, targets)


if __name__ == "__main__":
    with_one_malloc()
    sys.exit(main())
