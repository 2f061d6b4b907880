"""Every verdict of `trace_estimation` holds on data of theory, and fails on data that refute it."""

import statistics
import sys
from pathlib import Path

import numpy as np
import pytest

from adlab import optimize
from adlab.figures import style
from adlab.lab import config as configs
from adlab.lab import start
from adlab.lab.progress import Progress

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "trace_estimation.toml"
SPECTRA, BUDGETS, DRAWS, DIM = 4, np.array([6, 12, 24, 48, 96]), 1000, 156
TRACE = np.array([1.6, 20.0, 300.0, 10.0])
SQUARES, DIAGONAL = TRACE**2 / [2.0, 10.0, 144.0, 30.0], TRACE**2 / 150
# The advantage at 96 products, per spectrum: only the flat one has none.
GAIN = {"hutch++": np.array([150, 1.7, 0.4, 1.3]), "xtrace": np.array([300, 2.7, 0.7, 1.6])}
HUTCHINSON = ("rademacher", "gaussian", "sphere")


@pytest.fixture(scope="module")
def job():
    return configs.load(CONFIG)


@pytest.fixture(scope="module", autouse=True)
def _intervals_once():
    """Remember the intervals of slopes: what refutes one claim leaves most of the data alone."""
    known, own = {}, optimize.slope_interval

    def remembered(x, runs, *, seed):
        key = (np.asarray(x).tobytes(), np.asarray(runs).tobytes(), np.shape(runs), seed)
        if key not in known:
            known[key] = own(x, runs, seed=seed)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optimize, "slope_interval", remembered)
        yield


def deviations(law):
    """The standard deviation of one probe, by the formulas."""
    return {
        "rademacher": np.sqrt(2 * (SQUARES - DIAGONAL)),
        "gaussian": np.sqrt(2 * SQUARES),
        "sphere": np.sqrt(2 * DIM / (DIM + 2) * (SQUARES - TRACE**2 / DIM)),
    }[law]


def normal(seed):
    """Return the quantiles of a normal law in random orders, (S, M, R), of variance 1."""
    law = statistics.NormalDist()
    values = np.array([law.inv_cdf((i + 0.5) / DRAWS) for i in range(DRAWS)])
    rows = np.tile(values / values.std(), (SPECTRA, len(BUDGETS), 1))
    return np.random.default_rng(seed).permuted(rows, axis=-1)


def good():
    spreads = {law: deviations(law)[:, None] / np.sqrt(BUDGETS) for law in HUTCHINSON}
    for name, gain in GAIN.items():
        spreads[name] = spreads["rademacher"] / gain[:, None]
    data = {"trace": TRACE, "squares": SQUARES, "diagonal": DIAGONAL}
    for seed, (name, spread) in enumerate(spreads.items()):
        data[f"{name}_estimates"] = TRACE[:, None, None] + normal(seed) * spread[..., None]
        claimed = 0.7 if name == "xtrace" else 1.0
        data[f"{name}_errors"] = claimed * spread[..., None] * np.ones(DRAWS)
    data["eigenvalues"] = np.zeros((SPECTRA, DIM))
    return data | {"diagonal_matrix": np.array([1.6, 1.6]), "products": np.array([10.0, 10.0])}


def outcomes(job, data):
    found = {}
    for verdict in job.module.verdicts(data, job.config):
        found.setdefault(verdict.claim.key.rpartition(".")[2], []).append(verdict.outcome)
    return found


def stretched(name, factor):
    """Multiply the errors of an estimator, but not what it says of them, by factors (S, M, 1)."""

    def change(data):
        centre = TRACE[:, None, None]
        moved = centre + (data[f"{name}_estimates"] - centre) * factor
        return {f"{name}_estimates": moved}

    return change


def merged(*changes):
    return lambda data: {key: value for change in changes for key, value in change(data).items()}


STEEPER = BUDGETS[:, None] ** -0.2
FLAT = (np.arange(SPECTRA) == 2)[:, None, None]
BAD = {
    "mean": lambda data: {"sphere_estimates": data["sphere_estimates"] * 1.02},
    "variance": merged(*(stretched(law, 1.06) for law in HUTCHINSON)),
    "slope": merged(*(stretched(law, STEEPER) for law in HUTCHINSON)),
    "advantage": merged(*(stretched(name, 40.0) for name in GAIN)),
    "control_flat": merged(*(stretched(name, np.where(FLAT, 0.1, 1.0)) for name in GAIN)),
    "coverage": lambda data: {f"{name}_errors": data[f"{name}_errors"] * 0.7 for name in
                              (*HUTCHINSON, "hutch++")},
    "control_coverage": lambda data: {"xtrace_errors": data["xtrace_errors"] / 0.7},
    "diagonal_matrix": lambda _: {"diagonal_matrix": np.array([1.6, 1.7])},
    "products": lambda _: {"products": np.array([10.0, 10.1])},
}  # fmt: skip


def test_all_hold_on_data_that_bear_them_out(job):
    found = outcomes(job, good())
    assert {outcome for each in found.values() for outcome in each} == {"holds"}
    assert set(found) == set(BAD)
    assert len(found["advantage"]) == 6
    assert len(found["control_flat"]) == 2


