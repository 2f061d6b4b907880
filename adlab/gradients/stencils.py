"""Finite-difference stencils as data: weighted sums of difference quotients, exact rationals."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

__all__ = ["STENCILS", "SchemeName", "Stencil"]

SchemeName = Literal["forward", "backward", "central", "richardson", "complex"]


@dataclass(frozen=True)
class Stencil:
    """fun'(x) = sum_j w_j [fun(x + a_j h) - fun(x + b_j h)] / ((a_j - b_j) h) + O(h^order).

    Attributes:
      quotients: one (a_j, b_j, w_j) per difference quotient.
      order: the power of the step in the truncation error.
    """

    quotients: tuple[tuple[Fraction, Fraction, Fraction], ...]
    order: int


def _stencil(order: int, *quotients: tuple[str, str, str]) -> Stencil:
    return Stencil(tuple((Fraction(a), Fraction(b), Fraction(w)) for a, b, w in quotients), order)


STENCILS: dict[str, Stencil] = {
    "forward": _stencil(1, ("1", "0", "1")),
    "backward": _stencil(1, ("0", "-1", "1")),
    "central": _stencil(2, ("1", "-1", "1")),
    "richardson": _stencil(4, ("1/2", "-1/2", "4/3"), ("1", "-1", "-1/3")),
}
