"""One iteration of descent along estimates, in the memory that evaluating the function takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from adlab.core import checks
from adlab.core.types import Array, Key, PyTree
from adlab.gradients import GradientFn
from adlab.optimize._iterations import descend
from adlab.optimize.loop import Optimizer

__all__ = ["zero_order_step"]


def zero_order_step(
    gradient: GradientFn, optimizer: Optimizer | float | Array, *, in_place: bool = False
) -> Callable[..., tuple[PyTree, PyTree]]:
    """Compile an iteration of descent that takes the memory of x to write the next x.

    With `optimizer` a number it is x - optimizer * gradient, where the gradient is never stored:
    x and a copy x + h u are all that there is besides the function's own memory, 2 times the
    parameters whatever the number of probes. An optimiser of optax gets the gradient, which has the
    place of that copy: plain `optax.sgd` takes as much, others their state besides. With `in_place`
    there is no copy either: 1 time the parameters. That goes for a smoothing that is a number or
    "relative"; measuring it takes a copy and a direction besides.

    >>> from adlab.gradients import two_point
    >>> step = zero_order_step(two_point(lambda x: jnp.sum(x**2)), 1e-3)
    >>> x, state = jnp.ones(4), None
    >>> for k in range(3):
    ...     x, state = step(x, state, key=jax.random.fold_in(jax.random.key(0), k))
    >>> bool(jnp.sum(x**2) < 4)
    True

    Args:
      gradient: a `GradientFn` of its first argument.
      optimizer: the step size of plain descent, or an optimiser of optax, whose `init(x)` is the
        first state.
      in_place: whether x itself is moved to x + h u and x - h u, and back. For `two_point` and a
        number. The moves round, so that x drifts: see `GradientFn.descend`.

    Returns:
      (x, state, *args, key=) -> (x, state): a function compiled by `jax.jit`, to which x and state
      are given away. Take another key for each iteration. The state is any for plain descent.

    Raises:
      ValueError: `in_place` of an optimiser; argnums other than 0.
      TypeError: neither a number nor an optimiser.

    Source: Malladi et al. (2023), arXiv:2305.17333.
    """
    if not isinstance(gradient, GradientFn):
        raise TypeError(f"gradient must be a GradientFn, such as two_point(fun), got {gradient!r}")
    if gradient.argnums != 0:
        raise ValueError(f"gradient.argnums must be 0, got {gradient.argnums!r}")
    number = not hasattr(optimizer, "update")
    if number and not isinstance(optimizer, int | float | np.ndarray | np.generic | jax.Array):
        raise TypeError(f"optimizer must be a number or an optax optimiser, got {optimizer!r}")
    if in_place and not number:
        raise ValueError(
            f"in_place must be False with an optimiser, got {in_place!r}: it would have to store "
            "the gradient; pass the step size of plain descent as optimizer"
        )
    size: Any = optimizer
    if number and checks.concrete(size):
        checks.positive("optimizer", size)

    def step(x: PyTree, state: PyTree, *args: Any, key: Key | None = None) -> tuple[PyTree, PyTree]:
        if number:
            return gradient.descend(x, *args, step_size=size, key=key, in_place=in_place), state
        return descend(gradient, size.update, x, state, args, key)

    compiled: Callable[..., tuple[PyTree, PyTree]] = jax.jit(step, donate_argnums=(0, 1))
    return compiled
