"""Predictive distributions of a network's outputs, for Fisher matrices.

All are exponential families whose natural parameters are the outputs: the gradient of log p(y) in
the outputs is y - E[y]. Outputs are (..., K): the last axis holds the K numbers that predict one
label, every position before it is an example.
"""

from __future__ import annotations

import abc
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks

__all__ = ["LIKELIHOODS", "Likelihood", "Predictive"]

Likelihood = Literal["softmax", "gaussian", "bernoulli"]


class Predictive(abc.ABC):
    """p(y | outputs), with labels encoded in the form of the outputs."""

    name: Likelihood

    def require_outputs(self, outputs: Any) -> None:
        """Raise where an array of this shape and dtype can't be outputs of a model."""
        if not jax.tree_util.all_leaves([outputs]):
            got = jax.tree.structure(outputs)
            raise TypeError(f"model must return one array of outputs, got {got}")
        if not jnp.issubdtype(outputs.dtype, jnp.floating):
            raise TypeError(f"outputs must be real floating-point, got {outputs.dtype}")
        if not outputs.shape or 0 in outputs.shape:
            raise ValueError(f"outputs must hold at least one example, got shape {outputs.shape}")

    def examples(self, outputs: Any) -> int:
        """Return the number of examples: (N,) are N of them with one number each."""
        return math.prod(outputs.shape[:-1]) if len(outputs.shape) > 1 else outputs.shape[0]

    def labels_shape(self, outputs: Any) -> tuple[int, ...]:
        """Return the shape that labels must have: that of the outputs."""
        return tuple(outputs.shape)

    def encode(self, labels: Any, outputs: Any, where: str = "") -> jax.Array:
        """Return labels in the form of the outputs; a traced label that can't be is NaN.

        Raises:
          ValueError: labels of another shape; one that can't be, where it can be read.
          TypeError: labels of a dtype that can't be.
        """
        labels = labels if isinstance(labels, jax.Array) else np.asarray(labels)
        if labels.shape != self.labels_shape(outputs):
            raise ValueError(
                f"labels must be shaped as {self.labels_shape(outputs)}, by likelihood="
                f"{self.name!r} for outputs of shape {tuple(outputs.shape)}, got {labels.shape}"
                f"{where}"
            )
        self._require_dtype(labels, where)
        labels = jnp.asarray(labels)
        valid = self._valid(labels, outputs)
        if checks.concrete((labels, valid)):
            self._require_valid(np.asarray(labels), np.asarray(valid), outputs, where)
        return self._encoded(labels, valid, outputs)

    def _require_dtype(self, labels: Any, where: str) -> None:
        kinds = (jnp.floating, jnp.integer, jnp.bool_)
        if not any(jnp.issubdtype(labels.dtype, kind) for kind in kinds):
            raise TypeError(f"labels must be real numbers, got {labels.dtype}{where}")

    def _require_valid(self, labels: Any, valid: Any, outputs: Any, where: str) -> None:
        if valid.all():
            return
        place = tuple(int(i) for i in np.argwhere(~valid)[0])
        condition, remedy = self._condition(outputs)
        raise ValueError(
            f"labels must be {condition}, got {labels[place]} at {place}{where}; {remedy}"
        )

    def _encoded(self, labels: Any, valid: Any, outputs: Any) -> jax.Array:
        number = labels.astype(outputs.dtype)
        return jnp.where(valid, number, jnp.full_like(number, jnp.nan))

    @abc.abstractmethod
    def _valid(self, labels: Any, outputs: Any) -> Any:
        """Return which labels can be."""

    @abc.abstractmethod
    def _condition(self, outputs: Any) -> tuple[str, str]:
        """Return in words what labels must be, and the remedy."""

    @abc.abstractmethod
    def mean(self, outputs: jax.Array) -> jax.Array:
        """Return E[y], in the form of the outputs."""

    @abc.abstractmethod
    def covariance(self, outputs: jax.Array, tangents: jax.Array) -> jax.Array:
        """Return Cov[y] times the tangents, example by example."""

    @abc.abstractmethod
    def draw(self, outputs: jax.Array, key: Any, num_samples: int) -> jax.Array:
        """Return labels drawn less their mean, (num_samples, ...)."""

    @abc.abstractmethod
    def loss(self, outputs: jax.Array, encoded: jax.Array) -> jax.Array:
        """Return -log p of the labels, up to a constant, summed over all."""


