"""Set-ups in which the table of rates must not show, and the check of the reduction itself."""

from __future__ import annotations

import jax
import numpy as np

from adlab import gradients, lab, optimize, problems

from . import radial
from .cells import Arrays, descend, gradient_descent, sgd
from .config import Config

POWERS = (4, 8, 20)
CHAIN = 400  # unknowns of the tridiagonal function
DIVERGING = 30  # steps of length 1/L
RANK_ONE_STEPS = 800
FULL_DIM = 32  # where the full simulation is compared with the reduced one


def controls(config: Config, key: jax.Array, progress: lab.Progress) -> Arrays:
    """Run the controls that aren't by-products of a cell."""
    arrays: Arrays = {}
    chain = problems.tridiagonal(dim=CHAIN)
    assert chain.L is not None
    arrays["chain_k"], arrays["chain"] = gradient_descent(
        chain, 1 / chain.L, CHAIN**2 // 50, "value", progress
    )
    for power in POWERS:
        problem = problems.power_tail(dim=3, exponent=float(power))
        grid, gaps = gradient_descent(problem, 1.0, 100_000, "value", progress)
        arrays["power_k"], arrays[f"power_{power}"] = grid, gaps
    rank_one_key, long_step_key = jax.random.split(key)
    arrays |= _rank_one(config, rank_one_key, progress)
    return arrays | _long_step(config, long_step_key)


def _rank_one(config: Config, key: jax.Array, progress: lab.Progress) -> Arrays:
    """Run two-point descent of step 1/3, without n in it, on a function of one coordinate."""
    curves = []
    record_at = optimize.log_grid(RANK_ONE_STEPS, 40)
    for dim in config.full_dims:
        problem = problems.rank_one(dim=dim)
        gradient = gradients.two_point(problem.fun, law="gaussian", smoothing=1e-3)
        run = descend(config, problem, gradient, record_at, key, progress, step=1 / 3)
        curves.append(run.values["value"])
    exact = gradients.reverse_mode(problem.fun)
    gd = descend(config, problem, exact, record_at, key, progress).values["value"][0]
    return {"rank_one_k": record_at, "rank_one": np.stack(curves), "rank_one_gd": gd}


def _long_step(config: Config, key: jax.Array) -> Arrays:
    """Run two-point descent with gradient descent's own step 1/L: growth of |grad f|^2."""
    cells = (problems.nonconvex_tail(dim=3, power=config.power), problems.logistic_tail(dim=3))
    growth = np.empty((len(cells), len(config.dims), config.num_seeds))
    for i, problem in enumerate(cells):
        assert problem.radial is not None
        for j, dim in enumerate(config.dims):
            run = radial.simulate(
                problem.radial, dim=dim, step=1.0, num_steps=DIVERGING,
                num_seeds=config.num_seeds, key=jax.random.fold_in(jax.random.fold_in(key, dim), i),
                start=float(problem.x0[0]), record_at=[0, DIVERGING],
            )  # fmt: skip
            squares = run.values["squared_gradient"]
            growth[i, j] = squares[:, 1] / squares[:, 0]
    return {"growth": growth}


def full_dimension(config: Config, key: jax.Array, progress: lab.Progress) -> Arrays:
    """Run one set-up both in full and reduced: |grad f|^2 at the end, (S,) each."""
    problem = problems.nonconvex_tail(dim=FULL_DIM, power=config.power)
    num_steps, num_seeds, step = 100 * FULL_DIM, 8 * config.num_seeds, 1 / FULL_DIM
    gradient = gradients.two_point(problem.fun, smoothing=1e-4)
    full_key, reduced_key = jax.random.split(key)
    full = optimize.minimize(
        gradient, problem.x0, optimizer=sgd(step), num_steps=num_steps, key=full_key,
        num_seeds=num_seeds, record_at=[num_steps],
        metrics={"squared_gradient": lambda x: (jax.grad(problem.fun)(x) ** 2).sum()},
    )  # fmt: skip
    progress.seconds("full_dimension", compile=full.compile_seconds, run=full.run_seconds)
    assert problem.radial is not None
    reduced = radial.simulate(
        problem.radial, dim=FULL_DIM, step=step, num_steps=num_steps, num_seeds=num_seeds,
        key=reduced_key, record_at=[num_steps],
    )  # fmt: skip
    return {
        "full": full.values["squared_gradient"][:, 0],
        "reduced": reduced.values["squared_gradient"][:, 0],
    }
