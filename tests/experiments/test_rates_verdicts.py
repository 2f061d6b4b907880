"""Every verdict of `rates` holds on data that bear it out, and fails on data that refute it."""

import sys
import types
from pathlib import Path

import numpy as np
import pytest

from adlab import gradients, problems
from adlab.lab import config as configs

ROOT = Path(__file__).parents[2]
SEEDS = 16
TAU = np.geomspace(30, 400, 24)
HITS = np.geomspace(1, 1e6, 400).astype(int)
CHANGES = {
    "dims": [8, 16, 32],
    "full_dims": [16, 32, 64],
    "num_seeds": SEEDS,
    "horizons": [30, 100],
    "estimators": [{"kind": "reverse_mode"}, {"kind": "two_point"}, {"kind": "forward_gradient"}],
}


@pytest.fixture(scope="module")
def job():
    return configs.load(ROOT / "configs" / "rates.toml", changes=CHANGES)


def noisy(curve):
    """Return S seeds of a curve that differ by a factor of 1 % or so."""
    factors = np.exp(0.01 * np.linspace(-1, 1, SEEDS))
    return np.asarray(curve)[..., None, :] * factors[:, None]


def tail(power, growth=1.0, factor=1.0, averaged=0.7):
    """A cell whose curves fall as (k/n^growth)^power."""
    dims = np.array(CHANGES["dims"])
    k = np.rint(TAU * dims[:, None])
    scaled = k / dims[:, None] ** growth
    return {
        "k": k,
        "curves": noisy(factor * scaled**power),
        "averages": noisy(scaled**-averaged),
        "gd_k": np.arange(1, 401),
        "gd": np.arange(1.0, 401) ** power,
    }


def quadratic(growths=(0.0, 1.0, 1.0)):
    """Exponential decay, in n^growth iterations for each estimator."""
    dims = np.array(CHANGES["full_dims"])
    curves = [[noisy(np.exp(-HITS / (20 * n**growth))) for n in dims] for growth in growths]
    return {
        "k": np.broadcast_to(HITS, (3, 3, HITS.size)),
        "curves": np.array(curves),
        "factor": np.array([np.ones(3), dims, dims]),
        "calls": np.array([np.ones(3), 2 * dims, np.ones(3)]),
        "evaluations": np.array([np.full(3, 2.3), 2.0 * dims, 2.7 * dims]),
        "exact": np.array([np.full(3, np.nan), 20 * dims * np.log(1e3), np.full(3, np.nan)]),
        "conditions": np.array([1.0, 10.0, 100.0]),
        "margins": np.array([[1.0] * 3, [1.98] * 3, [1.99] * 3]),
    }


def lipschitz(in_dim=0.5, in_steps=-0.5):
    dims, lengths = np.array(CHANGES["dims"]), np.array([1250, 5000, 20000])
    mean = dims[:, None] ** in_dim * lengths**in_steps
    return {"lengths": lengths, "errors": np.moveaxis(noisy(mean), 1, 2)}


def real(slowdown=4.0):
    """Descent whose best factor takes `slowdown` times the iterations of gradient descent."""
    k = np.geomspace(1, 1e5, 300)
    factors = np.geomspace(1, 66, 8)
    times = slowdown * np.array([5.0, 3, 1, 1.5, 2, 4, 8, 16])
    return {
        "breast_cancer_gd_k": k,
        "breast_cancer_gd": np.exp(-k / 10),
        "breast_cancer_k": np.tile(k, (8, 1)),
        "breast_cancer_curves": np.stack([noisy(np.exp(-k / (10 * time))) for time in times]),
        "breast_cancer_factors": factors,
        "breast_cancer_effective": np.array(4.0),
        "breast_cancer_worst": np.array(33.0),
    }


def controls(chain=-0.5, power=None, growth=0.0, end=1e6):
    k = np.unique(np.geomspace(1, 1e5, 400).astype(int))
    data = {"chain_k": k, "chain": k ** float(chain), "power_k": k, "rank_one_k": HITS}
    data |= {f"power_{p}": k ** (power or -p / (p - 2.0)) for p in (4, 8, 20)}
    dims = np.array(CHANGES["full_dims"])
    data["rank_one"] = noisy(1 / (1 + HITS / dims[:, None] ** growth))
    data["growth"] = np.full((2, 3, SEEDS), end)
    return data


def worst_case(gd=1.0, factor=1.0):
    return {"gd": np.full(2, gd), "scaled": np.full((3, 2, SEEDS), factor)}


def full_dimension(shift=0.0):
    values = np.linspace(0.9, 1.1, 64)
    return {"full": values + shift, "reduced": values}


GOOD = {
    "smooth": lambda: tail(-12 / 11, factor=8 / 7),
    "convex": lambda: tail(-1.0),
    "worst_case": worst_case,
    "strongly_convex": quadratic,
    "lipschitz": lipschitz,
    "real_data": real,
    "controls": controls,
    "full_dimension": full_dimension,
}


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
        "parts": ["worst_case", "controls", "full_dimension", "real_data"],
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
