"""What the dimension costs on real data: logistic regression on tables of measurements."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adlab import gradients, lab, optimize, problems

from . import prices
from .cells import Arrays
from .config import Config

TARGET = 0.03  # of f(x0) - f*
NUM_STEPS = 70  # of gradient descent with step 1/L; about twice what the target takes


def real_data(config: Config, key: jax.Array, progress: lab.Progress) -> Arrays:
    """Time two-point descent for steps 1/(c L) over a range of factors c.

    A small c makes noise outweigh progress; a large one wastes iterations. By the descent lemma
    c = (tr H + 2 lambda_max)/lambda_max suffices for Gaussian probes, the effective dimension; who
    doesn't know the trace takes the worst case for it, c = n + 2.
    """
    arrays: Arrays = {}
    for index, table in enumerate(config.tables):
        progress.update(index, len(config.tables), table)
        problem = problems.logistic_regression(data=table)
        hessian = np.asarray(jax.jit(jax.hessian(problem.fun))(problem.x0))
        effective = problems.effective_dimension(hessian)
        worst = problem.dim + 2.0
        factors = np.geomspace(effective / 4, 2 * worst, 8)
        found = _curves(config, problem, factors, jax.random.fold_in(key, index), progress)
        found |= {"factors": factors, "effective": np.array(effective), "worst": np.array(worst)}
        found["price"] = prices.of_gradient(problem)
        arrays |= {f"{table}_{field}": array for field, array in found.items()}
    return arrays


def _curves(
    config: Config,
    problem: problems.Problem,
    factors: np.ndarray,
    key: jax.Array,
    progress: lab.Progress,
) -> Arrays:
    """Return (f - f*)/(f(x0) - f*): gd (Q,) at gd_k, and curves (F, S, P) at k (F, P)."""
    estimate = gradients.two_point(problem.fun, law="gaussian", smoothing="relative")
    exact = gradients.reverse_mode(problem.fun)
    gd_k = optimize.log_grid(NUM_STEPS, 40)
    gd = descend(problem, exact, 1.0, gd_k, None, None, progress)
    k, curves = [], []
    for i, factor in enumerate(factors):
        grid = np.geomspace(1, NUM_STEPS * max(factor, 8.0), 60)
        place = np.arange(60)
        k.append(np.maximum.accumulate(np.rint(grid).astype(int) - place) + place)
        own = jax.random.fold_in(key, i)
        curves.append(descend(problem, estimate, factor, k[-1], own, config.num_seeds, progress))
    return {"gd_k": gd_k, "gd": gd, "k": np.stack(k), "curves": np.stack(curves)}


_SGD = optax.inject_hyperparams(optax.sgd)(learning_rate=1.0)


def descend(
    problem: problems.Problem,
    gradient: Any,
    factor: float,
    record_at: np.ndarray,
    key: Any,
    num_seeds: int | None,
    progress: lab.Progress,
    part: str = "real_data",
) -> np.ndarray:
    """Return (f - f*)/(f(x0) - f*) with the step 1/(factor L), a row per seed where there are any.

    Steps are data: all factors share what was compiled.
    """
    assert problem.L is not None
    state = _SGD.init(jnp.asarray(problem.x0))
    state.hyperparams["learning_rate"] = jnp.asarray(1 / (problem.L * factor))
    run = optimize.minimize(
        gradient, problem.x0, optimizer=_SGD, num_steps=int(record_at[-1]), key=key,
        num_seeds=num_seeds, record_at=record_at, opt_state=state,
    )  # fmt: skip
    progress.seconds(part, compile=run.compile_seconds, run=run.run_seconds)
    start = float(problem.fun(problem.x0)) - problem.f_star
    return (np.asarray(run.values["value"]) - problem.f_star) / start
