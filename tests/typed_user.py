"""A user's program, as their type checker sees it: checked by mypy, never run."""

from typing import assert_type

import jax
import optax

import adlab
from adlab.curvature import Eigenpairs, SpectralDensity
from adlab.gradients import Cost, GradientFn
from adlab.optimize import Trajectory
from adlab.problems import Problem, quadratic


def of_gradients(loss: adlab.gradients.GradientFn) -> None:
    assert_type(adlab.two_point(loss), GradientFn)
    assert_type(adlab.finite_difference(loss, scheme="complex"), GradientFn)
    assert_type(adlab.reverse_mode(loss).cost(1.0), Cost)


def of_curvature(hessian: adlab.Hessian, key: jax.Array) -> None:
    assert_type(adlab.eigenpairs(hessian, key=key), Eigenpairs)
    assert_type(adlab.spectral_density(hessian, key=key, num_matvecs=8), SpectralDensity)


def of_descent() -> None:
    problem = quadratic(dim=3)
    assert_type(problem, Problem)
    g, optimizer = adlab.two_point(problem.fun), optax.sgd(0.1)
    assert_type(adlab.minimize(g, problem.x0, optimizer=optimizer, num_steps=9), Trajectory)
    _ = adlab.two_piont  # type: ignore[attr-defined]  # a misspelt name is an error
