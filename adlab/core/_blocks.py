"""A fixed grid of blocks over a tree, and work that goes through a tree block by block.

What is drawn for a tree as large as a model's parameters is drawn a block at a time, used and
forgotten, and drawn again where it is needed once more. So that the numbers don't depend on who
asks for them, the grid is a function of the shapes alone: whatever the devices, the chunks, or the
order of the work, a block gets its own numbers.

A leaf of up to `CAPACITY` numbers isn't cut; such leaves share blocks, *packs*, in the order of the
tree, for a network has as many biases as matrices, and each block costs a key. A larger leaf is cut
into *tiles* of up to `CAPACITY` numbers, first along its last two axes, those along which matrices
lie on many devices, into edges of `EDGE` and more. Tiles at the ends are drawn whole, and cut off.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import _shardings, trees
from adlab.core._cells import Axis, ravelled, unravelled
from adlab.core.types import Array, PyTree

__all__ = [
    "CAPACITY",
    "Block",
    "Body",
    "Grid",
    "Join",
    "Source",
    "grid_of",
    "total",
    "visit",
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
"""The numbers of a block, in its shape. A `jax.tree_util.Partial`, if it holds arrays."""

_Terms: TypeAlias = tuple[Array, ...]

Join: TypeAlias = Callable[[Array, Array], Array]
"""Adds a term to a sum that begins with 0."""

Body: TypeAlias = Callable[..., tuple[Array | None, _Terms]]
"""(numbers, parts of trees...) of a leaf or tile -> what is written there, and terms of sums.

A `jax.tree_util.Partial`, if it holds arrays."""


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
    ((1, 256, 256), (256, 256), (65536,), (1, 9, 64, 64))
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
            shape = grid.shapes[part.leaf]
            tiles = _Leaf(part, shape, like[part.leaf], source, body, update, join)
            found = [tiles.visit(start, own)]
        for leaf, (new, terms) in zip(leaves, found, strict=True):
            written[leaf] = new
            sums = terms if sums is None else tuple(map(join, sums, terms))
    return (None if into is None else written), sums


def total(like: Sequence[Any], source: Source, term: Callable[[Array], Array]) -> Array:
    """Return the sum of a term over all blocks, a pack's taken as one vector."""
    grid, found = grid_of(like), []
    for part in grid.parts:
        if isinstance(part, Pack):
            found.append(term(source(_whole(grid, part))))
        else:
            shape, body = grid.shapes[part.leaf], lambda u: (None, (term(u),))
            tiles = _Leaf(part, shape, like[part.leaf], source, body, False, jnp.add)
            found.append(tiles.visit(None, [])[1][0])
    return functools.reduce(jnp.add, found)


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


