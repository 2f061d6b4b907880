"""One iteration of a descent, and many of them in one compiled loop."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from adlab.core.types import PyTree
from adlab.optimize.trajectory import running_mean

__all__ = [
    "Metric",
    "Metrics",
    "Program",
    "State",
    "advance",
    "descend",
    "mean_dtype",
    "measure",
    "observe",
    "step",
    "strong",
]

Metric = Callable[..., Any]
"""(x, *args) -> an array."""
Metrics = dict[str, Any]
"""name -> what the metric of that name gave."""


_AT_ONCE = 20  # iterations: more gain nothing
_MOST_WORDS = 1 << 18  # a megabyte


class Program(NamedTuple):
    """What runs: functions held as `Partial`, so that the whole may cross jit as one pytree."""

    gradient: Callable[..., PyTree]
    args: tuple[Any, ...]
    update: Callable[..., Any]
    metrics: dict[str, Metric]
    averaged: dict[str, Metric]


class State(NamedTuple):
    """What an iteration changes; `averages` are means over the iterates before x."""

    x: PyTree
    opt_state: PyTree
    averages: Metrics


def strong(leaf: Any) -> jax.Array:
    """Return the leaf as an array that keeps its dtype whatever it meets."""
    if isinstance(leaf, np.ndarray | np.generic | int | float | complex):  # without a program
        number: jax.Array = jax.device_put(np.array(leaf, jnp.result_type(leaf)))
        return number
    array = jnp.asarray(leaf)
    if jnp.issubdtype(array.dtype, jax.dtypes.extended):
        return array
    strong: jax.Array = lax.convert_element_type(array, array.dtype)
    return strong


def mean_dtype(value: Any) -> Any:
    """Return the dtype of means of a value."""
    if not jnp.issubdtype(value.dtype, jnp.inexact):
        return jnp.result_type(float)
    return np.promote_types(value.dtype, np.float32)  # a mean of thousands drowns in bfloat16


def measure(metrics: dict[str, Metric], x: PyTree, args: tuple[Any, ...]) -> Metrics:
    """Return what every metric gives at x."""
    return {name: jnp.asarray(metric(x, *args)) for name, metric in metrics.items()}


def _means(program: Program, state: State, k: Any) -> Metrics:
    """Return the means over x_0, ..., x_k, where x_k is the state's own."""
    seen = measure(program.averaged, state.x, program.args)
    return {name: running_mean(state.averages[name], value, k) for name, value in seen.items()}


def descend(
    gradient: Callable[..., PyTree],
    update: Callable[..., Any],
    x: PyTree,
    opt_state: PyTree,
    args: tuple[Any, ...],
    key: Any,
) -> tuple[PyTree, PyTree]:
    """Return the next x, and the next state of the optimiser."""
    found = gradient(x, *args, key=key)
    if getattr(gradient, "has_aux", False):
        found, _ = found
    updates, opt_state = update(found, opt_state, x)
    return optax.apply_updates(x, updates), opt_state


def _iterate(program: Program, state: State, key: Any, k: Any) -> State:
    x, opt_state = descend(
        program.gradient, program.update, state.x, state.opt_state, program.args, key
    )
    after: State = jax.tree.map(strong, State(x, opt_state, _means(program, state, k)))
    return after


@functools.partial(jax.jit, static_argnames="seeds")
def step(program: Program, state: State, key: Any, k: Any, *, seeds: bool) -> State:
    """Run iteration k."""

    def one(state: State, key: Any, k: Any) -> State:
        return _iterate(program, state, _folded(key, k), k)

    return (jax.vmap(one, in_axes=(0, 0, None)) if seeds else one)(state, key, k)


def _folded(key: Any, k: Any) -> Any:
    return None if key is None else jax.random.fold_in(key, k)


def _prepared_at_once(program: Program, state: State, key: Any, *, seeds: bool) -> int:
    """Return for how many iterations random words are drawn at once, of all seeds together."""
    number = getattr(getattr(program.gradient, "method", None), "words", None)
    if key is None or number is None:
        return 1
    x = jax.tree.map(lambda leaf: leaf[0], state.x) if seeds else state.x
    words = number(x, key) * (key.shape[0] if seeds else 1)
    return max(1, min(_AT_ONCE, _MOST_WORDS // words)) if words else 1


@functools.partial(jax.jit, static_argnames="seeds")
def advance(
    program: Program, state: State, key: Any, start: Any, stop: Any, *, seeds: bool
) -> State:
    """Run the iterations start, ..., stop - 1."""
    together = _prepared_at_once(program, state, key, seeds=seeds)

    def one(state: State, key: Any) -> State:
        def iterate(k: Any, state: State) -> State:
            return _iterate(program, state, _folded(key, k), k)

        def several(carry: tuple[Any, State]) -> tuple[Any, State]:
            k, state = carry
            keys = jax.vmap(jax.random.fold_in, (None, 0))(
                key, k + jnp.arange(together, dtype=k.dtype)
            )
            drawn = program.gradient.prepare(state.x, *program.args, key=keys)  # type: ignore[attr-defined]

            def iterate(j: Any, state: State) -> State:
                return _iterate(program, state, jax.tree.map(lambda leaf: leaf[j], drawn), k + j)

            count = jnp.minimum(together, stop - k)
            return k + count, lax.fori_loop(0, count, iterate, state)

        if together > 1:
            moved: State = lax.while_loop(lambda c: c[0] < stop, several, (start, state))[1]
        else:
            moved = lax.fori_loop(start, stop, iterate, state)
        return moved

    return (jax.vmap(one) if seeds else one)(state, key)


@functools.partial(jax.jit, static_argnames="seeds")
def observe(program: Program, state: State, k: Any, *, seeds: bool) -> tuple[Metrics, Metrics]:
    """Return the metrics at x_k, and their means up to it."""

    def one(state: State) -> tuple[Metrics, Metrics]:
        return measure(program.metrics, state.x, program.args), _means(program, state, k)

    seen: tuple[Metrics, Metrics] = (jax.vmap(one) if seeds else one)(state)
    return seen
