"""Automatic steps: nearly the best ones, whatever the noise and the scale of a function."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adlab.core.cost import Cost
from adlab.gradients import finite_difference, from_host
from adlab.gradients.measured_steps import EVALUATIONS, constants, measure
from adlab.gradients.stencils import STENCILS

SCHEMES = ["forward", "central", "richardson"]
ORDERS = {"forward": 1, "central": 2, "richardson": 4}
POINTS = 100


def _jitter(x):
    """A number of mean 0 and variance 1 from every bit of x."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    if x.dtype == jnp.float64:
        bits = bits[0] ^ (bits[1] * jnp.uint32(2654435769))
    for shift in (16, 15):
        bits = (bits ^ (bits >> shift)) * jnp.uint32(0x7FEB352D)
    return ((bits >> 8).astype(x.dtype) * (2 / 2**24) - 1) * math.sqrt(3)


# name: kind, center, width, scale of t = scale * x, offset, size of the noise. All are exp(t)
# sin(3 t) + offset + noise but the flat ones, which are cos(t) + offset + noise.
DOUBLE = {
    "smooth": (0, 1.0, 0.1, 1.0, 0.0, 0.0),
    "smooth elsewhere": (0, -0.4, 0.1, 1.0, 0.0, 0.0),
    "noise of 1e-10": (0, 0.7, 0.1, 1.0, 0.0, 1e-10),
    "noise of 1e-6": (0, 1.2, 0.1, 1.0, 0.0, 1e-6),
    "noise of 1e-3": (0, 0.3, 0.1, 1.0, 0.0, 1e-3),
    "x about 1e6": (0, 1e6, 1e5, 1e-6, 0.0, 0.0),
    "scale of 1e-4": (1, 1.0, 1e-4, 1e4, 0.0, 0.0),
    "scale of 1e-2": (1, 1.3, 1e-2, 1e2, 0.0, 0.0),
    "flat": (1, 0.0, 1e-3, 1.0, 0.0, 0.0),
    "flatter": (1, 0.0, 1e-5, 1.0, 0.0, 0.0),
    "small on top of large": (1, 1.0, 0.1, 1.0, 1e4, 0.0),
}
# Noise and flatness that rounding to float32 leaves to see.
SINGLE = DOUBLE | {
    "noise of 1e-10": (0, 0.7, 0.1, 1.0, 0.0, 1e-4),
    "noise of 1e-6": (0, 1.2, 0.1, 1.0, 0.0, 1e-3),
    "noise of 1e-3": (0, 0.3, 0.1, 1.0, 0.0, 1e-2),
    "flat": (1, 0.0, 1e-1, 1.0, 0.0, 0.0),
    "flatter": (1, 0.0, 1e-2, 1.0, 0.0, 0.0),
}


def _member(traits, x):
    kind, _, _, scale, offset, noise = traits
    t = scale * x
    return (
        jnp.where(kind == 0, jnp.exp(t) * jnp.sin(3 * t), jnp.cos(t)) + offset + noise * _jitter(x)
    )


def _slope(traits, x):
    kind, _, _, scale, *_ = traits
    t = scale * x
    if kind == 0:
        return scale * np.exp(t) * (np.sin(3 * t) + 3 * np.cos(3 * t))
    return -scale * np.sin(t)


def _zoo(dtype):
    """Return traits and points of the zoo, (functions * POINTS,), and slopes, a row a function."""
    members = list((DOUBLE if dtype == "float64" else SINGLE).values())
    rng = np.random.default_rng(0)
    x = np.array([c + w * rng.uniform(-1, 1, POINTS) for _, c, w, *_ in members], dtype)
    exact = np.array([_slope(m, p.astype(np.float64)) for m, p in zip(members, x, strict=True)])
    traits = tuple(
        np.repeat(np.asarray(column, dtype), POINTS) for column in zip(*members, strict=True)
    )
    return traits, x.reshape(-1), exact


