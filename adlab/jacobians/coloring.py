"""Colours for the columns of a sparse matrix: those of one colour share no row."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["colored"]


def colored(pattern: Any) -> np.ndarray:
    """Return a colour 0, 1, ... for each column, by first fit; columns that share a row differ.

    Columns choose in their order, which is best for a band, or the fullest first, whichever takes
    fewer colours; as many as the fullest row has entries are needed. Takes one step for each entry
    of the pattern: each row remembers the colours that it has as the bits of an integer, and a
    column takes the lowest bit that is free in all of its rows. No graph of the columns is built,
    in which a row of r entries would be r^2 edges.

    Source: Coleman & Moré (1983), Estimation of sparse Jacobian matrices and graph coloring
    problems, doi:10.1137/0720013.
    """
    columns = pattern.tocsc()
    entries = np.diff(columns.indptr)
    least = np.bincount(columns.indices, minlength=1).max()
    colors = _first_fit(columns, np.arange(len(entries)))
    if colors.max(initial=0) < least:
        return colors
    other = _first_fit(columns, np.argsort(-entries, kind="stable"))
    return min(colors, other, key=lambda found: found.max(initial=0))


def _first_fit(columns: Any, order: np.ndarray) -> np.ndarray:
    starts, rows = columns.indptr.tolist(), columns.indices.tolist()
    taken = [0] * columns.shape[0]
    colors = np.zeros(columns.shape[1], np.int32)
    for column in order.tolist():
        own = rows[starts[column] : starts[column + 1]]
        used = 0
        for row in own:
            used |= taken[row]
        bit = ~used & (used + 1)
        for row in own:
            taken[row] |= bit
        colors[column] = bit.bit_length() - 1
    return colors
