"""What one kind of gradient has of its own; `GradientFn` does for it what all have in common."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import jax

from adlab.core import trees
from adlab.core.calls import Bound
from adlab.core.cost import Cost
from adlab.core.types import Array, Key, PyTree

__all__ = ["Method"]


@dataclass(frozen=True, eq=False)
class Method(abc.ABC):
    """How a gradient is obtained.

    A frozen dataclass, registered as a pytree: steps are data, all else is static. `fun` is given
    to it as a function of x alone, which returns a real scalar; x is a tree of real arrays.

    Attributes:
      factory: the public function that makes it.
      reverse: whether cotangents alone are passed through `fun`.
    """

    factory: Callable[..., Any]
    reverse: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.factory.__name__

    @abc.abstractmethod
    def arguments(self) -> dict[str, Any]:
        """Return the arguments of `factory` that make it, without those of `GradientFn`."""

    @abc.abstractmethod
    def estimate(
        self, fun: Bound, x: PyTree, key: Key | None, value: Array | None = None
    ) -> PyTree:
        """Return the gradient of `fun` at x, in any dtypes; `value` is fun(x) where it is known."""

    def on(self, shardings: PyTree) -> Method:
        """Return the method for an x that lies so; only methods with probes ask."""
        del shardings
        return self

    def descended(
        self, fun: Bound, x: PyTree, key: Key | None, size: Array, *, in_place: bool
    ) -> PyTree:
        """Return x - size * the estimate, in the dtypes of x; `in_place` moves x there and back."""
        if in_place:
            raise ValueError(
                f"{fun.name}: in_place must be False, got True: only two_point moves x"
            )
        gradient = jax.tree.map(
            lambda g, at: g.astype(trees.wide_dtype(at)), self.estimate(fun, x, key), x
        )
        return trees.add_scaled(x, -size, gradient)

    def prepare(self, x: PyTree, keys: Key) -> Any:
        """Return what `estimate` takes for each of several keys: the keys, or more."""
        del x
        return keys

    def words(self, x: PyTree, keys: Key) -> int:
        """Return how many random words `prepare` draws per key; 0 where it draws none."""
        del x, keys
        return 0

    @abc.abstractmethod
    def cost(self, x: PyTree, *, value: bool) -> Cost:
        """Return what `estimate` costs, with fun(x) besides if `value`; x may be shapes."""

    def finished(self, found: PyTree, x: PyTree) -> PyTree:
        """Return what `estimate` returned as the user gets it: a gradient in the dtypes of x."""
        return trees.cast_like(found, x)

    def second_moment(self, dim: int) -> float:
        """Return c in E|G|^2 = c |grad|^2 on a linear function of `dim` numbers."""
        del dim
        return 1.0

    def value_and_estimate(
        self, fun: Bound, x: PyTree, key: Key | None
    ) -> tuple[Array, Any, PyTree]:
        """Return (value, aux, gradient)."""
        value, aux = fun.with_aux(x)
        return value, aux, self.estimate(fun, x, key, value)

    @abc.abstractmethod
    def check(self, fun: Bound, x: PyTree, key: Key) -> None:
        """Raise ValueError where the estimate at a concrete x is seen to be worthless."""
