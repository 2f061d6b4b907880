"""Two languages whose entropy is known: Markov chains of order two.

The logits of the next token are a function of the last token plus one of the last but one, so that
a model must look at both. What a model loses beyond the entropy is the mean divergence of its
prediction from the law of the next token, which is known for every context.
"""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np

from .config import Config

Which = Literal["first", "second"]


def law(config: Config, which: Which) -> np.ndarray:
    """Return p(c | a, b), of shape (v, v, v): the token after a and b."""
    return _law(config.vocabulary, config.sharpness, config.shift, config.seed, which)


@functools.cache
def _law(v: int, sharpness: float, shift: float, seed: int, which: Which) -> np.ndarray:
    tables = np.random.default_rng([seed, 0]).normal(0, sharpness / np.sqrt(2), (2, 2, v, v))
    near, far = tables[0]
    if which == "second":
        near, far = np.sqrt(1 - shift**2) * tables[0] + shift * tables[1]
    logits = far[:, None, :] + near[None, :, :]
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    found = weights / weights.sum(axis=-1, keepdims=True)
    found.flags.writeable = False
    return found


def stationary(law: np.ndarray) -> np.ndarray:
    """Return the stationary law of pairs (a, b), (v, v), by iteration to round-off."""
    pairs = np.full(law.shape[:2], 1 / law.shape[0] ** 2)
    for _ in range(100_000):
        after = np.einsum("ab,abc->bc", pairs, law)
        if np.abs(after - pairs).max() < 1e-15:
            break
        pairs = after
    return after / after.sum()


def entropy(law: np.ndarray) -> float:
    """Return the entropy rate in nats per token: no model's mean loss is below it."""
    return float(-np.einsum("ab,abc,abc->", stationary(law), law, np.log(law)))


def sample(law: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Return sequences of the stationary chain, int32, of shape (..., tokens)."""
    *batch, length = shape
    v, number = law.shape[0], int(np.prod(batch))
    pairs = rng.choice(v * v, size=number, p=stationary(law).ravel())
    tokens = np.empty((number, length), np.int32)
    tokens[:, 0], tokens[:, 1] = np.divmod(pairs, v)
    sums = np.cumsum(law, axis=-1)
    for place in range(2, length):
        levels = sums[tokens[:, place - 2], tokens[:, place - 1]]
        tokens[:, place] = (rng.random((number, 1)) > levels[:, :-1]).sum(axis=1)
    return tokens.reshape(shape)
