"""Policies that yield a schedule for a chain of any length."""

from __future__ import annotations

import abc
import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from adlab.checkpointing import actions as acts
from adlab.checkpointing.actions import Action, Advance, Backward, Moment, Restore, Store
from adlab.core import checks
from adlab.core.spelling import closest

__all__ = ["Schedule", "as_schedule", "binomial", "every", "fixed", "optimal", "sqrt", "store_all"]


class Schedule(abc.ABC):
    """A policy of checkpointing: for each length of a chain, what to store and to recompute."""

    @abc.abstractmethod
    def actions(self, length: int) -> tuple[Action, ...]:
        """Return the actions for a chain of `length` >= 1 steps."""

    def slots(self, length: int) -> int:
        """Return how many states are stored at most, beside the current one."""
        return acts.num_slots(self.actions(length))

    def extra_forward_steps(self, length: int) -> int:
        """Return how many forward steps are computed a second time, or more often."""
        return acts.extra_forward_steps(self.actions(length))

    def timeline(self, length: int) -> tuple[Moment, ...]:
        """Return what is alive after each action."""
        return acts.timeline(self.actions(length))


@dataclass(frozen=True)
class Every(Schedule):
    """See `every`; a period of None is the square root of the length."""

    period: int | None

    def actions(self, length: int) -> tuple[Action, ...]:
        """Return the actions for a chain of `length` >= 1 steps."""
        checks.at_least("length", length, 1)
        k = self.period if self.period is not None else math.isqrt(length - 1) + 1
        starts = range(0, length, k)
        found: list[Action] = []
        for segment, start in enumerate(starts):
            if start < length - 1 or length == 1:  # x_{L-1} is current when its turn comes
                found.append(Store(segment))
            if start + k < length:
                found += [Advance()] * k
        for segment, start in reversed(list(enumerate(starts))):
            if segment < len(starts) - 1:
                found.append(Restore(segment))
            found += self._segment(min(k, length - start), segment, len(starts))
        return tuple(found)

    @staticmethod
    def _segment(size: int, own: int, first: int) -> list[Action]:
        """Advance through a segment, storing its states; then back. Its own start has a slot."""
        found: list[Action] = []
        for k in range(1, size):
            found.append(Advance())
            if k < size - 1:
                found.append(Store(first + k - 1))
        found.append(Backward())
        for k in range(size - 2, -1, -1):
            found += [Restore(first + k - 1 if k else own), Backward()]
        return found


def store_all() -> Schedule:
    """Store every state but the last, which is at hand: L - 1 slots, nothing computed twice."""
    return Every(1)


def every(k: int) -> Schedule:
    """Store every k-th state; within a segment, when its turn comes, all others.

    ceil(L/k) + k - 2 slots at most, and at most L extra forward steps.

    Raises:
      ValueError: k < 1.
    """
    checks.at_least("k", k, 1)
    return Every(k)


def sqrt() -> Schedule:
    """Store every k-th state, where k is the root of the length rounded up.

    At most 2 ceil(sqrt(L)) - 2 slots for L > 1, and at most L extra forward steps.

    Source: Chen et al. (2016), arXiv:1604.06174.
    """
    return Every(None)


@dataclass(frozen=True)
class Binomial(Schedule):
    """See `binomial`."""

    num_slots: int

    def actions(self, length: int) -> tuple[Action, ...]:
        """Return the actions for a chain of `length` >= 1 steps."""
        checks.at_least("length", length, 1)
        found: list[Action] = [Store(0)]
        self._reverse(0, length, 1, found)
        return tuple(found)

    def _reverse(self, start: int, stop: int, used: int, found: list[Action]) -> None:
        """Differentiate the steps from `start` to `stop`; x_start is current and in slot used-1."""
        while stop - start > 1:
            free = self.num_slots - used
            if free == 0:
                found += [Advance()] * (stop - start - 1) + [Backward(), Restore(used - 1)]
                stop -= 1
                continue
            middle = start + _split(stop - start, free + 1)
            found += [Advance()] * (middle - start)
            if stop - middle > 1:
                found.append(Store(used))
            self._reverse(middle, stop, used + 1, found)
            found.append(Restore(used - 1))
            stop = middle
        found.append(Backward())


@functools.cache
def _split(length: int, slots: int) -> int:
    """Return after how many steps of `length` the next state is stored, with `slots` in all."""
    return min(
        range(1, length),
        key=lambda k: (k + _least(length - k, slots - 1) + _least(k, slots), k),
    )


@functools.cache
def _least(length: int, slots: int) -> int:
    """Return the least number of advances that differentiate `length` steps, with `slots` states.

    r L - C(c + r, c + 1), where r is the least number with C(c + r, c) >= L.
    """
    if slots == 0:
        return 0 if length == 1 else 10**18
    r = 0
    while math.comb(slots + r, slots) < length:
        r += 1
    return r * length - math.comb(slots + r, slots + 1)


def binomial(slots: int) -> Schedule:
    """Store at most `slots` states, and compute as few steps again as that allows.

    With c slots and r sweeps, chains up to C(c + r, c) long are differentiated; the forward steps,
    those of the forward pass but the last included, are r L - C(c + r, c + 1), the least possible.

    Raises:
      ValueError: slots < 1: the first state must be kept.

    Source: Griewank & Walther (2000), doi:10.1145/347837.347846.
    """
    checks.at_least("slots", slots, 1)
    return Binomial(slots)


