"""Whether the loss of a batch is the mean, or the sum, of what its examples contribute.

Only then are matrices of batches combined to that of the data set. Let L(B) be the loss on a batch
B and w(B) its weight. Every batch B is joined with the same part A of the first, and

    w(A + B) L(A + B) = w(A) L(A) + w(B) L(B)

must hold, for the loss and for its derivative along one fixed direction: at an initialisation that
ignores its inputs, all losses are equal whatever couples them, but the derivatives aren't. Since A
is the same for all, a loss that passes on every batch is weighed alike in all of them, too: one
that divides by a number of valid tokens passes within batches of like padding.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks
from adlab.curvature._weights import Weights

if TYPE_CHECKING:
    from adlab.curvature.blocks import Network

__all__ = ["check_batches", "holds"]

PyTree = Any
_TOLERANCE = 1e-4  # relative: above the round-off of float32, below what couples examples
_SLOPES = 10  # times as much for slopes, in whose sums examples cancel


@jax.jit
def _measure(operator: Network) -> tuple[jax.Array, jax.Array]:
    """Return loss, slope and the gradient's length, (3,), and the loss traced a second time."""
    return operator.value_and_slope(), operator.mean()


class _Gauge:
    """Measures the loss on batches, with float32 in place of 16 bits where the loss takes it."""

    def __init__(self, operator: Network, weights: Weights, first: Any) -> None:
        self.operator, self.weights = operator, weights
        on_batch = operator.with_data(first, 0)
        self.widened = _takes_float32(on_batch)
        size = _size(first)
        self.part = _slice(first, slice(0, -(-size // 4)))
        self.on_part = self.loss(self.part), self.weight(self.part)
        self.dtype = jax.eval_shape(_measure, self._on(first))[0].dtype

    def _on(self, batch: Any) -> Network:
        on_batch = self.operator.with_data(batch, 0)
        return _widened(on_batch) if self.widened else on_batch

    def loss(self, batch: Any) -> jax.Array:
        """Return loss, slope, and the gradient's length on a batch."""
        return _measure(self._on(batch))[0]

    def weight(self, batch: Any) -> Any:
        """Return what a batch, or a part of one, counts."""
        return self.weights.of(self.operator, batch, 0, _size(batch))

    def joined(self, batch: Any) -> tuple[Any, Any, Any]:
        """Return losses (3, 3) of the batch with the part, of it alone, and of the part; weights.

        Also the number of examples of the first.
        """
        both = _concatenated(self.part, batch)
        losses = self.loss(both), self.loss(batch), self.on_part[0]
        weights = self.weight(both), self.weight(batch), self.on_part[1]
        return losses, weights, _size(both)

    @property
    def tolerance(self) -> float:
        """Relative, of losses: beyond the round-off of theirs."""
        return max(_TOLERANCE, 8 * float(jnp.finfo(self.dtype).eps))

    def require_deterministic(self, batch: Any) -> None:
        """Raise ValueError where two evaluations differ, as they were traced or as they ran."""
        losses = [float(loss) for _ in range(2) for loss in self._evaluations(batch)]
        for other in losses[1:]:
            if abs(losses[0] - other) > self.tolerance * max(abs(losses[0]), abs(other)):
                raise ValueError(
                    f"the loss must be deterministic, got {losses[0]!r} and then {other!r} on the "
                    "same batch; fix its random key (dropout), or evaluate the model in inference "
                    "mode"
                )

    def _evaluations(self, batch: Any) -> tuple[Any, Any]:
        measured, again = _measure(self._on(batch))
        return measured[0], again


def check_batches(operator: Network, batches: Iterable[Any], weights: Weights) -> None:
    """Raise ValueError unless the losses of all batches combine, see above.

    Costs the gradients of 2 1/4 times the data. Weights that are numbers are taken as they are: of
    parts they aren't known. Then the loss of the first batch is evaluated, twice, and no more.
    """
    gauge: _Gauge | None = None
    for index, batch in enumerate(batches):
        if gauge is None:
            gauge = _Gauge(operator, weights, batch)
            gauge.require_deterministic(batch)
        if weights.numbers is not None:
            continue
        losses, weighed, count = gauge.joined(batch)
        rows = np.array([np.asarray(loss, np.float64) for loss in losses])
        shares = np.array([float(weight) for weight in weighed])
        _require_finite(rows[1, 0], shares[1], index)
        bad = _broken(np, rows, shares, gauge.tolerance, weights.reduction)
        if bad.any():
            raise ValueError(_told(rows, shares, bad, index, count, weights.reduction))


def holds(operator: Network, batches: Any, weights: Weights) -> jax.Array:
    """Return whether the losses of stacked batches combine, inside a trace."""
    gauge = _Gauge(operator, weights, jax.tree.map(lambda leaf: leaf[0], batches))

    def broken(batch: Any) -> jax.Array:
        losses, weighed, _ = gauge.joined(batch)
        rows = jnp.stack(losses)
        shares = jnp.stack([jnp.asarray(weight, rows.dtype) for weight in weighed])
        return jnp.any(_broken(jnp, rows, shares, gauge.tolerance, weights.reduction))

    return ~jnp.any(jax.lax.map(broken, batches))


def _broken(xp: Any, rows: Any, weights: Any, tolerance: float, reduction: str) -> Any:
    """Return whether losses, slopes, and weights break the sum, from joined, alone, and part.

    A part of weight 0 counts as nothing, whatever its loss, which may be 0 / 0.
    """
    shares = weights / xp.where(weights[0] == 0, 1, weights[0])
    terms = xp.where(shares[:, None] == 0, 0, shares[:, None] * rows)
    sizes = xp.where(shares[:, None] == 0, 0, xp.abs(rows))
    gaps = xp.abs(terms[0] - terms[1] - terms[2])
    loss = gaps[0] <= tolerance * xp.max(sizes[:, 0])  # also False where a part isn't finite
    slope = gaps[1] > _SLOPES * tolerance * xp.max(sizes[:, 1:])  # NaN is for the product to tell
    uneven = xp.abs(shares[0] - shares[1] - shares[2]) > tolerance
    return xp.stack([~loss, slope, uneven & (reduction == "mean")])


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
        what = ("", "slopes ")[int(np.argmax(bad[:2]))]
        column = rows[:, int(np.argmax(bad[:2]))]
        split = weights[1:] / (weights[0] or 1)
        expected = np.where(split == 0, 0, split * column[1:]).sum()
        got = f"{what}{column[0]:.6g} {on}, and {expected:.6g} from the two apart"
    else:
        got = f"weights {weights[0]:.6g} {on}, and {weights[1:].sum():.6g} from the two apart"
    return (
        f"the loss must be the {reduction} over its examples for matrices of batches to be "
        f"combined, got {got}. {_KINDS[reduction]}; evaluate BatchNorm with its running averages, "
        "and dropout in inference mode; or pass coupled=True to combine the matrices of the "
        "batches as they are cut"
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


def _widened(operator: Network) -> Network:
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32) if _narrow(x) else x, operator)


def _takes_float32(operator: Network) -> bool:
    """Return whether 16-bit leaves are there, and may be widened: too coarse to tell BatchNorm."""
    if not any(map(_narrow, jax.tree.leaves(operator))):
        return False
    try:
        jax.eval_shape(lambda operator: operator.mean(), _widened(operator))
    except (TypeError, ValueError):
        return False
    return True
