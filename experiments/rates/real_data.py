"""The same comparison on real data: logistic regression on tables of measurements."""

from __future__ import annotations

import jax
import numpy as np

from adlab import gradients, lab, optimize, problems

from .cells import Arrays, descend
from .config import Config

SHARE = 0.5  # of the prescribed steps, for all methods alike
TARGET = 0.03  # of f(x0) - f*
NUM_STEPS = 150  # of gradient descent; two-point descent gets as many times its factor


def real_data(config: Config, key: jax.Array, progress: lab.Progress) -> Arrays:
    """Run descent along the gradient, and along two-point estimates with Gaussian probes.

    By the descent lemma a two-point step of 1/(tr H + 2 lambda_max) gains what a gradient step of
    1/lambda_max gains, but for a factor: the effective dimension (tr H + 2 lambda_max)/lambda_max.
    Who doesn't know the trace takes the worst case for it, 1/((n + 2) lambda_max), and pays n + 2.
    """
    arrays: Arrays = {}
    for index, table in enumerate(config.tables):
        problem = problems.logistic_regression(data=table)
        hessian = np.asarray(jax.hessian(problem.fun)(problem.x0))
        estimate = gradients.two_point(problem.fun, law="gaussian")
        effective = problems.effective_dimension(hessian)
        methods = {
            "gd": (gradients.reverse_mode(problem.fun), 1.0),
            "effective": (estimate, effective),
            "worst_case": (estimate, estimate.second_moment(problem.x0)),
        }
        start = float(problem.fun(problem.x0)) - problem.f_star
        for place, (name, (gradient, factor)) in enumerate(methods.items()):
            progress.update(3 * index + place, 3 * len(config.tables), f"{table}, {name}")
            record_at = optimize.log_grid(int(NUM_STEPS * factor), 60)
            assert problem.L is not None
            step = SHARE / (problem.L * factor)
            run = descend(config, problem, gradient, record_at, key, progress, step)
            arrays[f"{table}_{name}_k"] = record_at
            arrays[f"{table}_{name}"] = (run.values["value"] - problem.f_star) / start
            arrays[f"{table}_{name}_factor"] = np.array(factor)
    return arrays
