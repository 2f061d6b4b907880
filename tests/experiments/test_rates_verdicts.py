"""Every verdict of `rates` holds on data that bear it out, and fails on data that refute it."""

import sys
import types
from pathlib import Path

import jax
import numpy as np
import pytest
from rates_data import (
    CHANGES,
    GOOD,
    HITS,
    SEEDS,
    controls,
    effective,
    full_dimension,
    lipschitz,
    quadratic,
    real,
    tail,
    worst_case,
)

from adlab import gradients, problems
from adlab.lab import config as configs

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def job():
    return configs.load(ROOT / "configs" / "rates.toml", changes=CHANGES)


def outcomes(job, **changed):
    """Return claim -> outcomes for these cells' data, or for all the good ones."""
    cells = changed or {name: make() for name, make in GOOD.items()}
    config = job.config.model_copy(update={"parts": tuple(cells)})
    data = {f"{cell}_{k}": v for cell, arrays in cells.items() for k, v in arrays.items()}
    found = {}
    for verdict in job.module.verdicts(data, config):
        key = verdict.claim.key.rpartition(".")[2]
        found.setdefault(key, []).append(verdict.outcome)
    return found


def test_all_hold_on_data_that_bear_them_out(job):
    found = outcomes(job)
    assert {outcome for each in found.values() for outcome in each} == {"holds"}
    assert set(BAD) == set(found)


def with_gd(cell, power):
    return cell | {"gd": cell["gd_k"] ** power}


def priced(jvp):
    """A forward gradient's step costs so many evaluations where a two-point step costs 2."""
    good = quadratic()
    good["evaluations"][2] = jvp / 2 * good["evaluations"][1]
    return good


BAD = {
    "smooth_gd_slope": {"smooth": with_gd(tail(-12 / 11), -0.5)},
    "smooth_slope": {"smooth": tail(-0.5)},
    "smooth_dimension": {"smooth": tail(-12 / 11, growth=0.9)},
    "smooth_collapse": {"smooth": tail(-12 / 11, factor=2.0)},
    "control_average": {"smooth": tail(-12 / 11, averaged=12 / 11)},
    "convex_gd_slope": {"convex": with_gd(tail(-1.0), -0.5)},
    "convex_slope": {"convex": tail(-0.5)},
    "convex_dimension": {"convex": tail(-1.0, growth=0.9)},
    "convex_collapse": {"convex": tail(-1.0, factor=1.5)},
    "worst_case_gd": {"worst_case": worst_case(gd=1.001)},
    "worst_case": {"worst_case": worst_case(factor=1.5)},
    "strongly_convex_bound": {"strongly_convex": quadratic() | {"margins": np.full((3, 3), 0.5)}},
    "strongly_convex_spare": {"strongly_convex": quadratic() | {"margins": np.full((3, 3), 1.0)}},
    "strongly_convex_iterations": {"strongly_convex": quadratic((0.5, 0.5, 0.5))},
    "strongly_convex_evaluations": {"strongly_convex": quadratic((0.5, 0.5, 0.5))},
    "strongly_convex_forward_gradient": {"strongly_convex": priced(1.0)},
    "lipschitz_dimension": {"lipschitz": lipschitz(in_dim=1.0)},
    "lipschitz_steps": {"lipschitz": lipschitz(in_steps=-1.0)},
    "strongly_convex_exact": {"strongly_convex": quadratic((0.0, 1.05, 1.05))},
    "strongly_convex_square_bound": {"strongly_convex": quadratic(length=12)},
    "strongly_convex_square_exact": {"strongly_convex": quadratic(squares=(0.0, 1.05, 1.05))},
    "strongly_convex_square_dimension": {"strongly_convex": quadratic(squares=(0.0, 0.9, 1.0))},
    "effective_equal": {"effective_dimension": effective(equal=0.5)},
    "effective_halving": {"effective_dimension": effective(halving=1.0)},
    "effective_factor": {"effective_dimension": effective(factor=2.0)},
    "real_effective": {"real_data": real(8.0)},
    "real_worst": {"real_data": real(33.0)},
    "control_chain": {"controls": controls(chain=-1.0)},
    "control_power": {"controls": controls(power=-1.0)},
    "control_rank_one": {"controls": controls(growth=1.0)},
    "control_step": {"controls": controls(end=0.1)},
    "reduction": {"full_dimension": full_dimension(shift=1.0)},
}


@pytest.mark.parametrize("claim", BAD)
def test_each_fails_on_data_that_refute_it(job, claim):
    assert set(outcomes(job, **BAD[claim])[claim]) == {"fails"}


@pytest.mark.parametrize("cell", ["smooth", "convex"])
def test_one_dimension_without_numbers_leaves_the_worst_of_all_undecided(job, cell):
    broken = tail(-12 / 11 if cell == "smooth" else -1.0)
    broken["curves"][1] = np.nan
    found = outcomes(job, **{cell: broken})
    for claim in ("slope", "collapse", "dimension"):
        assert set(found[f"{cell}_{claim}"]) == {"undecided"}, claim


