"""The cells of the table of rates: what is simulated for each."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.tree_util import Partial

from adlab import gradients, lab, optimize, problems

from . import prices, radial
from .config import Config
from .mean_square import Criterion, mean_square

Arrays = dict[str, np.ndarray]
SMOOTH_SHARE = 0.25  # of the prescribed step
SolvedLaw = Literal["sphere", "gaussian", "orthogonal"]
sgd = functools.cache(optax.sgd)  # programs count optimisers by identity


def smooth(config: Config, key: jax.Array, progress: lab.Progress) -> Arrays:
    """Run the cell "smooth": a quarter of the prescribed step, where theory is simple."""
    problem = problems.nonconvex_tail(dim=max(config.dims), power=config.power)
    return _tail(config, problem, SMOOTH_SHARE, "squared_gradient", key, progress)


def convex(config: Config, key: jax.Array, progress: lab.Progress) -> Arrays:
    """Run the cell "smooth and convex" with the prescribed step."""
    problem = problems.logistic_tail(dim=max(config.dims))
    return _tail(config, problem, 1.0, "value", key, progress)


def _tail(
    config: Config,
    problem: problems.Problem,
    share: float,
    metric: str,
    key: jax.Array,
    progress: lab.Progress,
) -> Arrays:
    """Run two-point descent with step share/(n L) in every dimension, and its reference.

    Returns k (D, P), curves (D, S, P), averages likewise; gradient descent of step share/L: gd_k
    (Q,), gd (Q,); and the evaluations that its gradient costs.
    """
    assert problem.radial is not None
    assert problem.L is not None
    low, high = config.window
    tau = np.geomspace(low, high, config.num_points)
    k, curves, averages = [], [], []
    for i, dim in enumerate(config.dims):
        progress.update(i, len(config.dims), f"n = {dim}")
        record_at = _increasing(tau * dim)
        run = radial.simulate(
            problem.radial, dim=dim, step=share / dim, num_steps=int(record_at[-1]),
            num_seeds=config.num_seeds, key=jax.random.fold_in(key, dim),
            start=float(problem.x0[0]), record_at=record_at, average=(metric,),
        )  # fmt: skip
        progress.seconds("two_point", compile=run.compile_seconds, run=run.run_seconds)
        k.append(record_at)
        curves.append(run.values[metric])
        averages.append(run.averages[metric])
    gd_k, gd = gradient_descent(problem, share / problem.L, int(np.ceil(high)), metric, progress)
    return {"k": np.stack(k), "curves": np.stack(curves), "averages": np.stack(averages),
            "gd_k": gd_k, "gd": gd, "price": prices.of_gradient(problem)}  # fmt: skip


def _increasing(times: np.ndarray) -> np.ndarray:
    """Return the nearest integers >= 1 that increase."""
    place = np.arange(len(times))
    return np.maximum.accumulate(np.rint(times).astype(int).clip(1) - place) + place


def gradient_descent(
    problem: problems.Problem, step: float, num_steps: int, metric: str, progress: lab.Progress
) -> tuple[np.ndarray, np.ndarray]:
    """Return iterations and f - f*, or |grad f|^2, along exact gradient descent."""
    metrics = {"value": problem.fun}
    if metric == "squared_gradient":
        metrics = {metric: _squared_gradient(problem.fun)}
    record_at = optimize.log_grid(num_steps, 200)
    run = optimize.minimize(
        gradients.reverse_mode(problem.fun), problem.x0, optimizer=sgd(step),
        num_steps=num_steps, record_at=record_at, metrics=metrics,
    )  # fmt: skip
    progress.seconds("gradient_descent", compile=run.compile_seconds, run=run.run_seconds)
    return record_at, run.values[metric] - (problem.f_star if metric == "value" else 0.0)


def _squared_gradient(fun: Any) -> Any:
    return lambda x: jnp.sum(jax.grad(fun)(x) ** 2)


def worst_case(config: Config, key: jax.Array, progress: lab.Progress) -> Arrays:
    """Return f_K (4K + 2) for gradient descent, and E f_K (4K/n + 2) per seed (D, H, S)."""
    exact = []
    scaled = np.empty((len(config.dims), len(config.horizons), config.num_seeds))
    for j, horizon in enumerate(config.horizons):
        problem = problems.huber(dim=3, width=1 / (2 * horizon + 1))
        _, gaps = gradient_descent(problem, 1.0, horizon, "value", progress)
        exact.append(gaps[-1] * (4 * horizon + 2))
        assert problem.radial is not None
        for i, dim in enumerate(config.dims):
            progress.update(j * len(config.dims) + i, scaled[..., 0].size, f"n = {dim}")
            run = radial.simulate(
                problem.radial, dim=dim, step=1 / dim, num_steps=horizon * dim,
                num_seeds=config.num_seeds, key=jax.random.fold_in(jax.random.fold_in(key, dim), j),
                record_at=[horizon * dim],
            )  # fmt: skip
            scaled[i, j] = run.values["value"][:, 0] * (4 * horizon + 2)
    return {"gd": np.array(exact), "scaled": scaled}


def strongly_convex(config: Config, key: jax.Array, progress: lab.Progress) -> Arrays:
    """Run every estimator in full; solve two-point descent's mean square exactly."""
    arrays = _exact_rates(config)
    shape = (len(config.estimators), len(config.full_dims))
    k, curves, squares, predicted = [], [], [], []
    steps, calls = np.empty(shape), np.empty(shape)
    spent, exact = np.empty((*shape, 2)), np.empty((*shape, 2))
    for i, spec in enumerate(config.estimators):
        for j, dim in enumerate(config.full_dims):
            progress.update(i * shape[1] + j, steps.size, f"{spec.name}, n = {dim}")
            problem = _slowest(problems.quadratic(dim=dim, condition=config.condition))
            gradient = spec.build(problem.fun)
            factor = gradient.second_moment(problem.x0)
            length = factor * config.condition / 2 * np.log(1 / config.accuracy)
            record_at = np.unique(np.rint(np.geomspace(1, 1.6 * length + 20, 80)).astype(int))
            record_at = np.concatenate([record_at, np.full(80 - len(record_at), -1)])
            own = jax.random.fold_in(key, i)
            run = descend(config, problem, gradient, record_at[record_at >= 0], own, progress)
            k.append(record_at)
            curves.append(_placed(run.values["value"] / float(problem.fun(problem.x0)), record_at))
            squares.append(_placed(run.values["square"] / np.sum(problem.x0**2), record_at))
            steps[i, j], calls[i, j] = factor, gradient.cost(problem.x0).calls
            solved = _solved(config, spec, problem, factor)
            exact[i, j] = _exact_iterations(config, solved, problem)
            predicted.append(_exact_squares(solved, problem, record_at))
            spent[i, j] = prices.of_estimator(gradient, problem)
    prices.clocked(problem, progress)
    return arrays | {
        "k": np.reshape(k, (*shape, 80)), "curves": np.reshape(curves, (*shape, -1, 80)),
        "squares": np.reshape(squares, (*shape, -1, 80)),
        "predicted_squares": np.reshape(predicted, (*shape, 80)),
        "factor": steps, "calls": calls, "exact": exact[..., 0], "exact_squares": exact[..., 1],
        "evaluations": spent[..., 0], "operations": spent[..., 1],
    }  # fmt: skip


