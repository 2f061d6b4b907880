"""What operations on whole arrays do to patterns: elementwise, moves, sums, products, blocks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jax.extend import core as jex

from adlab.jacobians._facts import Fact, Rule, dense, shape_of, size_of, width_of
from adlab.jacobians._known import ELEMENTWISE, known_zero, partly
from adlab.jacobians._moves import on_host
from adlab.jacobians._rows import (
    Pattern,
    combined,
    matrix,
    offsets,
    selected,
    spread,
    stacked,
    united,
    where,
)

__all__ = ["RULES"]


def _elementwise(equation: jex.JaxprEqn, facts: Sequence[Fact]) -> list[Pattern]:
    return [united(*_broadcast(equation, facts))]


def _broadcast(equation: jex.JaxprEqn, facts: Sequence[Fact]) -> list[Pattern]:
    """Return the operands' patterns, elements repeated along axes where the result is longer."""
    out, found = shape_of(equation.outvars[0]), []
    for atom, fact in zip(equation.invars, facts, strict=True):
        shape, pattern = shape_of(atom), fact.pattern
        if pattern is not None and shape != out:
            ids = np.arange(1, pattern.shape[0] + 1).reshape(shape)
            pattern = selected(pattern, np.broadcast_to(ids, out))
        found.append(pattern)
    return found


def _mul(equation: jex.JaxprEqn, facts: Sequence[Fact]) -> list[Pattern]:
    """Multiply; where a factor is known to be zero, nothing is left of the other."""
    (pattern,) = _elementwise(equation, facts)
    for fact in facts:
        zero = known_zero(fact.known)
        if zero is not None:
            pattern = where(pattern, np.broadcast_to(~zero, shape_of(equation.outvars[0])))
    return [pattern]


def _select(equation: jex.JaxprEqn, facts: Sequence[Fact]) -> list[Pattern]:
    """Select among cases, of which one is left where it is known which."""
    part = partly(facts[0].known)
    if part is None:
        return _elementwise(equation, facts)
    value, mask = np.asarray(part.value), np.asarray(part.mask)
    shape = shape_of(equation.outvars[0])
    cases = _broadcast(equation, facts)[1:]
    kept = [
        where(pattern, np.broadcast_to(~mask | (value == case), shape))
        for case, pattern in enumerate(cases)
    ]
    return [united(*kept)]


def _in_place(equation: jex.JaxprEqn, facts: Sequence[Fact]) -> list[Pattern]:
    """Pass every operand on in its own place."""
    del equation
    return [fact.pattern for fact in facts]


def _moved(equation: jex.JaxprEqn, facts: Sequence[Fact]) -> list[Pattern]:
    """Place elements: the operation is done on their numbers, which begin with 1."""
    sizes = [size_of(atom) for atom in equation.invars]
    ids = [
        np.zeros(shape_of(atom), np.int32)
        if fact.pattern is None
        else np.arange(start + 1, start + size + 1, dtype=np.int32).reshape(shape_of(atom))
        for atom, fact, start, size in zip(
            equation.invars, facts, offsets(sizes), sizes, strict=True
        )
    ]
    places = on_host(equation, ids)
    if places is None:
        found = equation.primitive.bind(*ids, **equation.params)
        places = found if equation.primitive.multiple_results else [found]
    rows = (
        facts[0].pattern
        if len(facts) == 1
        else stacked([fact.pattern for fact in facts], sizes, width_of(facts))
    )
    return [selected(rows, np.asarray(place)) for place in places]


def _reshaped(equation: jex.JaxprEqn, facts: Sequence[Fact]) -> list[Pattern]:
    if equation.params.get("dimensions") is not None:
        return _moved(equation, facts)
    return [facts[0].pattern]


def _reduced(equation: jex.JaxprEqn, facts: Sequence[Fact]) -> list[Pattern]:
    name = "dimensions" if "dimensions" in equation.params else "axes"
    dropped = equation.params[name]
    found = []
    for out in equation.outvars:
        shape = shape_of(out)
        patterns = []
        for atom, fact in zip(equation.invars, facts, strict=True):
            own = shape_of(atom)
            kept = [axis for axis in range(len(own)) if axis not in dropped]
            initial = equation.primitive.name == "reduce" and own == ()
            axes = () if initial else range(len(shape))
            patterns.append(spread(fact.pattern, own, kept, shape, axes))
        found.append(united(*patterns))
    return found


def _cumulative(equation: jex.JaxprEqn, facts: Sequence[Fact]) -> list[Pattern]:
    params = equation.params
    shape = shape_of(equation.invars[0])
    return [_preceding(facts[0].pattern, shape, params["axis"], reverse=params["reverse"])]


def _preceding(pattern: Pattern, shape: Sequence[int], axis: int, *, reverse: bool) -> Pattern:
    """Let each element depend on itself and those before it, or behind it, along an axis."""
    if pattern is None:
        return None
    numbers = np.arange(pattern.shape[0]).reshape(shape)
    lines = np.moveaxis(numbers, axis, -1).reshape(-1, shape[axis])
    later, earlier = np.tril_indices(shape[axis])
    if reverse:
        later, earlier = earlier, later
    return matrix(lines[:, later], lines[:, earlier], (numbers.size, numbers.size)) @ pattern


def _along(equation: jex.JaxprEqn, facts: Sequence[Fact], axes: Sequence[int]) -> list[Pattern]:
    """Mix the elements along these axes of all operands and results."""
    found = []
    for out in equation.outvars:
        kept = [k for k in range(len(shape_of(out))) if k not in axes]
        found.append(
            united(
                *(
                    spread(fact.pattern, shape_of(atom), kept, shape_of(out), kept)
                    for atom, fact in zip(equation.invars, facts, strict=True)
                )
            )
        )
    return found


