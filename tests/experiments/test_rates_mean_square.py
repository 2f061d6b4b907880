import itertools

import jax
import numpy as np
import optax
import parts
import pytest

from adlab import gradients, optimize, problems

mean_square = parts.part("rates", "mean_square").mean_square

SPECTRUM = np.geomspace(0.1, 1, 6)


def _estimates(law, m, g, count, rng):
    """Draw `count` estimates of g from m exact directional derivatives each."""
    n = g.size
    probes = rng.standard_normal((count, n, m))
    if law == "sphere":
        probes *= np.sqrt(n) / np.linalg.norm(probes, axis=1, keepdims=True)
    if law == "orthogonal":
        probes = np.linalg.qr(probes)[0] * np.sqrt(n)
    return np.einsum("sim,sjm,j->si", probes, probes, g) / m


@pytest.mark.parametrize(
    ("law", "m"),
    [*itertools.product(["sphere", "gaussian", "orthogonal"], [1, 4]), ("orthogonal", 6)],
)
def test_one_step_has_the_expected_value_of_simulated_steps(law, m):
    rng = np.random.default_rng(0)
    x0, step = rng.standard_normal(6), 1.0  # so long that the second moment shows
    moved = x0 - step * _estimates(law, m, SPECTRUM * x0, 40_000, rng)
    values = moved**2 @ SPECTRUM / 2
    expected = mean_square(SPECTRUM, step=step, law=law, num_probes=m)
    error = values.mean() - expected.expected_value(x0, 1)
    assert abs(error) <= 5 * values.std() / 200 + 1e-14  # z <= 5; no spread at m = n


def test_many_steps_agree_with_the_recursion_written_out():
    n, step, x0 = 6, 0.05, np.arange(1.0, 7.0)
    c = n / (n + 2)
    moments = x0**2
    values, squares = [], []
    for _ in range(4001):
        values.append(SPECTRUM @ moments / 2)
        squares.append(moments.sum())
        shrink = 1 - 2 * step * SPECTRUM + 2 * step**2 * c * SPECTRUM**2
        moments = shrink * moments + step**2 * c * (SPECTRUM**2 @ moments)
    descent = mean_square(SPECTRUM, step=step)
    # round-off of 4000 steps
    np.testing.assert_allclose(descent.expected_value(x0, range(4001)), values, rtol=1e-10)
    np.testing.assert_allclose(descent.expected_square(x0, range(4001)), squares, rtol=1e-10)
    assert descent.rate == pytest.approx(values[4000] / values[3999], rel=1e-10)  # the same
    target = values[60] / values[0] * (1 + 1e-9)  # just above, so that round-off can't decide
    assert descent.iterations(x0, target) == 60
    assert descent.iterations(x0, squares[70] / squares[0] * (1 + 1e-9), of="square") == 70


@pytest.mark.parametrize("n", [1, 2, 8, 64])
def test_the_bound_is_reached_where_all_eigenvalues_are_equal(n):
    sphere = mean_square(np.full(n, 3.0), step=1 / (3 * n))
    assert (1 - sphere.rate) * n == pytest.approx(1, rel=1e-11)  # round-off of 1 - rate
    gaussian = mean_square(np.full(n, 3.0), step=1 / (3 * (n + 2)), law="gaussian")
    assert (1 - gaussian.rate) * (n + 2) == pytest.approx(1, rel=1e-11)  # the same


def test_as_many_orthogonal_probes_as_unknowns_are_gradient_descent():
    descent = mean_square(SPECTRUM, step=1.0, law="orthogonal", num_probes=6)
    assert descent.rate == pytest.approx((1 - 0.1) ** 2, rel=1e-12)  # round-off
    x0 = np.ones(6)
    expected = ((1 - SPECTRUM) ** 14) @ SPECTRUM / 2
    assert descent.expected_value(x0, 7) == pytest.approx(expected, rel=1e-12)  # round-off


def test_the_loop_agrees_with_the_recursion():
    with jax.enable_x64(True):
        problem = problems.quadratic(dim=32, condition=10.0)
        g = gradients.two_point(problem.fun, smoothing=1e-3)
        step = optimize.prescribed_step(problem, g)
        run = optimize.minimize(
            g, problem.x0, optimizer=optax.sgd(step), num_steps=200, key=jax.random.key(0),
            num_seeds=256, record_at=[0, 50, 100, 200],
        )  # fmt: skip
    descent = mean_square(np.geomspace(0.1, 1, 32), step=step)
    values = run.values["value"]
    error = values.mean(axis=0) - descent.expected_value(problem.x0, run.record_at)
    assert np.all(np.abs(error[1:]) <= 5 * values.std(axis=0)[1:] / 16)  # z <= 5
    assert abs(error[0]) <= 1e-13  # round-off: all seeds start at x0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mean_square([1.0, 0.0], step=0.1), "spectrum must be a list of positive"),
        (lambda: mean_square([1.0], step=0.0), "step must be positive"),
        (lambda: mean_square([1.0], step=0.1, law="spere"), "did you mean 'sphere'"),
        (lambda: mean_square([1.0], step=0.1, num_probes=0), "num_probes must be >= 1"),
        (
            lambda: mean_square([1.0], step=0.1, law="orthogonal", num_probes=2),
            "num_probes must be <= 1",
        ),
        (
            lambda: mean_square(np.ones(8), step=1.0).iterations(np.ones(8), 0.1),
            "rate must be < 1",
        ),
        (
            lambda: mean_square([1.0], step=0.1).iterations(np.ones(1), 1.0),
            "accuracy must be < 1",
        ),
        (
            lambda: mean_square([1.0], step=0.1).expected_value(np.ones(2), 1),
            "x0 must have the shape",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