def _placed(values: np.ndarray, record_at: np.ndarray) -> np.ndarray:
    """Return the values recorded, (S, 80), NaN where fewer were."""
    placed = np.full((len(values), 80), np.nan)
    placed[:, record_at >= 0] = values
    return placed


def _solved(config: Config, spec: Any, problem: problems.Problem, factor: float) -> Any:
    """Return the exact mean square of an estimator's descent; None where none is known."""
    law: Any = getattr(spec, "law", "")
    if spec.kind not in ("two_point", "forward_gradient") or law not in get_args(SolvedLaw):
        return None
    spectrum = np.geomspace(1 / config.condition, 1, problem.dim)
    probes = min(spec.num_probes, problem.dim)
    return mean_square(spectrum, step=1 / factor, law=law, num_probes=probes)


def _exact_iterations(config: Config, solved: Any, problem: problems.Problem) -> Any:
    """Return the iterations in which f, and |x|^2, fall to the accuracy; NaN where unknown."""
    if solved is None:
        return np.nan, np.nan
    return [solved.iterations(problem.x0, config.accuracy, of=of) for of in get_args(Criterion)]


def _exact_squares(solved: Any, problem: problems.Problem, record_at: np.ndarray) -> np.ndarray:
    """Return E |x_k|^2/|x_0|^2 at the iterations recorded; NaN where unknown."""
    if solved is None:
        return np.full(len(record_at), np.nan)
    expected = solved.expected_square(problem.x0, record_at.clip(0)) / np.sum(problem.x0**2)
    return np.where(record_at >= 0, expected, np.nan)


