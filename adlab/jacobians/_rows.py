"""Patterns as boolean CSR matrices: one row per element of an array, one column per input number.

What an operation does to patterns is one of three things: it takes rows, it unites groups of rows,
or it adds two patterns. A pattern that is empty is None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from scipy import sparse

__all__ = [
    "Pattern",
    "combined",
    "grouped",
    "groups",
    "identity",
    "matrix",
    "offsets",
    "selected",
    "spread",
    "stacked",
    "united",
    "where",
]

Pattern: TypeAlias = Any  # scipy.sparse.csr_matrix of booleans, or None


def matrix(rows: Any, cols: Any, shape: tuple[int, int]) -> Pattern:
    """Return the pattern with entries in these places."""
    rows, cols = np.ravel(rows), np.ravel(cols)
    return sparse.csr_matrix((np.ones(len(rows), bool), (rows, cols)), shape)


def identity(size: int, start: int, width: int) -> Pattern:
    """Return the pattern of `size` elements that are inputs start, start + 1, ... of `width`."""
    data = np.ones(size, bool)
    return sparse.csr_matrix(
        (data, np.arange(start, start + size), np.arange(size + 1)), (size, width)
    )


def united(*patterns: Pattern) -> Pattern:
    """Return what any of the patterns holds."""
    found: Pattern = None
    for pattern in patterns:
        if found is None:
            found = pattern
        elif pattern is not None and pattern is not found:
            found = found + pattern
    return found


def selected(pattern: Pattern, ids: Any) -> Pattern:
    """Return rows by their numbers, which begin with 1; an empty row for 0."""
    if pattern is None:
        return None
    count = pattern.shape[0]
    ids = np.ravel(ids)
    places = np.where(ids == 0, count, ids.astype(np.int64) - 1)
    ends = np.append(pattern.indptr, pattern.indptr[-1])
    shape = (count + 1, pattern.shape[1])
    return sparse.csr_matrix((pattern.data, pattern.indices, ends), shape)[places]


def where(pattern: Pattern, mask: Any) -> Pattern:
    """Return the pattern without the rows where the mask is False."""
    if pattern is None or np.all(mask):
        return pattern
    return selected(pattern, np.where(np.ravel(mask), np.arange(1, pattern.shape[0] + 1), 0))


def grouped(pattern: Pattern, group: Any, count: int) -> Pattern:
    """Return the union of the rows of each group, `group` being the number of each row's."""
    if pattern is None:
        return None
    group = np.ravel(group)
    return matrix(group, np.arange(len(group)), (count, len(group))) @ pattern


def combined(local: Pattern, pattern: Pattern) -> Pattern:
    """Return a chain's pattern: of a step, then of its operand."""
    return None if local is None or pattern is None else local @ pattern


def groups(shape: Sequence[int], kept: Sequence[int]) -> tuple[Any, int]:
    """Return the number of each element's group, and how many there are.

    Elements are in one group that agree in the axes `kept`, whose order is that of the numbers.
    """
    sizes = [shape[axis] for axis in kept]
    number = np.zeros(tuple(shape), np.int64)
    for axis, stride in zip(kept, _strides(sizes), strict=True):
        along = np.arange(shape[axis]) * stride
        number += along.reshape([-1 if k == axis else 1 for k in range(len(shape))])
    return number, math.prod(sizes)


def _strides(sizes: Sequence[int]) -> list[int]:
    return [math.prod(sizes[place + 1 :]) for place in range(len(sizes))]


def spread(
    pattern: Pattern, shape: Sequence[int], kept: Sequence[int], out: Sequence[int], axes: Any
) -> Pattern:
    """Return dense blocks: results depend on all elements that agree with them in some axes.

    shape, kept: of the operand, and which of its axes are compared with `axes` of the result.
    """
    number, count = groups(shape, kept)
    return selected(grouped(pattern, number, count), groups(out, axes)[0] + 1)


def offsets(sizes: Sequence[int]) -> list[int]:
    """Return where each of several arrays begins among their elements laid end to end."""
    return [sum(sizes[:place]) for place in range(len(sizes))]


def stacked(patterns: Sequence[Pattern], sizes: Sequence[int], width: int) -> Pattern:
    """Return the pattern of several arrays' elements laid end to end."""
    full = [
        sparse.csr_matrix((size, width), dtype=bool) if pattern is None else pattern
        for pattern, size in zip(patterns, sizes, strict=True)
    ]
    return sparse.vstack(full, format="csr", dtype=bool)
