"""Bounds, backward differences, and steps of leaves and coordinates, against closed forms."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_measured_steps import _jitter

from adlab.gradients import finite_difference, from_host
from adlab.gradients._bounds import guarded, placed

LOWER, UPPER = 0.5, 2.0
SCHEMES = ["forward", "backward", "central", "richardson"]
ORDERS = {"forward": 1, "backward": 1, "central": 2, "richardson": 4}
POINTS = [0.5, 2.0, 0.5 + 1e-9, 2.0 - 1e-3, 0.5 + 0.3e-3, 1.25]

x64 = pytest.mark.usefixtures("x64")


def smooth(x):
    """Not a number outside of [1/2, 2], wherever it is evaluated."""
    return jnp.sum(jnp.sqrt(x - LOWER + 1) * jnp.exp(x) + 0 * jnp.sqrt((x - LOWER) * (UPPER - x)))


def slope(x):
    root = np.sqrt(x - LOWER + 1)
    return np.exp(x) * (root + 0.5 / root)


@x64
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("step", ["auto", "relative", 1e-3])
def test_a_function_that_is_nowhere_outside_of_its_bounds(scheme, step):
    gradient = finite_difference(smooth, scheme=scheme, step=step, bounds=(LOWER, UPPER))
    x = np.array(POINTS)
    worst = {"forward": 2e-2, "backward": 2e-2, "central": 2e-5, "richardson": 2e-9}[scheme]
    tolerance = worst if step == 1e-3 else {1: 5e-6, 2: 1e-7, 4: 1e-8}[ORDERS[scheme]]
    for call in (gradient, jax.jit(gradient)):
        np.testing.assert_allclose(call(x), slope(x), rtol=tolerance)
    gradient.check(x)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("step", ["auto", 0.25])
@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_no_point_outside_is_seen_from_the_host_and_evaluations_are_as_announced(
    scheme, step, dtype
):
    seen = []

    def record(x):
        seen.append({name: np.asarray(leaf, np.float64) for name, leaf in x.items()})
        return np.float32(sum(float(leaf.sum()) for leaf in seen[-1].values()))

    lower = {"a": np.array([0.0, -np.inf, 1.0]), "b": -1.0}
    upper = {"a": np.array([0.01, 1.0, 1.5]), "b": None}
    gradient = finite_difference(
        from_host(record), scheme=scheme, step=step, bounds=(lower, upper), chunk_size=1
    )
    x = {"a": np.array([0.0, 1.0, 1.0]) + np.array([0.001, 0, 0]), "b": np.array(-1.0)}
    x = {name: jnp.asarray(leaf, dtype) for name, leaf in x.items()}
    found = gradient(x)
    for leaf in found.values():
        np.testing.assert_allclose(np.asarray(leaf, np.float64), 1, rtol=2e-2)
    assert len(seen) == gradient.cost(x).evaluations
    for side, beyond in ((lower, np.less), (upper | {"b": np.inf}, np.greater)):
        for name in x:
            held = np.asarray(jnp.asarray(side[name], dtype), np.float64)
            assert not any(np.any(beyond(point[name], held)) for point in seen)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_rounding_leads_no_point_outside(scheme, dtype):
    """x + (upper - x) may round to more than the upper bound: 10,000 boxes with x at any place."""
    rng = np.random.default_rng(0)
    low, x, high = jnp.asarray(np.sort(rng.uniform(0.5, 3.0, (3, 10_000)), axis=0), dtype)
    wide = low.astype(np.float32), high.astype(np.float32)
    points, _ = placed(scheme, x, *wide, jnp.full(10_000, 0.7, np.float32))
    assert np.all((np.asarray(wide[0]) <= points) & (points <= np.asarray(wide[1])))
    np.testing.assert_array_equal(points, jnp.asarray(points, dtype).astype(np.float32))


def test_bounds_are_rounded_as_x_is():
    """The number of bfloat16 next to 0.1 is greater than 0.1."""
    x = np.full(2, 0.1, jnp.bfloat16)
    found = finite_difference(jnp.sum, scheme="backward", bounds=(None, 0.1), step=0.05)(x)
    np.testing.assert_allclose(np.asarray(found, np.float32), 1, rtol=2e-2)  # 8 bits


def test_a_guarded_function_is_nan_outside_and_itself_inside():
    fun = guarded(jnp.sum, np.ones(2, np.float32), np.zeros(2, "f"), np.ones(2, "f"))
    assert float(fun(np.array([0.25, 1.0], np.float32))) == 1.25
    for outside in ([0.5, 1.25], [-0.25, 0.5]):
        assert np.isnan(fun(np.array(outside, np.float32)))


@x64
def test_noise_is_measured_at_an_edge_too():
    """At a noise of 1e-6 a relative step gives an error of about 0.1; the best one, about 1e-4."""
    noisy = lambda x: jnp.sin(x) + 1e-6 * _jitter(x)  # noqa: E731
    edges = np.linspace(0.3, 1.3, 50)
    for scheme in ("central", "richardson"):

        def estimate(x, step, scheme=scheme):
            return finite_difference(noisy, scheme=scheme, step=step, bounds=(x, None))(x)

        both = jax.jit(jax.vmap(lambda x: [estimate(x, step) for step in ("auto", "relative")]))
        found = zip(("auto", "relative"), both(edges), strict=True)
        errors = {step: np.std(slopes - np.cos(edges)) for step, slopes in found}
        assert errors["auto"] < 2e-3
        assert errors["auto"] < errors["relative"] / 5


@x64
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("x", [LOWER, UPPER])
def test_polynomials_of_the_order_are_differentiated_exactly_at_an_edge(scheme, x):
    order = ORDERS[scheme]
    fun = lambda x: sum((k + 1.0) * x**k for k in range(order + 1))  # noqa: E731
    found = finite_difference(fun, scheme=scheme, step=0.125, bounds=(LOWER, UPPER))(x)
    np.testing.assert_allclose(found, sum(k * (k + 1.0) * x ** (k - 1) for k in range(order + 1)))


@x64
@pytest.mark.parametrize(
    ("scheme", "constant"),
    [("forward", -1 / 2), ("backward", -1 / 2), ("central", -1 / 3), ("richardson", -1 / 80)],
)
def test_truncation_at_the_upper_edge_is_that_of_the_docstring(scheme, constant):
    """All derivatives of exp are 1 at 0."""
    order, x, bounds = ORDERS[scheme], np.float64(0.0), (None, 0.0)
    steps = np.array([2.0**-4, 2.0**-5]) * (2 if order == 4 else 1)
    errors = [
        finite_difference(jnp.exp, scheme=scheme, step=h, bounds=bounds)(x) - 1 for h in steps
    ]
    lead = constant * steps**order
    ratios = np.asarray(errors) / lead
    assert abs(ratios[1] - 1) < 0.1  # the next power of h
    np.testing.assert_allclose((ratios[0] - 1) / (ratios[1] - 1), 2, rtol=0.2)


@x64
def test_with_room_for_half_a_step_a_central_quotient_shrinks():
    cube = lambda x: x**3  # noqa: E731
    for room, expected in ((0.25, 3 + 0.25**2), (0.3, 3 + 0.25**2), (0.2, 3 + 0.2**2)):
        found = finite_difference(cube, step=0.25, bounds=(1 - room, 9.0))(np.float64(1.0))
        np.testing.assert_allclose(found, expected, rtol=1e-13)
    found = finite_difference(cube, step=0.25, bounds=(0.9, 9.0))(np.float64(1.0))
    np.testing.assert_allclose(found, 3 - 2 * 0.25**2, rtol=1e-13)  # h^2 f'''/3, one-sided
    found = finite_difference(cube, step=0.25, bounds=(0.99, 1.1))(np.float64(1.0))
    np.testing.assert_allclose(found, 3 - 2 * 0.05**2, rtol=1e-12)  # the second node at the edge


@x64
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("step", [1e-4, "relative"])
def test_both_modes_differentiate_an_estimate_at_an_edge(scheme, step):
    """Points move with x, their distances don't: sum_k w_k [f'(x + r_k) - f'(x)], about f''."""
    x = np.array([0.0, 0.5, 1.0])
    estimate = finite_difference(
        lambda x: jnp.sum(jnp.sin(x) ** 2), scheme=scheme, step=step, bounds=(0.0, 1.0)
    )
    both = jax.jit(lambda x: (jax.jacfwd(estimate)(x), jax.jacrev(estimate)(x)))
    for jacobian in both(x):
        np.testing.assert_allclose(np.diag(jacobian), 2 * np.cos(2 * x), atol=5e-4)


