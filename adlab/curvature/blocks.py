"""What the matrices of a network share: a block of the parameters, chosen by path, and the data."""

from __future__ import annotations

import abc
import difflib
from collections.abc import Callable, Iterable
from typing import Any, Self

import jax

from adlab.core import checks
from adlab.curvature import batches as batched
from adlab.curvature.operators import Operator, path_name, shapes_of

__all__ = ["Network", "choose", "merge", "select"]

PyTree = Any
Where = Callable[[str], bool]


class Network(Operator):
    """What the matrices of a network share: parameters, a block of them, and the data."""

    params: PyTree
    args: tuple[Any, ...]
    chosen: tuple[bool, ...] | None

    @property
    def like(self) -> PyTree:
        """Shapes and dtypes of the chosen parameters, with None in place of the others."""
        return shapes_of(select(self.params, self.chosen))

    def over(self, data: Iterable[Any], *, coupled: bool = False) -> Operator:
        """Return the mean of this matrix over the batches of a data set, weighted by their size.

        A batch is a tuple (or list) of the arguments after `params`, or the one argument; the first
        axis of every array counts its examples. `data` is either

        * a list, or whatever can be iterated over again and again, such as a PyTorch DataLoader,
          of batches that may differ in size: the operator is driven from the host, one compiled
          product per batch, and can't be traced;
        * or batches stacked by `stacked`: arrays (batches, size, ...), over which `matvec` scans,
          also inside `jit`.

        Every product passes over the whole of `data`, which must hold the same examples each time;
        for a Monte-Carlo Fisher in the same batches and the same order, for the labels drawn depend
        on a batch's position: its loader mustn't shuffle. That the first batch stays is checked.

        Args:
          data: the batches.
          coupled: accept a loss that isn't the mean over its examples, such as one with BatchNorm
            on batch statistics; the operator then is the mean of the matrices of the batches, which
            depends on how the data are cut.

        Raises:
          ValueError: no batches, an empty one, one of unlike structure, or sizes that disagree;
            this operator has data already; the loss of one batch isn't the mean over its two
            halves, or differs from call to call, while `coupled` is False.
          TypeError: a one-shot iterator; something that isn't an iterable of batches, such as an
            array, a pair of arrays or a dict; batches without labels where they are needed.
        """
        if self.args:
            raise ValueError(
                "over(batches) gives the operator its data: build it without any, got "
                f"{len(self.args)} argument(s) after params"
            )
        return batched.mean_over(self, data, coupled=coupled)

    @property
    def ordered(self) -> bool:
        """Whether the matrix on a batch depends on the batch's position."""
        return False

    def with_data(self, batch: tuple[Any, ...], index: Any) -> Self:
        """Return this matrix on one batch, the `index`-th of a data set."""
        del index
        return self._changed(args=batch)

    def _changed(self, **fields: Any) -> Self:
        new = object.__new__(type(self))
        for name, value in {**vars(self), **fields}.items():
            object.__setattr__(new, name, value)
        return new

    def _set(self, params: PyTree, args: tuple[Any, ...], where: Where | None, **own: Any) -> None:
        checks.require_inexact(type(self).__name__, params)
        fields = {"params": params, "args": args, "chosen": choose(params, where), **own}
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    @abc.abstractmethod
    def value(self) -> jax.Array:
        """Return the loss on this operator's data."""

    def mean(self) -> jax.Array:
        """Return what must be a mean over examples for matrices of batches to be combined."""
        return self.value()


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
