"""A user's program, as their type checker sees it: checked by mypy, never run.

Strict mypy refuses a `type: ignore` that nothing needs: each one here is a mistake that is seen.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, assert_type

import jax
import optax

import adlab
from adlab.curvature import Eigenpairs, SpectralDensity
from adlab.gradients import Cost, GradientFn
from adlab.optimize import Trajectory
from adlab.problems import Problem, quadratic

Weights = dict[str, jax.Array]


class Plain(NamedTuple):
    """An optimiser of the user's own."""

    init: Callable[[Weights], None]
    update: Callable[[Weights, None, Weights], tuple[Weights, None]]


def loss(weights: Weights, batch: jax.Array, *, decay: float = 0.0) -> jax.Array:
    return decay * sum((jax.numpy.vdot(w, w) for w in weights.values()), jax.numpy.sum(batch))


def of_gradients(weights: Weights, batch: jax.Array, key: jax.Array) -> None:
    assert_type(adlab.finite_difference(loss, scheme="complex").cost(weights, batch), Cost)
    exact, estimated = adlab.reverse_mode(loss), adlab.two_point(loss, num_probes=4)
    exact(weights, batch)
    exact(weights, batch, decay=0.1)
    exact.value_and_grad(weights, batch)
    exact(batch, batch)  # type: ignore[call-overload]
    exact(weights)  # type: ignore[call-overload]
    exact(weights, "batch")  # type: ignore[call-overload]
    exact(weights, batch, decya=0.1)  # type: ignore[call-overload]
    exact.value_and_grad(weights, "batch")  # type: ignore[call-overload]
    estimated(weights, batch, key=key, decay=0.1)
    estimated(batch, batch, key=key)  # type: ignore[call-overload]
    estimated(weights, batch, key=7)  # type: ignore[call-overload]
    estimated.value_and_grad(batch, batch, key=key)  # type: ignore[call-overload]


def of_functions_without_types(untyped: Callable[..., Any], nested: GradientFn, x: float) -> None:
    adlab.two_point(untyped)(x, x, key=None, more=x)
    adlab.one_sided(lambda x: x**2)(x)
    adlab.forward_mode(jax.jit(loss))(x)
    assert_type(nested, GradientFn[Any, ...])
    adlab.reverse_mode(nested)(x)


def of_jacobians_and_products(weights: Weights, batch: jax.Array) -> None:
    adlab.jacobian(loss, mode="forward")(weights, batch, decay=0.1)
    adlab.jacobian(loss)(batch, batch)  # type: ignore[arg-type]
    adlab.hvp(loss)(weights, weights, batch, decay=0.1)
    adlab.hvp(loss)(weights, batch, batch)  # type: ignore[arg-type]
    adlab.hvp(loss)(weights, weights)  # type: ignore[call-arg]


def of_curvature(hessian: adlab.Hessian, key: jax.Array) -> None:
    assert_type(adlab.eigenpairs(hessian, key=key), Eigenpairs)
    assert_type(adlab.spectral_density(hessian, key=key, num_matvecs=8), SpectralDensity)


def of_descent(plain: Plain) -> None:
    problem = quadratic(dim=3)
    assert_type(problem, Problem)
    g, optimizer = adlab.two_point(problem.fun), optax.sgd(0.1)
    assert_type(adlab.minimize(g, problem.x0, optimizer=optimizer, num_steps=9), Trajectory)
    adlab.minimize(g, problem.x0, optimizer=plain, num_steps=9)
    adlab.minimize(g, problem.x0, optimizer=plain.init, num_steps=9)  # type: ignore[arg-type]
    adlab.minimize(g, problem.x0, optimizer=0.1, num_steps=9)  # type: ignore[arg-type]
    _ = adlab.two_piont  # type: ignore[attr-defined]  # a misspelt name is an error
