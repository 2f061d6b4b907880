"""Verdicts of `finite_difference_error` hold on data that bear them out, and fail on others."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from adlab.gradients.measured_steps import EVALUATIONS
from adlab.lab import config as configs

ROOT = Path(__file__).parents[2]
CHANGES = {"schemes": ["central"], "precisions": ["float64"], "functions": 20, "dims": [10]}
NOISE = 1e-16
EPS = np.finfo(np.float64).eps


@pytest.fixture(scope="module")
def job():
    return configs.load(ROOT / "configs" / "finite_difference_error.toml", changes=CHANGES)


def part(job, name):
    return sys.modules[f"{job.module.__name__}.{name}"]


def measured(job, order=2.0, decay=1.0, shift=1.0, height=1.0):
    """Data as they are expected; else other exponents, another best step, other errors."""
    theory, h = part(job, "theory"), part(job, "measure").steps("float64")
    x = np.linspace(0.5, 1.5, 101)
    central, alone = (theory.branches(s, x, NOISE) for s in ("central", "complex"))
    at = central.step
    noise = central.noise / at * (h / shift / at) ** -decay
    truncation = central.truncation * at**2 * (h / shift / at) ** order
    error = np.stack([height * np.hypot(noise, truncation), alone.truncation * h**order + EPS / 9])
    spread = np.ones((3, 1, 1)) * error
    calls = 2 * np.array([1, 7]) + np.array([[EVALUATIONS], [0]])
    return {
        "float64_curves_x": x,
        "float64_curves_error": error,
        "float64_curves_resampled": spread,
        "float64_curves_ruled": np.full((2, 2), EPS),
        "float64_curves_noise": np.array([NOISE]),
        "float64_curves_measured_step": np.array([at]),
        "float64_curves_control": np.array(1.0),
        "float64_curves_refused": np.array(True),
        "float64_zoo_regret": np.full((1, 2, 4, 20), 2.0) * np.array([1, 1e4])[:, None, None],
        "float64_zoo_noise": np.ones((1, 20, 100)),
        "float64_many_regret": np.full((1, 2, 1, 2, 20), 2.0),
        "calls": calls[None],
    }


def outcomes(job, data):
    """Return (claim, exponent if it has one) -> outcome."""
    return {
        (v.claim.key.rpartition(".")[2], v.claim.params.get("scheme", v.claim).key): v.outcome
        for v in job.module.verdicts(data, job.config)
    }


def failed(job, data):
    return {claim for (claim, _), outcome in outcomes(job, data).items() if outcome == "fails"}


def test_all_hold_on_data_that_bear_them_out(job):
    found = outcomes(job, measured(job))
    assert set(found.values()) == {"holds"}
    assert len(found) == 14


@pytest.mark.parametrize(
    ("change", "claim"),
    [
        ({"order": 1.9}, "truncation"),
        ({"decay": 1.1}, "noise"),
        ({"shift": 5.0}, "step"),
        ({"height": 2.0}, "error"),
        ({"height": 0.4}, "error"),
    ],
)
def test_curves_that_differ_from_theory_fail(job, change, claim):
    assert claim in failed(job, measured(job, **change))


BAD = {
    "complex": {"float64_curves_ruled": np.full((2, 2), 1e-12)},
    "control_complex": {"float64_curves_control": np.array(EPS)},
    "refused": {"float64_curves_refused": np.array(False)},
    "cost": {"calls": np.array([[[22, 34], [3, 15]]])},
    "cost_auto": {"calls": np.array([[[23, 35], [2, 14]]])},
    "measured": {"float64_zoo_noise": np.full((1, 20, 100), 3.0)},
    "median": {"float64_zoo_regret": np.full((1, 2, 4, 20), 3.5)},
    "tail": {"float64_zoo_regret": np.full((1, 2, 4, 20), 31.0)},
    "control_relative": {"float64_zoo_regret": np.full((1, 2, 4, 20), 29.0)},
}


@pytest.mark.parametrize("claim", BAD)
def test_each_fails_on_data_that_refute_it(job, claim):
    assert claim in failed(job, measured(job) | BAD[claim])


def test_derivatives_of_the_wave_follow_from_each_other(job):
    wave = part(job, "measure").wave_derivative
    x, h = np.linspace(0.5, 1.5, 5), 1e-5
    for order in range(5):
        slope = (wave(order, x + h) - wave(order, x - h)) / (2 * h)
        np.testing.assert_allclose(wave(order + 1, x), slope, rtol=1e-7, atol=1e-6)  # h^2


@pytest.fixture(scope="module")
def values(job):
    """Return (function, x) -> its values: the function is data, so that all share a program."""
    return jax.jit(jax.vmap(part(job, "zoo").value, in_axes=(None, 0)))


@pytest.mark.parametrize("index", range(10))
def test_the_zoo_s_derivatives_are_those_of_its_functions(job, values, index, x64):
    del x64
    zoo = part(job, "zoo")
    function = zoo.Function(index, 3.0, 2.0, 0.1, 5.0, 0.0, 0.6, 0.1)
    x, h = np.linspace(0.5, 0.7, 5), 1e-5
    slope = (np.asarray(values(function, x + h)) - values(function, x - h)) / (2 * h)
    expected = zoo.derivative(function, x)
    np.testing.assert_allclose(expected, slope, rtol=1e-6, atol=1e-7)  # h^2 and round-off


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_noise_has_mean_zero_and_variance_one(job, dtype, x64):
    del x64
    x = np.random.default_rng(0).uniform(0.5, 1.5, 4000).astype(dtype)
    noise = np.asarray(jax.jit(jax.vmap(part(job, "zoo").noise))(x), np.float64)
    assert abs(np.mean(noise)) <= 5 / np.sqrt(4000)
    assert np.mean(noise**2) == pytest.approx(1, abs=5 * np.sqrt(0.8 / 4000))  # var z^2 = 4/5
    assert abs(np.mean(noise[1:] * noise[:-1])) <= 5 / np.sqrt(4000)


def test_a_regret_is_over_the_best_step_and_never_over_less_than_rounding(job):
    regret = part(job, "measure").regret
    tried = np.array([[4.0, np.nan], [2.0, 0.0], [8.0, 1.0]])
    ruled = np.array([[6.0, 0.5], [2.0, np.nan]])
    np.testing.assert_array_equal(regret(ruled, tried, 0.5), [[3, 1], [1, np.inf]])


def test_functions_of_many_unknowns_have_the_gradients_stated(job, x64):
    del x64
    x = np.linspace(0.5, 1.5, 6).reshape(1, 6)
    for family in ("sum", "ridge"):
        fun, gradient = part(job, "many").function(family, 6)
        slopes = [(fun(x[0] + d) - fun(x[0] - d)) / 2e-5 for d in 1e-5 * np.eye(6)]
        np.testing.assert_allclose(gradient(x)[0], slopes, rtol=1e-6)  # h^2


def test_repeated_schemes_are_refused():
    with pytest.raises(Exception, match="schemes must be distinct"):
        configs.load(
            ROOT / "configs" / "finite_difference_error.toml",
            changes={"schemes": ["central", "central"]},
        )
