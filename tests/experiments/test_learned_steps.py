"""The exact steps of `learned_steps`, and each verdict on data that bear it out or refute it."""

import sys
from pathlib import Path

import numpy as np
import pytest
from parts import outcomes
from scipy import optimize

from adlab.lab import config as configs

ROOT = Path(__file__).parents[2]
K = 4
SPECTRUM = np.geomspace(0.05, 1, 12)
SQUARES = 0.5 + np.random.default_rng(0).random(12)


@pytest.fixture(scope="module")
def job():
    changes = {"num_steps": K, "dim": 12, "condition": 20.0, "num_seeds": 4}
    return configs.load(ROOT / "configs" / "learned_steps.toml", changes=changes)


@pytest.fixture(scope="module")
def theory(job):
    package = job.module.run.__module__.rpartition(".")[0]
    return sys.modules[f"{package}.theory"]


def test_the_best_steps_have_the_least_loss_of_all_polynomials(theory):
    """p = 1 - lambda q with q of degree k - 1 by linear least squares, in a Chebyshev basis."""
    basis = np.polynomial.chebyshev.chebvander(2 * SPECTRUM - 1, K - 1)
    weights = np.sqrt(SQUARES * SPECTRUM / 2)
    _, rest, *_ = np.linalg.lstsq((weights * SPECTRUM)[:, None] * basis, weights)
    best = theory.final_loss(theory.best_steps(SPECTRUM, SQUARES, K), SPECTRUM, SQUARES)
    assert best == pytest.approx(rest[0], rel=1e-9)


def test_their_nodes_integrate_polynomials_exactly(theory):
    """Gauss nodes: weights from the first k moments reproduce the next k."""
    nodes = 1 / theory.best_steps(SPECTRUM, SQUARES, K)
    moments = [np.sum(SQUARES * SPECTRUM ** (2 + power)) for power in range(2 * K)]
    weights = np.linalg.solve(nodes ** np.arange(K)[:, None], moments[:K])
    later = nodes ** np.arange(K, 2 * K)[:, None] @ weights
    np.testing.assert_allclose(later, moments[K:], rtol=1e-9)
    assert np.all(weights > 0)
    assert np.all((nodes > SPECTRUM[0]) & (nodes < SPECTRUM[-1]))


def test_derivatives_of_the_loss_against_differences(theory):
    steps = np.array([0.7, 1.3, 2.9, 6.0])

    def loss(steps):
        return theory.final_loss(steps, SPECTRUM, SQUARES)

    h = 1e-5
    gradient = theory.loss_gradient(steps, SPECTRUM, SQUARES)
    differences = [(loss(steps + h * e) - loss(steps - h * e)) / (2 * h) for e in np.eye(K)]
    np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-8)  # h^2 and round-off
    wide = 1e-3
    second = loss(steps + wide * np.eye(K)[0]) - 2 * loss(steps) + loss(steps - wide * np.eye(K)[0])
    single = theory.single_curvature(steps, SPECTRUM, SQUARES)
    assert second / wide**2 == pytest.approx(single, rel=1e-6)  # quadratic in a single step


def test_chebyshev_steps_have_their_contraction_and_nothing_near_has_less(theory):
    fine = np.linspace(0.05, 1, 4001)

    def contraction(steps):
        return np.max(np.abs(theory.residual(steps, fine)))

    steps = theory.chebyshev_steps(0.05, 1.0, K)
    bound = theory.chebyshev_contraction(0.05, 1.0, K)
    assert contraction(steps) == pytest.approx(bound, rel=1e-9)
    found = optimize.minimize(contraction, steps * 1.05, method="Nelder-Mead")
    assert found.fun > bound * (1 - 1e-6)


def test_constant_and_greedy_steps_are_stationary(theory):
    constant = theory.best_constant(SPECTRUM, SQUARES, K)
    slopes = theory.loss_gradient(np.full(K, constant), SPECTRUM, SQUARES)
    np.testing.assert_allclose(slopes, 0, atol=1e-6)  # as the minimiser stops
    greedy = theory.greedy_steps(SPECTRUM, SQUARES, K)
    for k in range(1, K + 1):
        assert theory.loss_gradient(greedy[:k], SPECTRUM, SQUARES)[-1] == pytest.approx(
            0, abs=1e-12
        )


