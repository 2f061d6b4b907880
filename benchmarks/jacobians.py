"""Jacobians: "auto" beside both modes, elimination where a function narrows, sparse beside dense.

Run by `make bench`. Every figure is a ratio of two medians taken in turn in this process; the
targets are asserted, so that a change which slows a mode down makes this fail.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measure import Target, report, seconds, with_one_malloc

from adlab.jacobians import jacobian, jacobian_costs

Rows = list[tuple[str, str, float]]
Found = tuple[Rows, list[Target]]
RATIOS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
INPUTS = 100
SWEEPS = ("forward", "reverse")


def normal(seed: int, *shape: int) -> Any:
    return jax.random.normal(jax.random.key(seed), shape, jnp.float32) / np.sqrt(shape[-1])


def timed(
    modes: Sequence[str], fun: Callable, *args: Any, over: Callable = lambda j: j
) -> dict[str, float]:
    """Return the seconds of the compiled Jacobian in each mode, `over` being applied to it."""
    programs = {mode: jax.jit(over(jacobian(fun, mode=mode))) for mode in modes}
    return seconds({
        mode: lambda program=program: program(*args) for mode, program in programs.items()
    })  # fmt: skip


def over_ratios() -> Found:
    """Time "auto" from 1 to 30,000 outputs: of A x, and of a network where no mode is free."""
    rows: Rows = []
    targets: list[Target] = []
    for ratio in RATIOS:
        m = int(ratio * INPUTS)
        x, a, b = normal(0, INPUTS), normal(1, m, INPUTS), normal(2, INPUTS, INPUTS)
        cases = {"A x": (lambda x, a: a @ x, (x, a))}
        if m <= 3000:
            cases["tanh(A tanh(B x))"] = (lambda x, a, b: jnp.tanh(a @ jnp.tanh(b @ x)), (x, a, b))
        for name, (fun, args) in cases.items():
            best = jacobian_costs(fun, *args).best
            where = f"{name}, m/n = {ratio:g} ({best})"
            times = timed(("auto", *SWEEPS), fun, *args)
            rows += [(where, mode, value) for mode, value in times.items()]
            share = times["auto"] / min(times[mode] for mode in SWEEPS)
            targets.append(Target(f"{where}: auto / better mode", share, 1.1))
    return rows, targets


def hourglass(x: Any, *matrices: Any) -> Any:
    for a in matrices:
        x = jnp.tanh(a @ x)
    return x


def arm(angles: Any) -> Any:
    """Return place and direction of the hand of an arm whose six joints turn about two axes."""
    turn, place = jnp.eye(3, dtype=angles.dtype), jnp.zeros(3, angles.dtype)
    for k in range(6):
        c, s = jnp.cos(angles[k]), jnp.sin(angles[k])
        zero, one = jnp.zeros_like(c), jnp.ones_like(c)
        rows = ((c, -s, zero), (s, c, zero), (zero, zero, one))
        if k % 2:
            rows = ((one, zero, zero), (zero, c, -s), (zero, s, c))
        turn = turn @ jnp.stack([jnp.stack(row) for row in rows])
        place = place + turn @ jnp.asarray([0.3, 0.1 * k, 0.2], angles.dtype)
    return place, turn[:, 2]


def roe_flux(states: Any) -> Any:
    """Return Roe's flux of the one-dimensional Euler equations between two states, of shape (6,).

    Source: Roe (1981), doi:10.1016/0021-9991(81)90128-5.
    """
    gamma, left, right = 1.4, states[:3], states[3:]

    def split(u: Any) -> tuple[Any, ...]:
        density, speed = u[0], u[1] / u[0]
        pressure = (gamma - 1) * (u[2] - 0.5 * density * speed**2)
        flux = jnp.stack([u[1], u[1] * speed + pressure, (u[2] + pressure) * speed])
        return jnp.sqrt(density), speed, (u[2] + pressure) / density, flux

    (root, u, h, flux), (other, v, k, further) = split(left), split(right)
    total = root + other
    speed, enthalpy = (root * u + other * v) / total, (root * h + other * k) / total
    sound = jnp.sqrt((gamma - 1) * (enthalpy - 0.5 * speed**2))
    jump = right - left
    second = (gamma - 1) / sound**2 * (
        jump[0] * (enthalpy - speed**2) + speed * jump[1] - jump[2]
    )  # fmt: skip
    first = (jump[0] * (speed + sound) - jump[1] - sound * second) / (2 * sound)
    third = jump[0] - first - second
    waves = (
        (first, speed - sound, (1.0, speed - sound, enthalpy - speed * sound)),
        (second, speed, (1.0, speed, 0.5 * speed**2)),
        (third, speed + sound, (1.0, speed + sound, enthalpy + speed * sound)),
    )
    spread = sum(a * jnp.abs(w) * jnp.stack([jnp.ones_like(w), *r[1:]]) for a, w, r in waves)
    return 0.5 * (flux + further) - 0.5 * spread


def narrow() -> Found:
    """Time elimination beside both modes: on an hourglass, a robot's arm, and a flux."""
    widths = (100, 200, 1, 200, 100)
    matrices = [normal(k, b, a) for k, (a, b) in enumerate(pairwise(widths))]
    state = jnp.array([1.0, 0.1, 2.5, 0.9, 0.2, 2.0])
    cases = {
        "hourglass": (hourglass, (normal(9, 100), *matrices), lambda j: j),
        "robot arm": (arm, (jnp.linspace(0.1, 1.0, 6),), lambda j: j),
        "1,000 robot arms": (arm, (normal(3, 1000, 6),), jax.vmap),
        "Roe flux": (roe_flux, (state,), lambda j: j),
        "1,000 Roe fluxes": (roe_flux, (jnp.tile(state, (1000, 1)),), jax.vmap),
    }
    rows: Rows = []
    targets: list[Target] = []
    for name, (fun, args, over) in cases.items():
        times = timed(("auto", "mixed", *SWEEPS), fun, *args, over=over)
        rows += [(name, mode, value) for mode, value in times.items()]
        better = min(times[mode] for mode in SWEEPS)
        targets.append(Target(f"{name}: auto / better mode", times["auto"] / better, 1.1))
        if name == "hourglass":
            targets.append(Target(f"{name}: mixed / better mode", times["mixed"] / better, 1 / 2))
    return rows, targets


