"""The feed-forward network of dense layers."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import numpy as np

from adlab.core import checks
from adlab.core.types import ArrayLike, DTypeLike, Key
from adlab.models import _layers as layers
from adlab.models._layers import Activation
from adlab.models.model import Model

__all__ = ["mlp"]


def mlp(
    *,
    inputs: int,
    hidden: Sequence[int],
    outputs: int,
    activation: Activation = "tanh",
    bias: bool = True,
) -> Model:
    """Build v_k = sigma(v_{k-1} w_k + b_k), k = 1..K, with a last layer without sigma.

    v_0 is the batch, of shape (b, inputs), or any shape ending in `inputs`; w_k has shape
    (n_{k-1}, n_k). Parameters are `layer1.kernel`, `layer1.bias`, `layer2.kernel`, ...; kernels are
    drawn with variance 1/n_{k-1} (2/n_{k-1} for "relu", "leaky" and "gelu"), biases are zero.

    >>> model = mlp(inputs=3, hidden=[4], outputs=2)
    >>> params = model.init(jax.random.key(0))
    >>> model.apply(params, jnp.ones((5, 3))).shape
    (5, 2)

    Args:
      inputs: n_0, the length of an example.
      hidden: n_1, ..., n_{K-1}; empty for a linear model.
      outputs: n_K, the number of outputs.
      activation: sigma; "leaky" has slope 0.1 left of zero.
      bias: whether there are b_k.

    Raises:
      ValueError: a width below 1; an unknown activation; `apply` to an x of another length.
      TypeError: a width that isn't an integer.

    Source: Glorot & Bengio (2010), proceedings.mlr.press/v9/glorot10a; He et al. (2015),
    doi:10.1109/ICCV.2015.123 (variances).
    """
    checks.at_least("inputs", inputs, 1)
    checks.at_least("outputs", outputs, 1)
    for k, width in enumerate(hidden):
        checks.at_least(f"hidden[{k}]", width, 1)
    layers.activation_named(activation)
    sizes = (int(inputs), *map(int, hidden), int(outputs))
    return _mlp(sizes, activation, bool(bias))


@functools.cache
def _mlp(sizes: tuple[int, ...], activation: Activation, bias: bool) -> Model:
    sigma = layers.activation_named(activation)
    gain = 2.0 if activation in ("relu", "leaky", "gelu") else 1.0
    depth = len(sizes) - 1

    def init(key: Key, dtype: DTypeLike = np.float32) -> layers.Params:
        keys = jax.random.split(key, depth)
        return {
            f"layer{k + 1}": layers.dense_init(
                keys[k],
                sizes[k],
                sizes[k + 1],
                gain=gain if k + 1 < depth else 1.0,
                bias=bias,
                dtype=dtype,
            )
            for k in range(depth)
        }

    def apply(params: layers.Params, x: ArrayLike) -> jax.Array:
        if np.ndim(x) == 0 or np.shape(x)[-1] != sizes[0]:
            raise ValueError(f"x must have shape (..., {sizes[0]}), got {np.shape(x)}")
        v = layers.converted(x, params)
        for k in range(1, depth):
            v = sigma(layers.dense(params[f"layer{k}"], v))
        return layers.dense(params[f"layer{depth}"], v)

    return Model(init, apply)