def test_a_narrow_box_leaves_the_middle_to_central_quotients():
    """In float32, of steps far longer than the box: with less noise than one-sided ones have."""
    rng = np.random.default_rng(0)
    centers = rng.uniform(0.5, 1.5, 200).astype(np.float32)
    for scheme, limit in (("central", 2e-4), ("richardson", 5e-4)):
        options = {"scheme": scheme, "step": 0.05}

        def estimate(x, options=options):
            return finite_difference(jnp.sin, bounds=(x - 1e-3, x + 1e-3), **options)(x)

        errors = jax.jit(jax.vmap(estimate))(centers) - np.cos(centers)
        assert np.median(np.abs(errors)) < limit  # eps |sin| / 2e-3 is 5e-5; one-sided, 5 times it


@x64
def test_a_backward_difference_is_the_forward_one_of_the_reflected_function():
    x, h = np.array([0.3, -1.2]), 2.0**-6
    fun = lambda x: jnp.sum(jnp.sin(x))  # noqa: E731
    found = finite_difference(fun, scheme="backward", step=h)(x)
    np.testing.assert_allclose(found, (np.sin(x) - np.sin(x - h)) / h, rtol=1e-12)
    mirrored = finite_difference(lambda z: fun(-z), scheme="forward", step=h)(-x)
    np.testing.assert_allclose(found, -np.asarray(mirrored), rtol=1e-12)
    automatic = finite_difference(fun, scheme="backward")
    np.testing.assert_allclose(automatic(x), np.cos(x), rtol=1e-6)
    assert automatic.cost(x) == finite_difference(fun, scheme="forward").cost(x)
    automatic.check(x)


