"""One gradient of a GPT-2, ready to run: what `adlab.lab.fresh` measures in a process of its own.

Imports nothing of the experiment, for it is run as a file by itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab import models

__all__ = ["loss", "prepare"]


def loss(
    model: Mapping[str, Any], dtype: str, checkpoints: bool
) -> tuple[models.Model, Callable[..., Any]]:
    """Return the model and the loss of the next token, with a checkpoint per layer or none."""
    remat = jax.checkpoint_policies.nothing_saveable if checkpoints else None
    found = models.gpt2(**model, mixed_precision=dtype == "bfloat16", remat=remat)
    return found, models.classification_loss(found)


def prepare(
    model: Mapping[str, Any], sequence: int, batch: int, dtype: str, checkpoints: bool, seed: int
) -> Callable[[], Any]:
    """Compile the gradient and place its arguments."""
    made, fun = loss(model, dtype, checkpoints)
    init = functools.partial(made.init, dtype=jnp.dtype(dtype))
    params = jax.block_until_ready(jax.jit(init)(jax.random.key(seed)))
    rng = np.random.default_rng(seed)
    tokens = jnp.asarray(rng.integers(0, model["vocabulary"], (batch, sequence)), jnp.int32)
    program = jax.jit(jax.value_and_grad(fun)).lower(params, tokens, tokens).compile()
    return functools.partial(program, params, tokens, tokens)
