"""Whether the loss of a batch is the mean, or the sum, of what its examples contribute.

Only then are matrices of batches combined to that of the data set. Let L(B) be the loss on a batch
B and w(B) its weight. Every batch B is joined with the same part A of the first, and

    w(A + B) L(A + B) = w(A) L(A) + w(B) L(B)

must hold, at the parameters and at others nearby: at an initialisation that ignores its inputs, all
losses are equal whatever couples them, but nearby they aren't. Since A is the same for all, a loss
that passes on every batch is weighed alike in all of them, too: one that divides by a number of
valid tokens would pass within batches of like padding.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import trees
from adlab.core.types import Array, PyTree
from adlab.curvature._summand import Summand
from adlab.curvature._weights import Weights

__all__ = ["check_batches", "holds"]

_TOLERANCE = 1e-4  # relative: above the round-off of float32, below what couples examples
_NEARBY = 0.1  # relative to the size of a leaf


@jax.jit
def _twice(operator: Summand) -> tuple[Array, Array]:
    """Return the loss, and the loss traced a second time."""
    return operator.mean(), operator.mean()


@jax.jit
def _losses(operators: list[list[Summand]]) -> list[list[Array]]:
    """Return the losses of all operators: one program for a batch, its part, and both."""
    return [[operator.mean() for operator in row] for row in operators]


@jax.jit
def _nearby(params: PyTree) -> PyTree:
    """Return parameters whose entries differ from these by a tenth of their size."""

    def moved(leaf: Array) -> Array:
        direction = jnp.cos(jnp.arange(leaf.size, dtype=jnp.float32)).reshape(leaf.shape)
        size = jnp.sqrt(jnp.mean(jnp.square(leaf.astype(trees.wide_dtype(leaf)))))
        step = jnp.where(size == 0, jnp.ones_like(size), size) * direction.astype(size.dtype)
        return leaf + (_NEARBY * step).astype(leaf.dtype)

    return jax.tree.map(moved, params)


class _Gauge:
    """Measures the loss on batches, with float32 in place of 16 bits where the loss takes it."""

    def __init__(self, operator: Summand, weights: Weights, first: Any) -> None:
        self.operators = (operator, operator.at(_nearby(operator.params)))
        self.weights, self.widened = weights, _takes_float32(operator.with_data(first, 0))
        self.dtype = jax.eval_shape(_twice, self._on(operator, first))[0].dtype
        self.part = _slice(first, slice(0, -(-_size(first) // 4)))
        self.weight = self._weight(self.part)

    def _on(self, operator: Summand, batch: Any) -> Summand:
        on_batch = operator.with_data(batch, 0)
        return _widened(on_batch) if self.widened else on_batch

    def _weight(self, batch: Any) -> Any:
        return self.weights.of(self.operators[0], batch, 0, _size(batch))

    def joined(self, batch: Any) -> tuple[list[Any], list[Any], int]:
        """Return losses (3, 2) and weights (3,) of the batch with the part, alone, and of the part.

        Also the number of examples of the first.
        """
        both = _concatenated(self.part, batch)
        each = (both, batch, self.part)
        losses = _losses([[self._on(one, rows) for one in self.operators] for rows in each])
        weights = [self._weight(both), self._weight(batch), self.weight]
        return losses, weights, _size(both)

    @property
    def tolerance(self) -> float:
        """Relative, of losses: beyond the round-off of theirs."""
        return max(_TOLERANCE, 8 * float(jnp.finfo(self.dtype).eps))

    def require_deterministic(self, batch: Any) -> None:
        """Raise ValueError where two evaluations differ, as they were traced or as they ran."""
        on_batch = self._on(self.operators[0], batch)
        losses = [float(loss) for _ in range(2) for loss in _twice(on_batch)]
        for other in losses[1:]:
            if abs(losses[0] - other) > self.tolerance * max(abs(losses[0]), abs(other)):
                raise ValueError(
                    f"the loss must be deterministic, got {losses[0]!r} and then {other!r} on the "
                    "same batch; fix its random key (dropout), or evaluate the model in inference "
                    "mode"
                )


def check_batches(operator: Summand, batches: Iterable[Any], weights: Weights) -> None:
    """Raise ValueError unless the losses of all batches combine, see above.

    Costs the loss of 4 1/2 times the data. Weights that are numbers are taken as they are: of parts
    they aren't known. Then the loss of the first batch is evaluated, and no more.
    """
    gauge: _Gauge | None = None
    for index, batch in enumerate(batches):
        if gauge is None:
            gauge = _Gauge(operator, weights, batch)
            gauge.require_deterministic(batch)
        if weights.numbers is not None:
            continue
        losses, weighed, count = gauge.joined(batch)
        rows, each = np.asarray(losses, np.float64), np.asarray(weighed, np.float64)
        _require_finite(rows[1, 0], each[1], index)
        bad = _broken(np, rows, each, gauge.tolerance, weights.reduction)
        if bad.any():
            raise ValueError(_told(rows, each, bad, index, count, weights.reduction))


def holds(operator: Summand, batches: Any, weights: Weights) -> Array:
    """Return whether the losses of stacked batches combine, inside a trace."""
    gauge = _Gauge(operator, weights, jax.tree.map(lambda leaf: leaf[0], batches))

    def broken(batch: Any) -> Array:
        losses, weighed, _ = gauge.joined(batch)
        rows = jnp.array(losses)
        each = jnp.stack([jnp.asarray(weight, rows.dtype) for weight in weighed])
        return jnp.any(_broken(jnp, rows, each, gauge.tolerance, weights.reduction))

    return ~jnp.any(jax.lax.map(broken, batches))


def _broken(xp: Any, rows: Any, weights: Any, tolerance: float, reduction: str) -> Any:
    """Return whether the losses here and nearby, and the weights, break the sum.

    A part of weight 0 counts as nothing, whatever its loss, which may be 0 / 0.
    """
    shares = weights / xp.where(weights[0] == 0, 1, weights[0])
    counted = xp.where(shares[:, None] == 0, 0, rows)
    terms = shares[:, None] * counted
    gaps = xp.abs(terms[0] - terms[1] - terms[2])
    sizes = xp.max(xp.abs(counted), axis=0)
    here = ~(gaps[0] <= tolerance * sizes[0])  # also where a part isn't finite
    nearby = gaps[1] > tolerance * sizes[1]  # the loss may end before the nearby parameters
    uneven = xp.abs(shares[0] - shares[1] - shares[2]) > tolerance
    return xp.stack([here, nearby, uneven & (reduction == "mean")])


def _require_finite(loss: float, weight: float, index: int) -> None:
    if weight and not np.isfinite(loss):
        raise ValueError(
            f"the loss must be finite, got {loss} on batch {index}; check its parameters and data "
            "for NaN; where no example of a batch counts, weights=, a function of the batch, is 0"
        )


_KINDS = {
    "mean": (
        'Divide a sum by the number of examples, or pass reduction="sum"; for a mean over those '
        "that a mask leaves, pass weights=, a function of the batch that counts them"
    ),
    "sum": 'Where it is a mean, leave reduction="sum" away, or pass weights=, the numbers of terms',
}


def _told(rows: Any, weights: Any, bad: Any, index: int, count: int, reduction: str) -> str:
    on = f"on batch {index} with a part of batch 0, {count} examples"
    if bad[:2].any():
        column = int(np.argmax(bad[:2]))
        place = ("", " at parameters nearby")[column]
        split = weights[1:] / (weights[0] or 1)
        apart = np.where(split == 0, 0, split * rows[1:, column]).sum()
        got = f"{rows[0, column]:.6g} {on}{place}, and {apart:.6g} from the two apart"
    else:
        got = f"weights {weights[0]:.6g} {on}, and {weights[1:].sum():.6g} from the two apart"
    return (
        f"the loss must be the {reduction} over its examples for matrices of batches to be "
        f"combined, got {got}. {_KINDS[reduction]}; evaluate BatchNorm with its running averages, "
        "and dropout in inference mode; or pass batch_dependent=True to combine the matrices of "
        "the batches as they are cut"
    )


def _size(batch: Any) -> int:
    return int(next(np.shape(leaf)[0] for leaf in jax.tree.leaves(batch) if np.ndim(leaf)))


def _slice(batch: Any, rows: slice) -> Any:
    return jax.tree.map(lambda leaf: leaf[rows] if np.ndim(leaf) else leaf, batch)


def _concatenated(first: Any, second: Any) -> Any:
    def join(a: Any, b: Any) -> Any:
        if not np.ndim(b):
            return b
        in_numpy = isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
        return (np if in_numpy else jnp).concatenate([a, b])

    return jax.tree.map(join, first, second)


def _narrow(leaf: Any) -> bool:
    dtype = jnp.result_type(leaf)
    return bool(jnp.issubdtype(dtype, jnp.floating)) and dtype.itemsize < 4


def _widened(operator: Summand) -> Summand:
    wide: Summand = jax.tree.map(
        lambda x: jnp.asarray(x, jnp.float32) if _narrow(x) else x, operator
    )
    return wide


def _takes_float32(operator: Summand) -> bool:
    """Return whether 16-bit leaves are there, and may be widened: too coarse to tell BatchNorm."""
    if not any(map(_narrow, jax.tree.leaves(operator))):
        return False
    try:
        jax.eval_shape(lambda operator: operator.mean(), _widened(operator))
    except (TypeError, ValueError):
        return False
    return True
