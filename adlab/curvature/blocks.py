"""A block of the parameters, chosen by path: the others are held fixed."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import jax

from adlab.curvature.operators import path_name

__all__ = ["choose", "merge", "select"]

PyTree = Any
Where = Callable[[str], bool]


def choose(params: PyTree, where: Where | None) -> tuple[bool, ...] | None:
    """Return which leaves of `params` have a path that `where` accepts; None for all of them.

    Raises:
      TypeError: `where` isn't callable.
      ValueError: it accepts none.
    """
    if where is None:
        return None
    if not callable(where):
        raise TypeError(
            f"where must be a function of a parameter path, got {where!r}; "
            f"for instance where=lambda path: {str(where)!r} in path"
        )
    paths = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    chosen = tuple(bool(where(path)) for path in paths)
    if not any(chosen):
        listed = ", ".join(_nearest_to(where, paths))
        raise ValueError(f"where must accept at least one parameter path, got none of: {listed}")
    return None if all(chosen) else chosen


def _nearest_to(where: Where, paths: list[str], limit: int = 8) -> list[str]:
    """Return the paths nearest to the strings that `where` compares with, at most `limit`."""
    code = getattr(where, "__code__", None)
    constants = [c for c in code.co_consts if isinstance(c, str)] if code else []
    cells = [cell.cell_contents for cell in getattr(where, "__closure__", None) or ()]
    wanted = [*constants, *(c for c in cells if isinstance(c, str))]

    def likeness(path: str) -> float:
        parts = [path, *path.split(".")]
        ratios = [difflib.SequenceMatcher(None, w, p).ratio() for w in wanted for p in parts]
        return max(ratios, default=0.0)

    ordered = sorted(paths, key=likeness, reverse=True) if wanted else paths
    more = [f"and {len(paths) - limit} more"] if len(paths) > limit else []
    return [*ordered[:limit], *more]


def select(params: PyTree, chosen: tuple[bool, ...] | None) -> PyTree:
    """Return the chosen leaves in the tree of `params`, with None in place of the others."""
    if chosen is None:
        return params
    leaves, structure = jax.tree.flatten(params)
    kept = [leaf if keep else None for leaf, keep in zip(leaves, chosen, strict=True)]
    return jax.tree.unflatten(structure, kept)


def merge(block: PyTree, params: PyTree, chosen: tuple[bool, ...] | None) -> PyTree:
    """Return `params` with the chosen leaves replaced by those of `block`."""
    if chosen is None:
        return block
    leaves, structure = jax.tree.flatten(params)
    new = iter(jax.tree.leaves(block))
    merged = [next(new) if keep else leaf for leaf, keep in zip(leaves, chosen, strict=True)]
    return jax.tree.unflatten(structure, merged)
