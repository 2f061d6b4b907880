"""A matrix in full, and whose rows its entries are."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks
from adlab.core.types import Array, PyTree

__all__ = ["DenseMatrix", "path_name", "path_slices", "require_finite"]


class DenseMatrix(NamedTuple):
    """A matrix, and whose rows its entries are.

    Attributes:
      matrix: (d, d).
      blocks: the slice of rows that belongs to each parameter path.
    """

    matrix: Array
    blocks: dict[str, slice]


def path_slices(like: PyTree) -> dict[str, slice]:
    """Return the slice that each leaf of `like` fills when the tree is laid out as one vector."""
    index, start = {}, 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(like):
        stop = start + math.prod(np.shape(leaf))
        index[path_name(path)] = slice(start, stop)
        start = stop
    return index


def path_name(path: Any) -> str:
    """Spell a parameter path: `stage1.block0.conv1.kernel`."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def require_finite(matrix: Array, finite: Any, blocks: dict[str, slice]) -> None:
    """Raise ValueError naming the first entry that is NaN or infinite, unless it is traced."""
    if not checks.concrete(matrix):
        return
    finite = np.asarray(jnp.isfinite(matrix).all(axis=0) if finite is None else finite)
    if finite.all():
        return
    column = int(np.argmin(finite))
    row = int(np.argmin(np.isfinite(np.asarray(matrix[:, column]))))
    value = float(matrix[row, column])
    raise ValueError(
        f"the matrix must be finite, got {value} in column {column}, {_place(column, blocks)}, row "
        f"{row}, {_place(row, blocks)} ({np.sum(~finite)} of {len(finite)} columns aren't finite); "
        f"check the loss, its parameters and its data for NaN, and overflow in {matrix.dtype}"
    )


def _place(index: int, blocks: dict[str, slice]) -> str:
    """Say which number of which parameter a row or column belongs to."""
    for path, rows in blocks.items():
        if rows.start <= index < rows.stop:
            return f"number {index - rows.start} of {path or 'the vector'}"
    return "of no parameter"
