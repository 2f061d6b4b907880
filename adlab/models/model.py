"""What a network is here: how to draw its parameters, and how to apply them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax

from adlab.core.types import ArrayLike, PyTree

__all__ = ["Model"]


@dataclass(frozen=True)
class Model:
    """A network as two plain functions; it holds no arrays.

    Hashable and equal to any other model built with the same arguments, which is the same pair of
    functions: either function, or the model, can be a static argument under jit without retracing.

    Attributes:
      init: (key, dtype=float32) -> params, nested dicts of arrays of that dtype. Traceable by JAX,
        so that `jax.eval_shape(model.init, key)` gives shapes without allocating.
      apply: (params, x) -> outputs. Computes in the dtype of `params`, to which x is converted;
        statistics and means are taken in at least float32.
    """

    init: Callable[..., PyTree]
    apply: Callable[[PyTree, ArrayLike], jax.Array]
