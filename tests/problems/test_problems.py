import functools
import os
import subprocess
import sys
from typing import NamedTuple

import jax
import numpy as np
import pytest

from adlab import problems

pytestmark = pytest.mark.usefixtures("x64")

KINDS = {
    "quadratic": problems.quadratic(dim=5, condition=30.0),
    "quadratic by spectrum": problems.quadratic(dim=3, spectrum=[0.5, 4.0, 2.0]),
    "lecture": problems.lecture_quadratic(),
    "tridiagonal": problems.tridiagonal(dim=9),
    "rosenbrock": problems.rosenbrock(dim=5),
    "nonconvex": problems.nonconvex_tail(dim=4, power=0.3),
    "logistic tail": problems.logistic_tail(dim=4),
    "rank one": problems.rank_one(dim=4),
    "huber": problems.huber(dim=4, width=0.2),
    "power": problems.power_tail(dim=4, exponent=6.0),
    "norm": problems.norm(dim=4),
    "breast cancer": problems.logistic_regression(l2=0.03),
    "digits": problems.logistic_regression(data="digits", l2=0.1),
}
RADIAL = [name for name, problem in KINDS.items() if problem.radial is not None]
SMOOTH = [name for name, problem in KINDS.items() if problem.L is not None]
ATTAINED = [name for name, problem in KINDS.items() if problem.x_star is not None]


def _points(problem, count=40):
    """Points around x0 and x_star, near and far, the same in every run."""
    rng = np.random.default_rng(0)
    centres = [problem.x0] if problem.x_star is None else [problem.x0, problem.x_star]
    spread = rng.choice([0.1, 1.0, 5.0], size=(count, 1))
    near = [c + spread * rng.standard_normal((count, problem.dim)) for c in centres]
    return np.concatenate([*near, centres, np.zeros((1, problem.dim))])


class At(NamedTuple):
    """Points (n, d), and what a problem is there."""

    x: np.ndarray
    values: np.ndarray
    gradients: np.ndarray
    hessians: np.ndarray


@functools.cache
def _at_points(name):
    """Value, gradient and Hessian at all points, and last at x_star, of one program."""
    problem = KINDS[name]
    points = _points(problem)
    if name in ("breast cancer", "digits"):  # the loss is flat far away: there mu is approached
        points = np.concatenate([points, 1e6 * problem.x_star[None]])
    if problem.x_star is not None:
        points = np.concatenate([points, problem.x_star[None]])

    def all_orders(x):
        return *jax.value_and_grad(problem.fun)(x), jax.hessian(problem.fun)(x)

    return At(points, *map(np.asarray, jax.jit(jax.vmap(all_orders))(points)))


@pytest.mark.parametrize("name", ATTAINED)
def test_the_minimiser_has_the_infimum_and_no_gradient(name):
    at = _at_points(name)
    np.testing.assert_array_equal(at.x[-1], KINDS[name].x_star)
    assert abs(at.values[-1] - KINDS[name].f_star) <= 1e-14  # round-off of values of order 1
    assert np.abs(at.gradients[-1]).max() <= 2e-12  # where Newton's method stops


@pytest.mark.parametrize("name", list(KINDS))
def test_no_point_is_below_the_infimum(name):
    assert _at_points(name).values.min() >= KINDS[name].f_star - 1e-14  # round-off


@pytest.mark.parametrize("name", SMOOTH)
def test_L_and_mu_are_the_extreme_curvatures(name):
    problem = KINDS[name]
    eigenvalues = np.linalg.eigvalsh(_at_points(name).hessians)
    # L is reached at the origin or near it: round-off
    assert np.abs(eigenvalues).max() == pytest.approx(problem.L, rel=1e-12)
    if problem.mu > 0:
        assert eigenvalues.min() == pytest.approx(problem.mu, rel=1e-8)  # tails of exp
    else:
        assert problem.mu == 0