def banded(x: Any) -> Any:
    return jnp.sin(x[1:-1]) * x[2:] - x[:-2] ** 2


def sparse(n: int = 10_000) -> Found:
    """Time a tridiagonal Jacobian beside three products at once, which no method can undercut."""
    x = jnp.linspace(0.0, 1.0, n)
    seeds = jnp.stack([(jnp.arange(n) % 3 == k).astype(x.dtype) for k in range(3)])
    bound = jax.jit(lambda x, seeds: jax.vmap(lambda t: jax.jvp(banded, (x,), (t,))[1])(seeds))
    compressed = jax.jit(jacobian(banded, mode="sparse"))
    dense = jax.jit(jacobian(banded, mode="forward"))
    started = time.perf_counter()
    jax.block_until_ready(compressed(x).data)
    first = time.perf_counter() - started
    times = seconds({
        "three products": lambda: bound(x, seeds),
        "sparse": lambda: compressed(x).data,
    })  # fmt: skip
    times |= seconds({"dense": lambda: dense(x)}, repeats=3)
    where = f"tridiagonal, n = {n:,}"
    rows = [(where, name, value) for name, value in times.items()]
    targets = [
        Target(f"{where}: sparse / three products", times["sparse"] / times["three products"], 2),
        Target(f"{where}: sparse / dense", times["sparse"] / times["dense"], 1 / 100),
    ]
    return [*rows, (where, "sparse, the first call: pattern and colours", first)], targets


def main() -> int:
    """Run all benchmarks and print their tables."""
    rows: Rows = []
    targets: list[Target] = []
    for section in (over_ratios, narrow, sparse):
        found = section()
        rows, targets = rows + found[0], targets + found[1]
    return report(rows, targets)


if __name__ == "__main__":
    with_one_malloc()
    sys.exit(main())
