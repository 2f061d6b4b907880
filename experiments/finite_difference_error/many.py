"""Functions of many unknowns, for which one step must serve all."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .config import Config
from .estimates import RULES, compiled, estimate, regret, rms, steps
from .wave import SPAN, wave, wave_derivative

Arrays = dict[str, np.ndarray]
FAMILIES = ("sum", "ridge")
SPARE = 20  # binary orders of magnitude of float64 in which no best step lies


def regrets(config: Config, precision: str) -> Arrays:
    """Return the regret at (scheme, rule, dimension, family, point).

    A sum of functions of one unknown each, and a function of one weighted sum of all. An error is
    the root mean square over all partial derivatives at a point, and so is the best one's.
    """
    rng = np.random.default_rng([config.seed, 2])
    sizes = (len(config.schemes), len(RULES), len(config.dims), len(FAMILIES))
    found = np.empty((*sizes, config.starts))
    for place, dim in enumerate(config.dims):
        x = rng.uniform(*SPAN, (config.starts, dim)).astype(precision)
        for row, family in enumerate(FAMILIES):
            for index, scheme in enumerate(config.schemes):
                found[index, :, place, row] = _regret(scheme, family, x)
    return {"regret": found}


def _regret(scheme: str, family: str, x: np.ndarray) -> np.ndarray:
    _, gradient = function(family, x.shape[-1])
    exact = gradient(x.astype(np.float64))
    estimates = compiled(_estimates, scheme, family)(x)
    tried, ruled = (rms(np.asarray(part, np.float64) - exact) for part in estimates)
    return regret(ruled, tried, rms(exact) * np.finfo(x.dtype).eps / 2)


def _estimates(scheme: str, family: str, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return estimates at (step, point, unknown) and (rule, point, unknown)."""
    fun, _ = function(family, x.shape[-1])
    spare = SPARE if x.dtype == np.float64 else 0
    h = jnp.asarray(steps(x.dtype.name)[spare:], x.dtype)
    at = functools.partial(estimate, fun, scheme)
    tried = jax.lax.map(lambda h: jax.vmap(at(h))(x), h)
    return tried, jnp.stack([jax.vmap(at(rule))(x) for rule in RULES])


def function(family: str, dim: int) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return a function of `dim` unknowns, and its gradient in closed form."""
    if family == "sum":
        return lambda x: jnp.sum(wave(x)), lambda x: wave_derivative(1, x)
    weights = (1 + np.arange(dim) / dim) / math.sqrt(dim)

    def ridge(x: Any) -> Any:
        return jnp.sin(x @ jnp.asarray(weights, x.dtype))

    return ridge, lambda x: np.cos(x @ weights)[..., None] * weights
