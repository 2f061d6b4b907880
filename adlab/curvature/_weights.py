"""What each batch of a data set counts in the matrix of the whole."""

from __future__ import annotations

from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks
from adlab.curvature._summand import Summand

__all__ = ["Reduction", "Weights"]

Reduction = Literal["mean", "sum"]


class Weights:
    """The weight w_b of every batch; the matrix is sum_b w_b H_b, over sum_b w_b for a mean."""

    def __init__(self, given: Any, reduction: Reduction) -> None:
        checks.one_of("reduction", reduction, get_args(Reduction))
        self.reduction, self.function = reduction, given if callable(given) else None
        self.numbers = None if given is None or callable(given) else _row(given)

    def of(self, operator: Summand, batch: tuple[Any, ...], index: int, size: int) -> Any:
        """Return the weight of a batch, or of a part of one where they aren't given as numbers."""
        if self.function is not None:
            weight = self.function(batch if len(batch) > 1 else batch[0])
        elif self.numbers is not None:  # a pass that is too long is refused at its end
            weight = self.numbers[min(index, len(self.numbers) - 1)]
        elif self.reduction == "mean":
            return size
        else:
            return operator.with_data(batch, index).terms()
        return _checked(weight, f" for batch {index}")

    def of_stacked(
        self, operator: Summand, batches: Any, count: int, size: int, traced: bool
    ) -> tuple[Any, Any]:
        """Return the weights (count,) of stacked batches, None where all are 1, and the divisor."""
        self.require_count(count)

        def at(index: Any) -> Any:
            batch = jax.tree.map(lambda leaf: leaf[index], batches)
            return self.of(operator, batch, index, size)

        if self.function is None and self.numbers is None:
            each = at(0)
            if self.reduction == "mean" or each == 1:
                return None, count if self.reduction == "mean" else 1
            return jnp.full(count, each, float), 1
        if not traced:
            each = [at(index) for index in range(count)]
            return jnp.asarray(each, float), self.divisor(each)
        if self.numbers is not None:
            each = jax.vmap(_checked)(jnp.asarray(self.numbers, float))
        else:
            each = jax.lax.map(lambda index: jnp.asarray(at(index), float), jnp.arange(count))
        return each, self.divisor(each)

    def require_count(self, count: int) -> None:
        """Raise ValueError unless numbers are as many as batches."""
        if self.numbers is not None and len(self.numbers) != count:
            raise ValueError(
                f"weights must be one number per batch, {count} in all, got {len(self.numbers)}"
            )

    def divisor(self, weights: Any) -> Any:
        """Return what the weighted sum is divided by, of concrete weights or traced ones."""
        total: Any
        if checks.concrete(weights):
            total = float(np.sum(np.asarray(weights, np.float64)))
            if not (np.isfinite(total) and total > 0):
                raise ValueError(f"weights must have a positive, finite sum, got {total}")
        else:
            total = jnp.sum(jnp.asarray(weights))
            total = jnp.where(jnp.isfinite(total) & (total > 0), total, jnp.nan)
        return total if self.reduction == "mean" else total * 0 + 1


def _row(given: Any) -> Any:
    row = given if isinstance(given, jax.Array) else np.asarray(_listed(given))
    if row.ndim != 1 or not _real(row):
        raise TypeError(
            f"weights must be one real number per batch, or a function of the batch, got {given!r}"
        )
    return row


def _listed(given: Any) -> Any:
    return given if hasattr(given, "dtype") or not hasattr(given, "__iter__") else list(given)


def _real(value: Any) -> bool:
    dtype = value.dtype if hasattr(value, "dtype") else np.asarray(value).dtype
    return any(jnp.issubdtype(dtype, kind) for kind in (jnp.floating, jnp.integer, jnp.bool_))


def _checked(weight: Any, where: str = "") -> Any:
    if np.shape(weight) != () or not _real(weight):
        raise TypeError(f"weights must be one real number per batch, got {weight!r}{where}")
    if not checks.concrete(weight):
        weight = jnp.asarray(weight, jnp.result_type(float))
        return jnp.where(jnp.isfinite(weight) & (weight >= 0), weight, jnp.nan)
    if not (np.isfinite(weight) and weight >= 0):
        raise ValueError(f"weights must be finite and >= 0, got {float(weight)}{where}")
    return float(weight)