def _regrets(scheme, dtype):
    """Root mean square error near each of the zoo's functions, over that of the best step."""
    traits, x, exact = _zoo(dtype)
    scales = 2.0 ** np.floor(np.log2(np.maximum(1, np.abs(traits[1])))).astype(dtype)
    steps = 2.0 ** np.arange(-40 if dtype == "float64" else -21, 1, dtype=dtype)

    @oracles.quickly_compiled
    def estimates(traits, x, scales, steps):
        def at(step):
            def of(traits, scale, x):
                h = step if isinstance(step, str) else step * scale
                return finite_difference(lambda x: _member(traits, x), scheme=scheme, step=h)(x)

            return jax.vmap(of)(traits, scales, x)

        return at("auto"), jax.lax.map(at, steps)

    found = (
        np.asarray(part, np.float64).reshape(-1, *exact.shape)
        for part in estimates(traits, x, scales, steps)
    )
    (measured,), tried = (part - exact for part in found)
    least = np.sqrt(np.mean(exact**2, axis=-1)) * np.finfo(dtype).eps / 2  # rounding of f'
    best = np.nanmin(np.sqrt(np.mean(tried**2, axis=-1)), axis=0)
    return np.sqrt(np.mean(measured**2, axis=-1)) / np.maximum(best, least)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_error_is_at_most_three_times_the_least_for_half_of_the_zoo_and_10_nearly_always(
    scheme, dtype, x64
):
    del x64
    regrets = _regrets(scheme, dtype)
    assert np.median(regrets) <= 3
    assert np.quantile(regrets, 0.95) <= 10  # 3.4 at most; a step sqrt(10) or 10 times too short


