"""Means and mean squared errors against closed forms: sample size fixed beforehand, |z| <= 5."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adlab.core import probes
from adlab.gradients import forward_gradient, one_sided, two_point

pytestmark = pytest.mark.usefixtures("x64")
DIM, NUM_PROBES, SMOOTHING, SAMPLES = 6, 3, 0.3, 20_000
IID = ["sphere", "gaussian", "rademacher", "coordinate"]
SYMMETRIC = [two_point, forward_gradient]
ALL = (two_point, forward_gradient, one_sided)
ORTHOGONAL = {1: (two_point,), 4: ALL, 15: (two_point, one_sided)}


def _estimates(g, x, samples=SAMPLES):
    return _estimates_of_all({"one": g}, x, samples)["one"]


def _estimates_of_all(kinds, x, samples=SAMPLES):
    """Return samples of several estimators from the same keys, by one program."""

    @oracles.quickly_compiled
    def estimates(key):
        keys = jax.random.split(key, samples)
        return {name: jax.vmap(lambda key: g(x, key=key))(keys) for name, g in kinds.items()}  # noqa: B023

    return jax.tree.map(np.asarray, estimates(jax.random.key(11)))


@functools.cache
def _errors_on_a_quadratic(law, num_probes=NUM_PROBES, factories=ALL):
    """Return the errors of samples of several estimators with such probes, by their names."""
    fun, x, gradient, *_ = oracles.quadratic(DIM)
    options = {"law": law, "num_probes": num_probes}
    kinds = {
        factory.__name__: factory(fun, **options, **_options(factory), chunk_size=2)
        for factory in factories
    }
    return {name: g - gradient for name, g in _estimates_of_all(kinds, x).items()}


def _options(factory):
    return {} if factory is forward_gradient else {"smoothing": SMOOTHING}


def _single_probe_error(law, gradient, dim=DIM):
    """E|G - g|^2 of one probe and exact slopes."""
    return (dim + (1 if law == "gaussian" else -1)) * gradient @ gradient


def _one_sided_excess(law, hessian, h):
    """What the curvature adds to it when the difference is one-sided and its mean the gradient."""
    d, trace = len(hessian), np.trace(hessian)
    square, diagonal = np.sum(hessian**2), np.sum(np.diag(hessian) ** 2)
    if law == "rademacher":
        return d * h**2 / 4 * (trace**2 + 2 * (square - diagonal))
    if law == "gaussian":
        return h**2 / 4 * (d + 4) * (trace**2 + 2 * square)
    length = h * math.sqrt(d)  # of the displacement, along a unit direction
    return d * length**2 / 4 * (trace**2 + 2 * square) / (d + 2)


@pytest.mark.parametrize("law", IID)
@pytest.mark.parametrize("factory", SYMMETRIC)
def test_independent_probes_have_the_mean_and_error_of_theory(factory, law):
    gradient = oracles.quadratic(DIM).gradient
    errors = _errors_on_a_quadratic(law)[factory.__name__]
    oracles.assert_mean_is(0.0, errors)
    expected = _single_probe_error(law, gradient) / NUM_PROBES
    oracles.assert_mean_is(expected, np.sum(errors**2, axis=1))


@pytest.mark.parametrize("law", ["sphere", "gaussian", "rademacher"])
def test_one_sided_probes_have_the_mean_and_error_of_theory(law):
    _, _, gradient, hessian, _ = oracles.quadratic(DIM)
    errors = _errors_on_a_quadratic(law)["one_sided"]
    oracles.assert_mean_is(0.0, errors)
    single = _single_probe_error(law, gradient) + _one_sided_excess(law, hessian, SMOOTHING)
    oracles.assert_mean_is(single / NUM_PROBES, np.sum(errors**2, axis=1))


def test_one_sided_coordinate_probes_are_biased_by_the_diagonal_of_the_hessian():
    _, _, gradient, hessian, _ = oracles.quadratic(DIM)
    errors = _errors_on_a_quadratic("coordinate")["one_sided"]
    length = SMOOTHING * math.sqrt(DIM)
    bias = length / 2 * np.diag(hessian)
    centre = gradient + bias
    variance = (DIM - 1) * centre @ centre / NUM_PROBES
    oracles.assert_mean_is(bias, errors)
    oracles.assert_mean_is(variance + bias @ bias, np.sum(errors**2, axis=1))


def _orthogonal_factor(num_probes):
    """E|G - g|^2 / |g|^2 for blocks of DIM orthogonal probes, the last one of the remainder."""
    rest = num_probes % DIM
    return rest * (DIM - rest) / num_probes**2


@pytest.mark.parametrize(
    ("factory", "num_probes"), [(f, m) for m, factories in ORTHOGONAL.items() for f in factories]
)
def test_orthogonal_probes_have_the_mean_and_error_of_theory(factory, num_probes):
    _, _, gradient, hessian, _ = oracles.quadratic(DIM)
    errors = _errors_on_a_quadratic("orthogonal", num_probes, ORTHOGONAL[num_probes])[
        factory.__name__
    ]
    expected = _orthogonal_factor(num_probes) * gradient @ gradient
    if factory is one_sided:
        expected += _one_sided_excess("sphere", hessian, SMOOTHING) / num_probes
    oracles.assert_mean_is(0.0, errors)
    oracles.assert_mean_is(expected, np.sum(errors**2, axis=1))


@pytest.mark.parametrize(
    ("factory", "num_probes"), [(two_point, DIM), (two_point, 2 * DIM), (forward_gradient, DIM)]
)
def test_full_blocks_of_orthogonal_probes_have_no_error(factory, num_probes):
    fun, x, gradient, *_ = oracles.quadratic(DIM)
    g = factory(fun, law="orthogonal", num_probes=num_probes, **_options(factory))
    estimate = oracles.quickly_compiled(g)(x, key=jax.random.key(0))
    # float64 rounding of values about 10, divided by a smoothing of 0.3
    np.testing.assert_allclose(estimate, gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("law", ["sphere", "gaussian", "rademacher", "coordinate"])
def test_symmetric_differences_of_a_cubic_are_biased_by_the_smoothing(law):
    dim, h = 3, 2.0
    fun, x, gradient, _, third = oracles.cubic(dim)
    laplacian, pure = np.einsum("ijj->i", third), np.einsum("iii->i", third)
    length = h * math.sqrt(dim)
    bias = {
        "sphere": length**2 / (2 * (dim + 2)) * laplacian,
        "gaussian": h**2 / 2 * laplacian,
        "rademacher": h**2 / 6 * (3 * laplacian - 2 * pure),
        "coordinate": length**2 / 6 * pure,
    }[law]
    estimates = _estimates(two_point(fun, smoothing=h, law=law), x)
    oracles.assert_mean_is(gradient + bias, estimates)


def test_the_forward_gradient_of_a_cubic_is_unbiased():
    fun, _, _, _, third = oracles.cubic(3)
    x = jnp.asarray(np.array([1.0, -2.0, 0.5]))
    gradient = np.einsum("ijk,j,k->i", third, x, x) / 2
    oracles.assert_mean_is(gradient, _estimates(forward_gradient(fun, law="gaussian"), x))


@pytest.mark.parametrize("law", [*IID, "orthogonal"])
def test_second_moment_is_the_measured_one_on_a_linear_function(law):
    slope, x = np.array([1.0, -2.0, 0.5, 3.0]), jnp.asarray(np.zeros(4))
    kinds = {
        factory.__name__: factory(lambda x: x @ slope, law=law, num_probes=3, **_options(factory))
        for factory in (ALL if law == "gaussian" else (two_point,))
    }
    for name, estimates in _estimates_of_all(kinds, x).items():
        squares = np.sum(estimates**2, axis=1)
        oracles.assert_mean_is(kinds[name].second_moment(x) * slope @ slope, squares)


@pytest.mark.parametrize("law", IID)
def test_probe_i_is_drawn_from_the_key_folded_with_i(law):
    fun, x, gradient, hessian, _ = oracles.quadratic(DIM)
    m, draw = 5, probes.resolve(law)
    kinds = {
        factory: factory(fun, law=law, num_probes=m, chunk_size=2, **_options(factory))
        for factory in (ALL if law == "sphere" else (two_point,))
    }

    @oracles.quickly_compiled
    def both(key):
        drawn = jax.vmap(lambda i: draw(x, key=jax.random.fold_in(key, i)))(jnp.arange(m))
        return [g(x, key=key) for g in kinds.values()], drawn

    estimates, u = jax.tree.map(np.asarray, both(jax.random.key(5)))
    for factory, estimate in zip(kinds, estimates, strict=True):
        slopes = u @ gradient
        if factory is one_sided:
            slopes += SMOOTHING / 2 * np.einsum("mi,ij,mj->m", u, hessian, u)
        # float64 rounding of values about 10, divided by a smoothing of 0.3
        np.testing.assert_allclose(estimate, slopes @ u / m, atol=1e-12)
