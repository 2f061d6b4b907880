"""Schedules as data: what is stored, restored, recomputed and differentiated, in which order.

A chain is x_{k+1} = f_k(x_k), k = 0, ..., L - 1. Its backward pass needs x_{L-1}, then x_{L-2},
..., then x_0. A schedule is a tuple of actions on one current state, which starts as x_0:

* Store(slot) copies the current state into a slot,
* Restore(slot) makes a slot's state the current one,
* Advance() replaces the current state x_k by x_{k+1},
* Backward() differentiates step k, where x_k is the current state.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = [
    "Action",
    "Advance",
    "Backward",
    "Moment",
    "Restore",
    "Store",
    "extra_forward_steps",
    "timeline",
    "validate",
]


@dataclass(frozen=True)
class Store:
    """Copy the current state into a slot, over what it held."""

    slot: int


@dataclass(frozen=True)
class Restore:
    """Make the state in a slot the current one; the slot keeps it."""

    slot: int


@dataclass(frozen=True)
class Advance:
    """Compute the next state."""


@dataclass(frozen=True)
class Backward:
    """Differentiate the step from the current state."""


Action = Store | Restore | Advance | Backward


class Moment(NamedTuple):
    """What is alive after an action.

    action: what was done. current: the index of the current state. slots: the index of the state
    in each slot, None where it is empty or not needed any more. done: backward steps so far.
    """

    action: Action
    current: int
    slots: tuple[int | None, ...]
    done: int


def validate(actions: Sequence[Any], length: int) -> tuple[Action, ...]:
    """Return the actions as a tuple, after a check that they differentiate a chain of this length.

    Raises:
      TypeError: something in it isn't an action.
      ValueError: a slot is restored that holds nothing; a step is differentiated at the wrong time
        or from the wrong state; the chain is left, or steps remain; the place is named.
    """
    slots: dict[int, int] = {}
    current, left = 0, length
    for place, action in enumerate(actions):
        where = f"action {place}, {action!r}"
        if isinstance(action, Store):
            _check_slot(where, action.slot)
            slots[action.slot] = current
        elif isinstance(action, Restore):
            if action.slot not in slots:
                raise ValueError(f"{where}: slot {action.slot} must hold a state, got none")
            current = slots[action.slot]
        elif isinstance(action, Advance):
            current += 1
            if current >= left:
                raise ValueError(
                    f"{where}: the current state must not pass x_{left - 1}, from which the next "
                    f"step is differentiated, got x_{current}"
                )
        elif isinstance(action, Backward):
            if current != left - 1:
                raise ValueError(
                    f"{where}: the current state must be x_{left - 1}, got x_{current}"
                )
            left -= 1
        else:
            raise TypeError(
                f"{where}: actions must be Store, Restore, Advance or Backward, got {type(action)}"
            )
    if left:
        raise ValueError(
            f"actions must differentiate all {length} steps, got {length - left} of them"
        )
    return tuple(actions)


def _check_slot(where: str, slot: Any) -> None:
    if isinstance(slot, bool) or not isinstance(slot, int) or slot < 0:
        raise ValueError(f"{where}: slot must be an integer >= 0, got {slot!r}")


def extra_forward_steps(actions: Sequence[Action]) -> int:
    """Return how many steps are computed again: the advances after the first backward step.

    Those before it are the forward pass itself, and the step within each backward step isn't
    counted.
    """
    first = next(place for place, action in enumerate(actions) if isinstance(action, Backward))
    return sum(isinstance(action, Advance) for action in actions[first:])


def num_slots(actions: Sequence[Action]) -> int:
    """Return the number of slots used."""
    return 1 + max((a.slot for a in actions if isinstance(a, Store)), default=-1)


def timeline(actions: Sequence[Action]) -> tuple[Moment, ...]:
    """Return what is alive after every action; a slot is alive until its last use."""
    return tuple(_moments(actions))


def _moments(actions: Sequence[Action]) -> Iterator[Moment]:
    last = _last_uses(actions)
    slots: list[int | None] = [None] * num_slots(actions)
    sources = [-1] * len(slots)
    current = done = 0
    for place, action in enumerate(actions):
        if isinstance(action, Store):
            slots[action.slot] = current if place in last else None
            sources[action.slot] = place
        elif isinstance(action, Restore):
            held = slots[action.slot]
            assert held is not None
            current = held
            if last[sources[action.slot]] == place:
                slots[action.slot] = None
        elif isinstance(action, Advance):
            current += 1
        else:
            done += 1
        yield Moment(action, current, tuple(slots), done)


def _last_uses(actions: Sequence[Action]) -> dict[int, int]:
    """Return for each store the place of the last restore of it."""
    latest: dict[int, int] = {}
    uses: dict[int, int] = {}
    for place, action in enumerate(actions):
        if isinstance(action, Store):
            latest[action.slot] = place
        elif isinstance(action, Restore):
            uses[latest[action.slot]] = place
    return uses
