"""The loss of a GPT as a function of some of its weights, and what it costs beyond the entropy."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab import models

from .config import Config, Subspace

Tree = Any
KERNELS = ("attend", "project", "expand", "contract")


def model(config: Config) -> models.Model:
    """Return the GPT of a config."""
    return models.gpt2(
        layers=config.layers, heads=config.heads, width=config.width,
        vocabulary=config.vocabulary, context=config.sequence,
    )  # fmt: skip


def split(kind: Subspace, params: Tree, config: Config) -> tuple[Tree, Tree]:
    """Return what is adapted, and what is held: the `z` and `held` of `loss(kind, ...)`.

    Low-rank changes are W + A B, A drawn with variance 1/inputs and held, B zero at first.
    """
    if kind == "all":
        return params, {}
    if kind == "biases":
        leaves = {
            jax.tree_util.keystr(path): leaf
            for path, leaf in jax.tree_util.tree_leaves_with_path(params)
        }
        chosen = {name: leaf for name, leaf in leaves.items() if _small(name)}
        return chosen, {"params": params}
    rng, factors, changes = np.random.default_rng([config.seed, 1]), {}, {}
    for name in KERNELS:
        depth, inputs, outputs = params["blocks"][name]["kernel"].shape
        spread = inputs**-0.5
        drawn = rng.normal(0, spread, (depth, inputs, config.rank))
        factors[name] = jnp.asarray(drawn, np.float32)
        changes[name] = jnp.zeros((depth, config.rank, outputs), np.float32)
    return changes, {"params": params, "factors": factors}


def _small(name: str) -> bool:
    return "bias" in name or "scale" in name


def _joined(kind: Subspace, z: Tree, held: Tree) -> Tree:
    """Return all weights."""
    if kind == "all":
        return z
    params = held["params"]
    if kind == "biases":
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: z.get(jax.tree_util.keystr(path), leaf), params
        )
    blocks = dict(params["blocks"])
    for name, change in z.items():
        kernel = blocks[name]["kernel"] + held["factors"][name] @ change
        blocks[name] = {**blocks[name], "kernel": kernel}
    return {**params, "blocks": blocks}


@functools.cache
def loss(kind: Subspace, network: models.Model) -> Callable[..., jax.Array]:
    """Return fun(z, held, tokens): nats per token, from the third token on.

    One function per model and subspace, so that it is compiled once.
    """

    def fun(z: Tree, held: Tree, tokens: Any) -> jax.Array:
        logits = network.apply(_joined(kind, z, held), tokens[..., :-1])
        return models.cross_entropy(logits[..., 1:, :], tokens[..., 2:])

    return fun


@functools.cache
def gap(kind: Subspace, network: models.Model) -> Callable[..., jax.Array]:
    """Return fun(z, held, tokens, law): the mean divergence of the model from the law, in nats.

    That is its loss less the entropy, exact over the next token; only contexts are sampled.
    """

    def fun(z: Tree, held: Tree, tokens: Any, law: Any) -> jax.Array:
        logits = network.apply(_joined(kind, z, held), tokens[..., :-1])[..., 1:, :]
        true = jnp.asarray(law, logits.dtype)[tokens[..., :-2], tokens[..., 1:-1]]
        apart = true * (jnp.log(true) - jax.nn.log_softmax(logits))
        return jnp.mean(jnp.sum(apart, axis=-1))

    return fun
