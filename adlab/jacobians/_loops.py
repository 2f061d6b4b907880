"""What loops, branches and linear solves do to patterns: programs inside of programs.

The body of a loop is gone through once, with its own inputs counted: that gives a pattern B of what
it hands on in what it takes. Round t of a scan is then P(t + 1) = B P(t), a product of patterns.
Where numbers that are known change from round to round, as an index that counts up, a short loop is
gone through round by round instead. A loop of unknown length hands on whatever any number of rounds
can reach, (1 + B + B^2 + ...) P(0).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from jax.extend import core as jex
from scipy import sparse

from adlab.core.jaxprs import closed, equations
from adlab.jacobians._facts import UNKNOWN, Fact, dense, shape_of, size_of, width_of
from adlab.jacobians._known import constant, known_value
from adlab.jacobians._rounds import Rounds, carried, reached, repeated
from adlab.jacobians._rows import Pattern, combined, identity, offsets, selected, stacked, united

__all__ = ["RULES"]

Flow: TypeAlias = Callable[[jex.ClosedJaxpr, Sequence[Fact]], list[Fact]]
UNROLLED = 20_000  # equations that a loop may be gone through round by round


@dataclass(frozen=True)
class _Body:
    """The pattern of what a body returns in what it takes, in blocks by the kinds of both.

    local: a matrix for each output, whose columns are the inputs' elements laid end to end.
    starts: where each input begins among them, and the end of all.
    """

    local: list[Pattern]
    starts: list[int]

    def block(self, outputs: slice, sizes: Sequence[int], inputs: slice) -> Pattern:
        """Return the pattern of some inputs' elements in some of the outputs, or None.

        sizes: of all outputs.
        """
        places = range(*inputs.indices(len(self.starts) - 1))
        if not places or all(part is None for part in self.local[outputs]):
            return None
        found = stacked(self.local[outputs], sizes[outputs], self.starts[-1])
        found = found[:, self.starts[places[0]] : self.starts[places[-1] + 1]]
        return found if found.nnz else None


def _body(program: jex.ClosedJaxpr, facts: Sequence[Fact], flow: Flow, carries: slice) -> _Body:
    """Go through a body once; what it carries from a round to the next is of unknown value.

    facts: what is known of its inputs in every round. A carry depends on inputs as soon as what is
    carried in its place does.
    """
    atoms = program.jaxpr.invars
    sizes = [size_of(atom) for atom in atoms]
    starts = [*offsets(sizes), sum(sizes)]
    depending = [fact.pattern is not None for fact in facts]
    places = range(*carries.indices(len(facts)))
    while True:
        seeds = [
            Fact(identity(size, start, starts[-1]), None) if moves else Fact(None, fact.known)
            for fact, moves, size, start in zip(facts, depending, sizes, starts, strict=False)
        ]
        found = [fact.pattern for fact in flow(program, seeds)]
        new = [k for out, k in enumerate(places) if found[out] is not None and not depending[k]]
        if not new:
            return _Body(found, starts)
        for k in new:
            depending[k] = True


def _work(program: Any) -> int:
    return sum(1 for _ in equations(program.jaxpr))


def _scan(equation: jex.JaxprEqn, facts: list[Fact], flow: Flow) -> list[Fact]:
    params, program = equation.params, closed(equation.params["jaxpr"])
    length, (consts, carries) = params["length"], _kinds(equation, program)
    if length == 0:
        return [*facts[consts : consts + carries], *[UNKNOWN] * (len(equation.outvars) - carries)]
    changing = any(fact.known is not None for fact in facts[consts:])
    if changing and length * _work(program) <= UNROLLED:
        return _unrolled(equation, facts, flow)
    return _multiplied(equation, facts, flow)


def _kinds(equation: jex.JaxprEqn, program: jex.ClosedJaxpr) -> tuple[int, int]:
    """Return how many operands of a scan are constants, and how many results are carried.

    Rows, and what is returned in each round, have an axis more outside of the body than inside.
    """
    inner = program.jaxpr

    def same(outside: Sequence[Any], inside: Sequence[Any]) -> int:
        return sum(
            len(shape_of(a)) == len(shape_of(b)) for a, b in zip(outside, inside, strict=True)
        )

    carries = same(equation.outvars, inner.outvars)
    return same(equation.invars, inner.invars) - carries, carries


def _unrolled(equation: jex.JaxprEqn, facts: list[Fact], flow: Flow) -> list[Fact]:
    """Go through a scan's body once in each round."""
    params, program = equation.params, closed(equation.params["jaxpr"])
    length, (consts, carries) = params["length"], _kinds(equation, program)
    carry, rows = facts[consts : consts + carries], facts[consts + carries :]
    values = [known_value(fact.known) for fact in rows]
    order = range(length)[::-1] if params["reverse"] else range(length)
    results: list[list[Fact]] = [[]] * length
    for t in order:
        row = [_row(fact, value, t, length) for fact, value in zip(rows, values, strict=True)]
        found = flow(program, [*facts[:consts], *carry, *row])
        carry, results[t] = found[:carries], found[carries:]
    return [*carry, *(_joined(list(column)) for column in zip(*results, strict=True))]


