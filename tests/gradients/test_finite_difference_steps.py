from fractions import Fraction
from math import factorial

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adlab.gradients import finite_difference
from adlab.gradients.stencils import STENCILS

SCHEMES = ["forward", "central", "richardson", "complex"]
ORDERS = {"forward": 1, "central": 2, "richardson": 4, "complex": 2}


@jax.jit
def _exponentials(x):
    return jnp.sum(jnp.exp(x))


def _moment(stencil, power):
    """The stencil applied to t^power at 0 with step 1, in exact rationals."""
    return sum(w * (a**power - b**power) / (a - b) for a, b, w in stencil.quotients)


@pytest.mark.parametrize("name", STENCILS)
def test_stencils_are_exact_on_polynomials_up_to_their_order_and_no_further(name):
    stencil = STENCILS[name]
    moments = [_moment(stencil, power) for power in range(stencil.order + 2)]
    assert moments[:2] == [0, 1]
    assert moments[2:-1] == [0] * (stencil.order - 1)
    assert moments[-1] != 0


@pytest.mark.parametrize(
    ("name", "constant"),
    [
        ("forward", Fraction(1, 2)),
        ("central", Fraction(1, 6)),
        ("richardson", Fraction(-1, 480)),
    ],
)
def test_stencils_have_the_truncation_constant_of_their_docstring(name, constant):
    power = STENCILS[name].order + 1
    assert _moment(STENCILS[name], power) / factorial(power) == constant


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_truncation_error_is_the_one_stated(scheme, x64):
    del x64
    x, h = np.array([0.7, 1.3]), 2.0**-6
    estimate = np.asarray(finite_difference(_exponentials, scheme=scheme, step=h)(x))
    constant = {"forward": h / 2, "central": h**2 / 6, "richardson": -(h**4) / 480}
    expected = constant.get(scheme, -(h**2) / 6)
    # the next term of the series: h/3, h^2/20 and less
    np.testing.assert_allclose(estimate / np.exp(x) - 1, expected, rtol=h / 2)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_polynomials_up_to_the_order_are_differentiated_to_round_off(scheme, x64):
    del x64
    degree = 2 if scheme == "complex" else ORDERS[scheme]
    weights, x = range(1, degree + 2), np.array([-1.5, 0.25, 2.0])

    @jax.jit
    def fun(x):
        return sum(weights[k] * jnp.sum(x**k) for k in range(degree + 1))

    exact = sum(k * weights[k] * x ** (k - 1) for k in range(1, degree + 1))
    estimate = finite_difference(fun, scheme=scheme, step=0.5)(x)
    # float64 rounding of values up to 200 over a step of 1/4
    np.testing.assert_allclose(estimate, exact, atol=1e-12)


def _rms_errors(scheme, steps):
    fun, x, gradient, *_ = oracles.wave(100)

    @oracles.quickly_compiled
    def error(h):
        estimate = finite_difference(fun, scheme=scheme, step=h)(x)
        return jnp.sqrt(jnp.mean((estimate - gradient) ** 2))

    return np.array([error(float(h)) for h in steps])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_error_falls_with_the_power_of_the_step_that_is_the_order(scheme, x64):
    del x64
    steps = 2.0 ** -np.arange(5.0, 10.0)
    errors = _rms_errors(scheme, steps)
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(ORDERS[scheme], abs=0.05)  # the next term of the series


@pytest.mark.parametrize("scheme", ["forward", "central", "richardson"])
def test_round_off_grows_as_the_inverse_of_the_step(scheme, x64):
    del x64
    steps = 2.0 ** -np.arange(34.0, 42.0)
    errors = _rms_errors(scheme, steps)
    slope = np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope == pytest.approx(-1, abs=0.15)  # rounding of 100 values is a sample


def test_the_complex_step_has_no_round_off_however_small(x64):
    del x64
    errors = _rms_errors("complex", [1e-9, 1e-20, 1e-100, 1e-300])
    assert errors.max() <= 1e-14  # a few roundings of gradients of about 10


