"""The sweeps of a chain of unequal steps: one action of its schedule after another."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from adlab.checkpointing._linear import number_of
from adlab.checkpointing._sweeps import (
    Groups,
    Leaves,
    replaced,
    smooth,
    with_tangent,
)
from adlab.checkpointing.actions import Action, Advance, Backward, Restore, Store, replay
from adlab.core import trees

__all__ = ["ChainStep", "ChainSweep"]

Flags = tuple[bool, ...]


@dataclass(frozen=True, eq=False)
class ChainStep:
    """A step of some constants and a state to the next state.

    Attributes:
      run: (constants it uses, state) -> (state,), lists of leaves.
      places: of these constants among all of them.
      kinds: which of these constants, and which leaves of the state, have derivatives.
    """

    run: Callable[..., Groups]
    places: tuple[int, ...]
    kinds: tuple[Flags, Flags]

    def __call__(self, consts: Leaves, state: Leaves) -> Leaves:
        (after,) = self.run([consts[place] for place in self.places], state)
        return after

    def tangent(self, dots: dict[int, int]) -> ChainStep:
        """Return the step with its tangent; `dots` is where each constant's tangent is."""
        consts, state = ((*kind, *([True] * sum(kind))) for kind in self.kinds)
        more = [dots[p] for p, kind in zip(self.places, self.kinds[0], strict=True) if kind]
        return ChainStep(with_tangent(self.run, self.kinds), (*self.places, *more), (consts, state))


@dataclass(frozen=True, eq=False)
class ChainSweep:
    """A chain of (consts, state), lists of leaves, to (state,).

    Attributes:
      steps: what is composed.
      actions: of the schedule.
      kinds: which constants have derivatives.
      dots: places of the constants that are tangents of others; none in the chain itself.
    """

    steps: tuple[ChainStep, ...]
    actions: tuple[Action, ...]
    kinds: Flags
    dots: tuple[int, ...] | None = None

    @functools.cached_property
    def tangent(self) -> ChainSweep:
        """The chain whose states hold the tangents of this one's, too."""
        some = [place for place, kind in enumerate(self.kinds) if kind]
        dots = {place: len(self.kinds) + k for k, place in enumerate(some)}
        steps = tuple(step.tangent(dots) for step in self.steps)
        kinds = (*self.kinds, *([True] * len(some)))
        return ChainSweep(steps, self.actions, kinds, tuple(dots.values()))

    def run(self, inputs: Groups) -> Groups:
        """Compose the steps."""
        consts, state = inputs[0], self._start(inputs)
        for step in self.steps:
            state = step(consts, state)
        return (state,)

    def save(self, inputs: Groups) -> tuple[Groups, Any]:
        """Run the chain up to the last step, storing what is restored later on."""
        consts, state = inputs[0], self._start(inputs)
        slots: dict[int, Leaves] = {}
        for event in itertools.takewhile(lambda event: event.done == 0, replay(self.actions)):
            match event.action:
                case Store(slot):
                    slots[slot] = state
                case Restore(slot):
                    state = slots[slot]
                case Advance():
                    state = self.steps[event.before](consts, state)
        return (self.steps[-1](consts, state),), (state, slots)

    def pull(self, inputs: Groups, saved: Any, bars: Groups) -> Groups:
        """Differentiate the steps from the last to the first."""
        consts, _ = inputs
        state, slots = saved
        (state_bar,) = bars
        sums: dict[int, jax.Array] = {}
        slots = dict(slots)
        for event in itertools.dropwhile(lambda event: event.done == 0, replay(self.actions)):
            match event.action:
                case Store(slot):
                    slots[slot] = state
                case Restore(slot):
                    state, state_bar = _anew(slots[slot], state_bar)
                case Advance():
                    state = self.steps[event.before](consts, state)
                case Backward():
                    step = self.steps[event.before]
                    state_bar = _pulled(step, consts, state, state_bar, sums)
        places = [place for place, kind in enumerate(self.kinds) if kind]
        return [sums[place].astype(consts[place].dtype) for place in places], state_bar

    def _start(self, inputs: Groups) -> Leaves:
        """Return the first state; with tangents in it, not before all tangents are known.

        In the gradient of a gradient they are known late, when the chain and its backward sweep
        have run. The states to which they belong are those of the chain: if they might be computed
        early, the compiler would merge the two, and hold all states from one sweep to the other.
        """
        consts, state = inputs
        if self.dots is None:
            return state
        half = len(smooth(state)) // 2  # as many tangents as numbers that have some
        before, dots = state[: len(state) - half], state[len(state) - half :]
        before, dots = _anew(before, dots, [consts[place] for place in self.dots])
        return [*before, *dots]


def _pulled(
    step: ChainStep, consts: Leaves, state: Leaves, state_bar: Leaves, sums: dict[int, jax.Array]
) -> Leaves:
    """Return the cotangents of the state before a step; add those of constants to `sums`."""
    chosen = [consts[place] for place in step.places]

    def of_smooth(some: Leaves, leaves: Leaves) -> Leaves:
        (after,) = step.run(replaced(chosen, some), replaced(state, leaves))
        return smooth(after)

    _, pull = jax.vjp(of_smooth, smooth(chosen), smooth(state))
    added, state_bar = pull(state_bar)
    places = [place for place, kind in zip(step.places, step.kinds[0], strict=True) if kind]
    for place, value in zip(places, added, strict=True):
        part = value.astype(trees.wide_dtype(value))  # else a long sum stalls in 16 bits
        sums[place] = sums[place] + part if place in sums else part
    return state_bar


def _anew(state: Leaves, after: Leaves, others: Sequence[Any] = ()) -> tuple[Leaves, Leaves]:
    """Return the state times a one that isn't known before `after` and the others, and `after`.

    The one comes out of a loop that would run only if there were NaN, in the state or elsewhere: of
    all this something is no constant, which would give the loop away. The loop carries `after`, for
    a single number of it might be computed apart, long before the rest. It doesn't carry the state,
    which would be copied for each loop, long before it is needed.
    """
    times = jnp.zeros((), jnp.int32)
    for leaf in [*smooth(state), *after, *others]:
        if leaf.size:
            times = times | jnp.isnan(number_of(leaf)).astype(jnp.int32)

    def turn(k: Any, held: Any) -> Any:
        one, late = held
        return one * (k + 1), [_times(leaf, k + 1) for leaf in late]

    one, after = lax.fori_loop(0, times, turn, (jnp.ones((), jnp.int32), after))
    return [_times(leaf, one) for leaf in state], after


def _times(leaf: Any, one: jax.Array) -> Any:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = jax.random.key_data(leaf)
        return jax.random.wrap_key_data(_times(data, one), impl=jax.random.key_impl(leaf))
    if leaf.dtype == jnp.bool_:
        return leaf & (one == 1)
    return jnp.multiply(leaf, one.astype(leaf.dtype))