def _sort(equation: jex.JaxprEqn, facts: Sequence[Fact]) -> list[Pattern]:
    return _along(equation, facts, (equation.params["dimension"],))


def _top_k(equation: jex.JaxprEqn, facts: Sequence[Fact]) -> list[Pattern]:
    rank = len(shape_of(equation.invars[0]))
    return _along(equation, facts, (equation.params.get("axis", rank - 1) % rank,))


def _fft(equation: jex.JaxprEqn, facts: Sequence[Fact]) -> list[Pattern]:
    rank = len(shape_of(equation.invars[0]))
    return dense(equation, facts, rank - len(equation.params["fft_lengths"]))


def _factorized(equation: jex.JaxprEqn, facts: Sequence[Fact]) -> list[Pattern]:
    """Let each matrix of a batch depend on its own."""
    return dense(equation, facts, len(shape_of(equation.invars[0])) - 2)


def _solved(equation: jex.JaxprEqn, facts: Sequence[Fact]) -> list[Pattern]:
    """Solve for each right-hand side by itself: the columns of the last operand."""
    shape = shape_of(equation.outvars[0])
    batch = range(len(shape) - 2)
    sides = [*batch, len(shape) - 1]
    return [
        united(*_systems(equation, facts), spread(facts[-1].pattern, shape, sides, shape, sides))
    ]


def _triangular(equation: jex.JaxprEqn, facts: Sequence[Fact]) -> list[Pattern]:
    """Solve by substitution, for each column, or row, of the last operand by itself."""
    params, shape = equation.params, shape_of(equation.outvars[0])
    forward = params["lower"] != params["transpose_a"]
    axis = len(shape) - (2 if params["left_side"] else 1)
    reverse = forward != params["left_side"]
    solved = _preceding(facts[-1].pattern, shape, axis, reverse=reverse)
    return [united(*_systems(equation, facts), solved)]


def _systems(equation: jex.JaxprEqn, facts: Sequence[Fact]) -> list[Pattern]:
    """Return how solutions depend on their matrices, each on all of its own."""
    shape = shape_of(equation.outvars[0])
    batch = range(len(shape) - 2)
    return [
        spread(fact.pattern, shape_of(atom), batch, shape, batch)
        for atom, fact in zip(equation.invars[:-1], facts[:-1], strict=True)
    ]


def _dot(equation: jex.JaxprEqn, facts: Sequence[Fact]) -> list[Pattern]:
    return [united(*(_factor(equation, facts, place) for place in (0, 1)))]


def _factor(equation: jex.JaxprEqn, facts: Sequence[Fact], place: int) -> Pattern:
    """Return how a product of arrays depends on one of them."""
    contracting, batch = equation.params["dimension_numbers"]
    shapes = [shape_of(atom) for atom in equation.invars]
    free = [
        [k for k in range(len(shape)) if k not in contracting[side] and k not in batch[side]]
        for side, shape in enumerate(shapes)
    ]
    out = shape_of(equation.outvars[0])
    pattern = facts[place].pattern
    if pattern is None:
        return None
    zero = known_zero(facts[1 - place].known)
    if zero is None:
        start = len(batch[0]) + place * len(free[0])
        axes = [*range(len(batch[0])), *range(start, start + len(free[place]))]
        return spread(pattern, shapes[place], [*batch[place], *free[place]], out, axes)

    def arranged(array: np.ndarray, side: int, last: Sequence[Sequence[int]]) -> np.ndarray:
        axes = [batch[side], *last]
        sizes = [int(np.prod([shapes[side][k] for k in part])) for part in axes]
        return np.transpose(array, [k for part in axes for k in part]).reshape(sizes)

    numbers = np.arange(pattern.shape[0]).reshape(shapes[place])
    own = arranged(numbers, place, (free[place], contracting[place]))
    mask = arranged(~zero, 1 - place, (contracting[1 - place], free[1 - place]))
    b, k, f = np.nonzero(mask)
    cols = own[b, :, k]  # (entries of the matrix, rows of this operand)
    m = np.arange(own.shape[1])
    b, f = b[:, None], f[:, None]
    m_count, f_count = own.shape[1], mask.shape[2]
    rows = (b * m_count + m) * f_count + f if place == 0 else (b * f_count + f) * m_count + m
    return combined(matrix(rows, cols, (int(np.prod(out)), len(numbers.ravel()))), pattern)


_MOVES = ("broadcast_in_dim", "concatenate", "pad", "rev", "slice", "split", "stack", "tile")
_CUMULATIVE = ("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
_REDUCTIONS = ("sum", "max", "min", "prod", "and", "or", "xor")
_FACTORS = (
    *("cholesky", "eig", "eigh", "geqrf", "hessenberg", "householder_product", "lu", "qr"),
    *("schur", "svd", "tridiagonal"),
)
_PASSED = ("device_put", "mesh_cast", "optimization_barrier", "pvary", "reshard")

RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys((*_MOVES, "transpose", "unstack"), _moved),
    **dict.fromkeys(("reshape", "squeeze", "expand_dims"), _reshaped),
    **dict.fromkeys((f"reduce_{name}" for name in _REDUCTIONS), _reduced),
    **dict.fromkeys(("reduce", "argmax", "argmin"), _reduced),
    **dict.fromkeys(_CUMULATIVE, _cumulative),
    **dict.fromkeys(_FACTORS, _factorized),
    **dict.fromkeys(_PASSED, _in_place),
    "triangular_solve": _triangular,
    "tridiagonal_solve": _solved,
    "mul": _mul,
    "select_n": _select,
    "sort": _sort,
    "top_k": _top_k,
    "fft": _fft,
    "dot_general": _dot,
}
