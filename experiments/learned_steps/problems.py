"""What is descended: quadratics from many starts, and logistic regressions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .config import Config

Arrays = dict[str, np.ndarray]
PENALTY = 1e-2
NOISE = 0.5  # of the labels of the regressions
SPREAD = 30.0  # of their columns' variances


def descend(fun: Callable, log_steps: Any, x0: Any, *args: Any) -> jax.Array:
    """Return (k + 1,) values of fun along gradient descent from x0."""

    def step(x: Any, log_step: Any) -> tuple[Any, Any]:
        return x - jnp.exp(log_step) * jax.grad(fun)(x, *args), fun(x, *args)

    x, values = jax.lax.scan(step, x0, log_steps)
    return jnp.append(values, fun(x, *args))


def quadratic(x: Any, hessian: Any) -> Any:
    """Return x^T H x / 2."""
    return x @ (hessian @ x) / 2


@jax.jit
def quadratic_losses(log_steps: Any, starts: Any, hessian: Any) -> jax.Array:
    """Return (starts, k + 1) losses."""
    return jax.vmap(lambda x0: descend(quadratic, log_steps, x0, hessian))(starts)


@jax.jit
def quadratic_objective(log_steps: Any, starts: Any, hessian: Any) -> jax.Array:
    """Return the logarithm of the mean loss at the end."""
    return jnp.log(jnp.mean(quadratic_losses(log_steps, starts, hessian)[:, -1]))


def quadratic_data(config: Config) -> Arrays:
    """Draw a Hessian with the given spectrum, and Gaussian starts to learn and to try on."""
    rng = np.random.default_rng(config.seed)
    spectrum = np.geomspace(1 / config.condition, 1, config.dim)
    basis, _ = np.linalg.qr(rng.normal(size=(config.dim, config.dim)))
    starts = rng.normal(size=(config.num_starts + config.num_heldout, config.dim))
    hessian = (basis * spectrum) @ basis.T
    return {
        "spectrum": spectrum,
        "hessian": (hessian + hessian.T) / 2,
        "starts": starts[: config.num_starts],
        "heldout": starts[config.num_starts :],
        "squares": np.mean((starts[: config.num_starts] @ basis) ** 2, axis=0),
    }


def logistic(w: Any, rows: Any, scale: Any) -> Any:
    """Return [mean_j log(1 + exp(-rows_j w)) + penalty |w|^2 / 2] / scale."""
    return (jnp.mean(jax.nn.softplus(-rows @ w)) + PENALTY * w @ w / 2) / scale


@jax.jit
def logistic_gaps(log_steps: Any, rows: Any, scales: Any, least: Any) -> jax.Array:
    """Return (tasks, k + 1) values over the minima, from w = 0."""
    start = jnp.zeros(rows.shape[-1], rows.dtype)
    along = jax.vmap(lambda each, scale: descend(logistic, log_steps, start, each, scale))
    return along(rows, scales) - least[:, None]


@jax.jit
def logistic_objective(log_steps: Any, rows: Any, scales: Any, least: Any) -> jax.Array:
    """Return the logarithm of the mean gap at the end."""
    return jnp.log(jnp.mean(logistic_gaps(log_steps, rows, scales, least)[:, -1]))


def logistic_data(config: Config) -> Arrays:
    """Draw regressions: signed rows, the scale that makes L = 1, and the minimum, by Newton."""
    rng = np.random.default_rng([config.seed, 1])
    shape = (2 * config.num_tasks, config.num_rows, config.num_features)
    scale = np.geomspace(1, SPREAD**-0.5, config.num_features)
    features = rng.normal(size=shape) * scale
    normals = rng.normal(size=(shape[0], shape[2], 1)) / scale[:, None]
    margins = (features @ normals)[..., 0] + NOISE * rng.normal(size=shape[:2])
    rows = features * np.sign(margins)[..., None]
    gram = np.einsum("tri,trj->tij", rows, rows) / (4 * config.num_rows)
    scales = np.linalg.eigvalsh(gram)[:, -1] + PENALTY
    least = np.array([_minimum(each, s) for each, s in zip(rows, scales, strict=True)])
    return {"rows": rows, "scales": scales, "least": least}


def _minimum(rows: np.ndarray, scale: float) -> float:
    """Return the least value, by Newton's method with halved steps in NumPy."""

    def value(w: np.ndarray) -> float:
        return float((np.mean(np.logaddexp(0, -rows @ w)) + PENALTY * w @ w / 2) / scale)

    w = np.zeros(rows.shape[1])
    for _ in range(50):
        chance = 0.5 * (1 - np.tanh(rows @ w / 2))
        gradient = -rows.T @ chance / len(rows) + PENALTY * w
        curvature = (rows.T * (chance * (1 - chance))) @ rows / len(rows)
        move = np.linalg.solve(curvature + PENALTY * np.eye(len(w)), gradient)
        size = 1.0
        while size > 1e-6 and value(w - size * move) > value(w):
            size /= 2
        w = w - size * move
    return value(w)
