"""Operations that place elements, and those on counts and flags, done by NumPy.

An eager operation of JAX is a program to compile for each shape, which takes longer than all else
that is done to a pattern. Results are those of JAX to the last bit: nothing is rounded here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.extend import core as jex

__all__ = ["on_host"]


def on_host(equation: jex.JaxprEqn, values: Sequence[Any]) -> list[Any] | None:
    """Return the results of an equation for these values of its operands; None: JAX must do it.

    What is placed may be of another dtype than in the equation, as numbers of elements are.
    """
    name = equation.primitive.name
    atoms: Sequence[Any] = (*equation.invars, *equation.outvars)
    if not all(isinstance(atom.aval.dtype, np.dtype) for atom in atoms):
        return None  # keys
    operands = atoms[: len(equation.invars)]
    arrays = [
        np.asarray(value, getattr(value, "dtype", atom.aval.dtype))
        for value, atom in zip(values, operands, strict=True)
    ]
    if name in _PLACING:
        found = _PLACING[name](*arrays, **equation.params)
        return list(found) if equation.primitive.multiple_results else [found]
    if name in _COUNTING and all(atom.aval.dtype.kind in "iub" for atom in operands):
        dtype = atoms[-1].aval.dtype
        if dtype.kind in "iub" or dtype in (np.float32, np.float64):
            with np.errstate(over="ignore"):  # integers wrap around
                return [np.asarray(_COUNTING[name](*arrays)).astype(dtype)]
    return None


def _broadcast(x: Any, *_: Any, shape: Any, broadcast_dimensions: Any, **__: Any) -> Any:
    sizes = [1] * len(shape)
    for size, axis in zip(x.shape, broadcast_dimensions, strict=True):
        sizes[axis] = size
    return np.broadcast_to(x.reshape(sizes), shape)


def _pad(x: Any, value: Any, *, padding_config: Sequence[tuple[int, int, int]]) -> Any:
    """Put elements apart by `interior` others, and `low` from the edge, or beyond it if < 0."""
    sizes, kept, places = [], [], []
    for count, (low, high, interior) in zip(x.shape, padding_config, strict=True):
        place = low + np.arange(count) * (interior + 1)
        size = low + high + max(count + (count - 1) * interior, 0)
        inside = (place >= 0) & (place < size)
        sizes.append(size)
        kept.append(np.flatnonzero(inside))
        places.append(place[inside])
    out = np.full(sizes, value, x.dtype)
    out[np.ix_(*places)] = x[np.ix_(*kept)]
    return out


def _slice(x: Any, *, start_indices: Any, limit_indices: Any, strides: Any) -> Any:
    steps = strides or [1] * x.ndim
    return x[tuple(map(slice, start_indices, limit_indices, steps))]


def _dynamic_slice(x: Any, *starts: Any, slice_sizes: Sequence[int]) -> Any:
    """Take a slice, moved into the array where it would reach beyond."""
    places = []
    for start, full, size in zip(starts, x.shape, slice_sizes, strict=True):
        begin = min(max(int(start), 0), full - size)
        places.append(slice(begin, begin + size))
    return x[tuple(places)]


_PLACING: dict[str, Callable[..., Any]] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": lambda *xs, dimension: np.concatenate(xs, dimension),
    "dynamic_slice": _dynamic_slice,
    "pad": _pad,
    "reshape": lambda x, *, new_sizes, dimensions, **_: np.reshape(
        x if dimensions is None else np.transpose(x, dimensions), new_sizes
    ),
    "rev": lambda x, *, dimensions: np.flip(x, dimensions),
    "slice": _slice,
    "split": lambda x, *, sizes, axis: np.split(x, np.cumsum(sizes)[:-1], axis),
    "squeeze": lambda x, *, dimensions: np.squeeze(x, tuple(dimensions)),
    "transpose": lambda x, *, permutation: np.transpose(x, permutation),
}
_COUNTING: dict[str, Callable[..., Any]] = {
    **{"add": np.add, "sub": np.subtract, "mul": np.multiply, "max": np.maximum},
    **{"min": np.minimum, "lt": np.less, "le": np.less_equal, "gt": np.greater},
    **{"ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal},
    "convert_element_type": lambda x: x,
}