class Optimal(Schedule):
    """See `optimal`."""

    def __init__(self, costs: tuple[float, ...], sizes: tuple[float, ...], budget: float) -> None:
        self.costs, self.sizes, self.budget = costs, sizes, budget
        self._sums = (0.0, *itertools.accumulate(costs))
        self._known: dict[tuple[int, int, float], tuple[float, int | None]] = {}

    def __repr__(self) -> str:
        return f"Optimal({len(self.costs)} steps, budget={self.budget:g})"

    def actions(self, length: int) -> tuple[Action, ...]:
        """Return the actions for a chain of `length` steps.

        Raises:
          ValueError: for another length than that of the costs.
        """
        if length != len(self.costs):
            raise ValueError(
                f"schedule must be for a chain of {length} steps, got one for {len(self.costs)}"
            )
        found: list[Action] = [Store(0)]
        self._reverse(0, length, self.budget - self.sizes[0], [0], found)
        return tuple(found)

    def _best(self, start: int, stop: int, free: float) -> tuple[float, int | None]:
        """Return the least cost of steps computed to differentiate start..stop - 1, and how.

        x_start is stored. `free` is left for more: the state to store next, or None for none, where
        the last step is differentiated after a walk that stores nothing.
        """
        if stop - start == 1:
            return 0.0, None
        key = (start, stop, free)
        if key not in self._known:
            walk = self._sums[stop - 1] - self._sums[start]
            best: tuple[float, int | None] = (walk + self._best(start, stop - 1, free)[0], None)
            for middle in range(start + 1, stop - 1):
                if self.sizes[middle] <= free:
                    cost = (
                        self._sums[middle] - self._sums[start]
                        + self._best(middle, stop, free - self.sizes[middle])[0]
                        + self._best(start, middle, free)[0]
                    )  # fmt: skip
                    if cost < best[0]:
                        best = (cost, middle)
            self._known[key] = best
        return self._known[key]

    def _reverse(
        self, start: int, stop: int, free: float, used: list[int], found: list[Action]
    ) -> None:
        """Write the actions; x_start is current and in slot len(used) - 1."""
        own = len(used) - 1
        while stop - start > 1:
            _, middle = self._best(start, stop, free)
            if middle is None:
                found += [Advance()] * (stop - start - 1) + [Backward(), Restore(own)]
                stop -= 1
                continue
            found += [Advance()] * (middle - start) + [Store(own + 1)]
            self._reverse(middle, stop, free - self.sizes[middle], [*used, middle], found)
            found.append(Restore(own))
            stop = middle
        found.append(Backward())


def optimal(costs: Sequence[float], sizes: Sequence[float], budget: float) -> Schedule:
    """Compute as little again as a budget of memory allows, for steps that differ.

    Exact among the schedules that keep a stored state until its step is differentiated, by dynamic
    programming over segments: O(L^3) for each distinct amount of memory that can be left, which
    are few where sizes are multiples of a common unit.

    Args:
      costs: of computing each step forward, (L,), in any unit.
      sizes: of the state before each step, x_0 to x_{L-1}, (L,), in any unit.
      budget: for stored states, in the unit of `sizes`; x_0 must fit.

    Raises:
      ValueError: lengths differ or are 0; a cost or a size is negative or not finite; the budget
        doesn't hold x_0: the least that would is named.

    Source: Beaumont et al. (2019), arXiv:1911.13214.
    """
    costs, sizes = tuple(map(float, costs)), tuple(map(float, sizes))
    if not costs or len(costs) != len(sizes):
        raise ValueError(
            f"costs and sizes must have one entry per step, got {len(costs)} and {len(sizes)}"
        )
    for name, values in (("costs", costs), ("sizes", sizes)):
        if not all(math.isfinite(value) and value >= 0 for value in values):
            raise ValueError(f"{name} must be finite and >= 0, got {list(values)}")
    if not budget >= sizes[0]:
        raise ValueError(f"budget must hold at least the first state, {sizes[0]:g}, got {budget:g}")
    return Optimal(costs, sizes, float(budget))


@dataclass(frozen=True)
class Fixed(Schedule):
    """See `fixed`."""

    given: tuple[Action, ...]
    length: int

    def actions(self, length: int) -> tuple[Action, ...]:
        """Return the actions given.

        Raises:
          ValueError: for another length than they are for.
        """
        if length != self.length:
            raise ValueError(
                f"schedule must be for a chain of {length} steps, got one for {self.length}"
            )
        return self.given


def fixed(actions: Sequence[Action]) -> Schedule:
    """Take actions as they are, after a check.

    Raises:
      TypeError, ValueError: they aren't a schedule; the first place that is wrong is named.
    """
    length = sum(isinstance(action, Backward) for action in actions)
    return Fixed(acts.validate(actions, length), length)


def as_schedule(schedule: Schedule | Sequence[Action]) -> Schedule:
    """Return a schedule: itself, or that of a sequence of actions.

    Raises:
      TypeError: neither.
    """
    if isinstance(schedule, Schedule):
        return schedule
    if isinstance(schedule, tuple | list):
        return fixed(tuple(schedule))
    names = ("store_all", "every", "sqrt", "binomial", "optimal", "fixed")
    name = getattr(schedule, "__name__", schedule)
    if callable(schedule) and name in names:
        remedy = f"the function {name}: call it, {name}(...)"
    else:
        near = closest(name, names) if isinstance(name, str) else None
        remedy = f"{schedule!r}" + (f"; did you mean {near}()?" if near else "")
    raise TypeError(
        "schedule must be one of adlab.checkpointing's, such as sqrt(), or a tuple of actions, got "
        f"{remedy}"
    )
