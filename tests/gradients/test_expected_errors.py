"""Expected errors of difference quotients: how often they hold, and what they are made of."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from test_measured_steps import _jitter, _member, _zoo

from adlab.gradients import finite_difference
from adlab.gradients._expected_errors import stencil_sums
from adlab.gradients.measured_steps import constants
from adlab.gradients.stencils import STENCILS

CASES = [
    ("float64", "forward", "auto", False),
    ("float64", "central", "auto", False),
    ("float64", "central", "relative", False),
    ("float64", "richardson", "auto", True),
    ("float32", "backward", "auto", False),
    ("float32", "richardson", "auto", False),
]


@pytest.mark.parametrize(("dtype", "scheme", "step", "at_edge"), CASES)
def test_the_error_is_within_the_bound_in_90_to_99_of_100_cases(dtype, scheme, step, at_edge, x64):
    """Of the zoo's 1,100 points; fixed beforehand, as is their seed."""
    del x64
    traits, x, exact = _zoo(dtype)

    @oracles.quickly_compiled
    @jax.vmap
    def estimates(traits, x):
        options = {"scheme": scheme, "step": step, "bounds": (x, None) if at_edge else None}
        return finite_difference(lambda x: _member(traits, x), with_error=True, **options)(x)

    gradient, error = (
        np.asarray(part, np.float64).reshape(exact.shape) for part in estimates(traits, x)
    )
    held = np.abs(gradient - exact) <= error
    assert 0.90 <= np.mean(held) <= 0.99
    assert np.min(np.mean(held, axis=1)) >= 0.5  # none of the functions is unknown to it
    if step == "auto":  # and the bound says something: no more than ten errors, in the middle
        assert np.median(error / np.abs(gradient - exact)) < 10


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("scheme", "step"), [("forward", 1e-2), ("forward", "auto"), ("central", 1e-2)]
)
@pytest.mark.parametrize("dim", [3, 10])
def test_the_error_is_that_of_each_coordinate(dim, scheme, step):
    """Derivatives of order p + 1 are of any size along them, and one direction tells no more."""
    x = np.random.default_rng(dim).normal(size=(100, dim))

    def fun(x, sines):
        return jnp.where(sines, jnp.sum(jnp.sin(x)), jnp.log(jnp.sum(jnp.exp(5 * x))))

    estimate = finite_difference(fun, scheme=scheme, step=step, with_error=True)
    both = oracles.quickly_compiled(jax.vmap(jax.vmap(estimate, (0, None)), (None, 0)))
    gradient, error = both(x, np.array([True, False]))
    shares = np.exp(5 * x) / np.sum(np.exp(5 * x), axis=1, keepdims=True)
    held = np.abs(gradient - np.array([np.cos(x), 5 * shares])) <= error
    assert np.all(np.mean(held, axis=(1, 2)) >= 0.9)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("scheme", ["forward", "backward", "central", "richardson"])
def test_sums_over_a_stencil_are_the_constants_of_the_balance(scheme):
    stencil, h = STENCILS[scheme], 0.125
    moves, weights = [], []
    for ahead, behind, weight in stencil.quotients:
        share = float(weight) / float(ahead - behind) / h
        moves += [[float(ahead) * h], [float(behind) * h]]
        weights += [[share], [-share]]
    gain, moment = stencil_sums(stencil.order, np.array(moves), np.array(weights))
    noise, truncation = constants(stencil)
    np.testing.assert_allclose(gain * h, [noise])
    np.testing.assert_allclose(abs(moment), [truncation * h**stencil.order])


@pytest.mark.usefixtures("x64")
def test_noise_of_a_known_size_is_told_and_so_is_truncation():
    """5 x and noise of 1e-4: 2.3 s / (sqrt(2) h). exp at too long a step: h^2 f'''/6, no less."""
    noisy = lambda x: 5 * x + 1e-4 * _jitter(x)  # noqa: E731
    h = 2.0**-6
    found = finite_difference(noisy, step=h, with_error=True)(np.float64(0.7))
    told = 2.306 * 1e-4 / (np.sqrt(2) * h)
    assert told / 2 < found.error < 2 * told  # eight values tell s to 25 %; twice that to be sure
    long = finite_difference(jnp.exp, step=2.0**-3, with_error=True)(np.float64(0.5))
    exact = np.exp(0.5) * 2.0**-6 / 6
    true = float(long.gradient) - np.exp(0.5)
    np.testing.assert_allclose(true, exact, rtol=1e-2)
    assert true <= long.error < 1.5 * true


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("step", ["auto", "relative", 1e-3])
def test_the_gradient_is_the_one_without_an_error(step):
    fun, x = lambda x: jnp.sum(jnp.sin(7 * x)), np.array([0.3, 1.7])
    options = {"scheme": "forward", "step": step}
    found = finite_difference(fun, with_error=True, **options)(x)
    np.testing.assert_array_equal(found.gradient, finite_difference(fun, **options)(x))


@pytest.mark.usefixtures("x64")
def test_where_twice_the_step_has_no_room_a_measurement_tells_truncation():
    x, room = np.float64(0.0), 0.125
    found = finite_difference(
        jnp.exp, scheme="forward", step=room, bounds=(0.0, room), with_error=True
    )(x)
    true = float(found.gradient) - 1.0
    assert true > room / 2  # exp'' h/2, and more
    assert true <= found.error < 1.5 * true


def test_shapes_costs_and_values():
    fun = lambda x: (jnp.sum(x["a"] ** 3), "aux")  # noqa: E731
    x = {"a": np.array([1.0, 2.0], np.float32)}
    estimator = finite_difference(fun, with_error=True, has_aux=True, step=1e-2)
    (gradient, error), aux = estimator(x)
    assert aux == "aux"
    assert gradient["a"].shape == error["a"].shape == (2,)
    assert gradient["a"].dtype == error["a"].dtype == np.float32
    assert np.all(np.abs(gradient["a"] - 3 * x["a"] ** 2) <= error["a"])
    assert estimator.cost(x).evaluations == 2 * (2 * 2) + 1 + 40
    (value, _), found = estimator.value_and_grad(x)
    np.testing.assert_allclose(value, 9)
    np.testing.assert_array_equal(found.error["a"], error["a"])
    assert "with_error=True" in repr(estimator)
    half = finite_difference(jnp.sum, with_error=True)(jnp.ones(2, jnp.bfloat16))
    assert np.all(np.isnan(np.asarray(half.error, np.float32)))  # nothing can be told
    with pytest.raises(ValueError, match="must go without bounds or errors"):
        finite_difference(jnp.sum, scheme="complex", with_error=True)
