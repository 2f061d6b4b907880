"""A schedule as the arrays that the executor runs through: no branch is left to decide then."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from adlab.checkpointing.actions import Action, Advance, Backward, Restore, Store

__all__ = ["Program", "compiled"]


class Program(NamedTuple):
    """What to do before each backward step.

    num_slots: rows of the store. kept: (L - 1,), the slot that the forward pass writes x_k to, or
    -1. moves: (M, 3), the slot to restore (or -1), the slot to store to (or -1), and the step to
    compute, in the order in which they are run. first, number: (L,), where the moves before
    backward step k begin, and how many there are. last: (L,), the slot restored after them, or -1.
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
    start = next(k for k, action in enumerate(actions) if isinstance(action, Backward))
    needed = _needed(actions)
    kept, slots = np.full(max(length - 1, 0), -1, np.int32), _contents(actions[:start])
    for slot, state in slots.items():
        if state < length - 1 and (slot, state) in needed[start:]:
            kept[state] = slot
    moves: list[tuple[int, int, int]] = []
    first, number, last = (np.zeros(length, np.int32) for _ in range(3))
    step, restored, stored, current = length, -1, -1, length - 1
    begin = 0
    held = dict(slots)
    for place in range(start, len(actions)):
        action = actions[place]
        if isinstance(action, Restore):
            restored, stored, current = action.slot, -1, held[action.slot]
        elif isinstance(action, Store):
            held[action.slot] = current
            if needed[place] == (action.slot, current):
                if stored >= 0:
                    raise ValueError(f"x_{current} must be stored in one slot, got two")
                stored = action.slot
        elif isinstance(action, Advance):
            moves.append((restored, stored, current))
            restored, stored, current = -1, -1, current + 1
        else:
            step -= 1
            first[step], number[step], last[step] = begin, len(moves) - begin, restored
            begin, restored, stored = len(moves), -1, -1
    used = [slot for slot in (*kept, *(m[1] for m in moves)) if slot >= 0]
    table = np.array(moves, np.int32).reshape(-1, 3)
    return Program(1 + max(used, default=0), kept, table, first, number, last)


def _contents(actions: Sequence[Action]) -> dict[int, int]:
    """Return which state each slot holds after these actions."""
    slots: dict[int, int] = {}
    current = 0
    for action in actions:
        if isinstance(action, Store):
            slots[action.slot] = current
        elif isinstance(action, Restore):
            current = slots[action.slot]
        elif isinstance(action, Advance):
            current += 1
    return slots


def _needed(actions: Sequence[Action]) -> list[tuple[int, int] | None]:
    """Return for each action the (slot, state) that it restores, or stores for a later restore."""
    found: list[tuple[int, int] | None] = [None] * len(actions)
    slots: dict[int, tuple[int, int]] = {}  # slot -> state, place of its store
    current = 0
    for place, action in enumerate(actions):
        if isinstance(action, Store):
            slots[action.slot] = (current, place)
        elif isinstance(action, Restore):
            current, stored = slots[action.slot]
            found[place] = found[stored] = (action.slot, current)
        elif isinstance(action, Advance):
            current += 1
    return found
