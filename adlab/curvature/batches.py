"""Matrices that are means over the batches of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks, trees
from adlab.core.nodes import register
from adlab.curvature.operators import Operator

if TYPE_CHECKING:
    from adlab.curvature.blocks import Network

__all__ = ["Stacked", "mean_over", "stacked"]

PyTree = Any
_Item = TypeVar("_Item")
_TOLERANCE = 1e-4  # relative: above the round-off of float32, below what couples examples


@jax.tree_util.register_pytree_node_class
class Stacked(Generic[_Item]):
    """Batches laid along a first axis, so that a scan passes over them. See `stacked`."""

    def __init__(self, batches: _Item) -> None:
        self.batches = batches

    def tree_flatten(self) -> tuple[tuple[Any], None]:
        """Return the arrays as data."""
        return (self.batches,), None

    @classmethod
    def tree_unflatten(cls, aux: None, children: tuple[Any]) -> Stacked:
        """Rebuild from the arrays."""
        del aux
        return cls(*children)

    def __len__(self) -> int:
        return int(np.shape(jax.tree.leaves(self.batches)[0])[0])


def stacked(*arrays: Any, batch_size: int | None = None) -> Stacked:
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


def mean_over(operator: Network, data: Any, *, coupled: bool) -> Operator:
    """See `Network.over`."""
    if isinstance(data, Stacked):
        count = examples(data.batches, "stacked batches")
        first = jax.tree.map(lambda leaf: leaf[0], data.batches)
        examples(first, "every stacked batch")
        if not coupled and checks.concrete((operator, data)) and not checks.in_trace():
            check_uncoupled(operator, first)
        return StackedMean(operator, data.batches, count)
    _require_batches(data)
    if iter(data) is data:
        raise TypeError(
            f"batches must be iterable again and again, for every product passes over all of them, "
            f"got a one-shot {type(data).__name__}; pass a list of its items"
        )
    sizes = _survey(data)
    first = next(_tuples(data))
    mean = HostMean(operator, data, tuple(sizes), _checksum(first) if operator.ordered else None)
    if not coupled:
        check_uncoupled(operator, first)
    return mean


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


def _checksum(batch: tuple[Any, ...]) -> float:
    """Return a number that tells one first batch from another."""
    leaves = (leaf for leaf in jax.tree.leaves(batch) if jnp.issubdtype(leaf.dtype, jnp.number))
    return float(np.sum(np.asarray(next(leaves, 0)).astype(complex)).real)


def _survey(data: Iterable[Any]) -> list[int]:
    """Return the sizes of all batches; raise ValueError where they are empty or unlike."""
    sizes: list[int] = []
    structure: Any = None
    for index, batch in enumerate(_tuples(data)):
        sizes.append(examples(batch, f"batch {index}"))
        shape = jax.tree.structure(batch), [np.shape(leaf)[1:] for leaf in jax.tree.leaves(batch)]
        structure = structure or shape
        if shape != structure:
            told = _described if shape[0] == structure[0] else lambda shape: str(shape[0])
            raise ValueError(
                f"batches must be alike but for their size, got {told(shape)} in batch "
                f"{index} after {told(structure)}; {_REMEDY}"
            )
    if not sizes:
        raise ValueError("batches must hold at least one batch, got none")
    return sizes


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
    sizes = {np.shape(leaf)[:1] for leaf in jax.tree.leaves(batch) if np.ndim(leaf)}
    if len(sizes) != 1:
        raise ValueError(
            f"{name} must hold arrays whose first axes count the same examples, got lengths "
            f"{sorted(size[0] for size in sizes)}"
        )
    (count,) = sizes.pop()
    if count == 0:
        raise ValueError(f"{name} must hold at least one example, got none")
    return int(count)


def check_uncoupled(operator: Network, batch: tuple[Any, ...]) -> None:
    """Raise ValueError unless the loss on a batch is the mean of those on its halves.

    Also where two evaluations differ, be it in what was drawn when they were traced or when they
    ran. Costs about four forward sweeps. A batch of one example can't tell. Numbers of 16 bits are
    widened, for theirs are too coarse to tell BatchNorm from rounding.
    """
    on_batch = _widened(operator.with_data(batch, 0))
    pieces = [_pieces(on_batch) for _ in range(2)]
    relative = max(_TOLERANCE, 8 * float(jnp.finfo(pieces[0][0].dtype).eps))
    whole, again, *halves = map(float, pieces[0])
    for other in (again, float(pieces[1][0])):
        same = abs(whole - other) <= relative * max(abs(whole), abs(other)) or whole == other
        if not same and not (np.isnan(whole) and np.isnan(other)):
            raise ValueError(
                f"the loss must be deterministic, got {whole!r} and then {other!r} on the same "
                "batch; fix its random key (dropout), or evaluate the model in inference mode"
            )
    if not halves:
        return
    count = examples(batch, "batch 0")
    mean = (count // 2 * halves[0] + (count - count // 2) * halves[1]) / count
    if abs(mean - whole) > relative * max(abs(whole), *map(abs, halves)):
        raise ValueError(
            f"the loss must be the mean over its examples for matrices of batches to be combined, "
            f"got {whole:.6g} on a batch of {count} and {mean:.6g} as the mean of its halves. "
            "Divide a sum by the number of examples; evaluate BatchNorm with its running averages, "
            "and dropout in inference mode; or pass coupled=True to take the mean of the matrices "
            "of the batches as they are cut"
        )


def _widened(operator: Network) -> Network:
    """Return the operator with float32 in place of 16 bits, unless its loss insists on these."""

    def narrow(leaf: Any) -> bool:
        dtype = jnp.result_type(leaf)
        return bool(jnp.issubdtype(dtype, jnp.floating)) and dtype.itemsize < 4

    if not any(map(narrow, jax.tree.leaves(operator))):
        return operator
    wide = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32) if narrow(x) else x, operator)
    try:
        jax.eval_shape(lambda operator: operator.mean(), wide)
    except (TypeError, ValueError):
        return operator
    return wide


@jax.jit
def _pieces(operator: Network) -> list[jax.Array]:
    """Return the loss, the loss traced anew, and those of both halves of the batch."""
    batch = operator.args
    count = examples(batch, "batch 0")
    cuts = (slice(None, count // 2), slice(count // 2, None)) if count > 1 else ()
    parts = [jax.tree.map(lambda leaf, s=s: leaf[s] if leaf.ndim else leaf, batch) for s in cuts]
    values = [operator.mean(), operator.mean()]
    return [*values, *(operator.with_data(part, 0).mean() for part in parts)]


@register("operator", "batches")
@dataclass(frozen=True, eq=False)
class StackedMean(Operator):
    """The mean over stacked batches of one size, whose arrays are data."""

    operator: Any
    batches: tuple[Any, ...]
    count: int

    @property
    def like(self) -> PyTree:
        """The operator's own."""
        return self.operator.like

    def matvec(self, v: PyTree) -> PyTree:
        """Return the mean of the products, summed in a scan."""

        def add(total: PyTree, item: tuple[Any, Any]) -> tuple[PyTree, None]:
            index, batch = item
            product = self.operator.with_data(batch, index).matvec(v)
            return jax.tree.map(lambda a, b: a + b.astype(a.dtype), total, product), None

        zeros = jax.tree.map(lambda leaf: jnp.zeros(jnp.shape(leaf), trees.wide_dtype(leaf)), v)
        total, _ = jax.lax.scan(add, zeros, (jnp.arange(self.count), self.batches))
        return jax.tree.map(lambda a, b: (a / self.count).astype(jnp.result_type(b)), total, v)

    def parts(self) -> Iterator[tuple[Any, Operator]]:
        """Yield the operator on each batch."""
        for index in range(self.count):
            batch = jax.tree.map(lambda leaf, i=index: leaf[i], self.batches)
            yield 1.0 / self.count, self.operator.with_data(batch, np.int32(index))