def _row(fact: Fact, value: Any, t: int, length: int) -> Fact:
    if fact.pattern is None:
        return Fact(None, None if value is None else constant(value[t]))
    size = fact.pattern.shape[0] // length
    return Fact(fact.pattern[t * size : (t + 1) * size], None)


def _joined(facts: list[Fact]) -> Fact:
    """Return the pattern of results of all rounds, one after another."""
    if all(fact.pattern is None for fact in facts):
        return UNKNOWN
    size = next(fact.pattern.shape[0] for fact in facts if fact.pattern is not None)
    patterns = [fact.pattern for fact in facts]
    return Fact(stacked(patterns, [size] * len(facts), width_of(facts)), None)


def _multiplied(equation: jex.JaxprEqn, facts: list[Fact], flow: Flow) -> list[Fact]:
    """Go through a scan's body once, and multiply its pattern in each round.

    Rows of all rounds are laid end to end, those of one round side by side.
    """
    params, program = equation.params, closed(equation.params["jaxpr"])
    length, (consts, carries) = params["length"], _kinds(equation, program)
    width, after = width_of(facts), consts + carries
    # rows are known, if at all, by values that change
    inner = [*facts[:consts], *(Fact(fact.pattern, None) for fact in facts[consts:])]
    body = _body(program, inner, flow, slice(consts, after))
    sizes = [size_of(atom) for atom in program.jaxpr.invars]
    out_sizes = [size_of(atom) for atom in program.jaxpr.outvars]
    held = _stack(facts[:consts], sizes[:consts], width)
    first = _stack(facts[consts:after], sizes[consts:after], width)
    totals = [size * length for size in sizes[after:]]
    order = _by_rounds(sizes[after:], length, params["reverse"])
    rows = selected(_stack(facts[after:], totals, width), order + 1)
    kinds = (slice(0, consts), slice(consts, after), slice(after, None))
    to_held, to_carry, to_row = (body.block(slice(carries), out_sizes, kind) for kind in kinds)
    held_seen, seen, row_seen = (body.block(slice(carries, None), out_sizes, k) for k in kinds)
    base, drive = combined(to_held, held), combined(_each(to_row, length), rows)
    size = sum(out_sizes[:carries])
    looked, last = carried(Rounds(to_carry, seen, first, base, drive, length, size, width))
    results = united(
        repeated(combined(held_seen, held), length),
        looked,
        combined(_each(row_seen, length), rows),
    )
    places = np.argsort(_by_rounds(out_sizes[carries:], length, params["reverse"]))
    ends = [size * length for size in out_sizes[carries:]]
    return [*_cut(last, out_sizes[:carries]), *_cut(selected(results, places + 1), ends)]


def _by_rounds(sizes: Sequence[int], length: int, reverse: bool) -> Any:
    """Return where rows lie that belong to a round, of arrays of all rounds laid end to end.

    Rounds are in the order in which they are done.
    """
    starts = offsets([size * length for size in sizes])
    parts = [
        start + np.arange(size * length).reshape(length, size)
        for start, size in zip(starts, sizes, strict=True)
    ]
    lines = np.concatenate([np.zeros((length, 0), np.int64), *parts], axis=1)
    return (lines[::-1] if reverse else lines).ravel()