def test_a_target_that_is_not_reached_leaves_the_verdict_undecided(job):
    flat = quadratic() | {"curves": np.ones((3, 3, SEEDS, HITS.size))}
    found = outcomes(job, strongly_convex=flat)
    assert set(found["strongly_convex_evaluations"]) == {"undecided"}


def test_only_the_parts_that_were_run_are_judged(job):
    config = job.config.model_copy(update={"parts": ("lipschitz",)})
    data = {f"lipschitz_{k}": v for k, v in lipschitz().items()}
    assert len(job.module.verdicts(data, config)) == 2


def test_the_remaining_parts_run_at_small_size(job, monkeypatch):
    small = {
        "parts": ["worst_case", "controls", "full_dimension", "real_data", "effective_dimension"],
        "dims": [8, 16],
        "full_dims": [8, 16],
        "num_seeds": 8,
        "horizons": [30],
    }
    from adlab.lab import start
    from adlab.lab.progress import Progress

    job = configs.load(ROOT / "configs" / "rates.toml", changes=small)
    for part, name, value in (("real_data", "NUM_STEPS", 40), ("controls", "FULL_DIM", 8)):
        monkeypatch.setattr(sys.modules[f"{job.module.__name__}.{part}"], name, value)
    with start.precision(job.config.x64):
        data = job.module.run(job.config, Progress.silent())
    assert all(np.all(np.isfinite(array)) for array in data.values())
    equal, halving = data["effective_dimension_factors"]  # (tr H + 2 L)/L with mu = L/10
    np.testing.assert_allclose(equal, [7 + 0.1 + 2, 15 + 0.1 + 2], rtol=1e-12)  # round-off
    np.testing.assert_allclose(halving, [2 - 2.0**-6 + 2.1, 2 - 2.0**-14 + 2.1], rtol=1e-12)
    judged = job.module.verdicts(data, job.config)
    assert {v.outcome for v in judged} <= {"holds", "undecided"}
    exact = next(v for v in judged if v.claim.key.endswith("worst_case_gd"))
    assert isinstance(job.module, types.ModuleType)
    assert exact.outcome == "holds"


@pytest.mark.parametrize(("jvp", "outcome"), [(1.0, "fails"), (2.0, "undecided"), (2.7, "holds")])
def test_a_forward_gradient_is_priced_in_evaluations_not_in_calls(job, jvp, outcome):
    found = outcomes(job, strongly_convex=priced(jvp))
    assert found["strongly_convex_forward_gradient"] == [outcome]


def test_prices_are_those_of_a_quadratic(job):
    """Of 3 n + 1 operations: with its tangent 8 n + 2, with its gradient 7 n + 2."""
    prices = sys.modules[f"{job.module.__name__}.prices"]
    for n in (8, 100):
        problem = problems.quadratic(dim=n)
        value, jvp, vjp = 3 * n + 1, 8 * n + 2, 7 * n + 2
        ways = [
            (gradients.two_point(problem.fun, smoothing=0.1), 2.0),
            (gradients.forward_gradient(problem.fun), jvp / value),
            (gradients.reverse_mode(problem.fun), vjp / value),
        ]
        for gradient, expected in ways:
            found = prices.of_estimator(gradient, problem)
            assert found == pytest.approx((expected, expected * value)), gradient
        assert float(prices.of_gradient(problem)) == pytest.approx(vjp / value)


def test_squared_distances_are_recorded_beside_their_exact_expectation(job):
    from adlab.lab import start
    from adlab.lab.progress import Progress

    estimators = [{"kind": "two_point", "smoothing": "relative"}]
    changes = {"full_dims": [12, 16], "num_seeds": 256, "accuracy": 0.1, "estimators": estimators}
    config = configs.load(ROOT / "configs" / "rates.toml", changes=changes).config
    cells = sys.modules[f"{job.module.__name__}.cells"]
    with start.precision(config.x64):
        data = cells.strongly_convex(config, jax.random.key(1), Progress.silent())
    for k, squares, predicted in zip(
        data["k"][0], data["squares"][0], data["predicted_squares"][0], strict=True
    ):
        assert np.all(np.isnan(predicted) == (k < 0))
        runs, expected = squares[:, k > 0], predicted[k > 0]
        error = runs.std(axis=0, ddof=1) / 16  # of a mean over 256 runs
        assert np.all(np.abs(runs.mean(axis=0) - expected) <= 5 * error)  # z <= 5
    for exact, k, predicted in zip(
        data["exact_squares"][0], data["k"][0], data["predicted_squares"][0], strict=True
    ):
        below, above = predicted[k == exact], predicted[(k >= 0) & (k < exact)]
        assert np.all(below <= 0.1)
        assert np.all(above > 0.1)
