"""Models of Equinox."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jax

from adlab.core.nodes import as_data
from adlab.core.types import PyTree
from adlab.models._adapted import AdaptedLoss, register, require_parameters

__all__ = ["from_equinox"]


class _Hole(enum.Enum):
    """What stands in place of an array in the list of leaves."""

    PARAM = enum.auto()
    STATE = enum.auto()


@dataclass(frozen=True)
class _Skeleton:
    """A model without its arrays; `kinds` tells apart leaves that == doesn't: 1, 1.0 and True."""

    tree: Any
    leaves: tuple[Any, ...]
    paths: tuple[tuple[Any, ...], ...]
    kinds: tuple[Any, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        kinds = ((type(x), repr(x)) if isinstance(x, float) else type(x) for x in self.leaves)
        object.__setattr__(self, "kinds", tuple(kinds))


@register
@dataclass(frozen=True, eq=False)
class EquinoxLoss(AdaptedLoss):
    """See `from_equinox`."""

    structure: _Skeleton

    def model(self, params: PyTree) -> Any:
        """Return a new model with these parameters and the state it had when it was adapted."""
        arrays = (_pick(params, path) for path in self.structure.paths)
        state = iter(self.state)
        sources: dict[_Hole, Iterator[Any]] = {_Hole.PARAM: arrays, _Hole.STATE: state}
        filled = [next(sources[x]) if isinstance(x, _Hole) else x for x in self.structure.leaves]
        return jax.tree.unflatten(self.structure.tree, filled)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle the holed model, since tree structures of Equinox don't pickle."""
        holed = jax.tree.unflatten(self.structure.tree, self.structure.leaves)
        return _rebuilt, (self.loss, self.state, holed, self.structure.paths)


def _rebuilt(loss: Any, state: Any, model: Any, paths: Any) -> EquinoxLoss:
    leaves, tree = jax.tree.flatten(model)
    return EquinoxLoss(loss, state, _Skeleton(tree, tuple(leaves), paths))


def from_equinox(model: Any, loss: Callable[..., Any]) -> tuple[AdaptedLoss, dict[Any, Any]]:
    """Take an Equinox model apart into a pure function of its parameters, and those parameters.

    fun(params, *batch) = loss(model, *batch) for a copy of `model` that holds `params`.

    `params` are nested dicts, {"layers": {0: {"weight": ..., "bias": ...}}}, with a leaf for each
    array of floating-point or complex dtype. Equinox doesn't mark buffers: a floating-point array
    that the model passes through `stop_gradient` is among them, with gradient zero. Arrays
    within an `eqx.nn.State` are not: bind the state of a stateful model to it by
    `eqx.Partial(model, state=state)`, or pass it in the batch. All other arrays are state: data of
    `fun`, so that passing a new `fun` of the same architecture and the same `loss` to a jitted
    function doesn't retrace. Functions that the model holds, such as activations, count by
    identity: a lambda written in `__init__` is another one in each model, so name it once outside.
    `fun.model(params)` is a model again, with these parameters.

    **BatchNorm in training mode makes the loss a function of the batch, not a mean over examples**:
    then a Hessian over two batches isn't the mean of theirs. `eqx.nn.inference_mode` avoids that.
    Keys of dropout go into the batch.

    >>> import equinox as eqx
    >>> linear = eqx.nn.Linear(3, 1, key=jax.random.key(0))
    >>> fun, params = from_equinox(linear, lambda model, x: jnp.sum(model(x) ** 2))
    >>> jax.tree.map(jnp.shape, params)
    {'bias': (1,), 'weight': (1, 3)}
    >>> jax.tree.map(jnp.shape, jax.grad(fun)(params, jnp.ones(3)))
    {'bias': (1,), 'weight': (1, 3)}

    Args:
      model: an eqx.Module.
      loss: (model, *batch) -> real scalar. May hold arrays, if it is a pytree.

    Returns:
      (fun, params).

    Raises:
      ImportError: equinox isn't installed.
      TypeError: `model` isn't an eqx.Module; `loss` isn't callable, or doesn't return a scalar
        (when called).
      ValueError: the model has no trainable parameters.
    """
    eqx = _equinox()
    if not isinstance(model, eqx.Module):
        got = f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__
        raise TypeError(f"model must be an equinox.Module, got {got}")
    loss = as_data(loss, "loss")
    stateful = (eqx.nn.State, eqx.nn.StateIndex)

    def trained(node: Any) -> Any:
        inner = isinstance(node, stateful)
        return jax.tree.map(lambda _: False, node) if inner else eqx.is_inexact_array(node)

    is_param = jax.tree.map(trained, model, is_leaf=lambda node: isinstance(node, stateful))
    located, skeleton = jax.tree_util.tree_flatten_with_path(model)
    params: dict[Any, Any] = {}
    paths, state, leaves = [], [], []
    for (path, leaf), chosen in zip(located, jax.tree.leaves(is_param), strict=True):
        if chosen:
            paths.append(tuple(map(_name, path)))
            _put(params, paths[-1], leaf)
        elif eqx.is_array(leaf):
            state.append(leaf)
        hole = _Hole.PARAM if chosen else _Hole.STATE
        leaves.append(hole if chosen or eqx.is_array(leaf) else leaf)
    require_parameters(params, model, "arrays of floating-point dtype")
    return EquinoxLoss(loss, state, _Skeleton(skeleton, tuple(leaves), tuple(paths))), params


def _name(key: Any) -> Any:
    """Return what a step of a path names: an attribute, an index, a key."""
    return next(getattr(key, name) for name in ("name", "idx", "key") if hasattr(key, name))


def _put(tree: dict[Any, Any], path: tuple[Any, ...], leaf: Any) -> None:
    for name in path[:-1]:
        tree = tree.setdefault(name, {})
    tree[path[-1]] = leaf


def _pick(tree: Any, path: tuple[Any, ...]) -> Any:
    for name in path:
        tree = tree[name]
    return tree


def _equinox() -> Any:
    try:
        import equinox
    except ImportError as error:
        raise ImportError(
            "from_equinox needs Equinox; install it by pip install -e '.[equinox]' in adlab's "
            "folder"
        ) from error
    return equinox
