"""What a derivative costs, in evaluations of the function that the cells descend on.

A call of the oracle isn't always the same work: a gradient and a Jacobian-vector product take two
to three evaluations each. Priced by operations, they are the same on any machine; what the clock
says goes to the timings. Only the function's own work is priced: that of drawing probes and of
adding up estimates doesn't grow with what an evaluation costs.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab import lab, problems
from adlab.core import flops
from adlab.lab import timing

POINTS = 4096  # evaluated in turn by one timed program
REPEATS = 7


def of_gradient(problem: problems.Problem) -> np.ndarray:
    """Return the evaluations that a gradient costs, a scalar."""
    return np.array(flops.prices(problem.fun, jnp.asarray(problem.x0)).vjp)


def of_estimator(gradient: Any, problem: problems.Problem) -> tuple[float, float]:
    """Return the evaluations that one estimate costs, and their operations."""
    price = flops.prices(problem.fun, jnp.asarray(problem.x0))
    evaluations = gradient.cost(problem.x0).in_evaluations(jvp=price.jvp, vjp=price.vjp)
    return evaluations, evaluations * price.value


def clocked(problem: problems.Problem, progress: lab.Progress) -> None:
    """Time an evaluation, one with a Jacobian-vector product, and one with the gradient."""
    points = jnp.ones((POINTS, problem.dim))
    fun = problem.fun
    ways = (fun, lambda x: jax.jvp(fun, (x,), (x,)), jax.value_and_grad(fun))
    programs = [jax.jit(functools.partial(jax.lax.map, way)) for way in ways]
    calls = [functools.partial(program, points) for program in programs]
    progress.timing("seconds_prices", timing.in_turn(calls, REPEATS) / POINTS)
