"""Which input numbers each number of a program depends on: a pattern per variable.

Patterns go through a program equation by equation. A rule says what the operation of an equation
does to them; of one that has no rule each result depends on all elements of all operands. A program
that is a function calls others, which are gone through in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jax.extend import core as jex

from adlab.core.jaxprs import CALLS, CHECKPOINTS, CUSTOM_RULES, called, walk
from adlab.jacobians import _indexed, _loops, _structure, _windows
from adlab.jacobians._facts import UNKNOWN, Fact, dense, size_of
from adlab.jacobians._known import constant, known_results

__all__ = ["flow"]

_INLINED = CALLS | CHECKPOINTS | CUSTOM_RULES
_RULES = _structure.RULES | _indexed.RULES | _windows.RULES


def flow(program: jex.ClosedJaxpr, inputs: Sequence[Fact]) -> list[Fact]:
    """Return what is known of a program's outputs from what is known of its inputs."""
    return walk(program, inputs, _step, literal=_of_constant, constant=_of_constant)


def _of_constant(value: Any) -> Fact:
    return Fact(None, constant(value))


def _step(equation: jex.JaxprEqn, facts: list[Fact]) -> list[Fact]:
    name = equation.primitive.name
    if not any(size_of(out) for out in equation.outvars):
        return [UNKNOWN] * len(equation.outvars)
    if equation.invars and all(fact.pattern is fact.known is None for fact in facts):
        return [UNKNOWN] * len(equation.outvars)
    if name in _INLINED:
        return flow(called(equation), facts)
    if all(fact.pattern is None for fact in facts):
        known = known_results(equation, [fact.known for fact in facts])
        return [Fact(None, value) for value in known]
    if name in _loops.RULES:
        return _loops.RULES[name](equation, facts, flow)
    patterns = _RULES.get(name, dense)(equation, facts)
    return [Fact(pattern, None) for pattern in patterns]
