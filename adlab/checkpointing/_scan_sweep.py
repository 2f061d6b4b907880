"""The sweeps of a scan: forward with states stored on the way, and back as its program says."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from adlab.checkpointing._sweeps import Groups, Leaves, replaced, smooth, with_tangent
from adlab.checkpointing.program import Program
from adlab.core import trees

__all__ = ["ScanSweep"]

Flags = tuple[bool, ...]


@dataclass(frozen=True, eq=False)
class ScanSweep:
    """A scan of (consts, init, xs), lists of leaves, to (carry, ys).

    Attributes:
      step: one step, (consts, carry, x) -> (carry, y).
      program: what is stored and computed again, of steps in the order in which they are taken.
      length: L.
      reverse: whether the first step takes the last x.
      unroll: of `jax.lax.scan`, for the scans of both sweeps.
      kinds: which leaves of consts, carry and x have derivatives.
      kept: places in the carry of what a step returns as it came.
    """

    step: Callable[..., Groups]
    program: Program
    length: int
    reverse: bool
    unroll: int | bool
    kinds: tuple[Flags, Flags, Flags]
    kept: frozenset[int]

    @functools.cached_property
    def tangent(self) -> ScanSweep:
        """The scan whose carry holds the tangent of this one's, too."""
        dots = enumerate(self._smooth_carry, len(self.kinds[1]))
        passed = {place for place, of in dots if of in self.kept}
        consts, carry, x = ((*kind, *([True] * sum(kind))) for kind in self.kinds)
        return ScanSweep(
            with_tangent(self.step, self.kinds), self.program, self.length, self.reverse,
            self.unroll, (consts, carry, x), self.kept | passed,
        )  # fmt: skip

    def run(self, inputs: Groups) -> Groups:
        """Run the scan."""
        consts, init, xs = inputs
        carry, ys = self._scan(lambda carry, x: self.step(consts, carry, x), init, xs)
        return carry, ys

    def save(self, inputs: Groups) -> tuple[Groups, Any]:
        """Run the scan; keep the states that the schedule stores on the way, and x_{L-1}."""
        consts, init, xs = inputs
        kept = np.append(self.program.kept, -1)
        final = np.arange(self.length) == self.length - 1

        def step(state: Any, item: Any) -> tuple[Any, Leaves]:
            carry, slots, last = state
            slot, at_end, x = item
            slots = _write(slots, slot, carry)
            last = [jnp.where(at_end, new, old) for new, old in zip(carry, last, strict=True)]
            carry, y = self.step(consts, carry, x)
            return (carry, slots, last), y

        blank = [_blank(leaf) for leaf in init]
        rows = self.program.num_slots
        slots = [jnp.broadcast_to(leaf, (rows, *leaf.shape)) for leaf in blank]  # each at its place
        items = (self._placed(kept), self._placed(final), xs)
        (carry, slots, last), ys = self._scan(step, (init, slots, blank), items)
        return (carry, ys), (last, slots)

    def pull(self, inputs: Groups, saved: Any, bars: Groups) -> Groups:
        """Run through the steps from the last to the first, computing states as they are needed."""
        consts, _, xs = inputs
        current, slots = saved
        carry_bar, ys_bar = bars
        program, move = self.program, self._move(consts, xs)

        def step(state: Any, item: Any) -> tuple[Any, Leaves]:
            current, slots, carry_bar, consts_bar = state
            first, count, last, x, y_bar = item
            current, slots = lax.fori_loop(first, first + count, move, (current, slots))
            current = _read(slots, last, current)
            consts_added, carry_bar, x_bar = self._pulled((consts, current, x), carry_bar, y_bar)
            consts_bar = [_added(a, b) for a, b in zip(consts_bar, consts_added, strict=True)]
            return (current, slots, carry_bar, consts_bar), x_bar

        dtypes = [leaf.dtype for leaf in carry_bar]
        carry_bar = [
            _wide(leaf) if place in self.kept else leaf
            for place, leaf in zip(self._smooth_carry, carry_bar, strict=True)
        ]
        zeros = [_wide(leaf) for leaf in trees.zeros_like(smooth(consts))]
        table = [self._placed(each) for each in (program.first, program.number, program.last)]
        (_, _, carry_bar, consts_bar), xs_bar = self._scan(
            step, (current, slots, carry_bar, zeros), (*table, xs, ys_bar), back=True
        )
        carry_bar = [leaf.astype(dtype) for leaf, dtype in zip(carry_bar, dtypes, strict=True)]
        pairs = zip(consts_bar, smooth(consts), strict=True)
        return [leaf.astype(const.dtype) for leaf, const in pairs], carry_bar, xs_bar

    def _move(self, consts: Leaves, xs: Leaves) -> Callable[[Any, Any], Any]:
        """Return what computes a state again: one of the program's moves."""
        moves = self.program.moves if len(self.program.moves) else np.zeros((1, 3), np.int32)
        if self.reverse:
            moves = np.stack([*moves.T[:2], self.length - 1 - moves.T[2]], axis=1)
        table = jnp.asarray(moves)

        def move(place: Any, state: Any) -> Any:
            current, slots = state
            restored, stored, index = table[place]
            current = _read(slots, restored, current)
            slots = _write(slots, stored, current)
            current, _ = self.step(consts, current, _at(xs, index))
            return current, slots

        return move

    @property
    def _smooth_carry(self) -> list[int]:
        return [place for place, kind in enumerate(self.kinds[1]) if kind]

    def _pulled(self, inputs: Groups, carry_bar: Leaves, y_bar: Leaves) -> Groups:
        """Return cotangents of the smooth leaves of (consts, carry, x) of one step."""

        def of_smooth(*leaves: Leaves) -> tuple[Leaves, Leaves]:
            after, y = self.step(*map(replaced, inputs, leaves))
            passed = [after[k] for k in self._smooth_carry if k not in self.kept]
            return passed, smooth(y)

        _, pull = jax.vjp(of_smooth, *map(smooth, inputs))
        pairs = list(zip(self._smooth_carry, carry_bar, strict=True))
        consts_bar, added, x_bar = pull(([bar for k, bar in pairs if k not in self.kept], y_bar))
        carry_bar = [
            _added(bar, leaf) if k in self.kept else leaf
            for (k, bar), leaf in zip(pairs, added, strict=True)
        ]
        return consts_bar, carry_bar, x_bar

    def _placed(self, steps: np.ndarray) -> np.ndarray:
        """Return a table of the steps in the order of xs."""
        return steps[::-1] if self.reverse else steps

    def _scan(self, body: Any, init: Any, items: Any, *, back: bool = False) -> Any:
        reverse = self.reverse != back
        return lax.scan(body, init, items, length=self.length, reverse=reverse, unroll=self.unroll)


