"""Matrices that are means over the batches of a data set."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks, trees
from adlab.core.nodes import register
from adlab.core.types import PyTree
from adlab.curvature._coupling import check_batches, holds
from adlab.curvature._passes import Arrangement, Pass, require_same
from adlab.curvature._summand import Summand
from adlab.curvature._weights import Reduction, Weights
from adlab.curvature.operators import Operator

__all__ = ["Stacked", "mean_over", "stacked"]

_Item = TypeVar("_Item")


@jax.tree_util.register_pytree_node_class
class Stacked(Generic[_Item]):
    """Batches laid along a first axis, so that a scan passes over them. See `stacked`.

    Attributes:
      batches: arrays (batches, size, ...).
    """

    def __init__(self, batches: _Item) -> None:
        self.batches = batches

    def tree_flatten(self) -> tuple[tuple[Any], None]:
        """Return the arrays as data."""
        return (self.batches,), None

    @classmethod
    def tree_unflatten(cls, aux: None, children: tuple[_Item]) -> Stacked[_Item]:
        """Rebuild from the arrays."""
        del aux
        return cls(*children)

    def __len__(self) -> int:
        return int(np.shape(jax.tree.leaves(self.batches)[0])[0])


def stacked(*arrays: PyTree, batch_size: int | None = None) -> Stacked[tuple[Any, ...]]:
    """Return arrays cut into batches that `Operator.over` scans over, also inside `jit`.

    Args:
      *arrays: the arguments of the loss after `params`, or one tuple of them such as a data set:
        trees of arrays (examples, ...), or (batches, batch_size, ...) where `batch_size` is None.
      batch_size: number of examples per batch; it must divide the number of examples.

    Raises:
      ValueError: no arrays, none in them, first axes that disagree, or no whole number of batches.

    >>> len(stacked(jnp.zeros((6, 2)), jnp.zeros(6), batch_size=3))
    2
    """
    if len(arrays) == 1 and isinstance(arrays[0], tuple | list):
        arrays = tuple(arrays[0])
    count = examples(arrays, "stacked")
    if any(np.ndim(leaf) == 0 for leaf in jax.tree.leaves(arrays)):
        raise ValueError(
            "stacked must hold arrays whose first axes count the same examples, got a number; "
            "bind it to the loss by jax.tree_util.Partial"
        )
    if batch_size is None:
        return Stacked(arrays)
    checks.at_least("batch_size", batch_size, 1)
    if count % batch_size:
        raise ValueError(
            f"batch_size must divide the {count} examples, got {batch_size}; "
            "pass a list of batches where the last one is smaller"
        )
    return Stacked(
        jax.tree.map(lambda leaf: jnp.reshape(leaf, (-1, batch_size, *np.shape(leaf)[1:])), arrays)
    )


def mean_over(
    operator: Summand,
    data: Any,
    *,
    batch_dependent: bool,
    weights: Any,
    reduction: Reduction,
) -> Operator:
    """See `ParameterMatrix.over`."""
    weighed = Weights(weights, reduction)
    if isinstance(data, Stacked):
        return _stacked_mean(operator, data, weighed, batch_dependent)
    _require_batches(data)
    if iter(data) is data:
        raise TypeError(
            f"batches must be iterable again and again, for every product passes over all of them, "
            f"got a one-shot {type(data).__name__}; pass a list of its items"
        )
    mean = HostMean(operator, data, weighed, _arrangement(operator, weighed, batch_dependent))
    if not batch_dependent:
        check_batches(operator, (batch for _, batch, _ in mean.batches()), weighed)
    return mean


def _arrangement(operator: Summand, weights: Weights, batch_dependent: bool) -> Arrangement:
    """Return what must stay from pass to pass, beside the set of examples."""
    if operator.ordered:
        return "examples"
    if weights.numbers is not None:
        return "batches"
    return "cut" if batch_dependent else "free"


def _stacked_mean(
    operator: Summand, data: Stacked[Any], weights: Weights, batch_dependent: bool
) -> StackedMean:
    count = examples(data.batches, "stacked batches")
    size = examples(_batch(data.batches, 0), "every stacked batch")
    traced = checks.in_trace((operator, data, weights.numbers))
    if not traced:
        for index, batch in enumerate(_each(data.batches, count)):
            operator.with_data(batch, index).require_labels(f" of batch {index}")
    each, total = weights.of_stacked(operator, data.batches, count, size, traced)
    if not batch_dependent and traced and weights.numbers is None:
        total = jnp.where(holds(operator, data.batches, weights), total, jnp.nan)
    elif not batch_dependent and not traced:
        check_batches(operator, _each(data.batches, count), weights)
    return StackedMean(operator, data.batches, each, total, count)


def _each(batches: PyTree, count: int) -> Iterator[PyTree]:
    return (_batch(batches, index) for index in range(count))


def _batch(batches: PyTree, index: int) -> PyTree:
    return jax.tree.map(lambda leaf: leaf[index], batches)


_REMEDY = (
    "pass over([(inputs, labels)]) for one batch, a list of such tuples for several, or "
    "over(curvature.stacked(inputs, labels, batch_size=...)) to cut arrays"
)


def _require_batches(data: Any) -> None:
    """Raise TypeError where `data` isn't an iterable of batches, but a batch itself or less."""
    bare = isinstance(data, tuple) and any(map(_is_array, data))
    if _is_array(data) or isinstance(data, Mapping) or hasattr(data, "_fields") or bare:
        got = f"a {type(data).__name__} of arrays, which is no list of them"
    elif not isinstance(data, Iterable) and not hasattr(data, "__getitem__"):
        got = f"{data!r}"
    else:
        return
    raise TypeError(f"batches must be an iterable of batches, got {got}; {_REMEDY}")


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _survey(
    operator: Summand, data: Iterable[Any], weights: Weights, arrangement: Arrangement
) -> tuple[Pass, list[float]]:
    """Return what a first pass brings, and the weights; raise where batches are empty or unlike."""
    found, each = Pass(), []
    structure: Any = None
    for index, batch in enumerate(_tuples(data)):
        size = examples(batch, f"batch {index}")
        shape = jax.tree.structure(batch), [np.shape(leaf)[1:] for leaf in jax.tree.leaves(batch)]
        structure = structure or shape
        if shape != structure:
            described = _described if shape[0] == structure[0] else lambda shape: str(shape[0])
            raise ValueError(
                f"batches must be alike but for their size, got {described(shape)} in batch "
                f"{index} after {described(structure)}; {_REMEDY}"
            )
        operator.with_data(batch, index).require_labels(f" of batch {index}")
        each.append(weights.of(operator, batch, index, size))
        found = found.after(batch, index, size, arrangement)
    if not each:
        raise ValueError("batches must hold at least one batch, got none")
    return found, each


