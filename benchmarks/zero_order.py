"""Zero-order descent: its time over two evaluations, its memory over that of inference.

Run by `make bench`. Small problems in a compiled loop, with the words of twenty iterations drawn
beforehand as `minimize` does; a GPT-2 of 10 M parameters at 8 x 128 tokens, one step at a time;
compiled temporaries of 24 layers of 512 x 512; and the resident memory of fresh processes, with a
step of 24 layers of 1024 x 1024 and with inference alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from measure import Target, report, seconds, with_one_malloc

from adlab.gradients import GradientFn, two_point
from adlab.lab import fresh
from adlab.models import cross_entropy, gpt2
from adlab.optimize import zero_order_step

Rows = list[tuple[str, str, float]]
SMOOTHING, STEP, TOGETHER = 1e-2, 1e-4, 20
LAYERS, WIDTH = 24, 512


def small(dim: int, num_steps: int) -> tuple[Rows, list[Target]]:
    """Time an iteration of random descent on a quadratic in float32, its words drawn beforehand."""
    spectrum = np.geomspace(0.1, 1, dim).astype(np.float32)
    x0, keys = jnp.ones(dim, jnp.float32), jax.random.split(jax.random.key(0), num_steps)

    def fun(x: Any) -> Any:
        return 0.5 * jnp.vdot(spectrum, x * x)

    shift = SMOOTHING * jax.random.rademacher(jax.random.key(1), (dim,), jnp.float32)
    contestants = {"two evaluations": _limit(fun, shift, x0, num_steps)}
    for law in ("rademacher", "gaussian", "sphere", "coordinate"):
        contestants[law] = _descent(two_point(fun, law=law, smoothing=SMOOTHING), x0, keys)
    contestants["NumPy loop"] = _numpy_loop(spectrum, num_steps)
    times = {name: value / num_steps for name, value in seconds(contestants).items()}
    where, limit = f"n = {dim}", times["two evaluations"]
    targets = [Target(f"{where}: Rademacher / two evaluations", times["rademacher"] / limit, 2)]
    if dim > 1000:
        ratio = times["gaussian"] / times["NumPy loop"]
        targets.append(Target(f"{where}: Gaussian / NumPy loop", ratio, 0.8))
    return [(where, name, value) for name, value in times.items()], targets


def _descent(g: GradientFn, x0: Any, keys: Any) -> Callable[[], Any]:
    @jax.jit
    def program(x: Any, keys: Any) -> Any:
        def several(x: Any, keys: Any) -> Any:
            words = g.prepare(x, key=keys)
            return jax.lax.scan(lambda x, one: (x - STEP * g(x, key=one), None), x, words)[0], None

        return jax.lax.scan(several, x, keys.reshape(-1, TOGETHER))[0]

    return lambda: program(x0, keys)


def _limit(fun: Callable[[Any], Any], shift: Any, x0: Any, num_steps: int) -> Callable[[], Any]:
    """Evaluate twice along a direction that is there already."""

    def step(x: Any, _: None) -> Any:
        return x - STEP * (fun(x + shift) - fun(x - shift)) * shift, None

    program = jax.jit(lambda x: jax.lax.scan(step, x, None, length=num_steps)[0])
    return lambda: program(x0)


def _numpy_loop(spectrum: np.ndarray, num_steps: int) -> Callable[[], Any]:
    def fun(x: np.ndarray) -> Any:
        return 0.5 * np.vdot(spectrum, x * x)

    def run() -> Any:
        generator, x = np.random.default_rng(0), np.ones(len(spectrum), np.float32)
        for _ in range(num_steps):
            u = generator.standard_normal(len(x), dtype=np.float32)
            rise = fun(x + SMOOTHING * u) - fun(x - SMOOTHING * u)
            x = x - STEP * rise / (2 * SMOOTHING) * u
        return x

    return run


def transformer() -> tuple[Rows, list[Target]]:
    """Time a step of a GPT-2 of 10 M parameters at 8 x 128 tokens over two evaluations of it."""
    model = gpt2(layers=6, heads=6, width=348, vocabulary=4096, context=128)
    params = model.init(jax.random.key(0))
    tokens = jax.random.randint(jax.random.key(1), (8, 129), 0, 4096)

    def loss(params: Any, tokens: Any) -> Any:
        return cross_entropy(model.apply(params, tokens[:, :-1]), tokens[:, 1:])

    evaluate = jax.jit(loss)
    step = zero_order_step(two_point(loss, law="rademacher", smoothing=1e-3), 1e-6)
    held = jax.tree.map(jnp.array, params)

    def stepped() -> Any:
        nonlocal held
        held, _ = step(held, None, tokens, key=jax.random.key(2))
        return held

    runs = {"one evaluation": lambda: evaluate(params, tokens), "step": stepped}
    times = seconds(runs, repeats=5)
    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    where = f"GPT-2 of {size / 1e6:.1f} M, 8 x 128 tokens"
    ratio = times["step"] / (2 * times["one evaluation"])
    rows = [(where, name, value) for name, value in times.items()]
    return rows, [Target(f"{where}: step / two evaluations", ratio, 1.3)]


def network(weights: Any, inputs: Any) -> Any:
    """Return a scalar of a network whose layers are one array."""

    def layer(h: Any, w: Any) -> tuple[Any, None]:
        return jnp.tanh(h @ w), None

    return jnp.mean(jax.lax.scan(layer, inputs, weights)[0].astype(jnp.float32) ** 2)


def memory() -> list[Target]:
    """Compare compiled temporaries with inference's own, over the bytes of the parameters."""
    targets, key = [], jax.random.key(0)
    for name in ("float32", "bfloat16"):
        weights = jax.ShapeDtypeStruct((LAYERS, WIDTH, WIDTH), name)
        inputs = jax.ShapeDtypeStruct((8, WIDTH), name)
        own = _temporaries(jax.jit(network).lower(weights, inputs))
        whole = weights.size * weights.dtype.itemsize
        for law in ("rademacher", "gaussian", "sphere", "coordinate"):
            for num_probes in (1, 4):
                g = two_point(network, law=law, num_probes=num_probes, smoothing=1e-3)
                lowered = jax.jit(lambda w, x, key, g=g: g(w, x, key=key)).lower(
                    weights, inputs, key
                )
                share = (_temporaries(lowered) - own) / whole
                targets.append(Target(f"memory, {name}, {law} x {num_probes}", share, 1.2))
            for in_place, most in ((False, 1.2), (True, 0.2)):
                step = zero_order_step(g, 1e-3, in_place=in_place)
                share = _temporaries(step.lower(weights, None, inputs, key=key)) - own  # type: ignore[attr-defined]
                place = "in place" if in_place else "step"
                targets.append(Target(f"memory, {name}, {law} x 4, {place}", share / whole, most))
    return targets


