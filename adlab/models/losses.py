"""Losses of classifiers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks, trees
from adlab.core.types import ArrayLike, PyTree
from adlab.models.model import Model

__all__ = ["accuracy", "classification_loss", "cross_entropy"]


def cross_entropy(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Return the mean over all labels of log sum_c exp(logits_c) - logits_label, in nats.

    Logits of any size are safe: the largest is taken out of the sum. Computed in at least float32.
    A label outside 0..classes - 1 makes the mean NaN.

    >>> float(cross_entropy(jnp.zeros((3, 4)), jnp.array([0, 1, 2])))  # ln 4, for four equal logits
    1.3862943649291992

    Args:
      logits: shape (..., classes): (b, classes), or (b, length, classes) for sequences.
      labels: integers, of shape (...).

    Raises:
      TypeError: labels aren't integers.
      ValueError: shapes don't match.
    """
    logits, labels = _checked(logits, labels)
    logits = logits.astype(trees.wide_dtype(logits))
    labels = labels.astype(np.promote_types(labels.dtype, np.int32))
    mine = jnp.arange(logits.shape[-1], dtype=labels.dtype) == labels[..., None]
    picked = jnp.sum(jnp.where(mine, logits, jnp.zeros((), logits.dtype)), axis=-1)
    losses = jax.nn.logsumexp(logits, axis=-1) - picked
    return jnp.mean(jnp.where(mine.any(axis=-1), losses, jnp.asarray(jnp.nan, losses.dtype)))


def accuracy(logits: ArrayLike, labels: ArrayLike) -> jax.Array:
    """Return the fraction of labels whose logit is the largest, float32 in [0, 1].

    Shapes and errors are those of `cross_entropy`; of equal logits the first counts.

    >>> float(accuracy(jnp.array([[1.0, 0.0], [2.0, 3.0]]), jnp.array([0, 0])))
    0.5
    """
    logits, labels = _checked(logits, labels)
    hits = jnp.argmax(logits, axis=-1).astype(labels.dtype) == labels
    return jnp.mean(hits.astype(np.float32))


def _checked(logits: ArrayLike, labels: ArrayLike) -> tuple[jax.Array, jax.Array]:
    logits, labels = jnp.asarray(logits), jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels must be integers, got {labels.dtype}")
    if logits.ndim == 0 or logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"labels must have the shape of logits {logits.shape} without its last axis, "
            f"got {labels.shape}"
        )
    return logits, labels


@dataclass(frozen=True, eq=False)
class ClassificationLoss:
    """See `classification_loss`."""

    model: Model
    weight_decay: Any

    def __call__(self, params: PyTree, x: ArrayLike, y: ArrayLike) -> jax.Array:
        """Return the loss of `params` on the batch."""
        loss = cross_entropy(self.model.apply(params, x), y)
        if self.weight_decay is None:
            return loss
        penalty = trees.vdot(params, params)
        dtype = np.promote_types(loss.dtype, penalty.dtype)
        decay: jax.Array = self.weight_decay / 2 * penalty.astype(dtype)
        return loss.astype(dtype) + decay


jax.tree_util.register_dataclass(ClassificationLoss, ["weight_decay"], ["model"])


def classification_loss(model: Model, weight_decay: float = 0.0) -> Callable[..., jax.Array]:
    """Return fun(params, x, y) = cross_entropy(model.apply(params, x), y) + wd/2 |params|^2.

    The penalty covers all leaves: kernels, biases and scales alike. So the gradient has wd * params
    in it and the Hessian wd * I: an optimiser's own weight decay would count it twice.

    A pytree callable: the weight decay is data and the model static, so that passing another such
    loss of an equal model as an argument of a jitted function doesn't retrace. `jax.jit(fun)`
    itself compiles for each new `fun`: keep the one you made.

    Args:
      model: its outputs are logits.
      weight_decay: wd >= 0, in nats per squared parameter.

    Raises:
      TypeError: `model` isn't a Model; weight_decay isn't a real number.
      ValueError: weight_decay is negative or not finite.

    >>> from adlab.models import mlp
    >>> fun = classification_loss(mlp(inputs=2, hidden=[], outputs=4), weight_decay=0.1)
    >>> params = {"layer1": {"kernel": jnp.zeros((2, 4)), "bias": jnp.zeros(4)}}
    >>> float(fun(params, jnp.ones((3, 2)), jnp.array([0, 1, 2])))  # ln 4
    1.3862943649291992
    """
    if not isinstance(model, Model):
        raise TypeError(f"model must be an adlab.models.Model, got {type(model).__name__}")
    if checks.concrete(weight_decay):
        if np.ndim(weight_decay) != 0 or not np.isrealobj(weight_decay):
            raise TypeError(f"weight_decay must be a real number, got {weight_decay!r}")
        if not (np.isfinite(weight_decay) and weight_decay >= 0):
            raise ValueError(f"weight_decay must be finite and >= 0, got {weight_decay!r}")
        if weight_decay == 0:
            return ClassificationLoss(model, None)
    return ClassificationLoss(model, weight_decay)
