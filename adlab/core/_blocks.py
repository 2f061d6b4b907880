"""A fixed grid of blocks over a tree, and work that goes through a tree block by block.

What is drawn for a tree as large as a model's parameters is drawn a block at a time, used and
forgotten, and drawn again where it is needed once more. So that the numbers don't depend on who
asks for them, the grid is a function of the shapes alone: whatever the devices, the chunks, or the
order of the work, a block gets its own numbers.

A leaf of up to `CAPACITY` numbers isn't cut; such leaves share blocks, *packs*, in the order of the
tree, for a network has as many biases as matrices, and each block costs a key. A larger leaf is cut
into *tiles* of up to `CAPACITY` numbers, first along its last two axes, those along which matrices
lie on many devices, into edges of `EDGE` and more. What is left at the ends are shorter tiles.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import _shardings, trees
from adlab.core.types import Array, PyTree

__all__ = [
    "CAPACITY",
    "Block",
    "Body",
    "Grid",
    "Join",
    "Source",
    "grid_of",
    "visit",
    "visit_blocks",
]

CAPACITY = 1 << 16
"""The most numbers of a block."""
EDGE = 256
"""The longest edge of a tile along one of the last two axes, if the other is as long."""

_Shape: TypeAlias = tuple[int, ...]


class Pack(NamedTuple):
    """Small leaves that share a block, whose numbers are theirs one after the other."""

    leaves: tuple[int, ...]
    first: int
    start: int


class Tiled(NamedTuple):
    """A leaf that is cut into tiles: the number of the first, and their shape."""

    leaf: int
    tile: _Shape
    first: int
    start: int


@dataclass(frozen=True)
class Grid:
    """The blocks of a tree.

    Attributes:
      shapes: those of the leaves.
      parts: what is visited, in this order.
      count: the number of blocks.
      size: the number of numbers.
    """

    shapes: tuple[_Shape, ...]
    parts: tuple[Pack | Tiled, ...]
    count: int
    size: int


class Block(NamedTuple):
    """What is asked for: a block, or a part of it, in its place.

    Attributes:
      number: of the block in the grid; traced in loops.
      tile: the shape in which the block is drawn; a pack's is flat.
      shape: of the part that is asked for.
      inside: where that begins in the tile; may be traced.
      corner: where that begins in `whole`; may be traced.
      whole: the shape of the leaf; a pack's own.
      start: how many numbers of the tree, in the order of the grid, come before `whole`.
    """

    number: Any
    tile: _Shape
    shape: _Shape
    inside: tuple[Any, ...]
    corner: tuple[Any, ...]
    whole: _Shape
    start: int

    def cut(self, drawn: Array) -> Array:
        """Return the part that is asked for of a block as it was drawn, flat or not."""
        if self.shape == self.tile:
            return drawn.reshape(self.shape)
        return jax.lax.dynamic_slice(drawn.reshape(self.tile), self.inside, self.shape)


Source: TypeAlias = Callable[[Block], Array]
"""The numbers of a block, in its shape."""

_Terms: TypeAlias = tuple[Array, ...]

Join: TypeAlias = Callable[[Array, Array], Array]
"""Adds a term to a sum that begins with 0."""

Body: TypeAlias = Callable[..., tuple[Array | None, _Terms]]
"""(numbers, parts of trees...) of a leaf or tile -> what is written there, and terms of sums."""


def grid_of(like: PyTree) -> Grid:
    """Return the grid of a tree of arrays or shapes."""
    return _grid(tuple(tuple(np.shape(leaf)) for leaf in jax.tree.leaves(like)))


@functools.lru_cache(maxsize=256)
def _grid(shapes: tuple[_Shape, ...]) -> Grid:
    rows: list[tuple[list[int], _Shape | None]] = []
    room = 0  # in the last pack
    packed: list[int] = []
    for leaf, shape in enumerate(shapes):
        size = math.prod(shape)
        if size > CAPACITY:
            rows.append(([leaf], _tile(shape)))
        elif size <= room and packed:
            packed.append(leaf)
            room -= size
        else:
            packed, room = [leaf], CAPACITY - size
            rows.append((packed, None))
    parts: list[Pack | Tiled] = []
    first = start = 0
    for leaves, tile in rows:
        if tile is None:
            parts.append(Pack(tuple(leaves), first, start))
            first += 1
        else:
            parts.append(Tiled(leaves[0], tile, first, start))
            first += math.prod(-(-n // t) for n, t in zip(shapes[leaves[0]], tile, strict=True))
        start += sum(math.prod(shapes[leaf]) for leaf in leaves)
    return Grid(shapes, tuple(parts), first, start)


def _tile(shape: _Shape) -> _Shape:
    """Return the shape of a large leaf's tiles.

    >>> _tile((24, 512, 512)), _tile((50_257, 768)), _tile((1_000_000,)), _tile((9, 9, 64, 64))
    ((1, 256, 256), (256, 256), (65536,), (2, 8, 64, 64))
    """
    if len(shape) == 1:
        return (min(shape[0], CAPACITY),)
    rows, columns = (min(n, EDGE) for n in shape[-2:])
    columns = min(shape[-1], CAPACITY // _power(rows))
    rows = min(shape[-2], CAPACITY // _power(columns))
    room = CAPACITY // (_power(rows) * _power(columns))
    leading = []
    for n in reversed(shape[:-2]):
        edge = min(n, room)
        room //= _power(edge)
        leading.append(edge)
    return (*reversed(leading), rows, columns)


def _power(n: int) -> int:
    """Return the power of two that is n or next above it; 1 for 0."""
    return 1 << max(0, n - 1).bit_length()


def visit(
    like: Sequence[Any],
    source: Source,
    body: Body,
    *read: Sequence[Array],
    into: Sequence[Any] | None = None,
    update: bool = False,
    blank: Array | float = 0.0,
    join: Join = jnp.add,
) -> tuple[list[Array] | None, tuple[Array, ...]]:
    """Go through all blocks: return what `body` writes, as leaves, and the sums of its terms.

    Args:
      like: the leaves' shapes, with the dtypes and the layout in which `body` gets the numbers.
      source: what is drawn for a block.
      body: (numbers, *parts) -> (part that is written, or None; terms).
      *read: leaves of arrays, whose parts `body` gets.
      into: leaves, or their shapes, in whose dtypes and layout the result is written.
      update: whether `into` are arrays that are changed in place; `body` gets their parts first.
      blank: what leaves hold before they are written, if not updated: room is made for them when
        it is there.
      join: adds a term to a sum that starts at 0.
    """
    grid = grid_of(like)
    written: list[Any] = [None] * len(like)
    sums: Any = None
    for part in grid.parts:
        found: list[tuple[Any, _Terms]] = []
        if isinstance(part, Pack):
            leaves: tuple[int, ...] = part.leaves
            for leaf, numbers in zip(leaves, _packed(grid, part, source), strict=True):
                u = _shardings.like_type(numbers.astype(like[leaf].dtype), like[leaf])
                given = (into, *read) if update else read
                new, terms = body(u, *(tree[leaf] for tree in given))  # type: ignore[index]
                if into is not None and new is not None:
                    new = _shardings.like_type(new.astype(into[leaf].dtype), into[leaf])
                found.append((new, terms))
        else:
            leaves = (part.leaf,)
            own = [tree[part.leaf] for tree in read]
            start = None if into is None else into[part.leaf]
            if start is not None and not update:
                start = trees.zeros_like(start) + jnp.asarray(blank, start.dtype)
            dtype = like[part.leaf].dtype
            found = [_tiled(grid, part, source, body, own, dtype, start, update, join)]
        for leaf, (new, terms) in zip(leaves, found, strict=True):
            written[leaf] = new
            sums = terms if sums is None else tuple(map(join, sums, terms))
    return (None if into is None else written), sums


def visit_blocks(
    like: Sequence[Any], source: Source, terms: Callable[[Array], _Terms], join: Join = jnp.add
) -> _Terms:
    """Return sums over all blocks, a pack's taken as one vector."""
    grid, sums = grid_of(like), None
    for part in grid.parts:
        if isinstance(part, Pack):
            new = terms(source(_whole(grid, part)))
        else:
            dtype = trees.common_dtype(like)
            _, new = _tiled(
                grid, part, source, lambda u: (None, terms(u)), [], dtype, None, False, join
            )
        sums = new if sums is None else tuple(map(join, sums, new))
    return () if sums is None else sums


