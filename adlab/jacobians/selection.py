"""The function of the differentiated arguments alone, with the shapes of what goes in and out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import calls, trees
from adlab.core.types import Argnums, PyTree

__all__ = ["Argnums", "Selection", "call_key", "select"]


@dataclass(frozen=True, eq=False)
class Selection:
    """y = fun(x), where x are the differentiated arguments; the others are closed over.

    fun: x -> y. full: x -> y, or (y, aux) where `has_aux`. x: one argument, or a tuple of several.
    shape: shapes and dtypes of y.
    """

    full: Callable[[PyTree], Any]
    has_aux: bool
    x: PyTree
    shape: PyTree

    def fun(self, x: PyTree) -> PyTree:
        """Return y alone."""
        return self.full(x)[0] if self.has_aux else self.full(x)

    @property
    def inputs(self) -> int:
        """Numbers in x."""
        return trees.size(self.x)

    @property
    def outputs(self) -> int:
        """Numbers in y."""
        return trees.size(self.shape)

    def assemble(self, rows: Sequence[Sequence[jax.Array]]) -> PyTree:
        """Return the tree of y, each leaf of it a tree of x, from blocks [leaf of y][leaf of x].

        Blocks get the shape of y's leaf followed by that of x's, and the dtype of y's leaf.
        """
        leaves, tree = jax.tree.flatten(self.shape)
        ins, structure = jax.tree.flatten(self.x)
        shaped = [
            [
                block.reshape(out.shape + np.shape(leaf)).astype(out.dtype)
                for block, leaf in zip(row, ins, strict=True)
            ]
            for row, out in zip(rows, leaves, strict=True)
        ]
        return jax.tree.unflatten(tree, [jax.tree.unflatten(structure, row) for row in shaped])


def select(
    fun: Callable[..., Any],
    argnums: Argnums,
    has_aux: bool,
    args: Sequence[PyTree],
    kwargs: Mapping[str, Any],
    name: str = "jacobian",
) -> Selection:
    """Bind all but the differentiated arguments; messages begin with `name`.

    Raises:
      ValueError: argnums out of range or twice; nothing to differentiate, or nothing returned.
      TypeError: x or y aren't real floating-point; no pair is returned where `has_aux`.
    """
    bound, x = calls.bind(name, fun, args, kwargs, argnums=argnums, has_aux=has_aux, scalar=False)
    full = bound.with_aux if has_aux else bound
    return Selection(full, has_aux, x, _output(bound, x))


def _output(bound: Callable[[PyTree], Any], x: PyTree) -> PyTree:
    """Return the shapes of y, checked."""
    shape = jax.eval_shape(bound, x)
    for path, leaf in jax.tree_util.tree_leaves_with_path(shape):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            where = jax.tree_util.keystr(path)
            raise TypeError(
                f"fun must return real floating-point numbers, got {leaf.dtype}"
                f"{' at ' + where if where else ''}; convert it, or return it as auxiliary data "
                "with has_aux=True"
            )
    if sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shape)) == 0:
        raise ValueError(f"fun must return at least one number, got {shape}")
    return shape


def call_key(argnums: Argnums, args: Any, kwargs: Any) -> Any:
    """Return what calls have in common that share a plan, or None where that can't be told.

    Of the differentiated arguments and of arrays it holds shapes and dtypes; of Python's numbers,
    which a function may branch on, the values too.
    """
    places = argnums if isinstance(argnums, tuple) else (argnums,)
    chosen = {place % len(args) for place in places}
    parts: list[Any] = []
    for place, arg in enumerate([*args, kwargs]):
        leaves, tree = jax.tree.flatten(arg)
        parts.append(tree)
        parts += [_leaf_key(leaf, differentiated=place in chosen) for leaf in leaves]
    try:
        hash(tuple(parts))
    except TypeError:
        return None
    return tuple(parts)


def _leaf_key(leaf: Any, *, differentiated: bool) -> Any:
    number = isinstance(leaf, bool | int | float | complex)
    if not number and not isinstance(leaf, jax.Array | np.ndarray | np.generic):
        return leaf
    kind = jax.typeof(leaf)
    shape = (kind.shape, kind.dtype, kind.weak_type)
    return shape if differentiated or not number else (*shape, np.asarray(leaf).tobytes())
