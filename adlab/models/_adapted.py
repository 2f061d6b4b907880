"""The loss of another library's model as a function of its parameters."""

from __future__ import annotations

import abc
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core.types import PyTree

__all__ = ["AdaptedLoss"]


@dataclass(frozen=True, eq=False)
class AdaptedLoss(abc.ABC):
    """fun(params, *batch) = loss(model with these parameters, *batch): pure, and a pytree.

    Arrays are data: the state, and those that `loss` itself may hold. The rest is static, and equal
    to that of another model built from the same functions, so that a new one doesn't retrace.

    Attributes:
      loss: (model, *batch) -> a real scalar; a pytree.
      state: the arrays of the model that aren't parameters.
      structure: all that the model is besides its arrays; hashable.
    """

    loss: Callable[..., Any]
    state: PyTree
    structure: Hashable

    def __call__(self, params: PyTree, *batch: Any) -> jax.Array:
        """Return the loss; what it changes in the model is dropped."""
        value = self.loss(self.model(params), *batch)
        single = jax.tree_util.all_leaves([value])
        dtype = jnp.result_type(value) if single else np.dtype(object)
        if not single or np.shape(value) != () or not jnp.issubdtype(dtype, jnp.floating):
            got = f"{dtype} of shape {np.shape(value)}" if single else type(value).__name__
            raise TypeError(
                f"loss must return a real floating-point scalar, got {got}; "
                "reduce it, for example by jnp.mean, and return nothing else"
            )
        return jnp.asarray(value)

    @abc.abstractmethod
    def model(self, params: PyTree) -> Any:
        """Return a new model with these parameters and the state it had when it was adapted."""


def register(cls: type[AdaptedLoss]) -> type[AdaptedLoss]:
    """Make the class a pytree: `structure` is static."""
    return jax.tree_util.register_dataclass(cls, ["loss", "state"], ["structure"])


def require_parameters(params: PyTree, model: Any, meant: str) -> None:
    """Raise ValueError unless there is a parameter to train."""
    if not jax.tree.leaves(params):
        raise ValueError(
            f"model must have trainable parameters ({meant}), got none in {type(model).__name__}"
        )
