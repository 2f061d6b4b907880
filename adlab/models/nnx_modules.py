"""Models of Flax NNX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

from adlab.core.nodes import as_data
from adlab.core.types import PyTree
from adlab.models._adapted import AdaptedLoss, register, require_parameters

__all__ = ["from_nnx"]


@register
@dataclass(frozen=True, eq=False)
class NnxLoss(AdaptedLoss):
    """See `from_nnx`."""

    def model(self, params: PyTree) -> Any:
        """Return a new model with these parameters and the state it had when it was adapted."""
        return _nnx().merge(self.structure, params, self.state)


def from_nnx(model: Any, loss: Callable[..., Any]) -> tuple[AdaptedLoss, dict[Any, Any]]:
    """Take a Flax NNX model apart into a pure function of its parameters, and those parameters.

    fun(params, *batch) = loss(model, *batch) for a copy of `model` that holds `params`. What the
    call changes in that copy (running averages of BatchNorm, counters of random streams) is
    dropped: `fun` is one and the same function at each call. So dropout in training mode draws the
    same mask at each call; to vary it, pass a key in the batch and call `nnx.reseed` in `loss`.

    **BatchNorm in training mode makes the loss a function of the batch, not a mean over examples**:
    then a Hessian over two batches isn't the mean of theirs. `model.eval()` before avoids that.

    `params` are nested dicts with a leaf for each `nnx.Param` of floating-point or complex dtype.
    All other arrays are state: data of `fun`, so that passing a new `fun` of the same architecture
    and the same `loss` to a jitted function doesn't retrace. Functions that the model holds, such
    as activations and initializers, count by identity: a lambda written in `__init__` is another
    one in each model, so name it once outside. The model itself isn't changed, nor looked at again.
    `fun.model(params)` is a model again, with these parameters.

    >>> from flax import nnx
    >>> linear = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
    >>> fun, params = from_nnx(linear, lambda model, x: jnp.sum(model(x) ** 2))
    >>> jax.tree.map(jnp.shape, params)
    {'bias': (1,), 'kernel': (3, 1)}
    >>> jax.tree.map(jnp.shape, jax.grad(fun)(params, jnp.ones((2, 3))))
    {'bias': (1,), 'kernel': (3, 1)}

    Args:
      model: an nnx.Module; its mode (train or eval) is kept.
      loss: (model, *batch) -> real scalar. May hold arrays, if it is a pytree.

    Returns:
      (fun, params).

    Raises:
      ImportError: flax isn't installed.
      TypeError: `model` isn't an nnx.Module; `loss` isn't callable, or doesn't return a scalar
        (when called).
      ValueError: the model has no trainable parameters.
    """
    nnx = _nnx()
    if not isinstance(model, nnx.Module):
        raise TypeError(f"model must be a flax.nnx.Module, got {_described(model)}")
    loss = as_data(loss, "loss")
    graph, params, state = nnx.split(model, nnx.All(nnx.Param, _is_inexact), ...)
    params, state = (nnx.to_pure_dict(part, _raw) for part in (params, state))
    require_parameters(params, model, "nnx.Param of floating-point dtype")
    return NnxLoss(loss, state, graph), params


def _is_inexact(path: Any, variable: Any) -> bool:
    del path
    return bool(jnp.issubdtype(jnp.result_type(_raw(variable)), jnp.inexact))


def _raw(variable: Any) -> Any:
    """Return what the variable holds, before hooks that change what reading it returns."""
    return variable.get_raw_value() if hasattr(variable, "get_raw_value") else variable


def _described(model: Any) -> str:
    return f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__


def _nnx() -> Any:
    try:
        from flax import nnx
    except ImportError as error:
        raise ImportError(
            "from_nnx needs Flax; install it by pip install -e '.[flax]' in adlab's folder"
        ) from error
    return nnx
