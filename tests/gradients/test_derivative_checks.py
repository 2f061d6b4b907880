"""What automatic differentiation can't do at x, or with fun, is said in our own words."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import spence

from adlab.curvature import hvp, linearize_hvp
from adlab.gradients import forward_gradient, forward_mode, reverse_mode
from adlab.jacobians import jacobian

EXACT = [reverse_mode, forward_mode, forward_gradient]
MIXED = {"base": jnp.array([1.0, 0.0]), "exponent": jnp.array([1.5, 0.5])}


def power(x):
    return jnp.sum(x["base"] ** x["exponent"])


@pytest.mark.parametrize(
    ("factory", "fun", "x", "place"),
    [
        (reverse_mode, power, MIXED, r"inf in \['base'\]"),
        (forward_mode, power, MIXED, r"inf in \['base'\]"),
        (reverse_mode, lambda x: jnp.linalg.norm(x), jnp.zeros(2), "nan in x"),
        (forward_mode, lambda x: jnp.linalg.norm(x), jnp.zeros(2), "nan in x"),
        (reverse_mode, spence, 1.5, "nan in x"),
    ],
)
def test_check_refuses_a_derivative_that_isn_t_finite_and_says_where(factory, fun, x, place):
    match = (
        rf"^{factory.__name__}: the derivative of fun must be finite at x, got {place}: .*jnp.where"
    )
    with pytest.raises(ValueError, match=match):
        factory(fun).check(x)


@pytest.mark.parametrize("factory", EXACT)
def test_check_passes_a_derivative_that_is_large_or_zero(factory):
    factory(lambda x: jnp.sqrt(x) + 0 * x**2).check(1e-30)


@functools.partial(jax.jit, donate_argnums=0)
def doubled_in_place(x):
    return 2 * x


def donates(x):
    """Needs after the call what it gave away: 2 sin(x)^2."""
    y = jnp.sin(x)
    return jnp.sum(doubled_in_place(y) * y)


@pytest.mark.parametrize(
    ("name", "derivative"),
    [
        ("reverse_mode", reverse_mode(donates)),
        ("reverse_mode", reverse_mode(donates).value_and_grad),
        ("reverse_mode", reverse_mode(donates).check),
        ("jacobian", jacobian(lambda x: donates(x)[None], mode="reverse")),
        ("hvp", lambda x: hvp(donates)(x, x)),
        ("linearize_hvp", lambda x: linearize_hvp(donates, x)),
    ],
)
def test_a_donated_array_is_named_with_the_remedy(name, derivative):
    with pytest.raises(ValueError, match=rf"^{name}: fun must not donate .*Wrap .* in jax.jit"):
        derivative(jnp.array([0.5, 1.0]))


def test_a_donated_array_does_no_harm_under_jit():
    x = np.array([0.5, 1.0], np.float32)
    gradient = jax.jit(reverse_mode(donates))(x)
    np.testing.assert_allclose(gradient, 2 * np.sin(2 * x), rtol=1e-6)  # a few roundings


def test_words_of_the_users_own_are_left_alone():
    def fun(x):
        raise RuntimeError(f"row {x.size} has been deleted")

    with pytest.raises(RuntimeError, match=r"^row 2 has been deleted"):
        reverse_mode(fun)(jnp.ones(2))
