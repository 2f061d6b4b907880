"""Layers as functions of a dict of arrays, and how to draw those arrays."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from adlab.core import checks, trees
from adlab.core.types import ArrayLike, DTypeLike, Key

Activation = Literal["tanh", "sigmoid", "relu", "leaky", "softplus", "gelu"]
Norm = Literal["batch", "group", "none"]
Params = dict[str, Any]

_SLOPE = 0.1  # of "leaky", left of zero
_EPSILON = 1e-3  # added to variances

_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "relu": jax.nn.relu,
    "leaky": lambda x: jax.nn.leaky_relu(x, _SLOPE),
    "softplus": jax.nn.softplus,
    "gelu": jax.nn.gelu,
}


def activation_named(name: str, choices: Any = Activation) -> Callable[[jax.Array], jax.Array]:
    """Return the elementwise function of that name; ValueError if it isn't among `choices`."""
    checks.one_of("activation", name, get_args(choices))
    return _ACTIVATIONS[name]


def normal(key: Key, shape: tuple[int, ...], variance: float, dtype: DTypeLike) -> jax.Array:
    """Draw N(0, variance) in at least float32 and round to `dtype`: one stream for narrow types."""
    wide = trees.wide_dtype(jax.ShapeDtypeStruct((), dtype))
    return (jax.random.normal(key, shape, wide) * math.sqrt(variance)).astype(dtype)


def dense_init(
    key: Key, inputs: int, outputs: int, *, gain: float, bias: bool, dtype: DTypeLike
) -> Params:
    """Draw a kernel of shape (inputs, outputs) and variance gain/inputs; the bias is zero."""
    params = {"kernel": normal(key, (inputs, outputs), gain / inputs, dtype)}
    return params | ({"bias": jnp.zeros(outputs, dtype)} if bias else {})


def dense(params: Params, x: jax.Array) -> jax.Array:
    """Return x @ kernel + bias over the last axis of `x`."""
    return _shifted(params, x @ params["kernel"])


def conv_init(key: Key, inputs: int, outputs: int, *, bias: bool, dtype: DTypeLike) -> Params:
    """Draw a 3 x 3 kernel (3, 3, inputs, outputs) of variance 2/(9 inputs); the bias is zero."""
    params = {"kernel": normal(key, (3, 3, inputs, outputs), 2 / (9 * inputs), dtype)}
    return params | ({"bias": jnp.zeros(outputs, dtype)} if bias else {})


def conv(params: Params, x: jax.Array, stride: int = 1) -> jax.Array:
    """Convolve x (b, height, width, channels), padded by one pixel of zeros on every side."""
    y = jax.lax.conv_general_dilated(
        x,
        params["kernel"],
        window_strides=(stride, stride),
        padding=((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    return _shifted(params, y)


def _shifted(params: Params, y: jax.Array) -> jax.Array:
    return y + params["bias"] if "bias" in params else y


def norm_init(channels: int, dtype: DTypeLike) -> Params:
    """Return scales of one and shifts of zero."""
    return {"scale": jnp.ones(channels, dtype), "bias": jnp.zeros(channels, dtype)}


def batch_norm(params: Params, x: jax.Array) -> jax.Array:
    """Standardise each channel over batch, height and width; then scale and shift."""
    return _normalised(params, x, x.astype(trees.wide_dtype(x)), (0, 1, 2))


def group_norm(params: Params, x: jax.Array) -> jax.Array:
    """Standardise each example over height, width and a group of channels; then scale and shift.

    There are gcd(8, channels) groups.
    """
    channels = x.shape[-1]
    groups = math.gcd(8, channels)
    wide = x.astype(trees.wide_dtype(x))
    return _normalised(
        params, x, wide.reshape(*x.shape[:-1], groups, channels // groups), (1, 2, 4)
    )


def _normalised(params: Params, x: jax.Array, wide: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    centred = wide - jnp.mean(wide, axes, keepdims=True)
    variance = jnp.mean(jnp.square(centred), axes, keepdims=True)
    standard = (centred * jax.lax.rsqrt(variance + _EPSILON)).reshape(x.shape)
    scale, bias = (params[name].astype(wide.dtype) for name in ("scale", "bias"))
    return jnp.asarray(standard * scale + bias, x.dtype)


def no_norm(params: Params, x: jax.Array) -> jax.Array:
    """Return x as it is."""
    del params
    return x


NORMS: dict[str, Callable[[Params, jax.Array], jax.Array]] = {
    "batch": batch_norm,
    "group": group_norm,
    "none": no_norm,
}


def converted(x: ArrayLike, params: Params) -> jax.Array:
    """Return x in the dtype of the parameters, in which a network computes."""
    return jnp.asarray(x).astype(jnp.result_type(jax.tree.leaves(params)[0]))