def _slowest(problem: problems.Problem) -> problems.Problem:
    """Start on the flattest axis: there gradient descent takes the same time in any dimension."""
    return dataclasses.replace(problem, x0=np.eye(problem.dim)[0])


def descend(
    config: Config,
    problem: problems.Problem,
    gradient: Any,
    record_at: np.ndarray,
    key: jax.Array,
    progress: lab.Progress,
    step: float | None = None,
) -> optimize.Trajectory:
    """Run all seeds of one estimator in full, by default with the prescribed step.

    Records f as "value", and |x - x*|^2 as "square" where there is a minimiser.
    """
    step = optimize.prescribed_step(problem, gradient) if step is None else step
    metrics = {"value": problem.fun}
    if problem.x_star is not None:
        metrics["square"] = Partial(_squared_distance, problem.x_star)
    run = optimize.minimize(
        gradient, problem.x0, optimizer=sgd(step), num_steps=int(record_at[-1]),
        key=jax.random.fold_in(key, problem.dim), num_seeds=config.num_seeds, record_at=record_at,
        metrics=metrics,
    )  # fmt: skip
    progress.seconds("full_dimension", compile=run.compile_seconds, run=run.run_seconds)
    return run


def _squared_distance(x_star: Any, x: Any) -> Any:
    return jnp.sum((x - x_star) ** 2)


def _exact_rates(config: Config) -> Arrays:
    """Return (1 - rho) n L/mu of the mean-square recursion for several condition numbers."""
    conditions = np.array([1.0, 10.0, 100.0])
    margins = np.empty((len(conditions), len(config.dims)))
    for i, condition in enumerate(conditions):
        for j, dim in enumerate(config.dims):
            spectrum = np.geomspace(1 / condition, 1, dim)
            rate = mean_square(spectrum, step=1 / dim).rate
            margins[i, j] = (1 - rate) * dim * condition
    return {"conditions": conditions, "margins": margins}


def lipschitz(config: Config, key: jax.Array, progress: lab.Progress) -> Arrays:
    """Return the average errors with step R/sqrt(nK): over n at the last K, and over K.

    Of gradient descent with step R/sqrt(K), the one at the last K.
    """
    lengths = np.unique(np.rint(config.num_steps * np.array([1 / 16, 1 / 4, 1])).astype(int))
    errors = np.empty((len(config.dims), len(lengths), config.num_seeds))
    for i, dim in enumerate(config.dims):
        progress.update(i, len(config.dims), f"n = {dim}")
        for j, length in enumerate(lengths):
            run = radial.simulate_norm(
                dim=dim, step=1 / np.sqrt(dim * length), num_steps=int(length),
                num_seeds=config.num_seeds,
                key=jax.random.fold_in(jax.random.fold_in(key, dim), j),
                record_at=[int(length)], average=("value",),
            )  # fmt: skip
            errors[i, j] = run.averages["value"][:, 0]
    last = int(lengths[-1])
    exact = radial.average_norm(step=1 / np.sqrt(last), num_steps=last)
    return {"lengths": lengths, "errors": errors, "gd": np.array(exact)}
