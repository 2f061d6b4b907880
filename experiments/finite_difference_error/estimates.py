"""Which steps and rules are tried, and what an error and a regret are."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from adlab.gradients import finite_difference
from adlab.gradients.measured_steps import measure
from adlab.gradients.stencils import STENCILS

LEAST = {"float32": -22, "float64": -50}  # binary logarithm of the least step, over the scale of x
RULES = ("auto", "relative")
UNOPTIMIZED: Any = {"xla_backend_optimization_level": 0}  # optimising takes longer than it saves


def steps(precision: str) -> np.ndarray:
    """Return the steps that are tried, over the scale of x."""
    return 2.0 ** np.arange(LEAST[precision], 1)


@functools.cache
def compiled(fun: Callable, *args: Any) -> Callable:
    """Return fun of the arguments that follow args, compiled once for each shape of them."""
    return jax.jit(functools.partial(fun, *args), compiler_options=UNOPTIMIZED)


def estimate(fun: Callable, scheme: Any, step: Any) -> Callable[[jax.Array], jax.Array]:
    """Return x -> the estimated derivative."""
    return finite_difference(fun, scheme=scheme, step=step)


def measured(fun: Callable, scheme: str, x: jax.Array) -> Any:
    """Return what "auto" measures at x."""
    return measure(fun, x, fun(x), STENCILS[scheme], 1)


def regret(ruled: np.ndarray, tried: np.ndarray, least: Any) -> np.ndarray:
    """Return the error over that of the best step; errors below `least` count as that.

    `least` is the rounding of the derivative itself, which no estimate can undercut but by luck.
    """
    best = np.min(np.where(np.isfinite(tried), tried, np.inf), axis=0)
    ratio = np.maximum(ruled, least) / np.maximum(best, least)
    return np.where(np.isfinite(ratio), ratio, np.inf)


def rms(errors: np.ndarray) -> np.ndarray:
    """Return the root mean square over the last axis."""
    return np.asarray(np.sqrt(np.mean(errors**2, axis=-1)))