def test_quotients_divide_by_the_displacement_that_x_can_hold():
    x = np.full(3, 1e6, np.float32)  # spacing 1/16: a step of 0.1 becomes 0.125 or 0.0625
    slope = np.array([1.0, 2.0, -3.0], np.float32)
    fun = jax.jit(lambda x: (x - 1e6) @ slope)
    for scheme in ("forward", "central", "richardson"):
        g = finite_difference(fun, scheme=scheme, step=0.3)
        np.testing.assert_allclose(g(x), slope, rtol=1e-6)  # exact, but for Richardson's weights


@pytest.mark.parametrize(
    ("dtype", "scheme", "bound"),
    [
        # eps^(p/(p+1)) for each order p, times the 30 that covers the constants
        (jnp.float32, "forward", 30 * 1.2e-7 ** (1 / 2)),
        (jnp.float32, "central", 30 * 1.2e-7 ** (2 / 3)),
        (jnp.float32, "richardson", 30 * 1.2e-7 ** (4 / 5)),
        (jnp.float32, "complex", 1e-6),
        (jnp.float64, "forward", 30 * 2.2e-16 ** (1 / 2)),
        (jnp.float64, "central", 30 * 2.2e-16 ** (2 / 3)),
        (jnp.float64, "richardson", 30 * 2.2e-16 ** (4 / 5)),
        (jnp.float64, "complex", 1e-15),
        (jnp.bfloat16, "central", 30 * 7.8e-3 ** (2 / 3) / 5),
    ],
)
def test_automatic_steps_reach_the_accuracy_of_the_dtype(dtype, scheme, bound, x64):
    del x64
    x = np.linspace(0.5, 1.5, 7).astype(dtype)
    exact = np.exp(np.asarray(x, np.float64))
    estimate = finite_difference(_exponentials, scheme=scheme)(x)
    error = np.abs(np.asarray(estimate, np.float64) - exact) / exact
    assert estimate.dtype == dtype
    assert error.max() <= bound


@pytest.mark.parametrize("scheme", ["forward", "central", "richardson"])
def test_automatic_steps_fit_coordinates_of_very_different_size(scheme):
    x = np.array([1e-6, 1.0, 1e6], np.float32)
    scale = np.maximum(np.abs(x), 1)
    g = finite_difference(jax.jit(lambda x: jnp.sum(jnp.sin(x / scale + 1))), scheme=scheme)
    exact = np.cos(np.asarray(x / scale, np.float64) + 1) / np.asarray(scale, np.float64)
    # forward: 2 sqrt(eps |f f''|) / f' with f of about 3
    np.testing.assert_allclose(g(x), exact, rtol=5e-3)
    g.check(x)


@pytest.mark.parametrize("rule", ["auto", "relative"])
def test_automatic_steps_are_powers_of_two(rule):
    seen = []

    def fun(x):
        jax.debug.callback(lambda x: seen.append(float(x[0])), x)
        return jnp.sum(x)

    g = finite_difference(fun, step=rule, chunk_size=1)
    x = np.array([3.0], np.float32)
    g(x)
    jax.effects_barrier()
    assert len(seen) == g.cost(x).evaluations
    displacements = {abs(value - 3.0) for value in seen[-2:]}  # the rest is the measurement
    assert len(displacements) == 1
    step = displacements.pop()
    assert np.log2(step) == round(np.log2(step))


def test_a_step_may_be_traced_and_mapped():
    fun = jax.jit(oracles.wave(4).fun)
    x = np.linspace(0.5, 1.5, 4, dtype=np.float32)
    steps = np.array([0.5, 0.25], np.float32)
    mapped = jax.jit(jax.vmap(lambda h: finite_difference(fun, step=h)(x)))(steps)
    one_by_one = [finite_difference(fun, step=float(h))(x) for h in steps]
    # float32 rounding of 12 over a step of 1/4
    np.testing.assert_allclose(mapped, np.stack(one_by_one), atol=1e-5)
