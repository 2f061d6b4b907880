"""What the matrix of one batch must offer to be summed over a data set."""

from __future__ import annotations

import abc
from typing import Any, Self

from adlab.core.types import Array, PyTree
from adlab.curvature.operators import Operator

__all__ = ["Summand"]


class Summand(Operator):
    """The matrix of a loss in `params` on the data `args`, which may be replaced by a batch.

    Attributes:
      params: a tree of arrays; where the matrix is taken.
      args: the other arguments of the loss.
    """

    params: PyTree
    args: tuple[Any, ...]

    @property
    def ordered(self) -> bool:
        """Whether the matrix on a batch depends on the batch's position."""
        return False

    def with_data(self, batch: tuple[Any, ...], index: Any) -> Self:
        """Return this matrix on one batch, the `index`-th of a data set."""
        del index
        return self._changed(args=batch)

    def _changed(self, **fields: Any) -> Self:
        new = object.__new__(type(self))  # shapes stay, and with them what is kept of `like`
        for name, value in {**vars(self), **fields}.items():
            object.__setattr__(new, name, value)
        return new

    @abc.abstractmethod
    def value(self) -> Array:
        """Return the loss on this operator's data."""

    def mean(self) -> Array:
        """Return what must be a mean over examples for matrices of batches to be combined."""
        return self.value()

    def at(self, params: PyTree) -> Self:
        """Return this matrix at other parameters of the same shapes."""
        return self._changed(params=params)

    def terms(self) -> int:
        """Return how many terms this matrix is the mean of by definition: 1 for that of a loss."""
        return 1
