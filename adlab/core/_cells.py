"""Windows into arrays along each axis, and the tiles and cells that lie in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax

__all__ = ["Axis", "ravelled", "unravelled"]


@dataclass(frozen=True)
class Axis:
    """A window along one axis: where it begins, its length, the tiles' edge, and that of cells."""

    origin: Any
    size: int
    edge: int
    cell: int

    @classmethod
    def of_device(cls, size: int, edge: int, names: tuple[str, ...]) -> Axis:
        """Return the part of this device, in cells that divide both its part and a tile."""
        if not names:
            return cls(0, size, edge, edge)
        length = size // math.prod(jax.lax.axis_size(name) for name in names)
        return cls(jax.lax.axis_index(names) * length, length, edge, math.gcd(length, edge))

    def regions(self) -> list[tuple[int, int, int]]:
        """Return where cells of one length lie: first place, how many, their length."""
        full, rest = divmod(self.size, self.cell)
        return [(0, full, self.cell), *([(full * self.cell, 1, rest)] if rest else [])]

    def tile_at(self, place: Any) -> Any:
        """Return the tile that a place of the window lies in."""
        return (self.origin + place) // self.edge

    def inside(self, place: Any) -> Any:
        """Return where in the tile."""
        return (self.origin + place) % self.edge


def unravelled(j: Any, counts: tuple[int, ...]) -> list[Any]:
    """Return the place in a grid of a number in the order of its rows."""
    place: list[Any] = []
    for n in reversed(counts):
        place.append(j % n if n > 1 else 0)
        j = j // n if n > 1 else j
    return place[::-1]


def ravelled(place: Sequence[Any], counts: tuple[int, ...]) -> Any:
    """Return the number of a place, in the order of the rows."""
    number: Any = 0
    for a, n in zip(place, counts, strict=True):
        number = number * n + a
    return number