def _temporaries(lowered: Any) -> int:
    return int(lowered.compile().memory_analysis().temp_size_in_bytes)


def prepared(what: str) -> Callable[[], Any]:
    """Return a step, or an inference, of a network of 96 MiB, compiled, with all that it needs."""
    weights = jnp.full((LAYERS, 2 * WIDTH, 2 * WIDTH), 1e-3, jnp.float32)
    inputs, key = jnp.ones((8, 2 * WIDTH), jnp.float32), jax.random.key(0)
    if what == "inference":
        program = jax.jit(network).lower(weights, inputs).compile()
        return lambda: jax.block_until_ready(program(weights, inputs))
    g = two_point(network, law="rademacher", smoothing=1e-3)
    step = zero_order_step(g, 1e-3, in_place=what == "in place")
    program = step.lower(weights, None, inputs, key=key).compile()  # type: ignore[attr-defined]
    return lambda: jax.block_until_ready(program(weights, None, inputs, key=key))


def residents() -> list[Target]:
    """Compare peaks of fresh processes, beyond the arguments, over the bytes of the parameters."""
    peaks = {}
    for name in ("inference", "step", "in place"):
        found = fresh.peak(__file__, "prepared", {"what": name})
        if isinstance(found, str):
            raise SystemExit(f"no peak of {name}: {found}")
        peaks[name] = found.peak_bytes
    whole = LAYERS * (2 * WIDTH) ** 2 * 4
    return [
        Target(
            f"resident, {name}, beyond inference", (peaks[name] - peaks["inference"]) / whole, most
        )
        for name, most in (("step", 1.2), ("in place", 0.2))
    ]


def main() -> int:
    with_one_malloc()
    rows: Rows = []
    targets: list[Target] = []
    for found, asked in (small(100, 2000), small(10_000, 400), transformer()):
        rows += found
        targets += asked
    return report(rows, targets + memory() + residents())


if __name__ == "__main__":
    sys.exit(main())
