"""What operations with indices do to patterns: slices, gathers and scatters.

Where an index is known it is followed. Along an axis whose indices aren't, any element may be
meant: elements along it are first united to groups, and the index is taken to be 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core as jex

from adlab.jacobians._facts import Fact, Rule, dense, shape_of, size_of
from adlab.jacobians._known import known_value, partly
from adlab.jacobians._rows import (
    Pattern,
    combined,
    grouped,
    groups,
    matrix,
    selected,
    united,
    where,
)

__all__ = ["RULES"]


def _numbered(shape: Sequence[int], unknown: Sequence[int]) -> tuple[Any, int]:
    """Return the number of each element's group, from 1, and how many; one axis for `unknown`."""
    number, count = groups(shape, [axis for axis in range(len(shape)) if axis not in unknown])
    return number + 1, count


def _starts(facts: Sequence[Fact]) -> list[int | None]:
    values = [known_value(fact.known) for fact in facts]
    return [None if value is None else int(value) for value in values]


def _unknown(starts: Sequence[int | None], shape: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """Return the axes along which a slice may begin in several places."""
    return [
        axis
        for axis, (start, full, size) in enumerate(zip(starts, shape, sizes, strict=True))
        if start is None and size < full
    ]


def _window(
    starts: Sequence[int | None], shape: Sequence[int], sizes: Sequence[int]
) -> tuple[slice, ...]:
    """Return where a slice lies, moved into the array as JAX does."""
    begins = [
        min(max(start or 0, 0), full - size)
        for start, full, size in zip(starts, shape, sizes, strict=True)
    ]
    return tuple(slice(begin, begin + size) for begin, size in zip(begins, sizes, strict=True))


def _dynamic_slice(equation: jex.JaxprEqn, facts: Sequence[Fact]) -> list[Pattern]:
    if any(fact.pattern is not None for fact in facts[1:]):
        return dense(equation, facts)
    shape, sizes = shape_of(equation.invars[0]), equation.params["slice_sizes"]
    starts = _starts(facts[1:])
    unknown = _unknown(starts, shape, sizes)
    number, count = _numbered(shape, unknown)
    rows = grouped(facts[0].pattern, number - 1, count) if unknown else facts[0].pattern
    return [selected(rows, number[_window(starts, shape, sizes)])]


def _dynamic_update_slice(equation: jex.JaxprEqn, facts: Sequence[Fact]) -> list[Pattern]:
    if any(fact.pattern is not None for fact in facts[2:]):
        return dense(equation, facts)
    shape, sizes = (shape_of(atom) for atom in equation.invars[:2])
    starts = _starts(facts[2:])
    unknown = _unknown(starts, shape, sizes)
    number, count = _numbered(sizes, unknown)
    window = list(_window(starts, shape, sizes))
    for axis in unknown:
        window[axis] = slice(None)
        number = np.take(number, [0], axis) if sizes[axis] else number
    places = np.zeros(shape, np.int64)
    places[tuple(window)] = number if all(sizes) else 0
    old = facts[0].pattern if unknown else where(facts[0].pattern, places == 0)
    new = grouped(facts[1].pattern, _numbered(sizes, unknown)[0] - 1, count)
    return [united(old, selected(new, places))]


def _columns(fact: Fact, shape: Sequence[int], axes: Sequence[int]) -> tuple[Any, list[int]]:
    """Return an array of indices, 0 where one isn't known, and the axes where that is so."""
    part = partly(fact.known)
    if part is None:
        return np.zeros(shape, np.int32), list(axes)
    known = np.broadcast_to(part.mask, shape).reshape(-1, len(axes)).all(axis=0)
    values = np.where(known, np.asarray(part.value), 0)
    return values, [axis for axis, sure in zip(axes, known, strict=True) if not sure]


def _gather(equation: jex.JaxprEqn, facts: Sequence[Fact]) -> list[Pattern]:
    if facts[1].pattern is not None:
        return dense(equation, facts)
    shape, numbers = shape_of(equation.invars[0]), equation.params["dimension_numbers"]
    axes = numbers.start_index_map
    indices, unknown = _columns(facts[1], shape_of(equation.invars[1]), axes)
    number, count = _numbered(shape, unknown)
    params = {**equation.params, "fill_value": 0}
    places = equation.primitive.bind(number.astype(np.int32), indices, **params)
    return [selected(grouped(facts[0].pattern, number - 1, count), np.asarray(places))]


def _scatter(equation: jex.JaxprEqn, facts: Sequence[Fact]) -> list[Pattern]:
    """Let what is scattered to depend on its old value, where that isn't certainly gone, and new.

    Where each number goes is the gather of the places' numbers by the same indices.
    """
    if facts[1].pattern is not None:
        return dense(equation, facts)
    shape, updates = shape_of(equation.invars[0]), shape_of(equation.invars[2])
    numbers = equation.params["dimension_numbers"]
    axes = numbers.scatter_dims_to_operand_dims
    indices, unknown = _columns(facts[1], shape_of(equation.invars[1]), axes)
    number, count = _numbered(shape, unknown)
    single = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    windows = iter(numbers.update_window_dims)
    sizes = [1 if k in single else updates[next(windows)] for k in range(len(shape))]
    targets = jax.lax.gather(
        number.astype(np.int32),
        indices,
        jax.lax.GatherDimensionNumbers(
            offset_dims=numbers.update_window_dims,
            collapsed_slice_dims=numbers.inserted_window_dims,
            start_index_map=axes,
            operand_batching_dims=numbers.operand_batching_dims,
            start_indices_batching_dims=numbers.scatter_indices_batching_dims,
        ),
        sizes,
        mode=equation.params["mode"],
        fill_value=0,
    )
    targets = np.ravel(targets)
    sent = np.flatnonzero(targets)
    local = matrix(targets[sent] - 1, sent, (count, size_of(equation.invars[2])))
    new = selected(combined(local, facts[2].pattern), number)
    old = facts[0].pattern
    if equation.primitive.name == "scatter" and not unknown:
        old = where(old, ~np.isin(number, targets))
    return [united(old, new)]


RULES: dict[str, Rule] = {
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _gather,
    **dict.fromkeys(("scatter", "scatter-add", "scatter_add", "scatter-sub"), _scatter),
    **dict.fromkeys(("scatter-mul", "scatter-min", "scatter-max"), _scatter),
}