@dataclass(frozen=True)
class _Leaf:
    """How to go through the tiles of one leaf: see `visit`."""

    part: Tiled
    shape: _Shape
    like: Any
    source: Source
    body: Body
    update: bool
    join: Join

    def visit(self, into: Any, read: list[Array]) -> tuple[Array | None, _Terms]:
        """Return what is written, and the sums: on each device of its own part of the leaf."""
        whole = [Axis(0, n, t, t) for n, t in zip(self.shape, self.part.tile, strict=True)]
        layout = _shardings.divided(self.like)
        if layout is None or not self._fits(layout[0], layout[2]):
            return self._window(whole, into, read)
        mesh, spec, names = layout
        every = tuple(itertools.chain(*names))
        combined: Any = jax.lax.pmax if self.join is jnp.maximum else jax.lax.psum

        # On a mesh with explicit axes nothing may be closed over: what functions hold goes along.
        held, structure = jax.tree.flatten((self.source, self.body))
        arrays = [leaf if isinstance(leaf, Array) else None for leaf in held]

        def local(into: Any, read: list[Array], arrays: list[Any]) -> tuple[Any, Any]:
            given = [b if a is None else a for a, b in zip(arrays, held, strict=True)]
            source, body = jax.tree.unflatten(structure, given)
            axes = list(map(Axis.of_device, self.shape, self.part.tile, names))
            own = replace(self, source=source, body=body)
            out, terms = own._window(axes, into, read)
            return out, tuple(combined(term, every) for term in terms)

        of_leaf, of_all = jax.tree.map(lambda _: spec, (into, read)), jax.P()
        along = jax.tree.map(lambda _: of_all, arrays)
        # One spec stands for all sums.
        found: tuple[Any, _Terms] = jax.shard_map(
            local, mesh=mesh, in_specs=(*of_leaf, along), out_specs=(of_leaf[0], of_all)
        )(into, read, arrays)
        return found

    def _fits(self, mesh: Any, names: tuple[tuple[str, ...], ...]) -> bool:
        """Tell whether devices' parts and tiles have large cells in common: each draws a tile.

        If not, XLA moves what it must; but with explicit axes it can't be left to it.
        """
        parts = [math.prod(mesh.shape[name] for name in several) for several in names]
        uneven = any(n % k for n, k in zip(self.shape, parts, strict=True))
        small = any(
            k > 1 and math.gcd(n // k, edge) < min(n // k, edge) / 4
            for n, k, edge in zip(self.shape, parts, self.part.tile, strict=True)
        )
        return _shardings.explicit(self.like) is not None or not (uneven or small)

    def _window(self, axes: list[Axis], into: Any, read: list[Array]) -> tuple[Any, _Terms]:
        """Go through a part of the leaf: in a loop for all cells of one shape."""
        carry: Any = None
        origin = (0,) * len(axes)
        for region in itertools.product(*(axis.regions() for axis in axes)):
            firsts, counts, cell = zip(*region, strict=True)

            def step(
                j: Any, carry: Any, firsts: Any = firsts, counts: Any = counts, cell: Any = cell
            ) -> Any:
                out, sums = carry
                steps = zip(firsts, unravelled(j, counts), cell, strict=True)
                corner = tuple(a + b * n for a, b, n in steps)
                out, terms = self._cell(axes, corner, cell, read, out)
                return out, tuple(map(self.join, sums, terms))

            if carry is None:
                carry = _started(functools.partial(self._cell, axes, origin, cell, read), into)
            count = math.prod(counts)
            carry = step(0, carry) if count == 1 else jax.lax.fori_loop(0, count, step, carry)
        out, sums = carry
        return out, sums

    def _cell(
        self, axes: list[Axis], corner: tuple[Any, ...], cell: _Shape, read: list[Array], out: Any
    ) -> tuple[Any, _Terms]:
        """Write a tile, or a part of one, at a corner within the window."""
        tile, pairs = self.part.tile, list(zip(axes, corner, strict=True))
        counts = tuple(-(-n // t) for n, t in zip(self.shape, tile, strict=True))
        number = self.part.first + ravelled([axis.tile_at(at) for axis, at in pairs], counts)
        inside = tuple(axis.inside(at) for axis, at in pairs)
        place = tuple(axis.origin + at for axis, at in pairs)
        block = Block(number, tile, cell, inside, place, self.shape, self.part.start)
        u = self.source(block).astype(self.like.dtype)
        given = [out, *read] if self.update else read
        new, terms = self.body(u, *(jax.lax.dynamic_slice(a, corner, cell) for a in given))
        if out is not None and new is not None:
            out = jax.lax.dynamic_update_slice(out, new.astype(out.dtype), corner)
        return out, terms


def _started(one: Callable[[Any], tuple[Any, _Terms]], out: Any) -> tuple[Any, _Terms]:
    """Return what a loop begins with: `out`, of the type it will have, and sums of nothing."""
    written, terms = jax.eval_shape(one, out)
    if out is not None:
        out = _shardings.like_type(out, written)
    return out, trees.zeros_like(terms)
