"""A chain of unequal steps whose backward pass follows a schedule of checkpoints."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from adlab.checkpointing.actions import (
    Action,
    Advance,
    Backward,
    Restore,
    Store,
    replay,
    validate,
)
from adlab.checkpointing.scan import refuse_forward_mode
from adlab.checkpointing.schedules import Schedule, as_schedule
from adlab.core import _shardings, checks, jaxprs, trees
from adlab.core.types import PyTree

__all__ = ["checkpointed_chain"]

Leaves = list[Any]


def checkpointed_chain(
    functions: Sequence[Callable[[PyTree], PyTree]],
    x: PyTree,
    *,
    schedule: Schedule | Sequence[Action],
) -> PyTree:
    """Return f_{L-1}(...f_1(f_0(x))), storing for the backward pass what `schedule` says.

    For steps that differ, in their states' shapes too; the program grows with the schedule, so that
    equal steps are better off with `checkpointed_scan`. A function may close over arrays, traced
    ones too; what it computes from them alone isn't computed again, and their derivatives are added
    up in at least float32. Works under the same transformations as `checkpointed_scan`.

    A state that is restored is multiplied by a one that comes out of a loop, which would run only
    if a NaN came along. Without it the compiler would see that the same is computed twice, keep the
    first result, and save no memory.

    >>> from adlab.checkpointing import optimal
    >>> def loss(x):
    ...     steps = [jnp.outer(x, x).__add__, jnp.sin, lambda a: a[0], jnp.sum]
    ...     schedule = optimal(costs=[1, 4, 1, 1], sizes=[9, 9, 9, 3], budget=12)
    ...     return checkpointed_chain(steps, jnp.zeros((3, 3)), schedule=schedule)
    >>> loss(jnp.zeros(3)).item()
    0.0

    Args:
      functions: the steps, each of the state before it, L >= 1 of them.
      x: the first state, a tree of real floating-point arrays, as all states must be.
      schedule: a schedule such as `optimal(costs, sizes, budget)`, or a tuple of actions.

    Returns:
      The last state.

    Raises:
      TypeError: a state that isn't real floating-point, with the step that returned it; not a
        schedule; in forward mode.
      ValueError: no functions; a schedule for another length, or one that isn't valid.
    """
    functions = list(functions)
    checks.at_least("number of functions", len(functions), 1)
    checks.require_inexact("checkpointed_chain (x)", x)
    actions = validate(as_schedule(schedule).actions(len(functions)), len(functions))
    leaves, tree = jax.tree.flatten(jax.tree.map(jnp.asarray, x))
    steps, consts, tree = _traced(functions, [jax.typeof(leaf) for leaf in leaves], tree)
    with refuse_forward_mode("checkpointed_chain", "composing the functions"):
        return jax.tree.unflatten(tree, _run(_Chain(steps, actions), consts, leaves))


@dataclass(frozen=True, eq=False)
class _Step:
    """A step as a function of (consts, state), lists of leaves; it uses the consts at `places`."""

    run: Callable[..., Leaves]
    places: tuple[int, ...]

    def __call__(self, consts: Leaves, state: Leaves) -> Leaves:
        return self.run(*consts, *state)

    def chosen(self, consts: Leaves) -> Leaves:
        return [consts[place] for place in self.places]


@dataclass(frozen=True, eq=False)
class _Chain:
    steps: list[_Step]
    actions: tuple[Action, ...]


def _traced(
    functions: list[Callable[[PyTree], PyTree]], leaves: list[Any], tree: Any
) -> tuple[list[_Step], Leaves, Any]:
    """Return the steps, all arrays that they close over, each once, and the last structure."""
    steps: list[_Step] = []
    consts: Leaves = []
    known: dict[int, int] = {}
    for k, function in enumerate(functions):
        state = jax.tree.unflatten(tree, leaves)
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(state)
        checks.require_inexact(f"checkpointed_chain (result of functions[{k}])", _zeros(shapes))
        leaves, tree = jax.tree.flatten(shapes)
        for const in closed.consts:
            if id(const) not in known:
                known[id(const)] = len(consts)
                consts.append(const)
        places = tuple(known[id(const)] for const in closed.consts)
        steps.append(_Step(jaxprs.hoisted(closed, f"functions[{k}] of checkpointed_chain"), places))
    return steps, consts, tree


def _zeros(shapes: PyTree) -> PyTree:
    """Return arrays of these shapes that take no memory."""
    return jax.tree.map(lambda s: np.broadcast_to(np.zeros((), s.dtype), s.shape), shapes)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _run(chain: _Chain, consts: Leaves, state: Leaves) -> Leaves:
    for step in chain.steps:
        state = step(step.chosen(consts), state)
    return state


def _forward(chain: _Chain, consts: Leaves, state: Leaves) -> tuple[Leaves, Any]:
    """Run the chain up to the last step, storing what is restored later on."""
    slots: dict[int, Leaves] = {}
    for event in itertools.takewhile(lambda event: event.done == 0, replay(chain.actions)):
        match event.action:
            case Store(slot):
                slots[slot] = state
            case Restore(slot):
                state = slots[slot]
            case Advance():
                step = chain.steps[event.before]
                state = step(step.chosen(consts), state)
    last = chain.steps[-1]
    return last(last.chosen(consts), state), (consts, state, slots)


def _backward(chain: _Chain, kept: Any, state_bar: Leaves) -> tuple[Leaves, Leaves]:
    consts, state, slots = kept
    consts_bar: dict[int, Any] = {}
    slots = dict(slots)
    for event in itertools.dropwhile(lambda event: event.done == 0, replay(chain.actions)):
        match event.action:
            case Store(slot):
                slots[slot] = state
            case Restore(slot):
                state = _anew(slots[slot], state_bar)
            case Advance():
                step = chain.steps[event.before]
                state = step(step.chosen(consts), state)
            case Backward():
                step = chain.steps[event.before]
                _, pull = jax.vjp(step, step.chosen(consts), state)
                added, state_bar = pull(state_bar)
                _add_to(consts_bar, step.places, added)
    return [_cast(consts_bar[k], consts[k]) for k in range(len(consts))], state_bar


def _add_to(total: dict[int, Any], places: Sequence[int], added: Leaves) -> None:
    for place, value in zip(places, added, strict=True):
        if value.dtype == jax.dtypes.float0:
            total[place] = value
            continue
        part = value.astype(trees.wide_dtype(value))  # else a long sum stalls in 16 bits
        total[place] = total[place] + part if place in total else part


def _cast(cotangent: Any, const: Any) -> Any:
    return cotangent if cotangent.dtype == jax.dtypes.float0 else cotangent.astype(const.dtype)


def _anew(state: Leaves, state_bar: Leaves) -> Leaves:
    """Return the state times a one that the compiler can't know, and not before state_bar is known.

    NaN in the state counts as well: a constant cotangent would give the loop away. The loop carries
    the factor alone: the state itself would be copied for each loop, long before it is needed.
    """
    times = jnp.zeros((), jnp.int32)
    for leaves in (state, state_bar):
        some = next((leaf for leaf in leaves if leaf.size), None)
        if some is not None:
            times = times | jnp.isnan(_number(some)).astype(jnp.int32)
    one = lax.fori_loop(0, times, lambda k, one: one * (k + 1), jnp.ones((), jnp.int32))
    return [leaf * one.astype(leaf.dtype) for leaf in state]


def _number(leaf: jax.Array) -> jax.Array:
    """Return one number that isn't known before the leaf; the first may lie on one device."""
    return leaf.ravel()[0] if _shardings.explicit(leaf) is None else jnp.sum(leaf)


_run.defvjp(_forward, _backward)
