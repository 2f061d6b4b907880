"""A chain of unequal steps whose backward pass follows a schedule of checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from adlab.checkpointing._chain_sweep import ChainStep, ChainSweep
from adlab.checkpointing._spread import axes_of, shared, spread
from adlab.checkpointing._sweeps import Groups, Leaves, is_smooth, run
from adlab.checkpointing.actions import Action, validate
from adlab.checkpointing.schedules import Schedule, as_schedule
from adlab.core import checks, jaxprs
from adlab.core.types import PyTree

__all__ = ["checkpointed_chain"]


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
    up in at least float32. States, transformations, and what second derivatives store are as for
    `checkpointed_scan`; their programs are some ten times that of the gradient, and compile slowly.

    A state that is restored is multiplied by a one that comes out of a loop, which would run only
    if a NaN came along. Without it the compiler would see that the same is computed twice, keep the
    first result, and save no memory. The first state of a chain that carries tangents is multiplied
    likewise: forward mode computes the chain twice, once for the value and once for the tangent.

    >>> from adlab.checkpointing import optimal
    >>> def loss(x):
    ...     steps = [jnp.outer(x, x).__add__, jnp.sin, lambda a: a[0], jnp.sum]
    ...     schedule = optimal(costs=[1, 4, 1, 1], sizes=[9, 9, 9, 3], budget=12)
    ...     return checkpointed_chain(steps, jnp.zeros((3, 3)), schedule=schedule)
    >>> loss(jnp.zeros(3)).item()
    0.0

    Args:
      functions: the steps, each of the state before it, L >= 1 of them.
      x: the first state, a tree of arrays of any kind, as for `checkpointed_scan`.
      schedule: a schedule such as `optimal(costs, sizes, budget)`, or a tuple of actions.

    Returns:
      The last state.

    Raises:
      TypeError: not a schedule.
      ValueError: no functions; a schedule for another length, or one that isn't valid.
    """
    functions = list(functions)
    checks.at_least("number of functions", len(functions), 1)
    actions = validate(as_schedule(schedule).actions(len(functions)), len(functions))
    leaves, tree = jax.tree.flatten(jax.tree.map(jnp.asarray, x))
    leaves = spread(leaves, axes_of(leaves))
    steps, consts, tree = _traced(functions, leaves, tree)
    sweep = ChainSweep(steps, actions, tuple(map(is_smooth, consts)))
    (state,) = run(sweep, (consts, leaves))
    return jax.tree.unflatten(tree, state)


def _traced(
    functions: list[Callable[[PyTree], PyTree]], leaves: list[Any], tree: Any
) -> tuple[tuple[ChainStep, ...], Leaves, Any]:
    """Return the steps, all arrays that they close over, each once, and the last structure."""
    steps: list[ChainStep] = []
    consts: Leaves = []
    known: dict[int, int] = {}
    axes = axes_of(leaves)
    for k, function in enumerate(functions):
        state = jax.tree.unflatten(tree, leaves)
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(state)
        kinds = (tuple(map(is_smooth, closed.consts)), tuple(map(is_smooth, leaves)))
        leaves, tree = jax.tree.flatten(shapes)
        for const in closed.consts:
            if id(const) not in known:
                known[id(const)] = len(consts)
                consts.append(const)
        places = tuple(known[id(const)] for const in closed.consts)
        flat = jaxprs.hoisted(closed, f"functions[{k}] of checkpointed_chain")
        flat = shared(flat, closed.consts, axes)
        steps.append(ChainStep(_grouped(flat), places, kinds))
    return tuple(steps), spread(consts, axes), tree


def _grouped(flat: Callable[..., Leaves]) -> Callable[..., Groups]:
    return lambda consts, state: (flat(*consts, *state),)
