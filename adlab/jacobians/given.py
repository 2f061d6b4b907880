"""Patterns that the user gives: checked in shape, and against one product with the Jacobian."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse import BCOO
from scipy import sparse

from adlab.core import checks
from adlab.core.trees import unravel
from adlab.core.types import PyTree
from adlab.jacobians.selection import Selection

__all__ = ["check_pattern", "entries_of", "verified"]

_PROBES = 3
_SEED = 20_252  # of the numbers that a pattern is verified with


def check_pattern(pattern: Any, mode: str) -> None:
    """Raise unless a pattern is a sparse matrix whose places are known, and mode is "sparse"."""
    if pattern is None:
        return
    if mode != "sparse":
        raise ValueError(f'pattern is for mode="sparse", got mode={mode!r}')
    if not sparse.issparse(pattern) and not isinstance(pattern, BCOO):
        raise TypeError(
            "pattern must be a sparse matrix of scipy.sparse or a BCOO of jax.experimental.sparse, "
            f"got {type(pattern).__name__}; scipy.sparse.csr_array(...) makes one of an array"
        )
    if len(pattern.shape) != 2:
        raise ValueError(f"pattern must have 2 axes, got shape {pattern.shape}")
    if isinstance(pattern, BCOO):
        if pattern.n_batch or pattern.n_dense:
            raise ValueError(
                "pattern must have no batch axes and no dense ones, got BCOO with n_batch="
                f"{pattern.n_batch}, n_dense={pattern.n_dense}; BCOO.fromdense(...) has neither"
            )
        if not checks.concrete(pattern.indices):
            raise TypeError("pattern must be known when the function is traced: close over it")


def entries_of(pattern: Any, chosen: Selection) -> sparse.csr_array:
    """Return a given pattern as booleans (m, n). Every stored entry counts, whatever its value."""
    expected = (chosen.outputs, chosen.inputs)
    if tuple(pattern.shape) != expected:
        turned = "; transpose it" if tuple(pattern.shape) == expected[::-1] else ""
        raise ValueError(
            f"pattern must have shape (numbers of the value, numbers of x) = {expected}, got "
            f"{tuple(pattern.shape)}{turned}"
        )
    if isinstance(pattern, BCOO):
        rows, cols = np.asarray(pattern.indices).T
        inside = (rows < expected[0]) & (cols < expected[1])  # a BCOO is padded with places beyond
        rows, cols = rows[inside], cols[inside]
    else:
        coordinates = sparse.coo_array(pattern)
        rows, cols = coordinates.coords
    return sparse.csr_array((np.ones(len(rows), bool), (rows, cols)), expected)


def verified(
    chosen: Selection, plan: Any, product: Any, data: list[list[jax.Array]]
) -> list[list[jax.Array]]:
    """Return the entries if the matrix has the Jacobian's product with random numbers.

    An entry that the pattern misses is in the product, while the matrix has it in another column or
    not at all. Where nothing can be raised, under a trace, rows that differ become NaN.

    product: of the Jacobian, v -> J v, or in reverse mode v -> v^T J.

    Raises:
      ValueError: the products differ by more than rounding.
    """
    dtype = jnp.result_type(*(leaf.dtype for leaf in jax.tree.leaves((chosen.shape, data))))
    side = chosen.shape if plan.reverse else chosen.x
    from_, to = (plan.rows, plan.cols) if plan.reverse else (plan.cols, plan.rows)
    count = chosen.inputs if plan.reverse else chosen.outputs
    probes = jnp.asarray(_probes(len(plan.colors)), dtype)
    expected = jax.vmap(lambda v: _flat(product(unravel(v, side)), dtype))(probes)
    values = jnp.zeros(len(plan.rows), dtype)
    for line, row in zip(plan.blocks, data, strict=True):
        for (entries, _, _), block in zip(line, row, strict=True):
            values = values.at[entries].set(block.astype(dtype))
    terms = values * probes[:, from_]
    found = jnp.zeros((len(probes), count), dtype).at[:, to].add(terms)
    size = jnp.zeros_like(found).at[:, to].add(jnp.abs(terms)) + jnp.abs(expected)
    # Products of one program differ by rounding: half of the digits are left for what it cancels.
    eps = max(float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves((chosen.shape, data)))
    finite = jnp.isfinite(expected) & jnp.isfinite(found)
    apart = jnp.abs(found - expected) > 4 * eps**0.5 * size
    lost = jnp.isfinite(expected) != jnp.isfinite(found)
    wrong = jnp.any(jnp.where(finite, apart, lost), axis=0)
    return _refused(wrong, plan, data)


def _probes(count: int) -> np.ndarray:
    """Return random numbers (3, count) away from 0, of which no two columns are alike in all."""
    rng = np.random.default_rng(_SEED)
    signs = rng.integers(2, size=(_PROBES, count)) * 2 - 1
    return np.asarray(signs * rng.uniform(1, 2, size=(_PROBES, count)))


def _flat(tree: PyTree, dtype: Any) -> jax.Array:
    return jnp.concatenate([jnp.ravel(leaf).astype(dtype) for leaf in jax.tree.leaves(tree)])


def _refused(wrong: jax.Array, plan: Any, data: list[list[jax.Array]]) -> list[list[jax.Array]]:
    name = "column" if plan.reverse else "row"
    if checks.concrete(wrong):
        places = np.flatnonzero(wrong)
        if len(places):
            raise ValueError(
                "pattern must hold every entry of the Jacobian that differs from zero, and misses "
                f"some in {len(places)} of {len(wrong)} {name}s, first in {name} {places[0]}; "
                "jacobians.sparsity(fun, ...) finds them"
            )
        return data
    lines = plan.cols if plan.reverse else plan.rows
    return [
        [
            jnp.where(wrong[lines[entries]], jnp.nan, block)
            for (entries, _, _), block in zip(line, row, strict=True)
        ]
        for line, row in zip(plan.blocks, data, strict=True)
    ]