@pytest.mark.parametrize("name", list(KINDS))
def test_float32_is_kept_and_agrees(name):
    problem = KINDS[name]
    x = problem.x0 + 0.25
    single, double = jax.jit(lambda *points: [problem.fun(x) for x in points])(np.float32(x), x)
    assert (single.dtype, double.dtype) == (np.float32, np.float64)
    # float32, up to 2000 terms
    assert float(single) == pytest.approx(float(double), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", RADIAL)
def test_the_profile_is_the_objective_and_its_slope_the_gradient(name):
    radial, at = KINDS[name].radial, _at_points(name)
    first, rest = at.x[:, 0], at.x[:, 1:]
    radially = jax.jit(jax.vmap(lambda t: (radial.profile(t), radial.slope(t))))
    profiles, slopes = map(np.asarray, radially(first))
    expected = profiles + np.sum(rest**2, axis=1) / 2
    np.testing.assert_allclose(at.values, expected, rtol=1e-14)  # round-off
    np.testing.assert_allclose(at.gradients[:, 0], slopes, rtol=1e-12, atol=1e-15)  # round-off
    np.testing.assert_array_equal(at.gradients[:, 1:], rest)


def test_profiles_have_the_curvature_that_theory_uses():
    places = {
        "nonconvex": [0.0],
        "logistic tail": [0.0],
        "huber": [0.1, 0.3],
        "power": [0.5, -3.0],
    }
    second = {name: jax.vmap(jax.grad(KINDS[name].radial.slope)) for name in RADIAL}

    @jax.jit
    def bends(places):
        return {name: second[name](ts) for name, ts in places.items()}

    found = bends({name: np.array(ts) for name, ts in places.items()})
    np.testing.assert_array_equal(found["nonconvex"], [-1])
    np.testing.assert_array_equal(found["logistic tail"], [1])
    np.testing.assert_array_equal(found["huber"], [1, 0])
    inner, outer = np.asarray(found["power"])
    assert inner == pytest.approx(0.5**4, rel=1e-14)  # |t|^(p - 2), round-off
    assert outer == 1


@pytest.mark.parametrize("horizon", [1, 10, 300])
def test_gradient_descent_attains_the_worst_value_on_huber(horizon):
    problem = problems.huber(dim=3, width=1 / (2 * horizon + 1))
    x, both = problem.x0, jax.jit(jax.value_and_grad(problem.fun))
    for _ in range(horizon):
        x = x - np.asarray(both(x)[1]) / problem.L
    value = float(both(x)[0])
    assert value * (4 * horizon + 2) == pytest.approx(1, rel=1e-12)  # K steps' round-off


def test_the_norm_is_exact_and_differentiable_at_the_origin():
    problem = problems.norm(dim=3)
    x = np.array([[3e-200, 0.0, 4e-200], [0.0, 0.0, 0.0], [1.0, -2.0, 2.0]])
    values, gradients = jax.jit(jax.vmap(jax.value_and_grad(problem.fun)))(x)
    np.testing.assert_allclose(values, [5e-200, 0, 3], rtol=1e-15)
    np.testing.assert_array_equal(np.asarray(gradients)[1], 0)
    np.testing.assert_allclose(np.asarray(gradients)[2], x[2] / 3, rtol=1e-15)  # round-off
    np.testing.assert_allclose(np.linalg.norm(problem.x0), 1, rtol=1e-15)  # round-off


def test_logistic_regression_is_the_mean_loss_of_its_table():
    problem = KINDS["breast cancer"]
    assert problem.dim == 31
    fun = jax.jit(problem.fun)
    assert float(fun(np.zeros(31))) == pytest.approx(np.log(2), rel=1e-14)  # round-off
    only_bias = 1e3 * np.eye(31)[-1]  # says "benign" to all: pays 1000 per malignant case
    expected = 212 / 569 * 1e3 + 0.03 * 1e6 / 2
    assert float(fun(only_bias)) == pytest.approx(expected, rel=1e-12)  # round-off
    assert KINDS["digits"].dim == 62  # of 64 pixels, 3 are constant; and the bias


def test_equal_kinds_and_sizes_share_what_was_compiled():
    structures = {
        jax.tree.structure(problems.nonconvex_tail(dim=4, power=q).fun) for q in (0.1, 0.2)
    }
    assert len(structures) == 1


@pytest.mark.parametrize(
    ("matrix", "expected"), [(np.eye(7), 9), (np.diag([2.0, 0, 0]), 3), (np.diag([4.0, 1, 1]), 3.5)]
)
def test_effective_dimension(matrix, expected):
    assert problems.effective_dimension(matrix) == pytest.approx(expected, rel=1e-14)  # round-off


@pytest.mark.parametrize(
    "matrix", [np.ones(3), np.ones((2, 3)), np.zeros((2, 2)), [[0, 1], [-1, 0]], [[np.nan]]]
)
def test_effective_dimension_refuses(matrix):
    with pytest.raises(ValueError, match="hessian must"):
        problems.effective_dimension(matrix)


@pytest.mark.parametrize(
    "kind", ["quadratic", "tridiagonal", "rosenbrock", "nonconvex_tail", "logistic_tail", "norm"]
)
@pytest.mark.parametrize("dim", [0, -3])
def test_a_dimension_below_one_is_refused(kind, dim):
    with pytest.raises(ValueError, match=f"dim must be >= ., got {dim}"):
        getattr(problems, kind)(dim=dim)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: problems.quadratic(dim=2, condition=0.5), "condition must be >= 1"),
        (lambda: problems.quadratic(dim=2, spectrum=[1.0]), "spectrum must be a list of dim = 2"),
        (lambda: problems.quadratic(dim=2, spectrum=[1.0, -1.0]), "spectrum must be finite, >= 0"),
        (lambda: problems.nonconvex_tail(dim=2, power=0.0), "power must be positive"),
        (lambda: problems.huber(dim=2, width=-1.0), "width must be positive"),
        (lambda: problems.power_tail(dim=2, exponent=2.0), "exponent must be > 2"),
        (lambda: problems.rosenbrock(dim=1), "dim must be >= 2"),
        (lambda: problems.logistic_regression(l2=0.0), "l2 must be positive"),
        (lambda: problems.logistic_regression(data="digit"), "did you mean 'digits'"),
    ],
)
def test_bad_arguments_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_missing_tables_are_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    from adlab.problems import logistic

    logistic._signed_rows.cache_clear()
    with pytest.raises(ImportError, match=r"pip install -e '\.\[data\]' in adlab's folder"):
        problems.logistic_regression()


def test_building_starts_no_device():
    code = """
from adlab import problems as p
p.quadratic(dim=3), p.lecture_quadratic(), p.tridiagonal(dim=3), p.rosenbrock(dim=3)
p.nonconvex_tail(dim=3), p.logistic_tail(dim=3), p.rank_one(dim=3), p.huber(dim=3, width=0.1)
p.power_tail(dim=3, exponent=4.0), p.norm(dim=3), p.logistic_regression()
"""
    # With a platform that doesn't exist, any array that jax made would raise.
    environment = {**os.environ, "JAX_PLATFORMS": "none_such"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
