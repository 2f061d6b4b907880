"""Colours for the columns of a sparse matrix.

Columns of one colour share no row; of a symmetric matrix those of two colours make up stars.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["colored", "read_off", "star_colored"]


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


def star_colored(pattern: Any) -> np.ndarray:
    """Return a colour 0, 1, ... for each column of a symmetric pattern: a star colouring.

    Columns that meet in an entry differ, and no path over four columns has two colours: columns of
    any two colours make up stars, a hub and what meets nothing but the hub. An entry beside the
    diagonal is then alone of its colour in the row of the hub's leaf (`read_off`). A band takes as
    many colours as by `colored`, an arrow with n columns 2 instead of n.

    By first fit in two orders, as `colored`, in steps of which there is one for each entry. A
    column remembers, as bits, the colours of its neighbours, and those of the hubs of which it is
    one leaf of several: these no other neighbour may have.

    Source: Gebremedhin, Manne & Pothen (2005), What color is your Jacobian? Graph coloring for
    computing derivatives, doi:10.1137/S0036144504444711, section 4; that two-coloured stars are
    kept is of Gebremedhin, Tarafdar, Manne & Pothen (2007), doi:10.1137/050639879.
    """
    columns = pattern.tocsc()
    orders = np.arange(columns.shape[1]), np.argsort(-np.diff(columns.indptr), kind="stable")
    return min((_stars(columns, order) for order in orders), key=lambda found: found.max(initial=0))


def _stars(columns: Any, order: np.ndarray) -> np.ndarray:
    starts, rows = columns.indptr.tolist(), columns.indices.tolist()
    size = columns.shape[1]
    bits, seen, shut = [0] * size, [0] * size, [0] * size  # own colour, of neighbours, of hubs
    first: dict[tuple[int, int], int] = {}  # of a column, and a colour: the first neighbour
    for column in order.tolist():
        own = [k for k in rows[starts[column] : starts[column + 1]] if bits[k] and k != column]
        around = several = used = 0
        for k in own:
            several |= around & bits[k]
            around |= bits[k]
            used |= shut[k]
        for k in own if several else ():  # a path between two neighbours of one colour
            if bits[k] & several:
                used |= seen[k]
        used |= around
        bits[column] = bit = ~used & (used + 1)
        for k in own:
            if bits[k] & several:
                shut[k] |= bit
            if seen[k] & bit:
                shut[column] |= bits[k]
                shut[first[k, bit]] |= bits[k]
            first.setdefault((k, bit), column)
            first.setdefault((column, bits[k]), k)
            seen[k] |= bit
        seen[column] = around
    return np.array([bit.bit_length() - 1 for bit in bits], np.int32)


def read_off(
    rows: np.ndarray, cols: np.ndarray, colors: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return where entries of a symmetric matrix are read off: a row, and a colour's product.

    Entry (i, j) is in row i of the product with the columns of j's colour, alone if no other of
    these meets row i; else it is alone, as entry (j, i), in row j and the colour of i. Both are
    read off in one place.

    rows, cols: of all entries. colors: a star colouring.
    """
    count = int(colors.max(initial=0)) + 1
    low, high = np.minimum(rows, cols), np.maximum(rows, cols)
    own = rows.astype(np.int64) * count + colors[cols]
    keys, times = np.unique(own, return_counts=True)
    alone = times[np.searchsorted(keys, low.astype(np.int64) * count + colors[high])] == 1
    return np.where(alone, low, high), np.where(alone, colors[high], colors[low])