def _whole(grid: Grid, pack: Pack) -> Block:
    shape = (sum(math.prod(grid.shapes[leaf]) for leaf in pack.leaves),)
    return Block(pack.first, shape, shape, (0,), (0,), shape, pack.start)


def _packed(grid: Grid, pack: Pack, source: Source) -> Iterator[Array]:
    shapes = [grid.shapes[leaf] for leaf in pack.leaves]
    sizes = [math.prod(shape) for shape in shapes]
    flat = source(_whole(grid, pack))
    ends = itertools.accumulate(sizes)
    for shape, size, end in zip(shapes, sizes, ends, strict=True):
        piece = flat if size == len(flat) else flat[end - size : end]
        yield piece.reshape(shape)


def _tiled(
    grid: Grid,
    part: Tiled,
    source: Source,
    body: Body,
    leaves: list[Array],
    dtype: Any,
    into: Any,
    update: bool,
    join: Join,
) -> tuple[Array | None, tuple[Array, ...]]:
    """Go through the tiles of one leaf, in a loop for all that have one shape."""
    shape = grid.shapes[part.leaf]
    grids = tuple(-(-n // t) for n, t in zip(shape, part.tile, strict=True))
    at_origin = (0,) * len(shape)

    def one(place: list[Any], cell: _Shape, out: Any) -> tuple[Array | None, _Terms]:
        corner = tuple(a * t for a, t in zip(place, part.tile, strict=True))
        number = part.first + _ravelled(place, grids)
        block = Block(number, part.tile, cell, at_origin, corner, shape, part.start)
        read = [out, *leaves] if update else leaves
        u = source(block).astype(dtype)
        new, terms = body(u, *(jax.lax.dynamic_slice(a, corner, cell) for a in read))
        if out is not None and new is not None:
            out = jax.lax.dynamic_update_slice(out, new.astype(out.dtype), corner)
        return out, terms

    carry: Any = None
    for region in _regions(shape, part.tile):
        firsts, counts, cell = zip(*region, strict=True)

        def step(
            j: Any, carry: Any, firsts: Any = firsts, counts: Any = counts, cell: Any = cell
        ) -> Any:
            out, sums = carry
            place = [a + b for a, b in zip(firsts, _unravelled(j, counts), strict=True)]
            out, terms = one(place, cell, out)
            return out, tuple(map(join, sums, terms))

        if carry is None:
            carry = _started(functools.partial(one, [0] * len(shape), cell), into)
        count = math.prod(counts)
        carry = step(0, carry) if count == 1 else jax.lax.fori_loop(0, count, step, carry)
    out, sums = carry
    return out, sums


def _started(one: Callable[[Any], tuple[Any, _Terms]], out: Any) -> tuple[Any, _Terms]:
    """Return what a loop begins with: `out`, of the type it will have, and sums of nothing."""
    written, terms = jax.eval_shape(one, out)
    if out is not None:
        out = _shardings.like_type(out, written)
    return out, trees.zeros_like(terms)


def _regions(shape: _Shape, tile: _Shape) -> Iterator[tuple[tuple[int, int, int], ...]]:
    """Yield where tiles of one shape lie: along each axis (first, how many, their edge)."""
    axes = []
    for n, edge in zip(shape, tile, strict=True):
        full, rest = divmod(n, edge)
        axes.append([(0, full, edge), *([(full, 1, rest)] if rest else [])])
    return itertools.product(*axes)


def _unravelled(j: Any, counts: _Shape) -> list[Any]:
    place: list[Any] = []
    for n in reversed(counts):
        place.append(j % n if n > 1 else 0)
        j = j // n if n > 1 else j
    return place[::-1]


def _ravelled(place: Sequence[Any], counts: _Shape) -> Any:
    number: Any = 0
    for a, n in zip(place, counts, strict=True):
        number = number * n + a
    return number
