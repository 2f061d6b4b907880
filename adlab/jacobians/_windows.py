"""What convolutions and moving windows do to patterns."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jax.extend import core as jex

from adlab.jacobians._facts import Fact, Rule, dense, shape_of, size_of
from adlab.jacobians._known import known_zero
from adlab.jacobians._rows import Pattern, combined, matrix, united

__all__ = ["RULES"]


def _windows(
    ids: Any,
    window: Sequence[int],
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    base: Sequence[int],
    spacing: Sequence[int],
) -> Iterator[tuple[tuple[int, ...], Any]]:
    """Yield each place within the window, and the numbers that are there in all windows.

    ids: numbers from 1 along the axes, and along further ones behind. base, spacing: dilations of
    the array and of the window. Outside, and between the numbers, are zeros.
    """
    for axis, ((low, high), dilation) in enumerate(zip(padding, base, strict=True)):
        size = ids.shape[axis]
        length = max(size * dilation - dilation + 1, 0) if size else 0
        rest = ids.shape[axis + 1 :]
        wide = np.zeros((*ids.shape[:axis], max(low, 0) + length + max(high, 0), *rest), ids.dtype)
        lead = (slice(None),) * axis
        wide[(*lead, slice(max(low, 0), max(low, 0) + length, dilation))] = ids
        end = wide.shape[axis] - max(-high, 0)
        ids = wide[(*lead, slice(max(-low, 0), end))]
    full = [spread * (size - 1) + 1 for spread, size in zip(spacing, window, strict=True)]
    counts = [max((ids.shape[k] - full[k]) // strides[k] + 1, 0) for k in range(len(window))]
    for place in itertools.product(*map(range, window)):
        cut = tuple(
            slice(
                p * spread, p * spread + (count - 1) * stride + 1 if count else p * spread, stride
            )
            for p, spread, count, stride in zip(place, spacing, counts, strides, strict=True)
        )
        yield place, ids[cut]


def _of_window(equation: jex.JaxprEqn) -> Any:
    """Return the pairs (result, operand) of elements that meet in a window."""
    params = equation.params
    atom = equation.invars[-1] if "scatter" in equation.primitive.name else equation.invars[0]
    ids = np.arange(1, size_of(atom) + 1).reshape(shape_of(atom))
    rank = (1,) * ids.ndim
    found = [
        places.ravel()
        for _, places in _windows(
            ids,
            params["window_dimensions"],
            params["window_strides"],
            params["padding"],
            params.get("base_dilation", rank),
            params.get("window_dilation", rank),
        )
    ]
    numbers = np.stack(found)
    k, results = np.nonzero(numbers)
    return results, numbers[k, results] - 1, (numbers.shape[1], ids.size)


def _reduce_window(equation: jex.JaxprEqn, facts: Sequence[Fact]) -> list[Pattern]:
    if any(
        f.pattern is not None and not shape_of(a)
        for a, f in zip(equation.invars, facts, strict=True)
    ):
        return dense(equation, facts)
    rows, cols, shape = _of_window(equation)
    local = matrix(rows, cols, shape)
    operands = [
        combined(local, fact.pattern)
        for atom, fact in zip(equation.invars, facts, strict=True)
        if shape_of(atom) == shape_of(equation.invars[0])
    ]
    return [united(*operands)] * len(equation.outvars)


def _select_and_scatter_add(equation: jex.JaxprEqn, facts: Sequence[Fact]) -> list[Pattern]:
    """Send each source to one element of its window: to any of them."""
    rows, cols, shape = _of_window(equation)
    sent = matrix(cols, rows, shape[::-1])
    reached = combined(sent, combined(matrix(rows, cols, shape), facts[1].pattern))
    return [united(combined(sent, facts[0].pattern), reached)]


def _convolution(equation: jex.JaxprEqn, facts: Sequence[Fact]) -> list[Pattern]:
    """Convolve: out[n, o, p] is the sum over i, k of lhs[n, i, p s + k] rhs[o, i, k].

    With groups of features o takes i from its own group; with groups of batches it takes n there.
    """
    params, (lhs, rhs) = equation.params, equation.invars
    numbers, spatial = params["dimension_numbers"], range(2, len(shape_of(lhs)))
    inputs = _arranged(shape_of(lhs), numbers.lhs_spec)
    kernel = _arranged(shape_of(rhs), numbers.rhs_spec)
    results = _arranged(shape_of(equation.outvars[0]), numbers.out_spec)
    zero: Any = known_zero(facts[1].known)
    zero = None if zero is None else np.transpose(zero, numbers.rhs_spec)
    o, i = np.meshgrid(np.arange(kernel.shape[0]), np.arange(kernel.shape[1]), indexing="ij")
    group = o // (kernel.shape[0] // params["feature_group_count"])
    channel = group * kernel.shape[1] + i
    batches = params["batch_group_count"]
    count = inputs.shape[0] // batches
    first = o // (kernel.shape[0] // batches) * count if batches > 1 else np.zeros_like(o)
    batch = first + np.arange(count).reshape(-1, 1, 1)  # (n, o, i)
    found = []
    places = _windows(
        np.moveaxis(inputs, (0, 1), (-2, -1)),
        [kernel.shape[k] for k in spatial],
        params["window_strides"],
        params["padding"],
        params["lhs_dilation"],
        params["rhs_dilation"],
    )
    for place, ids in places:
        met = np.moveaxis(ids[..., batch, channel], (-3, -2), (0, 1))  # (n, o, p, i)
        tap = kernel[:, :, *place].reshape(1, kernel.shape[0], *(1 for _ in spatial), -1)
        kept = met > 0
        if zero is not None:
            kept = kept & ~zero[:, :, *place].reshape(tap.shape)
        shape = met.shape
        own = np.broadcast_to(results[..., None], shape)
        found.append((own[kept], met[kept], np.broadcast_to(tap, shape)[kept]))
    rows, left, right = (np.concatenate(part) - 1 for part in zip(*found, strict=True))
    size = results.size
    return [
        united(
            combined(matrix(rows, left, (size, inputs.size)), facts[0].pattern),
            combined(matrix(rows, right, (size, kernel.size)), facts[1].pattern),
        )
    ]


def _arranged(shape: Sequence[int], spec: Sequence[int]) -> Any:
    """Return the numbers, from 1, of the elements of an array in the order of its axes' roles."""
    numbers = np.arange(1, int(np.prod(shape)) + 1, dtype=np.int32)
    return np.transpose(numbers.reshape(shape), spec)


_REDUCTIONS = ("reduce_window", "reduce_window_sum", "reduce_window_max", "reduce_window_min")

RULES: dict[str, Rule] = {
    **dict.fromkeys((*_REDUCTIONS, "select_and_gather_add"), _reduce_window),
    "select_and_scatter_add": _select_and_scatter_add,
    "conv_general_dilated": _convolution,
}