def _described(shape: tuple[Any, list[tuple[int, ...]]]) -> str:
    arrays = [f"(n, {', '.join(map(str, tail))})".replace(", )", ",)") for tail in shape[1]]
    return f"arrays {', '.join(arrays)}"


def _tuples(data: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """Yield every batch as a tuple of trees of arrays."""
    for batch in data:
        parts = tuple(batch) if isinstance(batch, tuple | list) else (batch,)
        yield jax.tree.map(_array, parts)


def _array(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)


def examples(batch: PyTree, name: str) -> int:
    """Return the length of the first axis, which all arrays of `batch` must share."""
    must = f"{name} must hold arrays whose first axes count the same examples"
    count = trees.first_axis(batch, must, scalars=True)
    if count == 0:
        raise ValueError(f"{name} must hold at least one example, got none")
    return count


@register("operator", "batches", "weights", "total")
@dataclass(frozen=True, eq=False, repr=False)
class StackedMean(Operator):
    """The weighted sum over stacked batches of one size, over `total`; all arrays are data."""

    operator: Any
    batches: tuple[Any, ...]
    weights: Any  # (count,), or None for ones
    total: Any
    count: int

    @functools.cached_property
    def like(self) -> PyTree:
        """The operator's own."""
        return self.operator.like

    def matvec(self, v: PyTree) -> PyTree:
        """Return the combination of the products, summed in a scan."""

        def add(total: PyTree, item: tuple[Any, Any, Any]) -> tuple[PyTree, None]:
            index, batch, weight = item
            product = self.operator.with_data(batch, index).matvec(v)
            return jax.tree.map(
                lambda a, b: a + _weighed(b.astype(a.dtype), weight), total, product
            ), None

        zeros = jax.tree.map(lambda leaf: jnp.zeros(jnp.shape(leaf), trees.wide_dtype(leaf)), v)
        items = jnp.arange(self.count), self.batches, self.weights
        summed, _ = jax.lax.scan(add, zeros, items)

        def divided(leaf: jax.Array, like: Any) -> jax.Array:
            return (leaf / jnp.asarray(self.total, leaf.dtype)).astype(jnp.result_type(like))

        return jax.tree.map(divided, summed, v)

    def parts(self) -> Iterator[tuple[Any, Operator]]:
        """Yield the operator on each batch that counts, with its share."""
        weights = np.ones(self.count) if self.weights is None else self.weights
        for index, batch in enumerate(_each(self.batches, self.count)):
            if not (checks.concrete(weights) and weights[index] == 0):
                share = weights[index] / self.total
                yield share, self.operator.with_data(batch, np.int32(index))


def _weighed(product: jax.Array, weight: Any) -> jax.Array:
    """Return the product times its weight; 0 where that is 0, though the loss be 0 / 0 there."""
    if weight is None:
        return product
    weight = jnp.asarray(weight, product.dtype)
    return jnp.where(weight == 0, jnp.zeros_like(product), weight * product)


class HostMean(Operator):
    """The weighted combination over batches that Python iterates over."""

    def __init__(
        self,
        operator: Summand,
        data: Iterable[Any],
        weights: Weights,
        arrangement: Arrangement,
    ) -> None:
        self.operator, self.data, self.weights = operator, data, weights
        self.arrangement = arrangement
        self.first, each = _survey(operator, data, weights, arrangement)
        weights.require_count(len(each))
        self.total = weights.divisor(each)

    @functools.cached_property
    def like(self) -> PyTree:
        """The operator's own."""
        return self.operator.like

    @property
    def traceable(self) -> bool:
        """False: a trace would unroll the data set into the program."""
        return False

    def matvec(self, v: PyTree) -> PyTree:
        """Return the weighted combination of the products, one compiled call per batch."""
        if checks.in_trace(v):
            raise ValueError(
                "an operator over batches from the host must be applied outside jit, vmap and "
                "scan; for use inside give over() the batches in one array: "
                "op.over(curvature.stacked(inputs, labels, batch_size=...))"
            )
        total = None
        for weight, part in self.parts():
            total = _add_product(total, weight, part, v)
        return trees.cast_like(total, v)

    def parts(self) -> Iterator[tuple[Any, Operator]]:
        """Yield the operator on each batch that counts, with the batch's share.

        Raises:
          ValueError: as `batches`, after the last.
        """
        for index, batch, size in self.batches():
            weight = self.weights.of(self.operator, batch, index, size)
            if weight:
                yield weight / self.total, self.operator.with_data(batch, np.int32(index))

    def batches(self) -> Iterator[tuple[int, tuple[Any, ...], int]]:
        """Yield the position, the batch, and its size in one pass.

        Raises:
          ValueError: after the last, where the examples aren't those of the first pass, or come in
            another arrangement where the matrix depends on that.
        """
        found = Pass()
        for index, batch in enumerate(_tuples(self.data)):
            size = examples(batch, f"batch {index}")
            found = found.after(batch, index, size, self.arrangement)
            yield index, batch, size
        require_same(found, self.first, self.arrangement)


@jax.jit
def _add_product(total: PyTree, weight: Any, part: Operator, v: PyTree) -> PyTree:
    def weigh(leaf: jax.Array) -> jax.Array:
        dtype = trees.wide_dtype(leaf)
        return leaf.astype(dtype) * jnp.asarray(weight, dtype)

    product = jax.tree.map(weigh, part.matvec(v))
    return product if total is None else jax.tree.map(jnp.add, total, product)


def _refuse(_: HostMean) -> Any:
    raise TypeError(
        "an operator over batches from the host can't be passed through jit; give over() the "
        "batches in one array: op.over(curvature.stacked(inputs, labels, batch_size=...))"
    )


jax.tree_util.register_pytree_node(HostMean, _refuse, lambda _, children: children[0])
