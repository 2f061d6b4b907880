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
    "Event",
    "Moment",
    "Restore",
    "Store",
    "extra_forward_steps",
    "num_slots",
    "replay",
    "timeline",
    "validate",
]


@dataclass(frozen=True)
class Store:
    """Copy the current state into a slot, over what it held.

    Attributes:
      slot: its number, from 0 on.
    """

    slot: int


@dataclass(frozen=True)
class Restore:
    """Make the state in a slot the current one; the slot keeps it.

    Attributes:
      slot: its number, from 0 on.
    """

    slot: int


@dataclass(frozen=True)
class Advance:
    """Compute the next state."""


@dataclass(frozen=True)
class Backward:
    """Differentiate the step from the current state."""


Action = Store | Restore | Advance | Backward


class Event(NamedTuple):
    """One action as it is carried out.

    Attributes:
      place: of the action in the schedule.
      action: what is done.
      before: index of the state that is current before it.
      after: index of the state that is current after it.
      origin: of a restore, the place of the store that it reads; else its own place.
      done: backward steps so far, this one included.
    """

    place: int
    action: Action
    before: int
    after: int
    origin: int
    done: int


class Moment(NamedTuple):
    """What is alive after an action.

    Attributes:
      action: what was done.
      current: index of the current state.
      slots: index of the state in each slot, None where it is empty or not needed any more.
      done: backward steps so far.
    """

    action: Action
    current: int
    slots: tuple[int | None, ...]
    done: int


def replay(actions: Sequence[Any]) -> Iterator[Event]:
    """Yield what each action does: whoever asks what a schedule does, asks here.

    >>> [(e.before, e.after) for e in replay([Store(0), Advance(), Backward(), Restore(0)])]
    [(0, 0), (0, 1), (1, 1), (1, 0)]

    Raises:
      TypeError: something in it isn't an action; raised when its turn comes, as all else.
      ValueError: a slot that isn't a number from 0 on, or is restored before it holds a state.
    """
    slots: dict[int, tuple[int, int]] = {}  # the state in a slot, and the place of its store
    current = done = 0
    for place, action in enumerate(actions):
        before, origin, where = current, place, f"action {place}, {action!r}"
        match action:
            case Store(slot):
                _check_slot(where, slot)
                slots[slot] = (current, place)
            case Restore(slot):
                if slot not in slots:
                    raise ValueError(f"{where}: slot {slot} must hold a state, got none")
                current, origin = slots[slot]
            case Advance():
                current += 1
            case Backward():
                done += 1
            case _:
                raise TypeError(
                    f"{where}: actions must be Store, Restore, Advance or Backward, "
                    f"got {type(action)}"
                )
        yield Event(place, action, before, current, origin, done)


def validate(actions: Sequence[Any], length: int) -> tuple[Action, ...]:
    """Return the actions as a tuple, after a check that they differentiate a chain of this length.

    >>> validate([Advance(), Backward(), Restore(0), Backward()], 2)
    Traceback (most recent call last):
    ValueError: action 2, Restore(slot=0): slot 0 must hold a state, got none

    Raises:
      TypeError: something in it isn't an action.
      ValueError: a slot is restored that holds nothing; a step is differentiated at the wrong time
        or from the wrong state; the chain is left, or steps remain; the place is named.
    """
    left = length
    for event in replay(actions):
        where, last = f"action {event.place}, {event.action!r}", left - 1
        if isinstance(event.action, Advance) and event.after > last:
            raise ValueError(
                f"{where}: the current state must not pass x_{last}, from which the next step is "
                f"differentiated, got x_{event.after}"
            )
        if isinstance(event.action, Backward) and event.before != last:
            raise ValueError(f"{where}: the current state must be x_{last}, got x_{event.before}")
        left = length - event.done
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
    return sum(isinstance(e.action, Advance) and e.done > 0 for e in replay(actions))


def num_slots(actions: Sequence[Action]) -> int:
    """Return the number of slots used."""
    return 1 + max((a.slot for a in actions if isinstance(a, Store)), default=-1)


def timeline(actions: Sequence[Action]) -> tuple[Moment, ...]:
    """Return what is alive after every action; a slot is alive until its last use.

    >>> for moment in timeline([Store(0), Advance(), Backward(), Restore(0), Backward()]):
    ...     print(moment.current, moment.slots, moment.done)
    0 (0,) 0
    1 (0,) 0
    1 (0,) 1
    0 (None,) 1
    0 (None,) 2
    """
    return tuple(_moments(list(replay(actions))))


def _moments(events: Sequence[Event]) -> Iterator[Moment]:
    # the place of the last restore of what each store wrote
    last = {event.origin: event.place for event in events if isinstance(event.action, Restore)}
    slots: list[int | None] = [None] * num_slots([event.action for event in events])
    for event in events:
        if isinstance(event.action, Store):
            slots[event.action.slot] = event.after if event.place in last else None
        elif isinstance(event.action, Restore) and last[event.origin] == event.place:
            slots[event.action.slot] = None
        yield Moment(event.action, event.after, tuple(slots), event.done)
