"""Functions and dataclasses as pytrees, so that what they hold crosses jit as data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax

__all__ = ["as_data", "register"]

_Class = TypeVar("_Class", bound=type)


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


def as_data(fun: Callable[..., Any]) -> Callable[..., Any]:
    """Return `fun` as a pytree callable, so that it may cross jit as data.

    A plain function holds no arrays and is compared by identity, a `functools.partial` likewise; a
    `fun` that is itself a pytree, as `jax.tree_util.Partial`, carries its arrays as data.
    """
    if not callable(fun):
        raise TypeError(f"fun must be callable, got {fun!r}")
    return jax.tree_util.Partial(fun) if jax.tree_util.all_leaves([fun]) else fun
