"""What is known of a variable, and the rule for what nothing is known of."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

from jax.extend import core as jex

from adlab.jacobians._known import Known
from adlab.jacobians._rows import Pattern, spread, united

__all__ = ["UNKNOWN", "Fact", "Rule", "dense", "shape_of", "size_of", "width_of"]


class Fact(NamedTuple):
    """What is known of a variable.

    pattern: the inputs that each element depends on; None where it depends on none.
    known: its value, where that is independent of the inputs and made of constants.
    """

    pattern: Pattern
    known: Known | None


UNKNOWN = Fact(None, None)
Rule: TypeAlias = Callable[[jex.JaxprEqn, Sequence[Fact]], list[Pattern]]


def shape_of(atom: Any) -> tuple[int, ...]:
    """Return the shape of a variable or literal; that of a scalar for what is no array."""
    return tuple(getattr(atom.aval, "shape", ()))


def size_of(atom: Any) -> int:
    """Return how many elements a variable has."""
    return math.prod(shape_of(atom))


def width_of(facts: Sequence[Fact]) -> int:
    """Return how many inputs are counted, of which at least one fact depends on some."""
    return next(int(fact.pattern.shape[1]) for fact in facts if fact.pattern is not None)


def dense(equation: jex.JaxprEqn, facts: Sequence[Fact], batch: int = 0) -> list[Pattern]:
    """Let every result depend on all elements of all operands, within the first `batch` axes."""
    kept = range(batch)
    return [
        united(
            *(
                spread(fact.pattern, shape_of(atom), kept, shape_of(out), kept)
                for atom, fact in zip(equation.invars, facts, strict=True)
            )
        )
        for out in equation.outvars
    ]
