"""Probes that are held, and probes that are drawn again block by block wherever they are needed.

A probe as large as the parameters of a model is as heavy as they are. What is asked of it, though,
goes part by part: x + h u, <x' - x, u>, max |u_i|, the sum of s_i u_i over several probes. So it is
enough to keep its key, and to draw each part whenever its turn comes (Malladi et al. 2023,
arXiv:2305.17333, do so for whole matrices); drawing costs little beside a network's values.
"""

from __future__ import annotations

import abc
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from adlab.core import _blocks, trees
from adlab.core._blocks import Block, Body, Join
from adlab.core._programs import one_program
from adlab.core.nodes import register
from adlab.core.types import Array, Key, PyTree

__all__ = ["BlockLaw", "Held", "Probe", "Redrawn", "added", "redrawn", "summed"]


class BlockLaw(abc.ABC):
    """A law whose probes are drawn block by block."""

    signs: bool = False
    """Whether all numbers are 1 or -1."""

    @abc.abstractmethod
    def words(self, key: Key, count: int, dtype: np.dtype) -> Array:
        """Draw the random words of `count` numbers."""

    def shared(self, probe: Redrawn) -> PyTree:
        """Return what all blocks of a probe have in common; nothing, if not said otherwise."""
        del probe
        return ()

    @abc.abstractmethod
    def part(self, probe: Redrawn, block: Block) -> Array:
        """Return what is asked of a block, in the widest dtype of the tree."""


class Probe(abc.ABC):
    """A probe: a tree of numbers in at least single precision."""

    signs: bool
    """Whether all of them are 1 or -1."""

    @abc.abstractmethod
    def visit(
        self, body: Body, *read: PyTree, into: PyTree = None, update: bool = False,
        join: Join = jnp.add,
    ) -> tuple[PyTree, tuple[Array, ...]]:  # fmt: skip
        """Go through it part by part: as `_blocks.visit`, with trees for leaves."""

    def tree(self, like: PyTree) -> PyTree:
        """Return the whole, with the structure, dtypes and layout of `like`."""
        return self.visit(lambda u: (u, ()), into=like)[0]


@register("held")
@dataclass(frozen=True, eq=False)
class Held(Probe):
    """A probe that is there."""

    held: PyTree
    signs: bool = False

    def visit(
        self, body: Body, *read: PyTree, into: PyTree = None, update: bool = False,
        join: Join = jnp.add,
    ) -> tuple[PyTree, tuple[Array, ...]]:  # fmt: skip
        parts, structure = jax.tree.flatten(self.held)
        given = [jax.tree.leaves(tree) for tree in ((into, *read) if update else read)]
        found = [body(*each) for each in zip(parts, *given, strict=True)]
        sums = found[0][1]
        for _, terms in found[1:]:
            sums = tuple(map(join, sums, terms))
        if into is None:
            return None, sums
        return trees.cast_like(jax.tree.unflatten(structure, [new for new, _ in found]), into), sums


@register("key", "words", "state")
@dataclass(frozen=True, eq=False)
class Redrawn(Probe):
    """A probe of which there is but the key.

    Attributes:
      law: its law.
      like: shapes, dtypes and layout of its leaves, as `trees.probe_like` has them.
      structure: of the tree.
      key: its key.
      words: its random words, where the tree is one block and they were drawn beforehand.
      state: what all blocks share; None until it is known.
    """

    law: BlockLaw
    like: tuple[Any, ...]
    structure: Any
    key: Key
    words: Array | None
    state: PyTree

    @property
    def signs(self) -> bool:  # type: ignore[override]
        return self.law.signs

    @property
    def dtype(self) -> np.dtype:
        """The dtype in which blocks are drawn."""
        return trees.common_dtype(self.like)

    @property
    def grid(self) -> _blocks.Grid:
        """Its blocks."""
        return _blocks.grid_of(self.like)

    def key_of(self, block: Block) -> Key:
        """Return the key of a block."""
        return self.key if self.grid.count == 1 else jax.random.fold_in(self.key, block.number)

    def visit(
        self, body: Body, *read: PyTree, into: PyTree = None, update: bool = False,
        join: Join = jnp.add,
    ) -> tuple[PyTree, tuple[Array, ...]]:  # fmt: skip
        leaves = None if into is None else jax.tree.leaves(into)
        written, sums = _blocks.visit(
            self.like, Partial(_part, self), body,
            *map(jax.tree.leaves, read), into=leaves, update=update, join=join,
        )  # fmt: skip
        return None if written is None else jax.tree.unflatten(self.structure, written), sums


def redrawn(law: BlockLaw, like: PyTree, key: Key, words: Array | None = None) -> Redrawn:
    """Return the probe of a law that has this key, in the shapes of `like`."""
    leaves, structure = jax.tree.flatten(trees.probe_like(like))
    if words is None and _blocks.grid_of(leaves).count == 1:  # which are asked for more than once
        words = law.words(key, trees.size(leaves), trees.common_dtype(leaves))
    return _shared(Redrawn(law, tuple(leaves), structure, key, words, None))


@one_program()
def _shared(probe: Redrawn) -> Redrawn:
    return replace(probe, state=probe.law.shared(probe))


@one_program()
def summed(stack: Redrawn, weights: Array, into: PyTree) -> PyTree:
    """Return the sum of w_i u_i in the dtypes and the layout of `into`.

    No more than a block of it is held in more digits than that.

    Args:
      stack: the probes u_i, whose data have a first axis.
      weights: w_i, (m,).
      into: arrays, or their shapes.
    """
    return _combined(stack, weights, lambda u: (u, ()), into, update=False)


@one_program()
def added(stack: Redrawn, weights: Array, x: PyTree) -> PyTree:
    """Return x plus the sum of w_i u_i, in the place of x if that is given away."""
    return _combined(stack, weights, lambda u, at: (at.astype(u.dtype) + u, ()), x, update=True)


def _combined(stack: Redrawn, weights: Array, body: Body, into: PyTree, *, update: bool) -> PyTree:
    leaves, source = jax.tree.leaves(into), Partial(_weighted, stack, weights)
    written, _ = _blocks.visit(
        stack.like, source, body, into=leaves, update=update, blank=weights[0]
    )
    return jax.tree.unflatten(stack.structure, written or [])


def _part(probe: Redrawn, block: Block) -> Array:
    return probe.law.part(probe, block)


def _weighted(stack: Redrawn, weights: Array, block: Block) -> Array:
    """Return a block of the sum of w_i u_i."""

    def add(i: Any, total: Array) -> Array:
        return total + weights[i].astype(stack.dtype) * _part(
            jax.tree.map(lambda a: a[i], stack), block
        )

    if len(weights) == 1:
        return add(0, jnp.zeros((), stack.dtype))
    start = jax.eval_shape(lambda: add(0, jnp.zeros(block.shape, stack.dtype)))
    total: Array = jax.lax.fori_loop(0, len(weights), add, trees.zeros_like(start))
    return total
