"""Patterns that the user gives: checked in shape, and against products with the Jacobian."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse import BCOO
from scipy import sparse

from adlab.core import _shardings, checks
from adlab.core.types import PyTree
from adlab.jacobians.selection import Selection

__all__ = ["check_pattern", "entries_of", "probes", "verified"]

_SEED = 20_252  # of the numbers that a pattern is verified with
_SCALE = 1.37  # no power of two, which would scale rounding exactly
_ROUNDINGS = 30


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
    """Return the entries if the matrix has the Jacobian's products with random numbers.

    An entry that the pattern misses is in the products, while the matrix has it in another column
    or not at all. Where nothing can be raised, under a trace, rows that differ become NaN.

    Products of one program are equal up to rounding. What rows may differ by is their own: half of
    the digits of their terms, and a multiple of how far the products with scaled numbers are from
    the scaled products, which is the rounding of what cancels inside of the program.

    product: of the Jacobian, v -> J v, or in reverse mode v -> v^T J.

    Raises:
      ValueError: the products differ by more than rounding; one alone is finite.
    """
    dtype = jnp.result_type(*(leaf.dtype for leaf in jax.tree.leaves((chosen.shape, data))))
    side = chosen.shape if plan.reverse else chosen.x
    from_, to = (plan.rows, plan.cols) if plan.reverse else (plan.cols, plan.rows)
    count = chosen.inputs if plan.reverse else chosen.outputs
    v = probes(len(plan.colors)).astype(dtype)

    def moved(seed: PyTree) -> jax.Array:
        flat: jax.Array = _flat(product(jax.tree.map(_shardings.like_type, seed, side)), dtype)
        return flat

    products = jax.vmap(moved)(_cut(np.concatenate([v, np.asarray(_SCALE, dtype) * v]), side))
    eps = max(float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves((chosen.shape, data)))
    entries = [entry for line in plan.blocks for entry, _, _ in line]
    blocks = [block for row in data for block in row]
    wrong = _differing(products, v[:, from_], to, entries, blocks, count, eps)
    return _refused(wrong, plan, data)


@functools.partial(jax.jit, static_argnames=("count", "eps"))
def _differing(
    products: jax.Array, v: Any, to: Any, entries: Any, blocks: Any, count: int, eps: float
) -> jax.Array:
    """Tell for each of `count` rows whether its entries give other products.

    products: with the random numbers, then with the scaled ones. v: the number for each entry. to:
    its row. entries, blocks: which of the entries are in each block, and their values.
    """
    expected, scaled = products[: len(v)], products[len(v) :]
    values = jnp.zeros(len(to), v.dtype)
    for places, block in zip(entries, blocks, strict=True):
        values = values.at[places].set(block.astype(v.dtype))
    terms = values * v
    found = jnp.zeros((len(v), count), v.dtype).at[:, to].add(terms)
    size = jnp.zeros_like(found).at[:, to].add(jnp.abs(terms)) + jnp.abs(expected)
    rounding = jnp.max(jnp.abs(scaled - _SCALE * expected), axis=0)
    rounding = jnp.where(jnp.isfinite(rounding), rounding, 0)
    # never so where one isn't finite
    wrong = jnp.abs(found - expected) > eps**0.5 * size + _ROUNDINGS * rounding
    wrong |= jnp.isfinite(expected) != jnp.isfinite(found)
    return jnp.any(wrong, axis=0)


def probes(count: int) -> np.ndarray:
    """Return three vectors of `count` numbers whose sizes are between 1 and 2.

    Numbers in any two places differ in one of the vectors by 1 / m, m^3 >= count: an entry can't be
    in the wrong place unseen. The places lie in a grid of m^3 cells, in random order, each in the
    lower half of its own in all directions.
    """
    side = 2 * math.ceil(count ** (1 / 3) / 2)
    rng = np.random.default_rng(_SEED)
    cells = np.unravel_index(rng.permutation(side**3)[:count], (side,) * 3)
    along = (np.stack(cells) + rng.uniform(0, 0.5, (3, count))) * (2 / side)  # between 0 and 2
    return np.asarray(np.where(along < 1, 1 + along, -along))


def _cut(rows: np.ndarray, like: PyTree) -> PyTree:
    """Cut rows of numbers into trees of the shapes and dtypes of `like`."""
    leaves, tree = jax.tree.flatten(like)
    ends = np.cumsum([math.prod(np.shape(leaf)) for leaf in leaves])[:-1]
    parts = [
        part.reshape(len(rows), *np.shape(leaf)).astype(jnp.result_type(leaf))
        for part, leaf in zip(np.split(rows, ends, axis=1), leaves, strict=True)
    ]
    return jax.tree.unflatten(tree, parts)


@functools.partial(jax.jit, static_argnums=1)
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
                "jacobians.sparsity of fun, or of jax.grad(fun) for a Hessian, finds them"
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
