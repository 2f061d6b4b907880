"""Steps that x can't resolve: refused by `check`, NaN in compiled code, never a finite lie."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adlab.gradients import finite_difference, from_host, one_sided, two_point

KEY = jax.random.key(0)
FAR = np.full(8, 1e6, np.float32)  # spacing 1/16
SMOOTHED = [two_point, one_sided]
LAWS = ["sphere", "gaussian", "rademacher", "coordinate", "orthogonal"]
REAL_SCHEMES = ["forward", "central", "richardson"]


def _named_step(error):
    return float(re.search(r"use at least ([-+.e\d]+)", str(error.value)).group(1))


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("factory", SMOOTHED)
def test_a_smoothing_under_the_noise_floor_is_refused_and_the_one_named_works(factory, law):
    with pytest.raises(ValueError, match=r"smoothing must move most coordinates of x") as error:
        factory(jnp.sum, law=law, smoothing=1e-5).check(FAR, key=KEY)
    usable = factory(jnp.sum, law=law, smoothing=_named_step(error))
    usable.check(FAR, key=KEY)
    assert np.all(np.isfinite(usable(FAR, key=KEY)))


@pytest.mark.parametrize("factory", SMOOTHED)
def test_the_smoothing_named_for_the_default_probe_also_works(factory):
    with pytest.raises(ValueError, match="smoothing must move") as error:
        factory(jnp.sum, smoothing=1e-5).check(FAR)
    factory(jnp.sum, smoothing=_named_step(error)).check(FAR)


@pytest.mark.parametrize("scheme", REAL_SCHEMES)
def test_a_step_under_the_noise_floor_is_refused_and_the_one_named_works(scheme):
    # at half of that step the sum itself, of 8e6, is rounded by as much as it changes
    fun = {"richardson": jax.jit(lambda x: jnp.sum(x - FAR))}.get(scheme, jnp.sum)
    with pytest.raises(ValueError, match=r"step must move .* of x, got 1e-05") as error:
        finite_difference(fun, scheme=scheme, step=1e-5).check(FAR)
    usable = finite_difference(fun, scheme=scheme, step=_named_step(error))
    usable.check(FAR)
    assert np.all(np.isfinite(usable(FAR)))


@pytest.mark.parametrize("scheme", REAL_SCHEMES)
def test_a_step_that_one_coordinate_can_t_hold_is_refused_for_it_would_be_nan(scheme):
    x = np.array([1.0, 1.0, 1.0, 1e6], np.float32)
    g = finite_difference(jnp.sum, scheme=scheme, step=1e-3)
    np.testing.assert_array_equal(np.isnan(g(x)), [False, False, False, True])
    with pytest.raises(ValueError, match="step must move") as error:
        g.check(x)
    usable = finite_difference(jnp.sum, scheme=scheme, step=_named_step(error))
    usable.check(x)
    assert np.all(np.isfinite(usable(x)))


@pytest.mark.parametrize("scheme", REAL_SCHEMES)
def test_no_step_that_check_passes_gives_nan(scheme):
    x = np.array([0.0, 1.0, 3.0, 100.0, 1e6], np.float32)
    estimate = jax.jit(lambda g: g(x))
    for step in np.geomspace(1e-4, 1.0, 9):
        g = finite_difference(jnp.sum, scheme=scheme, step=float(step))
        try:
            g.check(x)
        except ValueError:
            continue
        assert np.all(np.isfinite(estimate(g)))


@pytest.mark.parametrize("factory", SMOOTHED)
def test_a_smoothing_that_most_coordinates_of_bfloat16_can_t_hold_is_refused(factory):
    x = np.linspace(1.0, 4.0, 32).astype(jnp.bfloat16)  # spacing 2^-7 and more
    with pytest.raises(ValueError, match="smoothing must move most coordinates") as error:
        factory(jnp.sum, smoothing=1e-3).check(x)
    factory(jnp.sum, smoothing=_named_step(error)).check(x)
    factory(jnp.sum).check(x)
    with pytest.raises(ValueError, match="step must move"):
        finite_difference(jnp.sum, step=1e-3).check(x)
    finite_difference(jnp.sum).check(x)


@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 1e6, 1e15])
@pytest.mark.parametrize("factory", [*SMOOTHED, finite_difference])
def test_automatic_steps_are_above_the_noise_floor(factory, scale):
    x = (scale * np.linspace(0.5, 2.0, 8)).astype(np.float32)
    factory(jnp.sum).check(x)


@pytest.mark.parametrize("factory", SMOOTHED)
def test_in_compiled_code_a_smoothing_under_the_noise_floor_gives_nan_everywhere(factory):
    @oracles.quickly_compiled
    def estimates(x):
        kinds = {law: factory(jnp.sum, law=law, smoothing=1e-5, num_probes=2) for law in LAWS}
        return {law: g(x, key=KEY) for law, g in kinds.items()}

    for law, estimate in estimates(FAR).items():
        assert np.all(np.isnan(estimate)), law


def test_in_compiled_code_a_step_under_the_noise_floor_gives_nan_everywhere():
    @jax.jit
    def estimates(x):
        return [finite_difference(jnp.sum, scheme=s, step=1e-5)(x) for s in REAL_SCHEMES]

    for scheme, estimate in zip(REAL_SCHEMES, estimates(FAR), strict=True):
        assert np.all(np.isnan(estimate)), scheme


@pytest.mark.parametrize("factory", SMOOTHED)
def test_a_traced_smoothing_that_isn_t_positive_gives_nan(factory):
    x = np.ones(4, np.float32)
    g = jax.jit(lambda h: factory(jnp.sum, smoothing=h)(x, key=KEY))
    assert np.all(np.isfinite(g(0.5)))
    for bad in (0.0, -0.5, jnp.nan):
        assert np.all(np.isnan(g(bad)))


@pytest.mark.parametrize("scheme", [*REAL_SCHEMES, "complex"])
def test_a_traced_step_that_isn_t_positive_gives_nan(scheme):
    x = np.ones(4, np.float32)
    g = jax.jit(lambda h: finite_difference(jnp.sum, scheme=scheme, step=h)(x))
    assert np.all(np.isfinite(g(0.5)))
    for bad in (0.0, -0.5, jnp.nan):
        assert np.all(np.isnan(g(bad)))


@pytest.mark.parametrize("factory", SMOOTHED)
def test_check_refuses_a_bad_smoothing_that_came_in_as_data(factory):
    g = factory(jnp.sum, smoothing=0.5)
    negative = jax.tree.map(lambda leaf: -leaf, g)
    with pytest.raises(ValueError, match=r"smoothing must be positive and finite, got -0\.5"):
        negative.check(np.ones(3, np.float32))


def test_check_refuses_a_bad_step_that_came_in_as_data():
    for scheme in (*REAL_SCHEMES, "complex"):
        negative = jax.tree.map(lambda h: -h, finite_difference(jnp.sum, scheme=scheme, step=0.5))
        with pytest.raises(ValueError, match=r"step must be > 0, got -0\.5"):
            negative.check(np.ones(3, np.float32))


def test_check_of_a_traced_step_is_a_clear_error():
    @jax.jit
    def driver(g):
        g.check(jnp.ones(3))

    with pytest.raises(TypeError, match=r"two_point.check reads values: call it outside jit"):
        driver(two_point(jnp.sum, smoothing=0.5))


def test_a_nan_in_the_function_stays_a_nan():
    x = np.ones(3, np.float32)
    fun = jax.jit(lambda x: jnp.sum(x) * jnp.nan)
    for factory in (*SMOOTHED, finite_difference):
        assert np.all(np.isnan(factory(fun)(x, key=KEY)))


@pytest.mark.parametrize("make", [two_point, one_sided])
def test_check_refuses_a_relative_smoothing_that_overflows_and_the_measured_one_doesn_t(make):
    x = np.full(3, 1e25, np.float32)
    g = make(jnp.sum, smoothing="relative")
    with pytest.raises(ValueError, match="positive and finite, got relative, which overflows"):
        g.check(x)
    measured = make(jnp.sum)
    measured.check(x)
    assert np.vdot(measured(x, key=KEY), x) > 0  # not a NaN of squares of 1e25


@jax.jit
def _first(x):
    return x[0].astype(jnp.float32)


@pytest.mark.parametrize("make", SMOOTHED)
@pytest.mark.parametrize(("dtype", "step"), [(jnp.float32, 1e-7), (jnp.bfloat16, 6e-3)])
def test_quotients_divide_by_how_far_x_really_went(make, dtype, step):
    g = make(_first, law="rademacher", smoothing=step)
    for key in map(jax.random.key, range(4)):  # either direction
        # exactly: both are the same difference
        np.testing.assert_array_equal(g(np.ones(1, dtype), key=key), 1)


@pytest.mark.parametrize("make", SMOOTHED)
def test_check_refuses_a_smoothing_that_x_holds_only_roughly(make):
    x = np.ones(64, np.float32)
    fun = jax.jit(lambda x: jnp.sum(x - 1))  # without round-off of its own
    with pytest.raises(ValueError, match="mostly rounding; use at least") as error:
        make(fun, law="rademacher", smoothing=6.5e-8).check(x)
    make(fun, law="rademacher", smoothing=_named_step(error)).check(x)


@jax.jit
def _beside_one(x):
    return 1.0 + jnp.sum(jnp.sin(x))


@pytest.mark.parametrize("make", [*SMOOTHED, finite_difference])
def test_check_refuses_a_step_that_fun_does_not_see(make):
    name = "step" if make is finite_difference else "smoothing"
    with pytest.raises(ValueError, match=f"{name} must change fun at x, got 1e-18"):
        make(_beside_one, **{name: 1e-18}).check(np.zeros(4, np.float32))


@pytest.mark.parametrize("make", SMOOTHED)
def test_check_refuses_an_automatic_smoothing_that_one_large_leaf_makes_long_for_another(make):
    x = {"far": np.full(8, 1e6, np.float32), "near": np.ones(8, np.float32)}
    fun = jax.jit(lambda x: jnp.sum(jnp.sin(x["near"])) + jnp.sum(x["far"]))
    with pytest.raises(ValueError, match=r"long for \['near'\].*pass a smoothing"):
        make(fun, smoothing="relative").check(x)
    with pytest.raises(ValueError, match=r"moved as a whole .* bring x to one scale"):
        make(fun).check(x)


@pytest.mark.parametrize("make", [*SMOOTHED, finite_difference])
def test_an_infinite_traced_step_gives_nan_and_steps_of_another_shape_are_refused(make):
    name = "step" if make is finite_difference else "smoothing"
    x = np.ones(3, np.float32)
    run = jax.jit(lambda h: make(lambda x: jnp.sum(jnp.tanh(x)), **{name: h})(x, key=KEY))
    assert np.all(np.isnan(run(jnp.inf)))
    if make is finite_difference:  # which takes one for each coordinate
        np.testing.assert_allclose(run(0.125 * x), run(0.125))
    else:
        with pytest.raises(TypeError, match=rf"{name} must be a positive real number, got shape"):
            run(x)
    with pytest.raises((TypeError, ValueError), match=rf"{name} must be .* got shape \(2,\)"):
        run(x[:2])


@pytest.mark.parametrize("make", [*SMOOTHED, finite_difference])
def test_a_gradient_with_an_array_for_its_step_may_itself_be_jitted(make):
    name = "step" if make is finite_difference else "smoothing"
    g = make(lambda x: jnp.sum(x**2), **{name: jnp.float32(0.1)})
    x = np.ones(3, np.float32)
    np.testing.assert_allclose(jax.jit(g)(x, key=KEY), g(x, key=KEY), rtol=1e-5)  # float32


SEEN = {
    # name: fun, x in float64, step, whether check may pass it
    "the relative step before a pole": (lambda x: x / (x + 1.44e-9), 2e-8, "relative", False),
    "the measured one": (lambda x: x / (x + 1.44e-9), 2e-8, "auto", True),
    "a million periods per unit": (lambda x: jnp.sin(1e6 * x), 1e-6, "auto", True),
    "periods out of sight": (lambda x: jnp.sin(1e14 * x), 1.0, "auto", False),
    "too long": (jnp.exp, 1.0, 3.0, False),
    "as long as it may be": (jnp.exp, 1.0, 0.05, True),
    "an extremum": (lambda x: x**2, 0.0, "auto", True),
    "an extremum, relative": (jnp.cos, 0.0, "relative", True),
    "a flat extremum": (lambda x: x**4, 0.0, "relative", True),
    "a minimum of value 0": (lambda x: (1 - x) ** 2 + 100 * (x - x**2) ** 2, 1.0, "auto", True),
    "a constant": (lambda x: 0 * x + 3, 1.0, "auto", True),
}
SEEN_FUNCTIONS = {case: jax.jit(fun) for case, (fun, *_) in SEEN.items()}


@pytest.mark.parametrize("make", [*SMOOTHED, finite_difference])
def test_check_refuses_a_step_whose_error_is_seen_to_be_a_tenth_of_the_slope(make, x64):
    del x64
    name = "step" if make is finite_difference else "smoothing"
    refused = set()
    for case, (_, x, step, _) in SEEN.items():
        try:
            make(SEEN_FUNCTIONS[case], **{name: step}).check(np.float64(x))
        except ValueError as error:
            refused |= {case} if "to 10 %" in str(error) else {str(error)}
    assert refused == {case for case, (*_, passes) in SEEN.items() if not passes}


@jax.jit
def _unlike(x):
    return x[0] + jnp.sin(1e5 * x[1]) / 1e3


@pytest.mark.parametrize("make", [*SMOOTHED, finite_difference])
def test_check_looks_at_every_coordinate(make, x64):
    del x64
    name = "step" if make is finite_difference else "smoothing"
    with pytest.raises(ValueError, match="to 10 %"):
        make(_unlike, **{name: 1e-2}).check(np.ones(2))
    make(_unlike).check(np.ones(2))


def test_check_refuses_a_step_that_leaves_the_domain():
    for make in (two_point, finite_difference):
        name = "step" if make is finite_difference else "smoothing"
        g = make(jnp.log, **{name: "relative"})
        assert np.isnan(g(np.float32(1e-3), key=KEY))
        with pytest.raises(ValueError, match="finite within a step of x"):
            g.check(np.float32(1e-3))


def test_check_costs_at_most_200_evaluations():
    seen = []

    def fun(x):
        seen.append(1)
        return np.sum(x**2)

    x = np.ones(5, np.float32)
    for make in (*SMOOTHED, finite_difference):
        seen.clear()
        make(from_host(fun)).check(x)
        assert len(seen) <= 200
