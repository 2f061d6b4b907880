"""Functions of one unknown, drawn at random, with derivatives in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

KINDS = ("smooth", "noisy", "scaled", "flat")


class Shape(NamedTuple):
    """A function of one variable, for arrays of NumPy and of JAX, and its derivative."""

    fun: Callable[[Any, Any], Any]
    derivative: Callable[[Any], Any]


def _sigmoid(np_: Any, t: Any) -> Any:
    return np_.tanh(t)


SHAPES = (
    Shape(
        lambda m, t: m.exp(t) * m.sin(3 * t),
        lambda t: np.exp(t) * (np.sin(3 * t) + 3 * np.cos(3 * t)),
    ),
    Shape(lambda m, t: m.log(t + 3), lambda t: 1 / (t + 3)),
    Shape(_sigmoid, lambda t: 1 / np.cosh(t) ** 2),
    Shape(lambda m, t: m.sqrt(t + 3), lambda t: 0.5 / np.sqrt(t + 3)),
    Shape(lambda m, t: m.sin(t), lambda t: np.cos(t)),
    Shape(lambda _, t: t**5 - 3 * t**3 + t, lambda t: 5 * t**4 - 9 * t**2 + 1),
    # From here on even.
    Shape(lambda _, t: 1 / (1 + t**2), lambda t: -2 * t / (1 + t**2) ** 2),
    Shape(lambda m, t: m.exp(-(t**2)), lambda t: -2 * t * np.exp(-(t**2))),
    Shape(lambda m, t: m.cos(t), lambda t: -np.sin(t)),
    Shape(lambda _, t: 1 + t**2, lambda t: 2 * t),
)
SINE, EVEN = 4, 6


class Function(NamedTuple):
    """f(x) = size * shape(scale * (x - shift)) + offset + noise, near x = center +- width.

    As drawn, fields are numbers; stacked, arrays.
    """

    shape: Any
    size: Any
    scale: Any
    shift: Any
    offset: Any
    noise: Any
    center: Any
    width: Any


def value(function: Function, x: jax.Array) -> jax.Array:
    """Return f(x) in the precision of x; fields are arrays of that precision, `shape` aside."""
    t = function.scale * (x - function.shift)
    branches = [lambda t, shape=shape: shape.fun(jnp, t) for shape in SHAPES]
    smooth = jax.lax.switch(function.shape, branches, t)
    return function.size * smooth + function.offset + function.noise * noise(x)


def derivative(function: Function, x: np.ndarray) -> np.ndarray:
    """Return f'(x) without the noise, in float64; one function, points of any shape."""
    t = function.scale * (x - function.shift)
    return function.size * function.scale * SHAPES[int(function.shape)].derivative(t)


def noise(x: jax.Array) -> jax.Array:
    """Return a number of mean 0 and variance 1 that depends on every bit of x, and on x alone."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    if x.dtype == jnp.float64:
        bits = bits[0] ^ (bits[1] * jnp.uint32(0x9E3779B9))
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        bits = (bits ^ (bits >> shift)) * jnp.uint32(factor)
    bits = bits ^ (bits >> 16)
    uniform = (bits >> 8).astype(x.dtype) * (2 / 2**24) - 1
    return uniform * math.sqrt(3)


def draw(kind: str, count: int, dtype: np.dtype, rng: np.random.Generator) -> Function:
    """Return functions of one kind, stacked, whose fields hold exactly in `dtype`."""
    drawn = [_DRAW[kind](index, dtype == np.float64, rng) for index in range(count)]
    fields = [np.array(values, dtype).astype(np.float64) for values in zip(*drawn, strict=True)]
    return Function(*fields)._replace(shape=np.array([f.shape for f in drawn]))


def points(function: Function, count: int, dtype: Any, rng: np.random.Generator) -> np.ndarray:
    """Return points near the center of each of the stacked functions: (functions, count)."""
    offsets = rng.uniform(-1, 1, (len(function.center), count)) * function.width[:, None]
    return (function.center[:, None] + offsets).astype(dtype)


def _power(rng: np.random.Generator, low: float, high: float) -> float:
    return float(10 ** rng.uniform(low, high))


def _smooth(index: int, double: bool, rng: np.random.Generator) -> Function:
    del double
    return Function(index % len(SHAPES), 1, 1, 0, 0, 0, rng.uniform(-1.5, 1.5), 0.05)


def _noisy(index: int, double: bool, rng: np.random.Generator) -> Function:
    size = _power(rng, -10 if double else -5, -2)
    return _smooth(index, double, rng)._replace(noise=size)


def _scaled(index: int, double: bool, rng: np.random.Generator) -> Function:
    """Draw by turns: short scales about 1, as sin(10^4 x); long ones about 10^6; tiny, huge."""
    plain = _smooth(index // 5, double, rng)
    case = index % 5
    if case == 0:
        scale, center = _power(rng, 1, 4), rng.uniform(0.5, 1.5)
        return plain._replace(shape=SINE, scale=scale, center=center, width=1 / scale)
    if case == 1:
        scale, center = _power(rng, 1, 4), rng.uniform(0.5, 1.5)
        shift = center - plain.center / scale
        return plain._replace(scale=scale, shift=shift, center=center, width=0.05 / scale)
    if case == 2:
        return plain._replace(scale=1e-6, center=1e6 * plain.center, width=0.05e6)
    if case == 3:
        return plain._replace(shape=SINE, center=1e6 if double else 1e3, width=1.0)
    return plain._replace(size=_power(rng, -12, 12) if double else _power(rng, -8, 8))


def _flat(index: int, double: bool, rng: np.random.Generator) -> Function:
    """Draw by turns: even functions near 0; small variations of large values."""
    if index % 3 < 2:
        near = _power(rng, -6 if double else -3, -0.5)
        plain = _smooth(EVEN + index % (len(SHAPES) - EVEN), double, rng)
        return plain._replace(center=0.0, width=near)
    return _smooth(SINE, double, rng)._replace(offset=_power(rng, 1, 4))


_DRAW = {"smooth": _smooth, "noisy": _noisy, "scaled": _scaled, "flat": _flat}
