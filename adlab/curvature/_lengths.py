"""Lengths and scatters whose squares neither underflow nor overflow.

In float32 the square of 1e-22 is 0 and that of 1e20 infinite: an operator of such a norm would look
like zero, or its error like nothing. Everything is therefore measured in units of its largest
entry.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["deviation", "hypotenuse", "lengths", "unit_of"]


def unit_of(array: Any, xp: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """Return the largest |entry|, or 1 where there is none to divide by; it has no derivative."""
    if xp is jnp:
        array = jax.lax.stop_gradient(array)
    largest = xp.max(abs(array), axis=axis, keepdims=keepdims, initial=0)
    return xp.where((largest > 0) & xp.isfinite(largest), largest, xp.ones_like(largest))


def lengths(rows: Any, xp: Any = jnp) -> Any:
    """Return the Euclidean lengths along the last axis; in NumPy summed in float64.

    A long sum of squares in float32 loses digits.
    """
    unit = unit_of(rows, xp, axis=-1, keepdims=True)
    scaled = rows / unit
    if xp is np:
        np.square(scaled, out=scaled)
        return unit[..., 0] * np.sqrt(np.sum(scaled, axis=-1, dtype=np.float64))
    return unit[..., 0] * jnp.sqrt(jnp.sum(scaled**2, axis=-1))


def deviation(samples: Any, xp: Any) -> Any:
    """Return the standard deviation of two samples or more along the first axis, from n - 1."""
    rest = samples - xp.mean(samples, axis=0)
    unit = unit_of(rest, xp, axis=0)
    squares = xp.sum((rest / unit) ** 2, axis=0) / (samples.shape[0] - 1)
    return unit * xp.sqrt(squares)


def hypotenuse(first: Any, second: Any, xp: Any) -> Any:
    """Return sqrt(first^2 + second^2), whose derivative at (0, 0) is finite."""
    first, second = abs(first), abs(second)
    long, short = xp.maximum(first, second), xp.minimum(first, second)
    ratio = short / xp.where(long > 0, long, xp.ones_like(long))
    return long * xp.sqrt(1 + ratio**2)
