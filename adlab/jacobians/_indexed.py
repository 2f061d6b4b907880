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
    starts: Sequence[int | None], shape: Sequence[int], sizes: Sequence[int], whole: Sequence[int]
) -> tuple[slice, ...]:
    """Return where a slice lies, moved into the array as JAX does; anywhere along axes `whole`."""
    begins = [
        min(max(start or 0, 0), full - size)
        for start, full, size in zip(starts, shape, sizes, strict=True)
    ]
    return tuple(
        slice(None) if axis in whole else slice(begin, begin + size)
        for axis, (begin, size) in enumerate(zip(begins, sizes, strict=True))
    )


def _dynamic_slice(equation: jex.JaxprEqn, facts: Sequence[Fact]) -> list[Pattern]:
    if any(fact.pattern is not None for fact in facts[1:]):
        return dense(equation, facts)
    shape, sizes = shape_of(equation.invars[0]), equation.params["slice_sizes"]
    starts = _starts(facts[1:])
    unknown = _unknown(starts, shape, sizes)
    window = _window(starts, shape, sizes, unknown)
    numbers = np.arange(1, size_of(equation.invars[0]) + 1).reshape(shape)[window]
    pattern, shape = selected(facts[0].pattern, numbers), numbers.shape
    for axis in unknown:
        local, shape = _slid(shape, axis, sizes[axis])
        pattern = combined(local, pattern)
    return [pattern]


def _dynamic_update_slice(equation: jex.JaxprEqn, facts: Sequence[Fact]) -> list[Pattern]:
    if any(fact.pattern is not None for fact in facts[2:]):
        return dense(equation, facts)
    shape, sizes = (shape_of(atom) for atom in equation.invars[:2])
    starts = _starts(facts[2:])
    unknown = _unknown(starts, shape, sizes)
    window = _window(starts, shape, sizes, unknown)
    wide = np.empty(shape, bool)[window].shape
    new = facts[1].pattern
    for axis in unknown:
        local, _ = _slid((*wide[: axis + 1], *sizes[axis + 1 :]), axis, sizes[axis])
        new = combined(None if new is None else local.T.tocsr(), new)
    places = np.zeros(shape, np.int64)
    places[window] = np.arange(1, int(np.prod(wide)) + 1).reshape(wide)
    kept = np.ones(shape, bool)
    kept[_overwritten(window, shape, sizes, unknown)] = False
    return [united(where(facts[0].pattern, kept), selected(new, places))]


def _overwritten(
    window: Sequence[slice], shape: Sequence[int], sizes: Sequence[int], unknown: Sequence[int]
) -> tuple[slice, ...]:
    """Return where a slice lies wherever it begins along the axes `unknown`."""
    return tuple(
        slice(full - size, size) if axis in unknown else part
        for axis, (part, full, size) in enumerate(zip(window, shape, sizes, strict=True))
    )


def _slid(shape: tuple[int, ...], axis: int, size: int) -> tuple[Pattern, tuple[int, ...]]:
    """Return which elements may be where in a slice along an axis that begins anywhere; its shape.

    JAX moves a slice into the array: element j of it is one of j, ..., j + length - size.
    """
    short = (*shape[:axis], size, *shape[axis + 1 :])
    place, start = np.indices((size, shape[axis] - size + 1)).reshape(2, -1)
    inside, outside = (np.arange(int(np.prod(sizes))).reshape(sizes) for sizes in (short, shape))
    rows, cols = np.take(inside, place, axis), np.take(outside, place + start, axis)
    return matrix(rows, cols, (inside.size, outside.size)), short


def _columns(fact: Fact, shape: Sequence[int], axes: Sequence[int]) -> tuple[Any, list[int]]:
    """Return an array of indices, 0 where one isn't known, and the axes where that is so."""
    part = partly(fact.known)
    if part is None:
        return np.zeros(shape, np.int32), list(axes)
    if not axes:  # a whole array is taken or set
        return np.asarray(part.value), []
    known = np.all(np.broadcast_to(part.mask, shape).reshape(-1, len(axes)), axis=0).tolist()
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
    found = jax.lax.gather(
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
    targets = np.ravel(found)
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
