"""The recursions of `trajectories`, and each verdict on data that bear it out or refute it."""

from pathlib import Path

import numpy as np
import parts
import pytest

from adlab.lab import config as configs

ROOT = Path(__file__).parents[2]
HESSIAN = np.array([[2.0, 2.0], [2.0, 6.0]])
START = np.array([4.0, 4.0])
STEP = 0.07
K = 200
EPS = [0.1, 2.0]
RANDOM = ("two_point", "sphere", "coordinate")


@pytest.fixture(scope="module")
def job():
    changes = {"num_steps": K, "num_seeds": 400, "eps": EPS, "cloud": 50}
    return configs.load(ROOT / "configs" / "trajectories.toml", changes=changes)


@pytest.fixture(scope="module")
def theory(job):
    module = __import__("sys").modules[job.module.run.__module__]

    def moments(kind, eps=0.5, steps=K, hessian=HESSIAN, x0=START, step=STEP):
        return module.moments(kind, hessian, x0, step=step, eps=eps, num_steps=steps)

    return moments


def test_the_recursion_of_two_point_descent_is_that_of_the_library(theory):
    eigenvalues, vectors = np.linalg.eigh(HESSIAN)
    mean_square = parts.part("rates", "mean_square").mean_square
    exact = mean_square(eigenvalues, step=STEP).expected_square(vectors.T @ START, np.arange(K + 1))
    np.testing.assert_allclose(theory("two_point").square, exact, rtol=1e-9)  # 200 products


@pytest.mark.parametrize("kind", RANDOM)
def test_a_step_has_the_moments_of_its_directions(theory, kind):
    """Directions spread evenly on the circle integrate these trigonometric polynomials exactly."""
    eps, x = 0.7, np.array([1.3, -0.4])
    turns = 2 * np.pi * np.arange(16) / 16
    v = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    if kind == "coordinate":
        v = np.eye(2)

    def value(x):
        return np.einsum("...i,ij,...j->...", x, HESSIAN, x) / 2

    behind = x - eps * v if kind == "two_point" else x
    length = 2 * eps if kind == "two_point" else eps
    estimates = 2 * ((value(x + eps * v) - value(behind)) / length)[:, None] * v
    ahead = x - STEP * estimates
    found = theory(kind, eps, steps=1, x0=x)
    np.testing.assert_allclose(found.mean[1], ahead.mean(axis=0), rtol=1e-12, atol=1e-14)
    second = np.einsum("ki,kj->ij", ahead, ahead) / len(ahead)
    np.testing.assert_allclose(found.second[1], second, rtol=1e-12, atol=1e-14)


def test_the_floor_of_an_isotropic_quadratic_is_n_eps_squared_over_4(theory):
    n, L, eps = 3, 2.0, 0.3
    found = theory(
        "sphere", eps, 4000, hessian=L * np.eye(n), x0=np.ones(n), step=1 / (n * L)
    ).square[-1]  # fmt: skip
    assert found == pytest.approx(n * eps**2 / 4, rel=1e-9)


def test_forward_differences_end_half_an_eps_below_the_minimum(theory):
    end = theory("forward", 2.0, 2000).mean[-1]
    np.testing.assert_allclose(end, [0.0, -1.0], atol=1e-12)


def measured(theory):
    """Data as they are expected."""
    step = 1 / (2 * (4 + np.sqrt(8)))
    runs = {kind: [theory(kind, eps, step=step) for eps in EPS] for kind in RANDOM}
    exact = theory("exact", step=step).mean
    forward = np.array([theory("forward", eps, step=step).mean for eps in EPS])
    noise = 1e-3 * np.ones((2, K + 1, 2))
    slow = theory("exact", step=step / 2).mean
    data = {
        "step": np.array(step),
        "hessian": HESSIAN,
        "exact": exact,
        "exact_exact": exact,
        "central": np.array([exact, exact]),
        "forward": forward,
        "forward_exact": forward,
        "displaced": np.array([[0.0, -eps / 2] for eps in EPS]),
        "two_point_paths": np.zeros((2, 3, 10, 2)),
        "lecture_mean": slow,
        "lecture_deviation": noise[0],
        "lecture_path": np.array([[0.0, -0.55]]),
    }
    for kind, rows in runs.items():
        data[f"{kind}_mean"] = np.array([row.mean for row in rows])
        data[f"{kind}_deviation"] = noise
        for name in ("spread", "square"):
            data[f"{kind}_{name}"] = np.array([getattr(row, name) for row in rows])
            data[f"{kind}_exact_{name}"] = data[f"{kind}_{name}"]
        data[f"{kind}_spread_error"] = data[f"{kind}_spread"] / 100
        data[f"{kind}_late"] = data[f"{kind}_square"][:, K // 2 :].mean(axis=1)
        data[f"{kind}_late_error"] = data[f"{kind}_late"] / 100
    return data


def outcomes(job, data):
    found = job.module.verdicts(data, job.config)
    return {v.claim.key.rpartition(".")[2]: v.outcome for v in found}


def changed(data, name, *, by=0.0, times=1.0):
    return data | {name: data[name] * times + by}


BAD = {
    "gradient": ("exact", {"by": 1e-6}),
    "central": ("central", {"by": 1e-6}),
    "forward": ("forward", {"by": 1e-6}),
    "limit": ("displaced", {"times": 2.0}),
    "every_eps": ("two_point_paths", {"by": np.array([0.0, 1e-6]).reshape(2, 1, 1, 1)}),
    "mean_two_point": ("two_point_mean", {"by": 0.01}),
    "mean_sphere": ("sphere_mean", {"by": 0.01}),
    "mean_coordinate": ("coordinate_mean", {"by": 0.01}),
    "spread_two_point": ("two_point_spread", {"times": 1.2}),
    "spread_sphere": ("sphere_spread", {"times": 0.8}),
    "spread_coordinate": ("coordinate_spread", {"times": 1.2}),
    "floor": ("sphere_late", {"times": 1.1}),
    "lecture_slow": ("lecture_mean", {"by": 0.01}),
    "control_factor": ("lecture_deviation", {"times": 1e6}),
    "control_bias": ("coordinate_deviation", {"times": 1e6}),
    "control_eps": ("lecture_path", {"times": 0.0}),
}


def test_all_hold_on_data_that_bear_them_out(job, theory):
    found = outcomes(job, measured(theory))
    assert set(found.values()) == {"holds"}
    assert set(found) == set(BAD)


@pytest.mark.parametrize("claim", BAD)
def test_each_fails_on_data_that_refute_it(job, theory, claim):
    name, change = BAD[claim]
    assert outcomes(job, changed(measured(theory), name, **change))[claim] == "fails"


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"eps": [0.5, 0.5]}, "at least double"),
        ({"eps": [2.0, 0.1]}, "at least double"),
        ({"eps": [1e-5, 0.1]}, "round-off"),
        ({"num_seeds": 200, "cloud": 400}, "raise num_seeds"),
    ],
)
def test_what_misleads_is_refused(changes, match):
    with pytest.raises(Exception, match=match):
        configs.load(ROOT / "configs" / "trajectories.toml", changes=changes)
