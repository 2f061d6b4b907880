"""The names of types that signatures share.

A pytree has no type of its own: any nest of registered containers is one, so that `PyTree` is a
name for the reader, and `Any` for the type checker.

`Params` and `Rest` carry the signature of the user's function into that of its derivative: the type
of its first argument, and the other parameters. Where nothing is known of it, both are `Any`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, Literal, TypeAlias

import jax
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from typing_extensions import ParamSpec, TypeVar  # typing has no defaults before 3.13

__all__ = [
    "AnyArray",
    "Argnums",
    "Array",
    "ArrayLike",
    "ChunkSize",
    "DTypeLike",
    "Key",
    "Loop",
    "Matvec",
    "Objective",
    "OnProgress",
    "Params",
    "PyTree",
    "Rest",
    "ScalarFn",
    "TreeFn",
    "ValueFn",
]

Params = TypeVar("Params", contravariant=True, default=Any)
"""What a function takes first."""
Rest = ParamSpec("Rest", default=...)
"""All else that a function takes."""

Array: TypeAlias = jax.Array
AnyArray: TypeAlias = jax.Array | np.ndarray[Any, Any]
Key: TypeAlias = jax.Array
"""A key of `jax.random.key` or of `jax.random.PRNGKey`."""
PyTree: TypeAlias = Any
"""A nest of containers with arrays in it."""
ScalarFn: TypeAlias = Callable[..., Any]
"""A function to a real scalar, or to (scalar, aux) where `has_aux` is set."""
Objective: TypeAlias = Callable[Concatenate[Params, Rest], Any]
"""A `ScalarFn` whose signature is kept."""
TreeFn: TypeAlias = Callable[..., PyTree]
"""A function of trees to a tree."""
ValueFn: TypeAlias = Callable[[PyTree], Array]
"""A function of one tree to a real scalar."""
Matvec: TypeAlias = Callable[[PyTree], PyTree]
"""v -> A v, where v and A v are trees like the parameters."""
Argnums: TypeAlias = int | tuple[int, ...]
"""Which positional arguments are differentiated."""
ChunkSize: TypeAlias = int | Literal["auto"]
"""How many evaluations run side by side, as one batch."""
Loop: TypeAlias = Literal["auto", "host", "fused"]
"""Whether a driver's loop runs in Python or in one compiled program."""
OnProgress: TypeAlias = Callable[[int, int], None]
"""Called with the number of steps done and the number of all."""
