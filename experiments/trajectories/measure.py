"""The descents of `trajectories`, and what is kept of them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab import gradients, lab, problems
from adlab.core.cost import Cost
from adlab.optimize import prescribed_step

from .config import Config
from .theory import Kind, Moments, displaced, moments

Arrays = dict[str, np.ndarray]
PROBLEM = problems.lecture_quadratic()
DIM = PROBLEM.dim
DETERMINISTIC = {"central": "exact", "forward": "forward"}
RANDOM: tuple[Kind, ...] = ("two_point", "sphere", "coordinate")
LECTURE_EPS = (0.11, 1.1)  # of the one-sided estimate and of differences in the lecture's picture
PATHS = 40  # whole paths that are kept


def run(config: Config, progress: lab.Progress) -> Arrays:
    """Descend by every kind with every eps, and run the recursion beside each."""
    step = prescribed_step(PROBLEM, gradients.two_point(PROBLEM.fun))
    hessian = np.asarray(jax.jit(jax.hessian(PROBLEM.fun))(PROBLEM.x0))
    descend = Descent(config, step, progress)
    stages: dict[str, Callable[[], Arrays]] = {
        "exact": lambda: {"exact": descend(gradients.reverse_mode(PROBLEM.fun))[0]}
    }
    for scheme in DETERMINISTIC:
        stages[scheme] = lambda scheme=scheme: _differences(config, descend, scheme)  # type: ignore[misc]
    for place, kind in enumerate(RANDOM):
        stages[kind] = lambda kind=kind, place=place: _estimates(config, descend, kind, place)  # type: ignore[misc]
    stages["lecture"] = lambda: _lecture(config, descend)
    data: Arrays = {"step": np.array(step), "hessian": hessian, "eps": np.array(config.eps)}
    for name, compute in stages.items():
        data |= progress.stage(name, compute)
    return data | _exact(config, hessian, step)


class Descent:
    """Descends from the problem's start, many seeds at once; compiled once per kind of gradient."""

    def __init__(self, config: Config, step: float, progress: lab.Progress) -> None:
        self._config, self._step, self._progress = config, step, progress

    def __call__(self, gradient: Any, seeds: int = 1, stream: int = 0) -> np.ndarray:
        """Return paths of shape (seeds, K + 1, n)."""
        key = jax.random.fold_in(jax.random.key(self._config.seed), stream)
        keys = jax.random.split(key, seeds)
        started = time.perf_counter()
        paths = np.asarray(_descend(gradient, self._step, keys, num_steps=self._config.num_steps))
        self._progress.seconds("descents", run=time.perf_counter() - started)
        return paths


@functools.partial(jax.jit, static_argnames="num_steps")
def _descend(gradient: Any, step: Any, keys: jax.Array, *, num_steps: int) -> jax.Array:
    def one(key: jax.Array) -> jax.Array:
        def move(x: jax.Array, k: jax.Array) -> tuple[jax.Array, jax.Array]:
            return x - step * gradient(x, key=jax.random.fold_in(key, k)), x

        last, path = jax.lax.scan(move, jnp.asarray(PROBLEM.x0), jnp.arange(num_steps))
        return jnp.concatenate([path, last[None]])

    return jax.vmap(one)(keys)


def _differences(config: Config, descend: Descent, scheme: Any) -> Arrays:
    """Return one path per eps."""
    paths = [
        descend(gradients.finite_difference(PROBLEM.fun, scheme=scheme, step=eps))[0]
        for eps in config.eps
    ]
    return {scheme: np.array(paths)}


def estimator(kind: str, eps: float) -> gradients.GradientFn:
    """Return the estimate whose displacement has the length eps."""
    if kind == "two_point":
        return gradients.two_point(PROBLEM.fun, smoothing=eps / DIM**0.5)
    law: Any = kind
    return gradients.one_sided(PROBLEM.fun, law=law, smoothing=eps / DIM**0.5)


def _estimates(config: Config, descend: Descent, kind: Kind, place: int) -> Arrays:
    """Return the summaries of one kind, stacked over eps. The probes are the same for every eps."""
    rows = [
        _summary(config, descend(estimator(kind, eps), config.num_seeds, 1 + place))
        for eps in config.eps
    ]
    return {f"{kind}_{name}": np.array([row[name] for row in rows]) for name in rows[0]}


def _lecture(config: Config, descend: Descent) -> Arrays:
    """Return the summary of the picture's estimate, and the path of its differences."""
    short, long = LECTURE_EPS

    def without_factor(fun: Callable, x: Any, key: Any) -> Any:
        u = jax.random.normal(key, x.shape, x.dtype)
        v = u / jnp.linalg.norm(u)
        return (fun(x + short * v) - fun(x)) / short * v

    estimate = gradients.custom(PROBLEM.fun, without_factor, cost=lambda _: Cost(evaluations=2))
    found = _summary(config, descend(estimate, config.num_seeds, 1 + len(RANDOM)))
    differences = gradients.finite_difference(PROBLEM.fun, scheme="forward", step=long)
    path = descend(differences)[0]
    return {f"lecture_{name}": value for name, value in found.items()} | {"lecture_path": path}


def _summary(config: Config, paths: np.ndarray) -> Arrays:
    """Return moments over all seeds, a few paths, and |x|^2 late in the descent, seed by seed.

    "spread" is the mean of |x_k - m_k|^2 about the mean m_k over seeds, with its standard error.
    """
    mean = paths.mean(axis=0)
    distances = ((paths - mean) ** 2).sum(axis=2)
    squares = (paths**2).sum(axis=2)
    root = np.sqrt(len(paths))
    late = squares[:, config.num_steps // 2 :].mean(axis=1)
    return {
        "mean": mean,
        "deviation": paths.std(axis=0, ddof=1) / root,
        "spread": distances.mean(axis=0),
        "spread_error": distances.std(axis=0, ddof=1) / root,
        "square": squares.mean(axis=0),
        "late": late.mean(),
        "late_error": late.std(ddof=1) / root,
        "paths": paths[:PATHS, : config.shown + 1],
        "cloud": paths[: config.cloud, moments_shown(config)],
    }


def moments_shown(config: Config) -> list[int]:
    """Return the iterations at which clouds are drawn."""
    return [max(1, config.shown // 15), config.shown // 5, config.shown // 2]


def _exact(config: Config, hessian: np.ndarray, step: float) -> Arrays:
    """Return what the recursions say, stacked over eps, and where forward differences end."""

    def recursion(kind: Kind, eps: float) -> Moments:
        return moments(
            kind, hessian, PROBLEM.x0, step=step, eps=eps, num_steps=config.num_steps
        )  # fmt: skip

    found: Arrays = {}
    for kind in RANDOM:
        rows = [recursion(kind, eps) for eps in config.eps]
        found[f"{kind}_exact_mean"] = np.array([row.mean for row in rows])
        found[f"{kind}_exact_spread"] = np.array([row.spread for row in rows])
        found[f"{kind}_exact_square"] = np.array([row.square for row in rows])
        found[f"{kind}_exact_covariance"] = np.array(
            [row.covariance[moments_shown(config)] for row in rows]
        )
    found["forward_exact"] = np.array([recursion("forward", eps).mean for eps in config.eps])
    found["exact_exact"] = recursion("exact", config.eps[0]).mean
    found["displaced"] = np.array([displaced(hessian, eps) for eps in config.eps])
    return found
