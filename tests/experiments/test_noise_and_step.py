"""Theory against sums over a period and the library's constants; verdicts on data made by hand."""

import sys
from pathlib import Path

import numpy as np
import pytest

from adlab.gradients.measured_steps import constants
from adlab.gradients.stencils import STENCILS
from adlab.lab import config as configs

ROOT = Path(__file__).parents[2]
NOISES = [1e-8, 1e-6, 1e-4, 1e-2]
SEEDS = 8


@pytest.fixture(scope="module")
def job():
    changes = {"noises": NOISES, "num_seeds": SEEDS, "num_points": 16}
    return configs.load(ROOT / "configs" / "noise_and_step.toml", changes=changes)


def part(job, name):
    return sys.modules[f"{job.module.__name__}.{name}"]


@pytest.mark.parametrize("scheme", ["forward", "central"])
def test_truncation_is_that_of_points_over_a_period(job, scheme):
    theory = part(job, "theory").THEORY[scheme]
    x, h = 2 * np.pi * np.arange(8) / 8, np.array([0.1, 0.3, 1.0])[:, None]
    behind = x - h if scheme == "central" else x
    length = 2 * h if scheme == "central" else h
    error = (np.sin(x + h) - np.sin(behind)) / length - np.cos(x)
    # the sum over 8 points of a trigonometric polynomial of degree 2 is exact; round-off of sin/h
    np.testing.assert_allclose(theory.truncation(h[:, 0]), np.mean(error**2, axis=1), rtol=1e-9)


@pytest.mark.parametrize("scheme", ["forward", "central"])
def test_the_best_step_and_error_are_where_the_sum_is_least(job, scheme):
    theory, noise = part(job, "theory").THEORY[scheme], 1e-9
    h = theory.step[0] * noise ** theory.step[1] * np.geomspace(0.5, 2, 2001)
    squares = theory.square(h, noise)
    place = np.argmin(squares)
    assert abs(place - 1000) <= 1  # of steps 0.07 % apart: the next term of the truncation
    error = theory.error[0] * noise ** theory.error[1]
    assert np.sqrt(squares[place]) == pytest.approx(error, rel=1e-3)  # likewise
    gain, truncation = constants(STENCILS[scheme])
    assert gain**2 == pytest.approx(theory.gain, rel=1e-12)  # round-off
    order = STENCILS[scheme].order
    small = np.sqrt(theory.truncation(1e-3)) / 1e-3**order
    assert small == pytest.approx(truncation / np.sqrt(2), rel=1e-5)  # sin's mean square is 1/2


def test_the_noise_is_that_of_its_level_and_independent_at_neighbouring_numbers(job):
    measure = part(job, "measure")
    x = np.random.default_rng(0).uniform(0, 6, 40_000)
    here, near, other = (
        measure.noise_of(at, seed) for at, seed in ((x, 1), (np.nextafter(x, 7), 1), (x, 2))
    )
    assert abs(here.mean()) <= 5 / 200  # z <= 5
    assert abs(np.mean(here**2) - 1) <= 5 * np.sqrt(0.8) / 200  # a uniform law's kurtosis is 1.8
    for product in (here * near, here * other, near * other):
        assert abs(product.mean()) <= 5 / 200
    np.testing.assert_array_equal(measure.noise_of(x, 1), here)
    values = measure.simulator(x, np.ones(x.size, int), np.full(x.size, 0.5))
    np.testing.assert_allclose(values, np.sin(x) + 0.5 * here, rtol=1e-15)  # an ulp


def made(job, moved=0.0, grown=0.0, factor=1.0, auto=1.3, relative=50.0, thumb=1.0):
    """Data as they are expected; else other exponents, another constant, other regrets."""
    data = {"noises": np.array(NOISES), "steps": part(job, "measure").STEPS}
    spread = np.exp(0.02 * np.linspace(-1, 1, SEEDS))[:, None]
    for scheme, theory in part(job, "theory").THEORY.items():
        noises = data["noises"]
        rows = [theory.square(data["steps"] * s**-moved, s) * s ** (2 * grown) for s in noises]
        squares = factor**2 * np.stack(rows)
        best = np.sqrt(squares.min(axis=1))
        data[f"{scheme}_squares"] = squares * spread[..., None]
        data[f"{scheme}_auto"] = (auto * best) ** 2 * spread
        rule = relative * best[0] * (noises / noises[0]) ** thumb
        data[f"{scheme}_relative"] = rule**2 * spread
    return data


def outcomes(job, data):
    found = {}
    for verdict in job.module.verdicts(data, job.config):
        name = verdict.claim.key.rpartition(".")[2]
        found.setdefault(name, []).append(verdict.outcome)
    return {name: set(each) for name, each in found.items()}


def test_all_hold_on_data_that_bear_them_out(job):
    found = outcomes(job, made(job))
    assert len(found) == 6
    assert all(each == {"holds"} for each in found.values()), found


@pytest.mark.parametrize(
    ("claim", "changes"),
    [
        ("error", {"grown": 0.1}),
        ("step", {"moved": 0.1}),
        ("constant", {"factor": 1.3}),
        ("auto", {"auto": 4.0}),
        ("control_regret", {"relative": 2.0}),
        ("control_error", {"thumb": 0.5}),
    ],
)
def test_each_fails_on_data_that_refute_it(job, claim, changes):
    assert "fails" in outcomes(job, made(job, **changes))[claim]