def _stack(facts: Sequence[Fact], sizes: Sequence[int], width: int) -> Pattern:
    if all(fact.pattern is None for fact in facts):
        return None
    return stacked([fact.pattern for fact in facts], sizes, width)


def _cut(pattern: Pattern, sizes: Sequence[int]) -> list[Fact]:
    """Return the facts of several arrays whose patterns are laid end to end."""
    if pattern is None:
        return [UNKNOWN] * len(sizes)
    pieces = [
        pattern[start : start + size] for start, size in zip(offsets(sizes), sizes, strict=True)
    ]
    return [Fact(piece, None) if piece.nnz else UNKNOWN for piece in pieces]


def _each(local: Pattern, length: int) -> Pattern:
    """Return the pattern of a step that is done in each round by itself."""
    return None if local is None else sparse.kron(identity(length, 0, length), local, "csr")


def _while(equation: jex.JaxprEqn, facts: list[Fact], flow: Flow) -> list[Fact]:
    """Go through a loop round by round as long as it is known that it goes on, then through any."""
    params = equation.params
    condition, program = closed(params["cond_jaxpr"]), closed(params["body_jaxpr"])
    start = params["cond_nconsts"]
    after = start + params["body_nconsts"]
    asked, held, carry = facts[:start], facts[start:after], facts[after:]
    for _ in range(UNROLLED // max(_work(condition) + _work(program), 1)):
        (goes_on,) = flow(condition, [*asked, *carry])
        known = known_value(goes_on.known)
        if known is None:
            break
        if not known:
            return carry
        carry = flow(program, [*held, *carry])
    carry = _any_rounds(program, held, carry, flow)
    (goes_on,) = flow(condition, [*asked, *carry])
    if goes_on.pattern is None:
        return carry
    return [Fact(pattern, None) for pattern in dense(equation, facts)]


def _any_rounds(
    program: jex.ClosedJaxpr, held: list[Fact], carry: list[Fact], flow: Flow
) -> list[Fact]:
    inner = [*held, *(Fact(fact.pattern, None) for fact in carry)]
    if all(fact.pattern is None for fact in inner):
        return [UNKNOWN] * len(carry)
    width, count = width_of(inner), len(held)
    body = _body(program, inner, flow, slice(count, None))
    sizes = [size_of(atom) for atom in program.jaxpr.invars]
    every = slice(None)
    to_held = body.block(every, sizes[count:], slice(0, count))
    to_carry = body.block(every, sizes[count:], slice(count, None))
    base = combined(to_held, _stack(held, sizes[:count], width))
    first = united(_stack(carry, sizes[count:], width), base)
    return _cut(None if first is None else reached(to_carry, first), sizes[count:])


def _cond(equation: jex.JaxprEqn, facts: list[Fact], flow: Flow) -> list[Fact]:
    """Take the branch that is known to be taken, or all of them."""
    if facts[0].pattern is not None:
        return [Fact(pattern, None) for pattern in dense(equation, facts)]
    branches, index = equation.params["branches"], known_value(facts[0].known)
    if index is not None:
        branches = [branches[min(max(int(index), 0), len(branches) - 1)]]
    found = [flow(closed(branch), facts[1:]) for branch in branches]
    if len(found) == 1:
        return found[0]
    return [
        Fact(united(*(fact.pattern for fact in facts)), None) for facts in zip(*found, strict=True)
    ]


def _linear_solve(equation: jex.JaxprEqn, facts: list[Fact], flow: Flow) -> list[Fact]:
    """Go through the solver, which JAX applies to the right-hand side's derivative as well."""
    lengths, programs = equation.params["const_lengths"], equation.params["jaxprs"]
    count = sum(lengths)
    if any(fact.pattern is not None for fact in facts[:count]):
        return [Fact(pattern, None) for pattern in dense(equation, facts)]
    start = lengths.matvec + lengths.vecmat
    held = facts[start : start + lengths.solve]
    return flow(closed(programs.solve), [*held, *facts[count:]])


RULES: dict[str, Callable[[jex.JaxprEqn, list[Fact], Flow], list[Fact]]] = {
    "scan": _scan,
    "while": _while,
    "cond": _cond,
    "custom_linear_solve": _linear_solve,
}
