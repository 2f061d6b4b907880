"""An estimator of the user's own, with the contract of all others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import trees
from adlab.core.cost import Cost
from adlab.core.nodes import as_data, register
from adlab.gradients.gradient_fn import GradientFn, PyTree, check_arguments

__all__ = ["custom"]

Estimate = Callable[[Callable[[PyTree], Any], PyTree, Any], PyTree]


@register("fun")
@dataclass(frozen=True, eq=False)
class Custom(GradientFn):
    """See `custom`."""

    estimate: Estimate
    evaluations: Callable[[int], Cost]
    moment: Callable[[int], float] | None

    @property
    def _name(self) -> str:
        return getattr(self.estimate, "__name__", "custom")

    def _cost(self, dim: int) -> Cost:
        return self.evaluations(dim)

    def _second_moment(self, dim: int) -> float:
        if self.moment is None:
            raise ValueError(
                f"second_moment of {self._name} must be known to prescribe a step: pass "
                "second_moment=, a function d -> c with E|G|^2 = c |grad|^2 on a linear function"
            )
        return float(self.moment(dim))

    def _gradient(self, fun: Callable, x: PyTree, key: Any, value: Any) -> PyTree:
        del value
        estimate = jax.tree.map(jnp.asarray, self.estimate(fun, x, key))
        if not trees.same_shapes(estimate, x):
            returned = jax.tree.map(np.shape, estimate)
            raise TypeError(
                f"{self._name} must return an estimate shaped as x, got {returned} for "
                f"{jax.tree.map(np.shape, x)}"
            )
        return estimate


def custom(
    fun: Callable[..., Any],
    estimate: Estimate,
    *,
    cost: Callable[[int], Cost],
    second_moment: Callable[[int], float] | None = None,
    argnums: int | tuple[int, ...] = 0,
    has_aux: bool = False,
) -> GradientFn:
    """Give an estimator of your own the contract of a `GradientFn`.

    >>> def one_coordinate(fun, x, key):
    ...     i = jax.random.randint(key, (), 0, x.size)
    ...     unit = jnp.where(jnp.arange(x.size) == i, 1.0, 0.0)
    ...     return x.size * (fun(x + 0.1 * unit) - fun(x - 0.1 * unit)) / 0.2 * unit
    >>> g = custom(lambda x: jnp.sum(x**2), one_coordinate, cost=lambda d: Cost(evaluations=2))
    >>> g.cost(jnp.ones(3))
    Cost(evaluations=2, jvps=0, vjps=0)

    Args:
      fun: returns a real scalar, or (scalar, aux).
      estimate: (fun, x, key) -> estimated gradient, a tree like x; the `fun` that it gets is a
        function of x alone. Pure and traceable by JAX.
      cost: d -> what one estimate costs for x of d numbers.
      second_moment: d -> c in E|G|^2 = c |grad|^2 on a linear function, for prescribed steps.
      argnums: which positional argument to differentiate, or a tuple of several.
      has_aux: whether `fun` returns auxiliary data beside its value.

    Returns:
      A GradientFn with the signature of `fun` plus `key`.

    Raises:
      TypeError: estimate, cost or second_moment isn't callable; the estimate isn't shaped as x
        (when called).
    """
    check_arguments(argnums, has_aux)
    for name, value in (("estimate", estimate), ("cost", cost)):
        if not callable(value):
            raise TypeError(f"{name} must be callable, got {value!r}")
    if second_moment is not None and not callable(second_moment):
        raise TypeError(f"second_moment must be callable or None, got {second_moment!r}")
    return Custom(as_data(fun), argnums, has_aux, estimate, cost, second_moment)
