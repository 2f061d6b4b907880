"""Batches of a data set: the same ones at every pass, or new ones for every epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any, Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks, trees
from adlab.core.types import Key

__all__ = ["Batches", "batches", "stack"]

Data = TypeVar("Data")


@dataclasses.dataclass(frozen=True, eq=False)
class Batches(Generic[Data]):
    """See `batches`. Every pass over one object yields the same batches.

    Attributes:
      data: a pytree of arrays of shape (N, ...).
      batch_size: examples per batch, 1 to N.
      drop_last: whether a last batch that would be smaller is left out.
      key: of the orders of epochs; None for the order of `data`.
      index: of the epoch.
    """

    data: Data
    batch_size: int
    drop_last: bool
    key: Key | None = dataclasses.field(repr=False)
    index: int = 0

    def __len__(self) -> int:
        """Return the number of batches of a pass."""
        whole, rest = divmod(_num_examples(self.data), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Data]:
        """Yield the batches, cut out of `data` as they are asked for."""
        order = self._order()
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield _rows(self.data, order[start : start + self.batch_size])

    def epoch(self, index: int) -> Batches[Data]:
        """Return the batches of epoch `index`, >= 0: shuffled anew where there is a key."""
        checks.at_least("epoch", index, 0)
        return dataclasses.replace(self, index=index)

    def _order(self) -> np.ndarray:
        number = _num_examples(self.data)
        if self.key is None:
            return np.arange(number)
        return np.asarray(jax.random.permutation(jax.random.fold_in(self.key, self.index), number))


def batches(
    data: Data, *, batch_size: int, key: Key | None = None, drop_last: bool = False
) -> Batches[Data]:
    """Cut data into batches, to be passed over as often as wanted.

    Iterating yields pytrees like `data`, the last one smaller where batch_size doesn't divide the
    number of examples. A second pass yields the same batches as the first, as an algorithm needs
    that multiplies by one matrix many times; training goes through `epoch`:

    >>> from adlab.data import Dataset
    >>> pairs = Dataset(np.zeros((5, 2), np.float32), np.arange(5, dtype=np.int32))
    >>> ordered = batches(pairs, batch_size=2)
    >>> [batch.labels.tolist() for batch in ordered]
    [[0, 1], [2, 3], [4]]
    >>> shuffled = batches(pairs, batch_size=2, key=jax.random.key(0))
    >>> passes = [batch for i in range(3) for batch in shuffled.epoch(i)]

    Epoch i is ordered by `fold_in(key, i)`, and plain iteration is epoch 0: an epoch's order
    depends on no other's, so that a training can be taken up anywhere.

    Args:
      data: a pytree of arrays of shape (N, ...), such as a `Dataset`.
      batch_size: 1 to N.
      key: of the orders; None keeps the order of `data`, in every epoch.
      drop_last: whether to leave out a last batch that would be smaller.

    Returns:
      A re-iterable with a length, the number of batches.

    Raises:
      ValueError: batch_size out of range; no leaves, or leaves of different lengths.
      TypeError: batch_size isn't an integer; key isn't a jax.random key.
    """
    number = _num_examples(data)
    checks.at_least("batch_size", batch_size, 1)
    if batch_size > number:
        raise ValueError(
            f"batch_size must be <= {number}, the number of examples, got {batch_size}"
        )
    if key is not None:
        _require_key(key)
    return Batches(data, batch_size, drop_last, key)


def stack(parts: Iterable[Data]) -> Data:
    """Return batches of equal size as one pytree of arrays (num_batches, batch_size, ...).

    That is what `jax.lax.scan` goes over. All batches are copied; drop_last=True makes them equal.

    >>> stack(batches(np.arange(6), batch_size=2))
    array([[0, 1],
           [2, 3],
           [4, 5]])

    Raises:
      ValueError: there are no batches, or they differ in size.
    """
    kept = list(parts)
    if not kept:
        raise ValueError("parts must hold at least one batch, got none")
    sizes = [_num_examples(part) for part in kept]
    if len(set(sizes)) > 1:
        raise ValueError(
            f"batches must be of one size to be stacked, got sizes {sorted(set(sizes))}; leave the "
            "last one out by drop_last=True, or choose a batch_size that divides the examples"
        )
    stacked: Data = jax.tree.map(lambda *leaves: np.stack(leaves), *kept)
    return stacked


def _rows(data: Any, rows: np.ndarray) -> Any:
    return jax.tree.map(lambda leaf: leaf[rows], data)


def _num_examples(data: Any) -> int:
    """Return the length of the leading axis that all leaves share."""
    if not jax.tree.leaves(data):
        raise ValueError(f"data must hold at least one array, got {data!r}")
    return trees.first_axis(data, "arrays of data must have one leading length")


def _require_key(key: Key) -> None:
    dtype = getattr(key, "dtype", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    legacy = dtype == np.uint32 and np.ndim(key) == 1
    if not (typed and np.ndim(key) == 0) and not legacy:
        raise TypeError(
            f"key must be one jax.random key or None, got {key!r}; "
            "call batches with key=jax.random.key(0)"
        )