@pytest.mark.parametrize("family", ["sum", "ridge"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_step_serves_all_of_many_unknowns(scheme, family):
    dim = 300
    x = np.random.default_rng(1).uniform(0.5, 1.5, dim).astype(np.float32)
    weights = np.linspace(1, 2, dim) / math.sqrt(dim)
    if family == "sum":
        fun, exact = lambda x: jnp.sum(jnp.sin(3 * x)), 3 * np.cos(3 * x.astype(np.float64))
    else:
        fun = lambda x: jnp.sin(x @ jnp.asarray(weights, jnp.float32))  # noqa: E731
        exact = np.cos(x.astype(np.float64) @ weights) * weights
    tried = (2.0 ** np.arange(-16.0, 0)).astype(np.float32)
    of = lambda step: finite_difference(fun, scheme=scheme, step=step)(x)  # noqa: E731
    estimates = of("auto"), oracles.quickly_compiled(lambda h: jax.lax.map(of, h))(tried)
    errors = [np.sqrt(np.mean((np.asarray(e) - exact) ** 2, axis=-1)) for e in estimates]
    assert errors[0] <= 30 * np.min(errors[1])


@jax.jit
def _exponentials(x):
    return jnp.sum(jnp.exp(x))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_derivative_is_that_along_one_of_many_coordinates(scheme, x64):
    del x64
    x = jnp.asarray(np.ones(100))
    found = measure(_exponentials, x, _exponentials(x), STENCILS[scheme], 1)
    ratio = float(found.derivative) / math.e
    # That along all is 100 times it, or of odd order |sum of the signs| times, which here is 10,
    # as it is in the mean; widths up to 1/2 see the next derivatives, too.
    assert ratio == pytest.approx(1, abs=0.3)


@functools.cache
def _measured(scheme):
    """Return (level, points) -> what is measured near them on exp(x) and noise of that level."""

    def of(level, x):
        fun = lambda x: jnp.exp(x) + level * _jitter(x)  # noqa: E731
        return measure(fun, x, fun(x), STENCILS[scheme], 1)

    return oracles.quickly_compiled(jax.vmap(of, (None, 0)))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_noise_is_found(scheme, x64):
    del x64
    for level in (1e-9, 1e-2):
        found = np.asarray(_measured(scheme)(level, np.linspace(0.5, 1.5, 200)).noise) / level
        assert np.median(found) == pytest.approx(1, abs=0.2)  # 200 samples of a few differences
        assert np.mean((found > 0.3) & (found < 3)) >= 0.95


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_derivative_and_the_step_are_those_of_theory(scheme, x64):
    del x64
    level, order = 1e-9, ORDERS[scheme]
    points = np.linspace(0.5, 1.5, 200)
    found = jax.tree.map(np.asarray, _measured(scheme)(level, points))
    # every derivative is e^x; the next ones, of the same size, are seen at widths up to 1/2
    assert np.median(found.derivative / np.exp(points)) == pytest.approx(1, abs=0.5)
    gain, truncation = constants(STENCILS[scheme])
    theory = (gain * level / (order * truncation * np.exp(points))) ** (1 / (order + 1))
    assert np.median(found.step / theory) == pytest.approx(1, abs=0.2)


def test_gains_of_noise_and_truncation_are_those_of_the_schemes():
    # [f(h) - f]/h, [f(h) - f(-h)]/2h, {8 [f(h/2) - f(-h/2)] - [f(h) - f(-h)]}/6h
    known = {"forward": (2**0.5, 1 / 2), "central": (0.5**0.5, 1 / 6)}
    known["richardson"] = (130**0.5 / 6, 1 / 480)
    for scheme, expected in known.items():
        assert constants(STENCILS[scheme]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_scaling_the_values_by_a_power_of_two_changes_nothing(scheme):
    x = np.array([0.3, 1.7, -2.0], np.float32)
    fun = lambda x, factor: factor * (jnp.sum(jnp.exp(x)) + x[0] * x[1])  # noqa: E731
    gradient = oracles.quickly_compiled(finite_difference(fun, scheme=scheme))
    plain = gradient(x, 1.0)
    for factor in (2.0**-40, 2.0**40):
        np.testing.assert_array_equal(np.asarray(gradient(x, factor)) / factor, plain)


@pytest.mark.parametrize(("scheme", "plain"), [("forward", 8), ("central", 14), ("richardson", 28)])
def test_measuring_costs_the_same_whatever_the_dimension(scheme, plain):
    x = jax.ShapeDtypeStruct((7,), jnp.float32)
    g = finite_difference(jnp.sum, scheme=scheme)
    assert g.cost(x) == Cost(evaluations=plain + EVALUATIONS)
    for free in ("relative", 0.5):
        assert finite_difference(jnp.sum, scheme=scheme, step=free).cost(x).evaluations == plain
    assert g.cost(jax.ShapeDtypeStruct((7,), jnp.bfloat16)).evaluations == plain  # not measured
    assert finite_difference(jnp.sum, scheme="complex").cost(x) == Cost(evaluations=9)


def test_leaves_of_16_bits_keep_the_relative_step_beside_measured_ones():
    fun = lambda x: jnp.sum(jnp.sin(x["a"])) + jnp.sum(x["b"].astype(jnp.float32) ** 2)  # noqa: E731
    x = {"a": np.array([0.5, 1.0], np.float32), "b": np.array([1.0, 2.0], jnp.bfloat16)}

    @oracles.quickly_compiled
    def gradients(x):
        return [finite_difference(fun, step=rule)(x) for rule in ("auto", "relative")]

    auto, relative = gradients(x)
    np.testing.assert_array_equal(auto["b"], relative["b"])
    np.testing.assert_allclose(auto["a"], np.cos([0.5, 1.0]), atol=2e-4)  # 1e-7 over 1e-3


@pytest.mark.parametrize("scheme", SCHEMES)
def test_where_the_measurement_tells_nothing_the_step_is_relative(scheme):
    seen = []

    def constant(x):
        seen.append(x.copy())
        return np.float32(3.0)

    g = finite_difference(from_host(constant, dtype="float32"), scheme=scheme, chunk_size=1)
    assert np.asarray(g(np.ones(1, np.float32))) == 0
    last = seen[-1:] if scheme == "forward" else seen[-2:]  # the gradient itself comes last
    assert max(abs(x[0] - 1) for x in last) == 2.0 ** round(-23 / (ORDERS[scheme] + 1))


@jax.jit
def _logarithms(x):
    return jnp.sum(jnp.log(x))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_widths_that_leave_the_domain_are_left_out(scheme):
    x = np.array([0.01, 0.02], np.float32)  # the logarithm of x - 1/2 is NaN
    estimate = finite_difference(_logarithms, scheme=scheme)(x)
    np.testing.assert_allclose(estimate, 1 / x, rtol=3e-2)  # forward: sqrt(eps) log(x) / x


@jax.jit
def _sines(x):
    return jnp.sum(jnp.sin(x))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_symmetry_about_x_does_not_deceive(scheme):
    estimate = finite_difference(_sines, scheme=scheme)(np.zeros(2, np.float32))
    np.testing.assert_allclose(estimate, 1, atol=1e-3)  # float32; sin has no even part at 0


def test_measured_steps_are_constants_to_differentiation():
    x = np.array([1.0, 2.0, 3.0], np.float32)
    g = finite_difference(lambda x: jnp.sum(x**2))
    hessian = oracles.quickly_compiled(jax.jacfwd(g))(x)
    np.testing.assert_allclose(hessian, 2 * np.eye(3), atol=1e-3)  # float32 rounding of 14


def test_measured_steps_run_under_scan_and_vmap():
    g = finite_difference(lambda x: jnp.sum(jnp.exp(x)))
    points = np.array([[0.5, 1.0], [1.0, 1.5], [-1.0, 0.0]], np.float32)

    @oracles.quickly_compiled
    def both(points):
        return jax.lax.scan(lambda c, x: (c, g(x)), 0, points)[1], jax.vmap(g)(points)

    for found in both(points):
        np.testing.assert_allclose(found, np.exp(points), rtol=1e-3)  # eps^(2/3), a few times


def test_a_function_in_single_precision_of_points_in_double_has_the_noise_of_the_single(x64):
    del x64
    fun = lambda x: jnp.sin(x.astype(jnp.float32)).astype(jnp.float64)  # noqa: E731
    points = np.linspace(0.5, 1.5, 100)
    error = oracles.quickly_compiled(jax.vmap(finite_difference(fun)))(points) - np.cos(points)
    assert np.sqrt(np.mean(error**2)) <= 30 * 6e-8 ** (2 / 3)  # a relative step would give 1e-2


@pytest.mark.parametrize("scheme", ["central", "richardson"])
@pytest.mark.parametrize(
    ("fun", "slope", "x"),
    [
        (_exponentials, np.exp, np.full(158, 0.3)),
        (lambda x: jnp.mean(x**4), lambda x: 4 * x**3 / x.size, np.full(900, 0.3)),
        (lambda x: jnp.sum(x**4), lambda x: 4 * x**3, np.array([1.3, -1.3, 1.3, 1.3])),
        (_sines, np.cos, np.arange(1.0, 4.0)),
    ],
)
def test_parts_that_cancel_along_the_displacement_do_not_deceive(scheme, fun, slope, x, x64):
    del x64
    found = finite_difference(fun, scheme=scheme)(x)
    np.testing.assert_allclose(found, slope(x), rtol=3e-8)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_kinks_beside_x_are_no_noise(scheme, x64):
    del x64
    fun = lambda x, kink: jnp.sum(jnp.abs(x - kink))  # noqa: E731
    gradient = oracles.quickly_compiled(finite_difference(fun, scheme=scheme))
    for distance in (1e-4, 1e-2, 0.1):
        found = gradient(np.array([0.3, 1.2]), 0.3 + distance)
        np.testing.assert_allclose(found, [-1, 1], atol=1e-6, err_msg=f"{distance}")
