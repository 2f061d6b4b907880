"""Colours for the columns of a sparse matrix: those of one colour share no row."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["colored"]


def colored(pattern: Any) -> np.ndarray:
    """Return a colour 0, 1, ... for each column, by first fit; columns that share a row differ.

    Fullest columns choose first. Takes one step for each entry of the pattern: each row remembers
    the colours that it has as the bits of an integer, and a column takes the lowest bit that is
    free in all of its rows. No graph of the columns is built, in which a row of r entries would be
    r^2 edges.

    Source: Coleman & Moré (1983), Estimation of sparse Jacobian matrices and graph coloring
    problems, doi:10.1137/0720013.
    """
    columns = pattern.tocsc()
    starts, rows = columns.indptr.tolist(), columns.indices.tolist()
    fullest = np.argsort(-np.diff(columns.indptr), kind="stable")
    taken = [0] * pattern.shape[0]
    colors = np.zeros(pattern.shape[1], np.int32)
    for column in fullest.tolist():
        own = rows[starts[column] : starts[column + 1]]
        used = 0
        for row in own:
            used |= taken[row]
        bit = ~used & (used + 1)
        for row in own:
            taken[row] |= bit
        colors[column] = bit.bit_length() - 1
    return colors
