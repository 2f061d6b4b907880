"""Descents on the losses of a GPT, many at once, each iteration on a batch of its own."""

from __future__ import annotations

import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adlab import gradients, lab
from adlab import models as networks

from . import subspaces
from .config import Config, Subspace

ADAM, PLAIN = optax.scale_by_adam(), optax.identity()


class Task(NamedTuple):
    """What a descent is on, and where it is looked at.

    `batches` gives the sequences of iterations start, ..., stop - 1, (seeds, stop - start, b, s),
    and `corpus`, `held_out` and `law` are what loss and gap are measured on.
    """

    kind: Subspace
    z: Any
    held: Any
    batches: Any
    corpus: np.ndarray
    held_out: np.ndarray
    law: np.ndarray


class Course(NamedTuple):
    """Iterations (P,), losses and gaps there (seeds, P), and where all ended, led by the seeds."""

    k: np.ndarray
    losses: np.ndarray
    gaps: np.ndarray
    last: Any


def two_point(kind: Subspace, config: Config) -> Any:
    """Return the estimate of a loss's gradient from one pair of evaluations."""
    fun = subspaces.loss(kind, subspaces.model(config))
    return gradients.two_point(fun, law="rademacher", smoothing=config.smoothing)


def reverse(kind: Subspace, config: Config) -> Any:
    """Return the gradient of a loss."""
    return gradients.reverse_mode(subspaces.loss(kind, subspaces.model(config)))


def descend(
    gradient: Any, optimizer: Any, task: Task, steps: np.ndarray, seeds: int, chunk: int,
    config: Config, progress: lab.Progress,
) -> Course:  # fmt: skip
    """Run an iteration per step, and look every `chunk` of them, before the first and at the end.

    Steps and batches are data: descents of one gradient, optimiser and chunk share a program.
    """
    started = time.perf_counter()
    network = subspaces.model(config)
    keys = jax.random.split(jax.random.key(config.seed), seeds)
    state = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (seeds, *jnp.shape(leaf))),
        (task.z, optimizer.init(task.z)),
    )
    look = (task.held, task.corpus, task.held_out, task.law.astype(np.float32))
    places = range(0, -(-len(steps) // chunk) * chunk + 1, chunk)
    padded = np.zeros(places[-1] + chunk, np.float32)  # the last chunk stands still
    padded[: len(steps)] = steps
    seen = []
    with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and floats
        for k in places:
            batches = task.batches(k, k + chunk)
            moves = padded[k : k + chunk]
            state, *found = _advance(
                gradient, state, look, keys, np.int32(k), batches, moves,
                optimizer=optimizer, kind=task.kind, network=network,
            )  # fmt: skip
            seen.append(np.stack([np.asarray(part) for part in found]))
            progress.update(k, places[-1] + chunk, task.kind)
    progress.seconds("descents", run=time.perf_counter() - started)
    losses, gaps = np.stack(seen, axis=-1)
    return Course(np.minimum(places, len(steps)), losses, gaps, state[0])


@functools.partial(jax.jit, static_argnames=("optimizer", "kind", "network"))
def _advance(
    gradient: Any, state: Any, look: Any, keys: Any, start: Any, batches: Any, steps: Any, *,
    optimizer: Any, kind: Subspace, network: networks.Model,
) -> tuple[Any, jax.Array, jax.Array]:  # fmt: skip
    """Return the state after the steps, and loss and gap before them, for every seed."""
    held, corpus, held_out, law = look

    def one(state: Any, key: Any, batches: Any) -> tuple[Any, jax.Array, jax.Array]:
        def iterate(state: Any, each: tuple[Any, Any, Any]) -> tuple[Any, None]:
            (z, kept), (k, tokens, step) = state, each
            slope = gradient(z, held, tokens, key=jax.random.fold_in(key, k))
            moves, kept = optimizer.update(slope, kept, z)
            return (jax.tree.map(lambda x, move: x - step * move, z, moves), kept), None

        value = subspaces.loss(kind, network)(state[0], held, corpus)
        apart = subspaces.gap(kind, network)(state[0], held, held_out, law)
        numbers = start + jnp.arange(len(steps), dtype=np.int32)
        return jax.lax.scan(iterate, state, (numbers, batches, steps))[0], value, apart

    return jax.vmap(one)(state, keys, batches)