class HostMean(Operator):
    """The mean over batches that Python iterates over, weighted by their size."""

    def __init__(
        self, operator: Network, data: Iterable[Any], sizes: tuple[int, ...], first: float | None
    ) -> None:
        self.operator, self.data, self.sizes, self.first = operator, data, sizes, first

    @property
    def like(self) -> PyTree:
        """The operator's own."""
        return self.operator.like

    @property
    def traceable(self) -> bool:
        """False: a trace would unroll the data set into the program."""
        return False

    def matvec(self, v: PyTree) -> PyTree:
        """Return the weighted mean of the products, one compiled call per batch."""
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
        """Yield the operator on each batch with the batch's share of the examples.

        Raises:
          ValueError: the batches have other sizes in all than at the first pass; or they come in
            another order, where labels are drawn for them.
        """
        number, seen = sum(self.sizes), 0
        for index, batch in enumerate(_tuples(self.data)):
            size = examples(batch, f"batch {index}")
            seen += size
            if index == 0 and self.first not in (None, _checksum(batch)):
                raise ValueError(
                    "batches must come in the same order at every pass, for the labels drawn go by "
                    "a batch's position, got another first batch; switch shuffling off"
                )
            yield size / number, self.operator.with_data(batch, np.int32(index))
        if seen != number:
            raise ValueError(
                f"batches must hold the same examples at every pass, got {seen} after {number}"
            )


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
