"""Mathematics beside arrows and below pictures, as long as there is room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adlab.drawing._geometry import fitted, mathematics
from adlab.graphs import formulas

__all__ = ["partials", "shortened"]

_READ = 18.0  # points that are read from the last row


def shortened(sides: Sequence[str], size: float, room: float, tall: bool) -> str:
    """Return an equation without as many of its sides, from the second on, as have no room.

    It may have to be written a twentieth smaller than `size`, but not so small that a hall can't
    read what it could.
    """
    rest, least = list(sides), min(size, max(_READ, 0.95 * size))
    while True:
        equation = " = ".join(rest)
        string = mathematics(equation.replace(r"\frac", r"\dfrac") if tall else equation,
                                      equation)  # fmt: skip
        if fitted(string, size, room) >= least or len(rest) <= 2:
            return string
        del rest[1]  # the middle sides say the same less directly


def partials(parts: Sequence[Any], *, full: bool) -> str:
    """Return the local partials along an arrow: formula and value, or the value alone."""
    formula = [part.formula["latex"] for part in parts if part.formula]
    values = [part.value for part in parts if part.value is not None]
    value = formulas.number(sum(values), "latex", 4) if parts and len(values) == len(parts) else ""
    sides = [" + ".join(formula)] if len(formula) == len(parts) and (full or not value) else []
    if not any([*sides, value]):
        return ""
    return mathematics(" = ".join(dict.fromkeys(side for side in (*sides, value) if side)), value)
