"""Errors of differences over steps and noises, and of the steps that a rule takes."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab import lab
from adlab.gradients import finite_difference, from_host

from .config import Config
from .theory import THEORY

Arrays = dict[str, np.ndarray]
SCHEMES = tuple(THEORY)
RULES = ("auto", "relative")
STEPS = 2.0 ** np.arange(-24, 1.25, 0.25)  # that are tried
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def run(config: Config, progress: lab.Progress) -> Arrays:
    """Return mean squares of errors over points, per scheme.

    `<scheme>_squares` at (seed, noise, step), and `<scheme>_<rule>` at (seed, noise).
    """
    data: Arrays = {"noises": np.array(config.noises), "steps": STEPS}
    for scheme in SCHEMES:
        found = progress.stage(scheme, functools.partial(_errors, config, scheme))
        data |= {f"{scheme}_{name}": array for name, array in found.items()}
    return data


def noise_of(x: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """Return noise of mean 0 and variance 1 that depends on every bit of x, and on the seed.

    The bits go through the finaliser of SplitMix64 (Steele, Lea & Flood 2014,
    doi:10.1145/2714064.2660195), which makes of neighbouring numbers unrelated ones. Uniform: the
    theory asks for the variance alone.
    """
    start = np.asarray(seed, np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bits = np.ascontiguousarray(x, np.float64).view(np.uint64) + start
    bits = (bits ^ (bits >> np.uint64(30))) * _MIX[0]
    bits = (bits ^ (bits >> np.uint64(27))) * _MIX[1]
    bits = bits ^ (bits >> np.uint64(31))
    return ((bits >> np.uint64(11)) * 2.0**-53 - 0.5) * np.sqrt(12)


def simulator(x: np.ndarray, seed: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return sin x with noise of that standard deviation."""
    return np.asarray(np.sin(x) + noise * noise_of(x, seed))


def points(config: Config) -> np.ndarray:
    """Return points (seeds, points), evenly spread over a period, from a random first one."""
    rng = np.random.default_rng(config.seed)
    first = rng.uniform(size=(config.num_seeds, 1))
    return 2 * np.pi * (np.arange(config.num_points) + first) / config.num_points


def _errors(config: Config, scheme: str) -> Arrays:
    x, noises = jnp.array(points(config)), jnp.array(config.noises)
    seeds = 1 + jnp.arange(config.num_seeds) + config.num_seeds * config.seed
    tried = _tried(scheme, jnp.array(STEPS), x, seeds, noises)
    ruled = {rule: _squares(scheme, rule, x, seeds, noises) for rule in RULES}
    return {"squares": np.asarray(tried)} | {k: np.asarray(v) for k, v in ruled.items()}


@functools.partial(jax.jit, static_argnames=("scheme", "step"))
def _squares(scheme: Any, step: Any, x: Any, seeds: Any, noises: Any) -> Any:
    """Return mean squares at (seed, noise)."""
    exact = jnp.cos(x)[:, :, None]
    return jnp.mean((_estimates(scheme, step, x, seeds, noises) - exact) ** 2, axis=1)


@functools.partial(jax.jit, static_argnames="scheme")
def _tried(scheme: Any, steps: Any, x: Any, seeds: Any, noises: Any) -> Any:
    """Return mean squares at (seed, noise, step)."""
    exact = jnp.cos(x)[:, :, None]

    def squares(step: Any) -> Any:
        return jnp.mean((_estimates(scheme, step, x, seeds, noises) - exact) ** 2, axis=1)

    return jax.vmap(squares, out_axes=2)(steps)


def _estimates(scheme: Any, step: Any, x: Any, seeds: Any, noises: Any) -> jax.Array:
    """Return estimates at (seed, point, noise)."""
    estimate = finite_difference(from_host(simulator, vectorized=True), scheme=scheme, step=step)
    over_noises = jax.vmap(estimate, in_axes=(None, None, 0))
    over_points = jax.vmap(over_noises, in_axes=(0, None, None))
    return jax.vmap(over_points, in_axes=(0, 0, None))(x, seeds, noises)