def measured():
    """Data as they are expected."""
    curve = np.geomspace(8.0, 1.0, 50)
    calls = np.arange(50)
    data = {
        "spectrum": SPECTRUM,
        "gradient_names": np.array(["reverse_mode", "forward_mode"]),
        "gradient_errors": np.array([1e-14, 1e-14]),
        "equal_gradient": np.full(K, -0.3),
        "curvatures": np.array([-1.0, 2 * K - 1]),
        "learned_steps": np.arange(K) + 1.0,
        "best_steps": np.arange(K)[::-1] + 1.0,
        "best_loss": np.array(1.0),
        "learned_loss": np.array(1.001),
        "constant_loss": np.array(8.0),
        "greedy_loss": np.array(7.0),
        "learned_training": curve,
        "learned_calls": calls,
        "price": np.array(3.0),
        "two_point_training": np.stack([curve**p for p in (0.85, 0.9, 0.95, 1.0)]),
        "two_point_calls": 20 * calls,
        "chebyshev_contraction": np.array(1 / np.cosh(K * np.arccosh(1.05 / 0.95))),
        "learned_contraction": np.array(0.9),
        "learned_curve": np.geomspace(5, 1, K + 1),
        "reversed_curve": 1e4 * np.geomspace(5, 1, K + 1),
        "logistic_gradient_error": np.array(1e-9),
    }
    ends = 1 + np.random.default_rng(0).random(60)
    factors = {"learned": 1, "reversed": 1, "constant": 8, "classical": 30, "chebyshev": 9}
    data |= {f"{kind}_ends": ends * factor for kind, factor in factors.items()}
    factors = {"learned": 1, "reversed": 80, "constant": 10, "greedy": 9}
    return data | {f"logistic_{kind}_ends": ends * factor for kind, factor in factors.items()}


BAD = {
    "gradient": ("gradient_errors", 1e6),
    "agreement": ("logistic_gradient_error", 1e6),
    "optimum": ("learned_loss", 1.05),
    "nodes": ("learned_steps", 1.05),
    "calls": ("two_point_calls", 0.01),
    "beats_constant": ("learned_ends", 100.0),
    "beats_classical": ("learned_ends", 100.0),
    "beats_chebyshev": ("learned_ends", 100.0),
    "chebyshev": ("chebyshev_contraction", 1.01),
    "worst_case": ("learned_contraction", 0.1),
    "order": ("reversed_ends", 1.01),
    "symmetry": ("equal_gradient", np.array([1.0, 1.0, 1.0, 1.001])),
    "saddle": ("curvatures", np.array([-0.9, 1.0])),
    "valley": ("curvatures", np.array([1.0, 1.1])),
    "logistic": ("logistic_learned_ends", 100.0),
    "control_constant": ("constant_loss", 0.125),
    "control_greedy": ("greedy_loss", 0.125),
    "control_transient": ("reversed_curve", 1e-5),
    "control_logistic_greedy": ("logistic_greedy_ends", 0.01),
    "control_logistic_reversed": ("logistic_reversed_ends", 0.01),
}


def test_all_hold_on_data_that_bear_them_out(job):
    found = outcomes(job, measured())
    assert set.union(*found.values()) == {"holds"}
    assert set(found) == set(BAD)


@pytest.mark.parametrize("claim", BAD)
def test_each_fails_on_data_that_refute_it(job, claim):
    name, factor = BAD[claim]
    data = measured()
    assert "fails" in outcomes(job, data | {name: data[name] * factor})[claim]


def test_a_training_that_never_gets_there_is_undecided(job):
    data = measured()
    data["two_point_training"] = np.full((4, 50), 8.0)
    assert outcomes(job, data)["calls"] == {"undecided"}


def test_as_many_steps_as_eigenvalues_are_refused():
    with pytest.raises(Exception, match="dim must be > num_steps"):
        configs.load(ROOT / "configs" / "learned_steps.toml", changes={"dim": 10})
