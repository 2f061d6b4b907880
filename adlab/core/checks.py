"""Argument checks: what a user may get wrong, said in one form.

Every message reads "<name> must be <condition>, got <value>"; a misspelt name also gets the nearest
match. Values that are traced can't be read, so checks of values let tracers pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core.spelling import nearest
from adlab.core.types import Array

__all__ = [
    "at_least",
    "chunk_size",
    "concrete",
    "in_trace",
    "one_of",
    "positive",
    "require_inexact",
    "require_key",
]


def concrete(value: Any) -> bool:
    """Tell whether every leaf of `value` can be read now, that is, none is being traced."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))


def in_trace(tree: Any = ()) -> bool:
    """Tell whether a trace is going on, be it of `tree` or around constants."""
    return not (concrete(tree) and concrete(jnp.add(0, 0)))  # which would stay in the trace


def one_of(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raise ValueError unless `value` is one of `choices`; the message names the nearest match."""
    choices = list(choices)
    if value not in choices:
        listed = ", ".join(map(repr, choices))
        raise ValueError(f"{name} must be one of {listed}, got {value!r}{nearest(value, choices)}")


def positive(name: str, value: Any) -> None:
    """Raise unless `value` is a positive finite number (ValueError) at all (TypeError).

    A traced value passes: whoever uses it turns a bad one into NaN.
    """
    if not concrete(value):
        return
    dtype = np.asarray(value).dtype
    real = jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    if not real or np.ndim(value) != 0:
        raise TypeError(f"{name} must be a positive real number, got {value!r}")
    if not (np.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be positive and finite, got {value!r}")


def at_least(name: str, value: Any, bound: int) -> None:
    """Raise unless `value` is an integer (TypeError) of `bound` or more (ValueError)."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer >= {bound}, got {value!r}")
    if value < bound:
        raise ValueError(f"{name} must be >= {bound}, got {value!r}")


def chunk_size(value: Any) -> None:
    """Raise unless `value` is "auto" or an integer of 1 or more."""
    if isinstance(value, str):
        one_of("chunk_size", value, ["auto"])
    else:
        at_least("chunk_size", value, 1)


def require_key(function: str, key: Array | None) -> Array:
    """Return the random key; raise TypeError unless the function named got one."""
    dtype, ndim = getattr(key, "dtype", None), np.ndim(key) if key is not None else 0
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not typed and not (dtype == np.uint32 and ndim):  # raw keys are arrays of words
        told = "None" if key is None else repr(key)
        raise TypeError(
            f"{function} draws random probes: key must be a jax.random key, got {told}; "
            "call it with key=jax.random.key(0)"
        )
    assert key is not None
    return key


def require_inexact(function: str, x: Any) -> None:
    """Raise TypeError unless all leaves of `x` are real floating-point; name the first that isn't.

    Also raises ValueError when `x` has no leaves, or only empty ones.
    """
    leaves = jax.tree_util.tree_leaves_with_path(x)
    for path, leaf in leaves:
        try:
            dtype: Any = jnp.result_type(leaf)
        except (TypeError, ValueError):  # no array
            dtype = type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            place = jax.tree_util.keystr(path) or "x"
            got = dtype.__name__ if isinstance(dtype, type) else dtype
            raise TypeError(
                f"{function}: {place} must be real floating-point, got {got}; convert it, or "
                "close over it so that only floating-point leaves are differentiated"
            )
    if not any(map(np.size, jax.tree.leaves(x))):
        raise ValueError(f"{function}: x must hold at least one number, got {x!r}")
