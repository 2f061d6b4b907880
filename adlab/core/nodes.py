"""Functions and dataclasses as pytrees, so that what they hold crosses jit as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np

__all__ = ["as_data", "register"]

_Class = TypeVar("_Class", bound=type)
_ARRAYS = (jax.Array, np.ndarray, np.generic, bool, int, float, complex)


def register(*data: str) -> Callable[[_Class], _Class]:
    """Register a frozen dataclass as a pytree: the fields named are data, the others static.

    Static fields are compared, and hashed: a change in one recompiles. The class is rebuilt without
    a call of its constructor, which may therefore take other arguments than the fields, and check
    them.
    """

    def decorate(cls: _Class) -> _Class:
        fields = [field.name for field in dataclasses.fields(cls)]
        static = [name for name in fields if name not in data]

        def flatten(node: Any) -> tuple[Any, Any]:
            return [getattr(node, name) for name in data], tuple(
                getattr(node, name) for name in static
            )

        def flatten_with_keys(node: Any) -> tuple[Any, Any]:
            children, kept = flatten(node)
            return list(zip(map(jax.tree_util.GetAttrKey, data), children, strict=True)), kept

        def unflatten(kept: Any, children: Any) -> Any:
            node: Any = object.__new__(cls)
            for name, value in [*zip(static, kept, strict=True), *zip(data, children, strict=True)]:
                object.__setattr__(node, name, value)
            return node

        jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
        return cls

    return decorate


def as_data(fun: Callable[..., Any], name: str = "fun") -> Callable[..., Any]:
    """Return `fun` as a pytree callable whose leaves are arrays, so that it may cross jit as data.

    A plain function holds no arrays and is compared by identity, a `functools.partial` likewise; a
    `fun` that is itself a pytree of arrays, as `jax.tree_util.Partial`, carries them as data, and
    one without any is compared by its own ==.

    Raises:
      TypeError: `fun` isn't callable, or is a pytree of arrays and of others than arrays.
    """
    if not callable(fun):
        raise TypeError(f"{name} must be callable, got {fun!r}")
    leaves = jax.tree.leaves(fun)
    others = [leaf for leaf in leaves if not isinstance(leaf, _ARRAYS)]
    if not others:
        return fun
    if len(others) == len(leaves):
        return jax.tree_util.Partial(fun)
    raise TypeError(
        f"{name} must be a function, or a pytree whose leaves are arrays, got a "
        f"{type(fun).__name__} with the leaf {others[0]!r} among arrays; take an Equinox model "
        "apart by models.from_equinox, or by equinox.partition(model, equinox.is_array)"
    )
