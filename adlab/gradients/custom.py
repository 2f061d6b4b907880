"""An estimator of the user's own, with the contract of all others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import trees
from adlab.core.calls import Bound
from adlab.core.cost import Cost
from adlab.core.nodes import register
from adlab.core.types import Argnums, Array, Key, Objective, Params, PyTree, Rest
from adlab.gradients.gradient_fn import GradientFn, gradient_fn
from adlab.gradients.method import Method

__all__ = ["custom"]

Estimator: TypeAlias = Callable[[Callable[[PyTree], Any], PyTree, Any], PyTree]


@register()
@dataclass(frozen=True, eq=False)
class Custom(Method):
    """See `custom`."""

    estimator: Estimator
    price: Callable[[int], Cost]
    moment: Callable[[int], float] | None

    @property
    def name(self) -> str:
        return str(getattr(self.estimator, "__name__", "custom"))

    def arguments(self) -> dict[str, Any]:
        return {"estimate": self.estimator, "cost": self.price, "second_moment": self.moment}

    def estimate(
        self, fun: Bound, x: PyTree, key: Key | None, value: Array | None = None
    ) -> PyTree:
        del value
        estimate = jax.tree.map(jnp.asarray, self.estimator(fun, x, key))
        if not trees.same_shapes(estimate, x):
            returned = jax.tree.map(np.shape, estimate)
            raise TypeError(
                f"{self.name} must return an estimate shaped as x, got {returned} for "
                f"{jax.tree.map(np.shape, x)}"
            )
        return estimate

    def cost(self, x: PyTree, *, value: bool) -> Cost:
        return self.price(trees.size(x)) + Cost(evaluations=int(value))

    def second_moment(self, dim: int) -> float:
        if self.moment is None:
            raise ValueError(
                f"second_moment of {self.name} must be known to prescribe a step: pass "
                "second_moment=, a function d -> c with E|G|^2 = c |grad|^2 on a linear function"
            )
        return float(self.moment(dim))

    def check(self, fun: Bound, x: PyTree, key: Key) -> None:
        del fun, x, key  # what there is to check, only its author knows


def custom(
    fun: Objective[Params, Rest],
    estimate: Estimator,
    *,
    cost: Callable[[int], Cost],
    second_moment: Callable[[int], float] | None = None,
    argnums: Argnums = 0,
    has_aux: bool = False,
) -> GradientFn[Params, Rest]:
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
    for name, value in (("estimate", estimate), ("cost", cost)):
        if not callable(value):
            raise TypeError(f"{name} must be callable, got {value!r}")
    if second_moment is not None and not callable(second_moment):
        raise TypeError(f"second_moment must be callable or None, got {second_moment!r}")
    return gradient_fn(fun, argnums, has_aux, Custom(custom, estimate, cost, second_moment))
