"""Derivatives in use: a ridge fit through its data, and a matrix completed by descent."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adlab import rules

from .config import Config
from .losses import SVD

LSTSQ: dict[str, Callable] = {
    "jnp": lambda a, b: jnp.linalg.lstsq(a, b)[0],
    "rules": rules.lstsq,
}
START = 3.0  # logarithm of the ridge strength where the descent begins
RATE = 1.0  # over the largest curvature on the scanned interval
SCAN = np.linspace(-4.0, 5.0, 181)
STARTS = ("zero", "random")


class Series(NamedTuple):
    """Measurements to learn from, at regular times in [0, 1), and others to be judged by."""

    times: np.ndarray
    values: np.ndarray
    held_times: np.ndarray
    held_values: np.ndarray


def series(config: Config) -> Series:
    """Return noisy values of a square wave with soft edges."""
    rng = np.random.default_rng(config.seed + 2)
    times = np.arange(config.num_times) / config.num_times
    held = rng.uniform(size=config.num_times)

    def measured(t: np.ndarray) -> np.ndarray:
        return np.tanh(4 * np.sin(2 * np.pi * t)) + config.noise * rng.normal(size=t.shape)

    return Series(times, measured(times), held, measured(held))


def design(xp: Any, times: Any, harmonics: int) -> Any:
    """Return the columns cos(2 pi k t), sin(2 pi k t), orthogonal at regular times.

    All their singular values are sqrt(m / 2): they coincide.
    """
    phases = 2 * np.pi * times[:, None] * xp.arange(1.0, harmonics + 1.0)
    return xp.concatenate([xp.cos(phases), xp.sin(phases)], axis=1)


def ridge(config: Config) -> dict[str, np.ndarray]:
    """Return gradients of the held-out loss, its scan, and descents on the ridge strength."""
    data = series(config)
    found: dict[str, Any] = {"ridge_times": data.times, "ridge_scan": SCAN}
    scanned = np.array([ridge_by_hand(data, config.num_harmonics, c) for c in SCAN], dtype=object)
    found["ridge_losses"] = scanned[:, 0].astype(float)
    slopes = scanned[:, 3].astype(float)
    rate = RATE / float(np.max(np.abs(np.gradient(slopes, SCAN))))
    _, exact, _, slope = ridge_by_hand(data, config.num_harmonics, START)
    found["ridge_best"] = _best(data, config.num_harmonics)
    found["ridge_exact"] = np.append(exact, slope)
    found["ridge_differences"] = _ridge_differences(data, config.num_harmonics)
    held = design(np, data.held_times, config.num_harmonics)
    for method, solve in LSTSQ.items():
        given = (data.values, held, data.held_values)
        _, (times, slope) = _ridge_gradient(solve, data.times, START, *given)
        found[f"ridge_{method}"] = np.append(times, slope)
        path, losses = [START], []
        for _ in range(config.ridge_steps):
            loss, (_, slope) = _ridge_gradient(solve, data.times, path[-1], *given)
            losses.append(float(loss))
            path.append(path[-1] - rate * float(slope))
        found[f"ridge_path_{method}"] = np.array(path[:-1])
        found[f"ridge_path_losses_{method}"] = np.array(losses)
    return found


@functools.partial(jax.jit, static_argnums=0)
def _ridge_gradient(
    solve: Callable, times: Any, log_strength: Any, values: Any, held: Any, held_values: Any
) -> Any:
    """Return the held-out loss and its gradients in the times and the log of the ridge strength."""

    def loss(times: Any, log_strength: Any) -> Any:
        columns = design(jnp, times, held.shape[1] // 2)
        ridge = jnp.exp(0.5 * log_strength) * jnp.eye(columns.shape[1])
        padded = jnp.concatenate([values, jnp.zeros(columns.shape[1])])
        weights = solve(jnp.concatenate([columns, ridge]), padded)
        return jnp.mean((held @ weights - held_values) ** 2)

    return jax.value_and_grad(loss, argnums=(0, 1))(times, log_strength)


def ridge_by_hand(
    data: Series, harmonics: int, log_strength: float
) -> tuple[float, np.ndarray, np.ndarray, float]:
    """Return the held-out loss, its gradients in the times and in the values, and in log c.

    With M = X^T X + c 1 and q = M^-1 g, g the loss's gradient in the weights: the gradient in X is
    r q^T - X q w^T, in the values X q, and in log c it is -c q^T w.
    """
    x, strength = design(np, data.times, harmonics), float(np.exp(log_strength))
    held = design(np, data.held_times, harmonics)
    normal = x.T @ x + strength * np.eye(2 * harmonics)
    weights = np.linalg.solve(normal, x.T @ data.values)
    misfit = held @ weights - data.held_values
    q = np.linalg.solve(normal, 2 * held.T @ misfit / len(misfit))
    in_design = np.outer(data.values - x @ weights, q) - np.outer(x @ q, weights)
    rates = 2 * np.pi * np.arange(1, harmonics + 1)
    turned = np.concatenate([-rates * x[:, harmonics:], rates * x[:, :harmonics]], axis=1)
    in_times = np.sum(in_design * turned, axis=1)
    return float(np.mean(misfit**2)), in_times, x @ q, -strength * float(q @ weights)


def _best(data: Series, harmonics: int) -> np.ndarray:
    """Return the log of the ridge strength where the slope by hand is 0, by bisection."""
    slopes = np.array([ridge_by_hand(data, harmonics, c)[3] for c in SCAN])
    place = np.flatnonzero((slopes[:-1] < 0) & (slopes[1:] >= 0))
    if not len(place):
        return np.array(np.nan)
    low, high = SCAN[place[-1]], SCAN[place[-1] + 1]
    for _ in range(50):
        middle = (low + high) / 2
        if ridge_by_hand(data, harmonics, middle)[3] < 0:
            low = middle
        else:
            high = middle
    return np.array((low + high) / 2)


def _ridge_differences(data: Series, harmonics: int) -> np.ndarray:
    """Return central differences in the times and in log c, of the loss by normal equations."""
    found = []
    for place in range(len(data.times) + 1):
        step = 2.0**-20 if place < len(data.times) else 2.0**-17
        sides = []
        for sign in (1, -1):
            times, strength = data.times.copy(), START
            if place < len(times):
                times[place] += sign * step
            else:
                strength += sign * step
            sides.append(ridge_by_hand(data._replace(times=times), harmonics, strength)[0])
        found.append((sides[0] - sides[1]) / (2 * step))
    return np.array(found)


def completion(config: Config) -> dict[str, np.ndarray]:
    """Return losses, errors and gradient errors of descents from zero and from a random matrix.

    Arrays of shape (starts, steps). The loss is half of |known entries - data|^2 + |x - x_r|^2, x_r
    the part of rank r, written u_r u_r^T x; where singular values r and r + 1 differ, or both are
    0, its gradient is (x - data on known entries) + x - x_r.
    """
    rng = np.random.default_rng(config.seed + 3)
    shape, rank = (config.rows, config.columns), config.rank
    truth = rng.normal(size=(shape[0], rank)) @ rng.normal(size=(rank, shape[1]))
    seen = (rng.uniform(size=shape) < config.observed).astype(float)
    starts = np.stack([np.zeros(shape), 0.01 * rng.normal(size=shape)])
    found = {}
    for method, svd in SVD.items():
        x, rows = starts, []
        for _ in range(config.completion_steps):
            loss, slope = map(np.asarray, _completion_gradient(svd, rank, x, truth, seen))
            by_hand = seen * (x - truth) + x - _low_rank(x, rank)
            rows.append([
                loss,
                np.linalg.norm(x - truth, axis=(1, 2)) / np.linalg.norm(truth),
                np.linalg.norm(slope - by_hand, axis=(1, 2)) / np.linalg.norm(truth),
            ])  # fmt: skip
            x = x - slope
        for place, name in enumerate(("losses", "errors", "gradient_errors")):
            found[f"completion_{name}_{method}"] = np.stack([row[place] for row in rows], axis=-1)
    return found


@functools.partial(jax.jit, static_argnums=(0, 1))
def _completion_gradient(svd: Callable, rank: int, starts: Any, truth: Any, seen: Any) -> Any:
    def loss(x: Any) -> Any:
        kept = svd(x, full_matrices=False)[0][:, :rank]
        left_over = x - kept @ (kept.T @ x)
        return 0.5 * jnp.sum((seen * (x - truth)) ** 2) + 0.5 * jnp.sum(left_over**2)

    return jax.vmap(jax.value_and_grad(loss))(starts)


def _low_rank(x: np.ndarray, rank: int) -> np.ndarray:
    """Return the nearest matrices of that rank; NaN of NaN."""
    finite = np.isfinite(x).all(axis=(1, 2))
    found = np.full_like(x, np.nan)
    u, s, vh = np.linalg.svd(x[finite], full_matrices=False)
    found[finite] = (u[..., :rank] * s[:, None, :rank]) @ vh[:, :rank]
    return found
