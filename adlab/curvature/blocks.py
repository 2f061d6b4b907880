"""What the matrices of a network share: a block of the parameters, chosen by path, and the data."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax

from adlab.core import checks
from adlab.core.types import PyTree
from adlab.curvature import batches as batched
from adlab.curvature._summand import Summand
from adlab.curvature._weights import Reduction
from adlab.curvature.operators import Operator, path_name, shapes_of

__all__ = ["ParameterMatrix", "choose", "merge", "select"]

Where = Callable[[str], bool]


class ParameterMatrix(Summand):
    """What the matrices of a network share: parameters, a block of them, and the data."""

    chosen: tuple[bool, ...] | None

    @functools.cached_property
    def like(self) -> PyTree:
        """Shapes and dtypes of the chosen parameters, with None in place of the others."""
        return shapes_of(select(self.params, self.chosen))

    def over(
        self,
        data: Iterable[Any],
        *,
        batch_dependent: bool = False,
        weights: Any = None,
        reduction: Reduction = "mean",
    ) -> Operator:
        """Return the matrix of a data set from those of its batches, the mean over the examples.

        H = sum_b w_b H_b / sum_b w_b for reduction="mean"; H = sum_b w_b H_b for "sum".

        H_b is the matrix on batch b. Where `weights` isn't given, w_b is the number of examples of
        the batch for "mean", and 1 for "sum", where the loss is a sum itself; a Fisher matrix is a
        mean by definition, and counts its examples: its sum is sum_b N_b F_b. For a loss that
        divides by the number of terms that a mask leaves, give that number as the weight:
        weights=lambda batch: batch[-1].sum(). Equally, take the loss as the masked sum,
        reduction="sum", and divide the operator by the number of terms in all.

        A batch is a tuple (or list) of the arguments after `params`, or the one argument; the first
        axis of every array counts its examples. `data` is either

        * a list, or whatever can be iterated over again and again, such as a PyTorch DataLoader,
          of batches that may differ in size: the operator is driven from the host, one compiled
          product per batch, and can't be traced;
        * or batches stacked by `stacked`: arrays (batches, size, ...), over which `matvec` scans,
          also inside `jit`.

        Every product passes over the whole of `data`. From the host, each pass is compared with the
        first: it must bring the same examples, in any order and cut into any batches; with
        batch_dependent=True the same batches in any order; with weights that are numbers the same
        batches in the same order; for a Monte-Carlo Fisher, whose labels are drawn by position, the
        same examples in the same order. They are compared by hashes of their bytes, which take
        about 0.4 ms per megabyte and 1 us per example, besides a copy to the host of what lies on
        another device: little beside a network, half of the product of a linear model.

        Whether the loss is a mean (a sum) over the examples is checked here on every batch, by the
        loss of the batch alone and together with a part of the first one, at two places: about 4
        1/2 times the loss over the data, once. From the host this is a second pass. Inside a trace
        it is computed with the products, which are NaN where it fails.

        Args:
          data: the batches.
          batch_dependent: accept a loss that isn't the mean (the sum) over its examples, such as
            one with BatchNorm on batch statistics, and skip the check; the operator then combines
            the matrices of the batches, and depends on how the data are cut. The loss is taken not
            to depend on the order within a batch.
          weights: w_b >= 0: a number per batch; or a function of the batch, that is of the tuple of
            arguments or of the one argument, which returns a number. A function must add up, too:
            that of a batch is the sum over its parts. Numbers are taken as they are: the loss isn't
            checked to be a mean, for the weights of parts aren't known. A batch of weight 0 is left
            out, whatever its loss.
          reduction: "mean" or "sum".

        Raises:
          ValueError: no batches, an empty one, one of unlike structure, or sizes that disagree;
            this operator has data already; the loss isn't the mean (the sum) over its examples,
            isn't finite, or differs from call to call, while `batch_dependent` is False; weights
            that are negative, not finite, not as many as the batches, or 0 in all; an unknown
            reduction; another pass brings other examples, here or at a later product.
          TypeError: a one-shot iterator; something that isn't an iterable of batches, such as an
            array, a pair of arrays or a dict; batches without labels where they are needed; weights
            that aren't real numbers.
        """
        if self.args:
            raise ValueError(
                "over(batches) gives the operator its data: build it without any, got "
                f"{len(self.args)} argument(s) after params"
            )
        return batched.mean_over(
            self, data, batch_dependent=batch_dependent, weights=weights, reduction=reduction
        )

    def _set(self, params: PyTree, args: tuple[Any, ...], where: Where | None, **own: Any) -> None:
        checks.require_inexact(type(self).__name__, params)
        fields = {"params": params, "args": args, "chosen": choose(params, where), **own}
        for name, value in fields.items():
            object.__setattr__(self, name, value)


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
