"""The transformer of GPT-2, its blocks stacked and run by a scan of the caller's choice."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks, trees
from adlab.core.types import ArrayLike, DTypeLike, Key
from adlab.models import _layers as layers
from adlab.models.model import Model

__all__ = ["gpt2", "gpt2_size"]

Params = layers.Params
Size = Literal["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"]

_SIZES = {
    "gpt2": (12, 12, 768),
    "gpt2-medium": (24, 16, 1024),
    "gpt2-large": (36, 20, 1280),
    "gpt2-xl": (48, 25, 1600),
}
_EPSILON = 1e-5  # added to variances
_SPREAD = 0.02  # standard deviation of the weights; half as much of the positions


def gpt2_size(name: Size) -> dict[str, Any]:
    """Return layers, heads and width of a published model: 124 M, 355 M, 774 M and 1.5 B numbers.

    >>> gpt2_size("gpt2-xl")
    {'layers': 48, 'heads': 25, 'width': 1600}

    Raises:
      ValueError: a name other than "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl".
    """
    checks.one_of("name", name, _SIZES)
    return dict(zip(("layers", "heads", "width"), _SIZES[name], strict=True))


def gpt2(
    *,
    layers: int,
    heads: int,
    width: int,
    vocabulary: int = 50257,
    context: int = 1024,
    mixed_precision: bool = False,
    scan: Callable[..., tuple[Any, Any]] = jax.lax.scan,
    remat: Callable[..., Any] | None = None,
) -> Model:
    """Build the language model: tokens (..., s) to logits (..., s, vocabulary) of the next token.

    L blocks x <- x + attention(norm(x)), x <- x + W_2 gelu(W_1 norm(x)), with causal attention in
    `heads` heads, W_1 to 4 * width, gelu by tanh; learned positions; a last norm; logits by the
    transposed token embedding. No dropout. Parameters of the blocks are stacked along a first axis
    of L, so that `blocks.expand.kernel` has shape (L, width, 4 width), and `scan` runs the blocks:
    whatever it stores for the backward pass, the function is the same.

    Normalisations, the softmax and the loss of `classification_loss` compute in at least float32.
    Kernels are drawn with deviation 0.02, those that end in the sum over blocks divided by
    sqrt(2L); positions with 0.01; biases are zero. A token past the vocabulary gives NaN.

    >>> model = gpt2(layers=2, heads=2, width=8, vocabulary=11, context=5)
    >>> shapes = jax.eval_shape(model.init, jax.random.key(0))  # nothing is drawn
    >>> jax.eval_shape(model.apply, shapes, jnp.zeros((3, 4), int)).shape
    (3, 4, 11)

    Args:
      layers: L, the number of blocks.
      heads: of attention; they divide the width.
      width: length of the state of a token.
      vocabulary: number of tokens.
      context: the longest sequence.
      mixed_precision: whether products are taken in bfloat16, of parameters rounded once per call.
        The copy is saved for the backward pass; pass parameters in bfloat16 where you keep one.
      scan: called as `scan(body, x, blocks)`: `jax.lax.scan`, or
        `functools.partial(checkpointing.checkpointed_scan, schedule=...)`.
      remat: a policy of `jax.checkpoint_policies` for `jax.checkpoint` around each block, such as
        `nothing_saveable`; None for no such wrapper.

    Raises:
      ValueError: a size below 1; a width that isn't a multiple of `heads`; `apply` to a sequence
        longer than the context, or to a scalar.
      TypeError: sizes that aren't integers; `scan` or `remat` that can't be called; tokens that
        aren't integers.

    Source: Radford et al. (2019), "Language models are unsupervised multitask learners".
    """
    sizes = (layers, heads, width, vocabulary, context)
    names = ("layers", "heads", "width", "vocabulary", "context")
    for name, value in zip(names, sizes, strict=True):
        checks.at_least(name, value, 1)
    if width % heads:
        raise ValueError(f"width must be a multiple of heads={heads}, got {width}")
    if not callable(scan):
        raise TypeError(f"scan must be callable as jax.lax.scan is, got {scan!r}")
    if not (remat is None or callable(remat)):
        raise TypeError(f"remat must be a policy of jax.checkpoint_policies or None, got {remat!r}")
    return _gpt2(*map(int, sizes), bool(mixed_precision), scan, remat)


@functools.cache
def _gpt2(
    depth: int, heads: int, width: int, vocabulary: int, context: int, mixed: bool,
    scan: Callable[..., tuple[Any, Any]], remat: Callable[..., Any] | None,
) -> Model:  # fmt: skip
    def init(key: Key, dtype: DTypeLike = np.float32) -> Params:
        tokens, positions, blocks = jax.random.split(key, 3)
        return {
            "tokens": layers.normal(tokens, (vocabulary, width), _SPREAD**2, dtype),
            "positions": layers.normal(positions, (context, width), _SPREAD**2 / 4, dtype),
            "blocks": _blocks(blocks, depth, width, dtype),
            "norm": layers.norm_init(width, dtype),
        }

    def apply(params: Params, x: ArrayLike) -> jax.Array:
        tokens = _tokens(x, context)
        if mixed:
            params = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params)
        length = tokens.shape[-1]
        state = jnp.take(params["tokens"], tokens, axis=0) + params["positions"][:length]
        wide = trees.wide_dtype(state)
        later = jnp.triu(jnp.full((length, length), jnp.finfo(wide).min, wide), 1)

        def body(state: jax.Array, block: Params) -> tuple[jax.Array, None]:
            state = state + _attention(block, _norm(block["norm1"], state), later, heads)
            inner = jax.nn.gelu(layers.dense(block["expand"], _norm(block["norm2"], state)))
            return state + layers.dense(block["contract"], inner), None

        run = body if remat is None else jax.checkpoint(body, policy=remat)
        state, _ = scan(run, state, params["blocks"])
        logits: jax.Array = _norm(params["norm"], state) @ params["tokens"].T
        return logits

    return Model(init, apply)


def _blocks(key: Key, depth: int, width: int, dtype: DTypeLike) -> Params:
    last = _SPREAD / math.sqrt(2 * depth)
    kernels = {
        "attend": (width, 3 * width, _SPREAD),
        "project": (width, width, last),
        "expand": (width, 4 * width, _SPREAD),
        "contract": (4 * width, width, last),
    }
    found: Params = {
        name: {
            "kernel": layers.normal(own, (depth, inputs, outputs), spread**2, dtype),
            "bias": jnp.zeros((depth, outputs), dtype),
        }
        for own, (name, (inputs, outputs, spread)) in zip(
            jax.random.split(key, len(kernels)), kernels.items(), strict=True
        )
    }
    for name in ("norm1", "norm2"):
        ones, zeros = (make((depth, width), dtype) for make in (jnp.ones, jnp.zeros))
        found[name] = {"scale": ones, "bias": zeros}
    return found


def _tokens(x: ArrayLike, context: int) -> jax.Array:
    tokens = jnp.asarray(x)
    if not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise TypeError(f"x must be integers, the numbers of tokens, got {tokens.dtype}")
    if tokens.ndim == 0 or not 1 <= tokens.shape[-1] <= context:
        raise ValueError(f"x must have shape (..., s), 1 <= s <= {context}, got {tokens.shape}")
    return tokens


def _norm(params: Params, x: jax.Array) -> jax.Array:
    """Standardise each token's state over its last axis; then scale and shift."""
    wide = x.astype(trees.wide_dtype(x))
    centred = wide - jnp.mean(wide, -1, keepdims=True)
    standard = centred * jax.lax.rsqrt(jnp.mean(jnp.square(centred), -1, keepdims=True) + _EPSILON)
    scale, bias = (params[name].astype(wide.dtype) for name in ("scale", "bias"))
    return jnp.asarray(standard * scale + bias, x.dtype)


def _attention(block: Params, x: jax.Array, later: jax.Array, heads: int) -> jax.Array:
    """Mix the states before each token; `later` (s, s) is added to the scores, to hide the rest."""
    *batch, length, width = x.shape
    joint = layers.dense(block["attend"], x).reshape(*batch, length, 3, heads, width // heads)
    query, key, value = (joint[..., part, :, :] for part in range(3))
    scores = jnp.einsum("...qhc,...khc->...hqk", query, key) / math.sqrt(width // heads)
    weights = jax.nn.softmax(scores.astype(later.dtype) + later, axis=-1)
    mixed = jnp.einsum("...hqk,...khc->...qhc", weights.astype(x.dtype), value)
    return layers.dense(block["project"], mixed.reshape(*batch, length, width))
