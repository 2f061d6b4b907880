"""Teaches a GPT a language, adapts it to another, and measures what foretells how fast."""

from __future__ import annotations

import functools
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adlab import curvature, gradients, lab, optimize
from adlab.core import flops, trees

from . import languages, subspaces, theory
from .config import Config, Subspace
from .descents import ADAM, PLAIN, Task, descend, reverse, two_point

Arrays = dict[str, np.ndarray]
CHUNK = 8  # two-point iterations between looks
ADAM_CHUNK = 10
LONGEST = 2.5  # times the foretold length: a two-point descent isn't followed further


def run(config: Config, progress: lab.Progress) -> Arrays:
    """Pretrain, adapt, compare descents with what curvature foretells, and count the cost."""
    learned = progress.stage("pretraining", lambda: _pretraining(config, progress))
    params = _params(learned, config)
    data = {name: array for name, array in learned.items() if not name.startswith("leaf_")}
    data["dim"] = np.array(trees.size(params))
    for kind in dict.fromkeys(config.subspaces):
        parts = (kind, params, config, progress)
        found = progress.stage(f"slowdown {kind}", functools.partial(_slowdown, *parts))
        adapt = functools.partial(_adaptation, found, *parts)
        data |= found | progress.stage(f"adaptation {kind}", adapt)
    data |= progress.stage("adam", lambda: _adam(params, config, progress))
    data |= progress.stage("control", lambda: _control(int(data["dim"]), config, progress))
    return data | progress.stage("account", lambda: _account(params, config))


def _rng(config: Config, part: int) -> np.random.Generator:
    return np.random.default_rng([config.seed, 2, part])


def _texts(config: Config, which: languages.Which, number: int, part: int) -> np.ndarray:
    """Return sequences (number, s + 1) of a language."""
    law = languages.law(config, which)
    return languages.sample(law, (number, config.sequence + 1), _rng(config, part))


def _task(kind: Subspace, params: Any, which: languages.Which, config: Config, seeds: int) -> Task:
    """Return the task of adapting to a language on new batches, told on texts kept for that."""
    z, held = subspaces.split(kind, params, config)
    law, rng = languages.law(config, which), _rng(config, 3)

    def batches(start: int, stop: int) -> np.ndarray:
        shape = (seeds, stop - start, config.batch_size, config.sequence + 1)
        return languages.sample(law, shape, rng)

    corpus, held_out = _texts(config, which, config.batch_size, 4), _held_out(config, which)
    return Task(kind, z, held, batches, corpus, held_out, law)


def _held_out(config: Config, which: languages.Which) -> np.ndarray:
    return _texts(config, which, config.held_out, 5)


def _params(learned: Arrays, config: Config) -> Any:
    shapes = jax.eval_shape(subspaces.model(config).init, jax.random.key(0))
    leaves = [jnp.asarray(learned[f"leaf_{i}"]) for i in range(len(jax.tree.leaves(shapes)))]
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)


def _falling(first: float, number: int) -> np.ndarray:
    """Return steps that fall to 0 along a line."""
    return first * (1 - np.arange(number) / number)


def _pretraining(config: Config, progress: lab.Progress) -> Arrays:
    network = subspaces.model(config)
    params = network.init(jax.random.key(config.seed))
    steps = _falling(config.learning_rate, config.pretraining)
    task = _task("all", params, "first", config, 1)
    course = descend(
        reverse("all", config), ADAM, task, steps, 1, ADAM_CHUNK, config, progress
    )  # fmt: skip
    params = jax.tree.map(lambda leaf: np.asarray(leaf[0]), course.last)
    losses = _losses(params, task.held_out, network=network)
    leaves = {f"leaf_{i}": leaf for i, leaf in enumerate(jax.tree.leaves(params))}
    return leaves | {
        "pretraining_k": course.k, "pretraining_gaps": course.gaps[0],
        "held_out_losses": np.asarray(losses),
    }  # fmt: skip


@functools.partial(jax.jit, static_argnames="network")
def _losses(params: Any, tokens: Any, *, network: Any) -> jax.Array:
    """Return the mean loss of every sequence."""
    fun = subspaces.loss("all", network)
    return jax.vmap(lambda one: fun(params, {}, one))(tokens)