def _blank(leaf: Any) -> Any:
    """Return zeros; of keys, which have none, the leaf itself."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
        return leaf
    return trees.zeros_like(leaf)


def _at(xs: Leaves, index: Any) -> Leaves:
    return [lax.dynamic_index_in_dim(leaf, index, keepdims=False) for leaf in xs]


def _write(slots: Leaves, slot: Any, carry: Leaves) -> Leaves:
    """Return the slots with the carry in one of them; with none written where slot < 0."""
    place = jnp.maximum(slot, 0)
    return [
        lax.dynamic_update_index_in_dim(
            held, jnp.where(slot < 0, lax.dynamic_index_in_dim(held, place, keepdims=False), leaf),
            place, 0,
        )
        for held, leaf in zip(slots, carry, strict=True)
    ]  # fmt: skip


def _read(slots: Leaves, slot: Any, carry: Leaves) -> Leaves:
    """Return the state in a slot, or the carry where slot < 0."""
    place = jnp.maximum(slot, 0)
    return [
        jnp.where(slot < 0, leaf, lax.dynamic_index_in_dim(held, place, keepdims=False))
        for held, leaf in zip(slots, carry, strict=True)
    ]


def _wide(leaf: jax.Array) -> jax.Array:
    return leaf.astype(trees.wide_dtype(leaf))


def _added(total: jax.Array, part: jax.Array) -> jax.Array:
    """Add in the dtype of the sum, which is that of its terms or a wider one."""
    return total + part.astype(total.dtype)
