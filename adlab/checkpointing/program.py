"""A schedule as the arrays that the executor runs through: no branch is left to decide then.

The backward pass of x_{k+1} = f_k(x_k) needs x_{L-1}, x_{L-2}, ..., x_0, in this order. Between two
of them a schedule restores a stored state and advances from it, storing some states on the way. In
a scan over the backward steps k = L - 1, ..., 0 that is

    moves first[k], ..., first[k] + number[k] - 1, then restore last[k], then differentiate step k,

where a move is: restore a slot, or none; store the current state to a slot, or none; advance by the
step of a given index. Each action has its place there, since between two advances only the last
restore and one store matter. The moves are a table of integers, so that a `fori_loop` inside the
scan runs them; the program that XLA compiles is as long as one step, whatever the schedule.

The forward pass runs as a scan, too: `kept` says to which slot each state goes. A state that is
overwritten before it is read is written nowhere. At its end x_{L-1} is the current state.

Source: of schedules as lists of actions, Griewank & Walther (2000), doi:10.1145/347837.347846.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from adlab.checkpointing.actions import (
    Action,
    Advance,
    Backward,
    Event,
    Restore,
    Store,
    replay,
)

__all__ = ["Program", "compiled"]


class Program(NamedTuple):
    """What to do before each backward step.

    Attributes:
      num_slots: rows of the store.
      kept: (L - 1,), the slot that the forward pass writes x_k to, or -1.
      moves: (M, 3), the slot to restore (or -1), the slot to store to (or -1), and the step to
        compute, in the order in which they are run.
      first: (L,), where the moves before backward step k begin.
      number: (L,), how many of them there are.
      last: (L,), the slot restored after them, or -1.
    """

    num_slots: int
    kept: np.ndarray
    moves: np.ndarray
    first: np.ndarray
    number: np.ndarray
    last: np.ndarray


def compiled(actions: Sequence[Action], length: int) -> Program:
    """Return the program of a valid schedule.

    Raises:
      ValueError: a state is stored in two slots at once.
    """
    events = list(replay(actions))
    read = {event.origin for event in events if isinstance(event.action, Restore)}
    backward = [event for event in events if event.done]  # from the first backward step on
    kept = _kept(events[: len(events) - len(backward)], backward, length)
    moves: list[tuple[int, int, int]] = []
    first, number, last = (np.zeros(length, np.int32) for _ in range(3))
    begin, restored, stored = 0, -1, -1
    for event in backward:
        match event.action:
            case Restore(slot):
                if stored >= 0:  # its move advances in vain: the restore undoes that
                    moves.append((restored, stored, event.before))
                restored, stored = slot, -1
            case Store(slot) if event.place in read:
                if stored >= 0:
                    raise _stored_twice(event.before)
                stored = slot
            case Advance():
                moves.append((restored, stored, event.before))
                restored, stored = -1, -1
            case Backward():
                step = length - event.done
                first[step], number[step], last[step] = begin, len(moves) - begin, restored
                begin, restored, stored = len(moves), -1, -1
    used = [slot for slot in (*kept, *(m[1] for m in moves)) if slot >= 0]
    table = np.array(moves, np.int32).reshape(-1, 3)
    return Program(1 + max(used, default=0), kept, table, first, number, last)


def _kept(forward: Sequence[Event], backward: Sequence[Event], length: int) -> np.ndarray:
    """Return the slot that the forward pass writes each state to, -1 where nothing reads it."""
    read = {event.origin for event in backward if isinstance(event.action, Restore)}
    kept = np.full(max(length - 1, 0), -1, np.int32)
    for event in forward:
        if isinstance(event.action, Store) and event.place in read and event.before < length - 1:
            if kept[event.before] >= 0:
                raise _stored_twice(event.before)
            kept[event.before] = event.action.slot
    return kept


def _stored_twice(state: int) -> ValueError:
    return ValueError(f"x_{state} must be stored in one slot, got two")
