"""Functions with derivatives known in closed form, and the test of a sample's mean."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Oracle(NamedTuple):
    """A function, a point, and what is known there."""

    fun: Callable[..., Any]
    x: Any
    gradient: Any
    hessian: np.ndarray | None = None
    third: np.ndarray | None = None


def quadratic(dim, seed=0):
    """x.Hx/2 + b.x with a dense indefinite H whose trace and diagonal don't vanish."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((dim, dim))
    hessian, b, x = (a + a.T) / 2 + np.diag(1 + rng.random(dim)), *rng.standard_normal((2, dim))

    def fun(x):
        return 0.5 * x @ (jnp.asarray(hessian).astype(x.dtype) @ x) + x @ jnp.asarray(b).astype(
            x.dtype
        )

    return Oracle(fun, jnp.asarray(x), hessian @ x + b, hessian)


def cubic(dim, seed=0):
    """sum C_ijk x_i x_j x_k / 6 at x = 0, where gradient and Hessian vanish; C is symmetric."""
    c = np.random.default_rng(seed).standard_normal((dim, dim, dim))
    orders = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
    third = sum(c.transpose(order) for order in orders) / 6 + 1.0

    def fun(x):
        return jnp.einsum("ijk,i,j,k->", jnp.asarray(third), x, x, x) / 6

    return Oracle(fun, jnp.zeros(dim), np.zeros(dim), np.zeros((dim, dim)), third)


def tree_quadratic():
    """A quadratic of a dict with float32 and bfloat16 leaves and a scalar, coupling all of them.

    fun = factor (sum w v^2 / 2 + (sum v)^2 / 2 + shift sum v) over all numbers v, where w is the
    leaf's place 1, 2, 3. All numbers are held exactly by bfloat16.
    """
    params = {
        "bias": jnp.array([0.5, -1.0, 1.5], jnp.bfloat16),
        "scale": jnp.float32(-0.75),
        "weight": jnp.array([[1.0, -0.5, 0.25], [2.0, 0.75, -1.25]], jnp.float32),
    }

    def fun(params, shift=0.0, *, factor=1.0):
        leaves = [_wide(leaf) for leaf in jax.tree.leaves(params)]
        total = sum(jnp.sum(v) for v in leaves)
        own = sum(0.5 * k * jnp.sum(v**2) for k, v in enumerate(leaves, 1))
        return factor * (own + 0.5 * total**2 + shift * total)

    leaves, structure = jax.tree.flatten(params)
    values = [np.asarray(leaf, np.float64) for leaf in leaves]
    total = sum(v.sum() for v in values)
    gradient = jax.tree.unflatten(structure, [k * v + total for k, v in enumerate(values, 1)])
    return Oracle(fun, params, gradient)


def _wide(leaf):
    return leaf if jnp.iscomplexobj(leaf) else jnp.asarray(leaf, jnp.float32)


def wave(dim):
    """sum exp(x_i) sin(3 x_i): every coordinate is one point of a function of one variable."""
    x = np.linspace(0.5, 1.5, dim)
    gradient = np.exp(x) * (np.sin(3 * x) + 3 * np.cos(3 * x))
    return Oracle(lambda x: jnp.sum(jnp.exp(x) * jnp.sin(3 * x)), jnp.asarray(x), gradient)


def quickly_compiled(fun):
    """jit, without optimising machine code that runs once: compiles about three times faster."""
    return jax.jit(fun, compiler_options={"xla_backend_optimization_level": 0})


def assert_mean_is(expected, samples, round_off=1e-9):
    """z-test, |z| <= 5, of the mean over the first axis; `round_off` for what doesn't vary."""
    samples = np.asarray(samples, np.float64)
    error = np.abs(samples.mean(axis=0) - expected)
    allowed = 5 * samples.std(axis=0, ddof=1) / np.sqrt(len(samples)) + round_off
    assert np.all(error <= allowed), f"|mean - expected| = {error}, allowed {allowed}"