def test_steps_of_leaves_and_of_coordinates():
    """x^2 has the forward difference 2x + h."""
    x = {"w": np.array([1.0, 2.0, 4.0], np.float32), "b": np.float32(0.5)}
    fun = lambda x: jnp.sum(x["w"] ** 2) + x["b"] ** 2  # noqa: E731
    steps = {"w": np.array([0.5, 0.25, 0.125], np.float32), "b": 0.0625}
    found = finite_difference(fun, scheme="forward", step=steps)(x)
    np.testing.assert_allclose(found["w"], 2 * x["w"] + steps["w"])
    np.testing.assert_allclose(found["b"], 1.0625)
    swept = jax.jit(lambda h: finite_difference(fun, scheme="forward", step={"w": h, "b": h})(x))
    np.testing.assert_allclose(swept(0.25)["w"], 2 * x["w"] + 0.25)
    assert np.all(np.isnan(swept(-0.25)["w"]))
    finite_difference(fun, scheme="central", step=steps).check(x)
    both = finite_difference(
        lambda a, b: a**2 + b**2, scheme="forward", step=(0.5, 0.25), argnums=(0, 1)
    )
    np.testing.assert_allclose(both(1.0, 1.0), [2.5, 2.25])
    assert "step={'w'" in repr(finite_difference(fun, step=steps))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"bounds": (0.0, 1.0)},
            r"x must be within bounds, got 2 outside of \[0, 1\] at",
        ),
        ({"bounds": (3.0, None)}, r"got 1 outside of \[3, inf\] at coordinate 0 and 1 more"),
        ({"bounds": (None, np.ones(3))}, r"bounds must be .* shaped as x, got shape \(3,\) for"),
        ({"bounds": ({"a": 1.0}, None)}, r"bounds must be one number, or a tree like x, PyTreeDef"),
        ({"bounds": (np.nan, 1.0)}, "bounds must be numbers, got NaN in the lower ones"),
        ({"step": np.ones(3)}, r"step must be one number, or shaped as x, got shape \(3,\) for"),
        ({"step": {"a": 1.0}}, r"step must be one number, or a tree like x, PyTreeDef\(\*\), got"),
        ({"step": [1e-3, -1e-3]}, r"step\[1\] must be > 0, got -0\.001"),
        (
            {"scheme": "complex", "bounds": (0.0, 3.0)},
            "must go without bounds or errors, and with one",
        ),
        (
            {"scheme": "complex", "step": np.ones(2)},
            "must go without bounds or errors, and with one",
        ),
    ],
)
def test_bounds_and_steps_that_make_no_sense_are_refused(options, told):
    with pytest.raises(ValueError, match=told):
        finite_difference(jnp.sum, **options)(np.array([1.0, 2.0], np.float32))


def test_other_bad_input_about_bounds():
    x = np.array([1.0, 2.0], np.float32)
    with pytest.raises(TypeError, match=r"bounds must be a pair \(lower, upper\)"):
        finite_difference(jnp.sum, bounds=5.0)
    for bad in ("a", 1 + 1j, 10**400):
        with pytest.raises(TypeError, match=r"bounds must be real numbers, got .* the upper ones"):
            finite_difference(jnp.sum, bounds=(0.0, bad))
    with pytest.raises(ValueError, match=r"lower bounds must be at most the upper ones, got"):
        finite_difference(jnp.sum, bounds=(3.0, 0.0))(x)
    half_open = ((0.0, None), (None, 1.0))
    open_ = finite_difference(lambda a, b: a * b, argnums=(0, 1), bounds=half_open)
    np.testing.assert_allclose(open_(0.0, 1.0), [1.0, 0.0], atol=1e-3)
    with pytest.raises(TypeError, match="step must be positive real numbers, got complex64"):
        finite_difference(jnp.sum, step=np.ones(2, np.complex64))
    with pytest.raises(ValueError, match=r"coordinate of x move, got a step .* at coordinate 1"):
        finite_difference(jnp.sum, bounds=(np.array([0.0, 2.0], np.float32), 2.0)).check(x)
    outside = jax.jit(finite_difference(jnp.sum, bounds=(0.0, 1.5)))(x)
    assert np.all(np.isnan(outside))
    stuck = finite_difference(jnp.sum, bounds=(x, math.inf), step=1e-12)(x)
    assert np.all(np.isnan(stuck))
