"""Checkpointed gradients of a chain of dense layers: bytes beside their account, and time.

Run by `python benchmarks/checkpointing.py`. Memory is that of the compiled gradient, beside its
arguments and results; times are medians taken in turn in this process. Targets are asserted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox.internal as eqxi
import jax
import jax.numpy as jnp
from measure import seconds, with_one_malloc
from rich.console import Console
from rich.table import Table

from adlab.checkpointing import Schedule, binomial, checkpointed_scan, every, sqrt, store_all

LAYERS, WIDTH, BATCH = 64, 512, 256
STATE, LAYER, MEBI = 4 * BATCH * WIDTH, 4 * WIDTH**2, 2**20
SCHEDULES: dict[str, Schedule] = {
    "store_all()": store_all(),
    "sqrt()": sqrt(),
    "every(16)": every(16),
    "binomial(32)": binomial(32),
    "binomial(10)": binomial(10),
    "binomial(5)": binomial(5),
}
PLAIN, PEER, BASE = "jax.lax.scan", "jax.checkpoint per layer", "store_all()"
LOOP, SLOTS = "equinox, 10 checkpoints", 10


@dataclass(frozen=True)
class Target:
    """A measured number and the most it may be."""

    what: str
    measured: float
    most: float


def gradient(scan: Callable[..., Any]) -> Callable[..., Any]:
    """Return the value and the gradient of a chain of tanh layers."""

    def loss(weights: Any, x: Any) -> Any:
        return jnp.sum(scan(lambda h, w: (jnp.tanh(h @ w), None), x, weights)[0] ** 2)

    return jax.value_and_grad(loss)


def contestants() -> dict[str, Callable[..., Any]]:
    """Return the gradients by name, the peers first."""

    def remat(body: Any, init: Any, xs: Any) -> Any:
        return jax.lax.scan(jax.checkpoint(body, prevent_cse=False), init, xs)

    def scheduled(schedule: Schedule) -> Callable[..., Any]:
        return lambda body, init, xs: checkpointed_scan(body, init, xs, schedule=schedule)

    def loop(body: Any, init: Any, xs: Any) -> Any:
        return eqxi.scan(body, init, xs, kind="checkpointed", checkpoints=SLOTS)

    found = {PLAIN: gradient(jax.lax.scan), PEER: gradient(remat), LOOP: gradient(loop)}
    return found | {name: gradient(scheduled(s)) for name, s in SCHEDULES.items()}


def account(name: str) -> float | None:
    """Return the bytes of the slots, of four states in turn, and of two copies of a layer."""
    if name not in SCHEDULES:
        return None
    return (SCHEDULES[name].slots(LAYERS) + 4) * STATE + 2 * LAYER


def main() -> int:
    keys = jax.random.split(jax.random.key(0))
    weights = jax.random.normal(keys[0], (LAYERS, WIDTH, WIDTH)) / WIDTH**0.5
    x = jax.random.normal(keys[1], (BATCH, WIDTH))
    programs = {
        name: jax.jit(grad).lower(weights, x).compile() for name, grad in contestants().items()
    }
    sizes = {
        name: program.memory_analysis().temp_size_in_bytes for name, program in programs.items()
    }
    times = seconds({name: lambda p=p: p(weights, x) for name, p in programs.items()})
    table = Table("contestant", "account, MiB", "measured, MiB", "ms", "/ scan", "/ store_all")
    for name, size in sizes.items():
        expected = account(name)
        table.add_row(
            name,
            f"{expected / MEBI:.1f}" if expected else "",
            f"{size / MEBI:.1f}",
            f"{times[name] * 1e3:.0f}",
            f"{times[name] / times[PLAIN]:.2f}",
            f"{times[name] / times[BASE]:.2f}",
        )
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    missed = 0
    for target in targets(sizes, times):
        met = target.measured <= target.most
        missed += not met
        outcome = "met" if met else "MISSED"
        console.print(f"{target.what}: {target.measured:.3g}, at most {target.most:.3g}: {outcome}")
    return int(missed > 0)


def targets(sizes: dict[str, int], times: dict[str, float]) -> list[Target]:
    """Return what must be reached: memory in MiB, ratios of times."""
    base = times[BASE]
    found = [Target("binomial(5), MiB", sizes["binomial(5)"] / MEBI, 7.5)]
    for name, most in [("binomial(5)", 1.6), ("binomial(10)", 1.4), ("sqrt()", 1.35)]:
        found.append(Target(f"{name}, time / store_all", times[name] / base, most))
    # The cheapest schedule that takes no more memory than the peer.
    within = [name for name in SCHEDULES if sizes[name] <= sizes[PEER]]
    fastest = min(within, key=lambda name: times[name])
    found.append(Target(f"{fastest}, time / {PEER}", times[fastest] / times[PEER], 1.05))
    found.append(Target(f"binomial(10), MiB / {LOOP}", sizes["binomial(10)"] / sizes[LOOP], 1.0))
    found.append(Target(f"binomial(10), time / {LOOP}", times["binomial(10)"] / times[LOOP], 1.05))
    accounts = {name: size for name in SCHEDULES if (size := account(name))}
    worst = max(abs(sizes[name] / size - 1) for name, size in accounts.items())
    return [*found, Target("memory / account - 1, worst", worst, 0.15)]


if __name__ == "__main__":
    with_one_malloc()
    sys.exit(main())