@pytest.mark.parametrize("claim", BAD)
def test_each_fails_on_data_that_refute_it(job, claim):
    data = good()
    assert set(outcomes(job, data | BAD[claim](data))[claim]) >= {"fails"}


@pytest.mark.parametrize("spectrum", range(SPECTRA))
def test_one_bad_spectrum_is_enough(job, spectrum):
    data = good()
    only = np.where((np.arange(SPECTRA) == spectrum)[:, None, None], 1.1, 1.0)
    changed = data | stretched("gaussian", only)(data)
    assert outcomes(job, changed)["variance"].count("fails") == 1


def test_estimates_that_are_no_numbers_leave_everything_undecided(job):
    data = good()
    changed = {name: np.full_like(data[name], np.nan) for name in data if "estimates" in name}
    found = outcomes(job, data | changed)
    left = {key for key, each in found.items() if set(each) != {"undecided"}}
    assert left == {"diagonal_matrix", "products"}


def quadrature(law):
    """Return nodes (k, 2) and weights that integrate polynomials of degree 4 in two dimensions."""
    if law == "sphere":
        angles = 2 * np.pi * np.arange(8) / 8
        nodes = np.sqrt(2) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        return nodes, np.full(8, 1 / 8)
    line, weights = np.polynomial.hermite_e.hermegauss(3)
    if law == "rademacher":
        line, weights = np.array([-1.0, 1.0]), np.ones(2)
    nodes = np.stack([axis.ravel() for axis in np.meshgrid(line, line)], axis=1)
    products = np.outer(weights, weights).ravel()
    return nodes, products / products.sum()


@pytest.mark.parametrize("law", HUTCHINSON)
def test_the_formulas_are_the_variances_of_one_probe(job, law):
    matrix = np.array([[2.0, -0.7], [-0.7, 0.5]])
    nodes, weights = quadrature(law)
    values = np.einsum("ki,ij,kj->k", nodes, matrix, nodes)
    mean = weights @ values
    moments = {"trace": [2.5], "squares": [(matrix**2).sum()], "diagonal": [4.25]}
    data = {name: np.array(value) for name, value in moments.items()}
    formulas = sys.modules[f"{job.module.__name__}.verdicts"].formulas
    found = formulas(data | {"eigenvalues": np.zeros((1, 2))}, law)
    assert np.isclose(mean, 2.5, rtol=1e-12)  # round-off
    assert np.allclose(found, weights @ (values - mean) ** 2, rtol=1e-12)  # round-off


def test_the_network_runs_at_small_size_and_its_operator_is_its_matrix():
    changes = {"spectra": ["network"], "estimators": ["sphere"], "hidden": 2, "num_draws": 100}
    small = configs.load(CONFIG, changes=changes | {"num_matvecs": [6, 12], "training_steps": 20})
    with start.precision(small.config.x64):
        data = small.module.run(small.config, Progress.silent())
        with style.context():
            figures = small.module.plot(data, small.config)
    assert set(figures) == {"errors", "coverage", "idea"}
    assert data["sphere_estimates"].shape == (1, 2, 100)
    assert np.isclose(data["eigenvalues"].sum(), data["trace"][0])
    verdicts = {
        v.claim.key.rpartition(".")[2]: v for v in small.module.verdicts(data, small.config)
    }
    assert verdicts["products"].outcome == "holds"
    assert verdicts["diagonal_matrix"].outcome == "holds"
    assert "fails" not in {v.outcome for v in verdicts.values()}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_matvecs": [12, 6]}, "increase"),
        ({"num_matvecs": [6, 10]}, "multiple of 6"),
        ({"hidden": 1}, "raise hidden"),
        ({"spectra": ["flat", "flat"]}, "differ"),
    ],
)
def test_a_config_without_meaning_is_refused(changes, words):
    with pytest.raises(configs.ConfigError, match=words):
        configs.load(CONFIG, changes=changes)


@pytest.mark.usefixtures("x64")
def test_signs_cancel_what_is_not_diagonal(job):
    idea = job.module.measure.idea
    data = idea.run(7)
    probes, matrix = data["idea_probes"], data["idea_matrix"]
    assert set(np.unique(probes)) == {-1.0, 1.0}
    exact = np.einsum("ki,ij,kj->k", probes, matrix, probes)
    np.testing.assert_allclose(data["idea_samples"], exact, rtol=1e-12, atol=1e-12)  # round-off
    every = idea.products(data)
    np.testing.assert_array_equal(np.diagonal(every, axis1=1, axis2=2), [np.diag(matrix)] * 1024)
    assert [v.outcome for v in idea.verdicts(data)] == ["holds"] * 3
    worse = {
        "idea_sums": data | {"idea_samples": data["idea_samples"][::-1]},
        "idea_rest": data | {"idea_probes": np.repeat(probes[:64], 16, axis=0)},
        "idea_mean": data | {"idea_samples": data["idea_samples"] + 3.0},
    }
    for claim, changed in worse.items():
        found = {v.claim.key.rpartition(".")[2]: v.outcome for v in idea.verdicts(changed)}
        assert found[claim] == "fails"
