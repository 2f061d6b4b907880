"""Arguments of one type in `jax.shard_map`, where some vary from device to device.

The sides of a linear system all vary along the same axes, and so must all that has derivatives. An
array that all devices share is sent in as copies; a step that closes over it takes their mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from jax import lax

from adlab.checkpointing._sweeps import Leaves, is_smooth
from adlab.core import _shardings

__all__ = ["axes_of", "shared", "spread"]


def axes_of(leaves: Sequence[Any]) -> tuple[str, ...]:
    """Return the axes of `jax.shard_map` along which any of the leaves varies."""
    return tuple(sorted(frozenset[str]().union(*map(_shardings.varying, leaves))))


def spread(leaves: Sequence[Any], axes: tuple[str, ...]) -> Leaves:
    """Return the leaves, with copies for each device of what has derivatives and doesn't vary."""
    return [_varied(leaf, axes) if is_smooth(leaf) else leaf for leaf in leaves]


def shared(
    function: Callable[..., Leaves], consts: Sequence[Any], axes: tuple[str, ...]
) -> Callable[..., Leaves]:
    """Return a function of (constants, others...) that takes the constants as `spread` gives them.

    Its results are spread, too.
    """
    if not axes:
        return function
    lacks = [
        tuple(sorted(set(axes) - _shardings.varying(c))) if is_smooth(c) else () for c in consts
    ]

    def of_copies(*args: Any) -> Leaves:
        pairs = zip(args[: len(lacks)], lacks, strict=True)
        means = [lax.pmean(leaf, less) if less else leaf for leaf, less in pairs]
        return spread(function(*means, *args[len(lacks) :]), axes)

    return of_copies


def _varied(leaf: Any, axes: tuple[str, ...]) -> Any:
    more = tuple(axis for axis in axes if axis not in _shardings.varying(leaf))
    return lax.pcast(leaf, more, to="varying") if more else leaf
