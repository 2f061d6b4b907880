"""Residual networks in their form for small images."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks, trees
from adlab.core.types import ArrayLike, DTypeLike, Key
from adlab.models import _layers as layers
from adlab.models._layers import Norm, Params
from adlab.models.model import Model

__all__ = ["resnet"]

Rectifier = Literal["relu", "leaky"]


def resnet(
    *,
    depth: int = 32,
    widths: Sequence[int] = [16, 32, 64],  # a list: what a config file can hold
    num_classes: int = 10,
    channels: int = 3,
    norm: Norm = "batch",
    activation: Rectifier = "relu",
) -> Model:
    """Build a residual network for images x of shape (b, height, width, channels).

    A 3 x 3 convolution; three stages of k = (depth - 2)/6 blocks; the mean over all pixels; a dense
    layer to the logits. A block is act(x + norm(conv(act(norm(conv(x)))))). The first block of
    stages 2 and 3 halves the image; its shortcut takes every other pixel and appends channels of
    zeros, so that shortcuts hold no parameters. depth = 32 with the default widths has 464,154
    parameters. Parameters are `stem.conv.kernel`, `stage1.block0.conv1.kernel`,
    `stage1.block0.norm1.scale`, ..., `head.kernel`, `head.bias`.

    **With norm = "batch" each example's output depends on the whole batch**: batch normalisation
    uses the statistics of the batch at hand, always, and keeps no running averages. The loss is
    then a function of the batch, not a mean over examples: a Hessian over the union of two batches
    isn't the mean of theirs, and a batch can't be cut into micro-batches. The variance is the
    biased one, plus 1e-3, as in the spectra of Ghorbani et al. "group" (gcd(8, width) groups per
    example) and "none" (each convolution then has a bias) leave examples independent. Without any
    norm the variance of the activations doubles with each block when training starts.

    Kernels are drawn with variance 2/fan_in, the head's with 1/fan_in.

    >>> model = resnet(depth=8, widths=[8, 16, 32], channels=1)
    >>> trees.size(jax.eval_shape(model.init, jax.random.key(0)))
    19074

    Args:
      depth: 6k + 2: 8, 14, 20, 26, 32, ...
      widths: channels in each of the three stages, not decreasing.
      num_classes: the number of logits.
      channels: of the image: 3 for colour, 1 for grey.
      norm: what follows each convolution.
      activation: "relu", or "leaky" with slope 0.1.

    Raises:
      ValueError: a depth of another form; widths that aren't three, or decrease; a size below 1; an
        unknown name; `apply` to an x of another rank or number of channels.
      TypeError: a size that isn't an integer.

    Source: He et al. (2016), doi:10.1109/CVPR.2016.90 (section 4.2, shortcuts "A"); Ghorbani et al.
    (2019), proceedings.mlr.press/v97/ghorbani19b (batch normalisation).
    """
    _check_depth(depth)
    if len(widths) != 3:
        raise ValueError(f"widths must be three numbers, one per stage, got {widths}")
    for k, width in enumerate(widths):
        checks.at_least(f"widths[{k}]", width, 1 if k == 0 else widths[k - 1])
    checks.at_least("num_classes", num_classes, 1)
    checks.at_least("channels", channels, 1)
    checks.one_of("norm", norm, get_args(Norm))
    layers.activation_named(activation, Rectifier)
    stages = tuple(map(int, widths))
    return _resnet((int(depth) - 2) // 6, stages, int(num_classes), int(channels), norm, activation)


def _check_depth(depth: int) -> None:
    checks.at_least("depth", depth, 8)
    below = depth - (depth - 2) % 6
    if below != depth:
        raise ValueError(f"depth must be 6k + 2, got {depth}; the nearest are {below}, {below + 6}")


@functools.cache
def _resnet(
    blocks: int,
    widths: tuple[int, ...],
    num_classes: int,
    channels: int,
    norm: Norm,
    activation: Rectifier,
) -> Model:
    normalise, act = layers.NORMS[norm], layers.activation_named(activation)

    def init(key: Key, dtype: DTypeLike = np.float32) -> Params:
        keys = iter(jax.random.split(key, 2 + 3 * blocks))
        params = {"stem": _pair(next(keys), "", (channels, widths[0]), norm, dtype)}
        for s, width in enumerate(widths):
            before = widths[max(s - 1, 0)]
            params[f"stage{s + 1}"] = {
                f"block{b}": _block(next(keys), (width if b else before, width), norm, dtype)
                for b in range(blocks)
            }
        params["head"] = layers.dense_init(
            next(keys), widths[-1], num_classes, gain=1.0, bias=True, dtype=dtype
        )
        return params

    def convolved(params: Params, suffix: str, x: jax.Array, stride: int = 1) -> jax.Array:
        y = layers.conv(params[f"conv{suffix}"], x, stride)
        return normalise(params.get(f"norm{suffix}", {}), y)

    def block(params: Params, x: jax.Array, stride: int) -> jax.Array:
        y = convolved(params, "2", act(convolved(params, "1", x, stride)))
        return act(y + _shortcut(x, stride, y.shape[-1]))

    def apply(params: Params, x: ArrayLike) -> jax.Array:
        if np.ndim(x) != 4 or np.shape(x)[-1] != channels:
            raise ValueError(f"x must have shape (b, h, w, {channels}), got {np.shape(x)}")
        y = act(convolved(params["stem"], "", layers.converted(x, params)))
        for s in range(3):
            for b in range(blocks):
                y = block(params[f"stage{s + 1}"][f"block{b}"], y, 2 if s and not b else 1)
        pooled = jnp.mean(y.astype(trees.wide_dtype(y)), (1, 2)).astype(y.dtype)
        return layers.dense(params["head"], pooled)

    return Model(init, apply)


def _pair(key: Key, suffix: str, sizes: tuple[int, int], norm: Norm, dtype: DTypeLike) -> Params:
    """Draw a convolution and what normalises it; without a norm it has a bias."""
    params = {f"conv{suffix}": layers.conv_init(key, *sizes, bias=norm == "none", dtype=dtype)}
    if norm != "none":
        params[f"norm{suffix}"] = layers.norm_init(sizes[1], dtype)
    return params


def _block(key: Key, sizes: tuple[int, int], norm: Norm, dtype: DTypeLike) -> Params:
    first, second = jax.random.split(key)
    then = (sizes[1], sizes[1])
    return _pair(first, "1", sizes, norm, dtype) | _pair(second, "2", then, norm, dtype)


def _shortcut(x: jax.Array, stride: int, channels: int) -> jax.Array:
    x = x[:, ::stride, ::stride, :]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, channels - x.shape[-1])))