def _slowdown(kind: Subspace, params: Any, config: Config, progress: lab.Progress) -> Arrays:
    """Measure the curvature at the start, and run both descents on one batch."""
    task = _task(kind, params, "second", config, config.num_seeds)
    fun = subspaces.loss(kind, subspaces.model(config))
    hessian = curvature.Hessian(fun, task.z, task.held, task.corpus)
    key, number = jax.random.key(config.seed), config.num_matvecs
    started = time.perf_counter()
    traced = curvature.trace(
        hessian, key=key, num_matvecs=number, estimator="hutch++", chunk_size=1
    )
    found = curvature.eigenpairs(
        hessian, key=key, which="largest", num_matvecs=min(number, trees.size(task.z)), rtol=0.01
    )
    progress.seconds("curvature", run=time.perf_counter() - started)
    trace, largest = float(traced.value), float(found.values[0])
    factor = theory.effective_dimension(trace, largest)
    step = config.fraction / largest

    def again(seeds: int) -> Task:
        def same(start: int, stop: int) -> np.ndarray:
            return np.broadcast_to(task.corpus, (seeds, stop - start, *task.corpus.shape))

        return task._replace(batches=same)

    exact = descend(
        reverse(kind, config), PLAIN, again(1), np.full(config.gd_steps, step), 1, 1, config,
        progress,
    )  # fmt: skip
    count = int(LONGEST * config.gd_steps * max(factor, 1))
    seeds = config.num_seeds
    course = descend(
        two_point(kind, config), PLAIN, again(seeds), np.full(count, step / factor), seeds, CHUNK,
        config, progress,
    )  # fmt: skip
    return {
        f"{kind}_size": np.array(trees.size(task.z)), f"{kind}_trace": np.array(trace),
        f"{kind}_trace_error": np.array(float(traced.standard_error)),
        f"{kind}_largest": np.array(largest), f"{kind}_residual": np.asarray(found.residuals)[0],
        f"{kind}_gd_k": exact.k, f"{kind}_gd": exact.losses[0],
        f"{kind}_k": course.k, f"{kind}_losses": course.losses,
    }  # fmt: skip


def _adaptation(
    found: Arrays, kind: Subspace, params: Any, config: Config, progress: lab.Progress
) -> Arrays:
    """Adapt by two-point estimates on new batches; the step falls to 0."""
    trace, largest = (float(found[f"{kind}_{name}"]) for name in ("trace", "largest"))
    step = config.adaptation_fraction / (trace + 2 * largest)
    task = _task(kind, params, "second", config, config.num_seeds)
    steps = _falling(step, config.adaptation)
    course = descend(
        two_point(kind, config), PLAIN, task, steps, config.num_seeds, CHUNK, config, progress
    )
    return {f"{kind}_adapted_k": course.k, f"{kind}_gaps": course.gaps}


def _adam(params: Any, config: Config, progress: lab.Progress) -> Arrays:
    """Adapt all weights by Adam on true gradients."""
    task = _task("all", params, "second", config, 1)
    steps = _falling(config.learning_rate / 3, config.adam_steps)
    course = descend(
        reverse("all", config), ADAM, task, steps, 1, ADAM_CHUNK, config, progress
    )  # fmt: skip
    return {"adam_k": course.k, "adam_gaps": course.gaps[0]}


def _half_square(x: jax.Array) -> jax.Array:
    return jnp.vdot(x, x) / 2


@functools.cache
def _sgd(step: float) -> Any:
    return optax.sgd(step)


def _control(dim: int, config: Config, progress: lab.Progress) -> Arrays:
    """Descend on an isotropic quadratic of as many unknowns, from a point at the distance 1."""
    start = np.random.default_rng([config.seed, 6]).normal(size=dim)
    x0 = jnp.asarray(start / np.linalg.norm(start), np.float32)
    gradient = gradients.two_point(_half_square, law="rademacher", smoothing=config.smoothing)
    found = optimize.minimize(
        gradient, x0, optimizer=_sgd(theory.CONTROL / (dim + 2)),
        num_steps=config.control_steps, record_at=[0, config.control_steps],
        key=jax.random.key(config.seed), num_seeds=config.num_seeds,
    )  # fmt: skip
    progress.seconds("control", compile=found.compile_seconds, run=found.run_seconds)
    return {"control_losses": np.asarray(found.values["value"])}


def _account(params: Any, config: Config) -> Arrays:
    """Count temporary bytes of one compiled step, and operations, of the loss of all weights."""
    fun = subspaces.loss("all", subspaces.model(config))
    shape = (config.batch_size, config.sequence + 1)
    tokens = jax.ShapeDtypeStruct(shape, np.int32)
    price = flops.prices(fun, params, {}, tokens)
    steps = (fun, two_point("all", config), reverse("all", config))
    key = jax.random.key(config.seed)
    programs = [
        jax.jit(lambda z, x, key, way=way: way(z, {}, x) if way is fun else way(z, {}, x, key=key))
        for way in steps
    ]
    temporaries = [_temporary(program, params, tokens, key) for program in programs]
    return {
        "temporaries": np.array(temporaries, float),
        "weight_bytes": np.array(sum(leaf.nbytes for leaf in jax.tree.leaves(params)), float),
        "price": np.array(price.vjp), "operations": np.array(float(price.value)),
    }  # fmt: skip


def _temporary(program: Any, *args: Any) -> float:
    account = program.lower(*args).compile().memory_analysis()
    return float("nan") if account is None else float(account.temp_size_in_bytes)