class _Softmax(Predictive):
    name = "softmax"

    def require_outputs(self, outputs: Any) -> None:
        super().require_outputs(outputs)
        if len(outputs.shape) < 2 or outputs.shape[-1] < 2:
            raise ValueError(
                "outputs must be logits (..., classes) of at least one example and 2 classes for "
                f"likelihood='softmax', got shape {tuple(outputs.shape)}; for one logit per "
                "example pass likelihood='bernoulli'"
            )

    def labels_shape(self, outputs: Any) -> tuple[int, ...]:
        return tuple(outputs.shape[:-1])

    def _require_dtype(self, labels: Any, where: str) -> None:
        if not jnp.issubdtype(labels.dtype, jnp.integer):
            raise TypeError(f"labels must be integers, got {labels.dtype}{where}")

    def _valid(self, labels: Any, outputs: Any) -> Any:
        index = _index(labels)
        return (index >= 0) & (index < outputs.shape[-1])

    def _condition(self, outputs: Any) -> tuple[str, str]:
        classes = outputs.shape[-1]
        return f"from 0 to {classes - 1} for {classes} classes", (
            "leave out examples whose label is to be ignored, such as those of -100"
        )

    def _encoded(self, labels: Any, valid: Any, outputs: Any) -> jax.Array:
        hot = jax.nn.one_hot(_index(labels), outputs.shape[-1], dtype=outputs.dtype)
        return jnp.where(valid[..., None], hot, jnp.full_like(hot, jnp.nan))

    def mean(self, outputs: jax.Array) -> jax.Array:
        return jax.nn.softmax(outputs)

    def covariance(self, outputs: jax.Array, tangents: jax.Array) -> jax.Array:
        p = jax.nn.softmax(outputs)
        return p * (tangents - jnp.sum(p * tangents, axis=-1, keepdims=True))

    def draw(self, outputs: jax.Array, key: Any, num_samples: int) -> jax.Array:
        labels = jax.random.categorical(key, outputs, shape=(num_samples, *outputs.shape[:-1]))
        hot = jax.nn.one_hot(labels, outputs.shape[-1], dtype=outputs.dtype)
        return hot - jax.nn.softmax(outputs)

    def loss(self, outputs: jax.Array, encoded: jax.Array) -> jax.Array:
        return -jnp.sum(jax.nn.log_softmax(outputs) * encoded)


def _index(labels: Any) -> Any:
    """Return labels as wide integers: as 8-bit ones, classes from 128 on would wrap around."""
    floating = jnp.issubdtype(labels.dtype, jnp.floating)
    return labels if floating or labels.dtype.itemsize >= 4 else labels.astype(jnp.int32)


class _Gaussian(Predictive):
    name = "gaussian"

    def _valid(self, labels: Any, outputs: Any) -> Any:
        del outputs
        return jnp.isfinite(labels)

    def _condition(self, outputs: Any) -> tuple[str, str]:
        del outputs
        return "finite", "leave out examples whose label is missing"

    def mean(self, outputs: jax.Array) -> jax.Array:
        return outputs

    def covariance(self, outputs: jax.Array, tangents: jax.Array) -> jax.Array:
        del outputs
        return tangents

    def draw(self, outputs: jax.Array, key: Any, num_samples: int) -> jax.Array:
        return jax.random.normal(key, (num_samples, *outputs.shape), outputs.dtype)

    def loss(self, outputs: jax.Array, encoded: jax.Array) -> jax.Array:
        return jnp.sum((outputs - encoded) ** 2) / 2


class _Bernoulli(Predictive):
    name = "bernoulli"

    def _valid(self, labels: Any, outputs: Any) -> Any:
        del outputs
        number = _index(labels)
        return (number == 0) | (number == 1)

    def _condition(self, outputs: Any) -> tuple[str, str]:
        del outputs
        return "0 or 1", "labels y of -1 and 1 are (y + 1) // 2"

    def mean(self, outputs: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(outputs)

    def covariance(self, outputs: jax.Array, tangents: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(outputs) * jax.nn.sigmoid(-outputs) * tangents

    def draw(self, outputs: jax.Array, key: Any, num_samples: int) -> jax.Array:
        p = jax.nn.sigmoid(outputs)
        drawn = jax.random.bernoulli(key, p, shape=(num_samples, *outputs.shape))
        return drawn.astype(outputs.dtype) - p

    def loss(self, outputs: jax.Array, encoded: jax.Array) -> jax.Array:
        return jnp.sum(jnp.logaddexp(jnp.zeros_like(outputs), outputs) - encoded * outputs)


LIKELIHOODS: dict[str, Predictive] = {
    likelihood.name: likelihood for likelihood in (_Softmax(), _Gaussian(), _Bernoulli())
}
