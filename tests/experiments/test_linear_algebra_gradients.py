"""Every verdict of `linear_algebra_gradients` holds on data that bear it out, fails on others."""

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from adlab.figures import style
from adlab.lab import config as configs
from adlab.lab.errors import ConfigError

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "linear_algebra_gradients.toml"
LOSSES = ("vector", "cluster", "null", "nuclear", "factors")
CHANGES = {
    "losses": list(LOSSES), "exponents": [7, 19, 31, 43, 49], "num_matrices": 8, "num_systems": 3,
}  # fmt: skip
GAPS = np.array([2.0**-k for k in CHANGES["exponents"]] + [0.0])
NEAR = 4  # how many gaps are resolved
EPS = 2.0**-52
JNP, RULES, DIFFERENCES = range(3)
VECTOR, CLUSTER, NULL, NUCLEAR, FACTORS = range(5)


@pytest.fixture(scope="module")
def job():
    return configs.load(CONFIG, changes=CHANGES)


@pytest.fixture(scope="module")
def part(job):
    """Give the modules of the experiment by name."""
    return lambda name: sys.modules[f"{job.module.__name__}.{name}"]


def root_mean_squares():
    """Errors as theory has them, of shape (methods, losses, gaps)."""
    with np.errstate(divide="ignore"):
        by_gap = 2 * EPS / GAPS
    found = np.tile(by_gap, (3, 5, 1))
    found[:, NUCLEAR] = EPS
    found[DIFFERENCES] = EPS ** (2 / 3)
    found[DIFFERENCES, VECTOR, :NEAR] = (EPS / GAPS[:NEAR]) ** (2 / 3)
    found[JNP, [VECTOR, CLUSTER, FACTORS], NEAR:] = np.nan
    found[JNP, NULL] = np.nan
    found[RULES, [CLUSTER, NULL], NEAR:] = EPS
    found[RULES, VECTOR, NEAR:], found[RULES, FACTORS, NEAR:] = 1.0, 0.2
    return found


def measured(errors=None, **changed):
    errors = root_mean_squares() if errors is None else errors
    norms = np.ones((5, len(GAPS), 8))
    norms[VECTOR, -1] = np.nan
    kinds = np.array([["exact", "differentiable", "none", "exact", "exact"]] * 5)
    squares = np.full((4, 2, 7, 3), 1e-15)
    squares[2:] = 1e-10
    squares[JNP, :, 3:5], squares[JNP, :, 5:] = 0.1, np.nan
    exact, steps = np.ones(13), np.full((2, 20), 1e-15)
    lost = np.where([[True], [False]], np.nan, steps)
    return {
        "sweep": np.repeat(errors[..., None] ** 2, 8, axis=-1),
        "sweep_norms": norms,
        "functions": np.full((3, len(GAPS), 8), EPS**2),  # of CLUSTER, NULL and FACTORS
        "table": np.full((3, 5, 5, 8), 1e-30),
        "table_norms": np.ones((5, 5, 8)),
        "expected": kinds,
        "diagnosed": kinds.copy(),
        "squares": squares,
        "ridge_exact": exact,
        "ridge_rules": exact + 1e-15,
        "ridge_differences": exact + 1e-9,
        "ridge_jnp": exact * np.nan,
        "ridge_best": np.array(1.0),
        "ridge_path_rules": np.array([3.0, 1.001]),
        "ridge_path_losses_rules": np.array([0.5, 0.4]),
        "ridge_path_jnp": np.array([3.0, np.nan]),
        "ridge_path_losses_jnp": np.array([0.5, np.nan]),
        "ridge_scan": np.array([1.0, 3.0]),
        "ridge_losses": np.array([0.4, 0.5]),
        "ridge_times": np.arange(12) / 12,
        "completion_errors_rules": np.geomspace(1, 1e-4, 20) * np.ones((2, 1)),
        "completion_errors_jnp": np.where([[True], [False]], np.nan, np.ones((2, 20))),
        "completion_gradient_errors_rules": steps,
        "completion_gradient_errors_jnp": lost,
    } | changed


def outcomes(job, data):
    """Return (claim, method, loss or kind) -> outcome."""
    found = {}
    for verdict in job.module.verdicts(data, job.config):
        params = verdict.claim.params
        about = [params[name].key for name in ("method", "loss", "kind") if name in params]
        names = (verdict.claim.key, *about)
        found[tuple(name.rpartition(".")[2] for name in names)] = verdict.outcome
    return found


def with_errors(place, values):
    errors = root_mean_squares()
    errors[place] = values
    return measured(errors)


def with_array(name, place, value):
    array = measured()[name]
    array[place] = value
    return measured(**{name: array})


STEEP, FLAT = EPS / GAPS[:NEAR] ** 1.2, np.full(NEAR, 1e-9)
NEARBY, AT = slice(None, NEAR), slice(NEAR, None)
DATA = {
    ("exponent_split", "jnp"): with_errors((JNP, VECTOR, NEARBY), STEEP),
    ("exponent_split", "rules"): with_errors((RULES, VECTOR, NEARBY), STEEP),
    ("exponent_split", "differences"): with_errors((DIFFERENCES, VECTOR, NEARBY), FLAT),
    ("exponent_whole", "jnp"): with_errors((JNP, slice(1, None), NEARBY), FLAT),
    ("exponent_whole", "rules"): with_errors((RULES, slice(1, None), NEARBY), FLAT),
    ("exponent_whole", "differences"): with_errors((DIFFERENCES, slice(1, None), NEARBY), STEEP),
    ("resolved",): with_errors((RULES, NUCLEAR, 0), 1e-12),
    ("overtaken",): with_errors((DIFFERENCES, CLUSTER, 3), 1.0),
    ("control_convention", "vector"): with_errors((RULES, VECTOR, AT), 1e-15),
    ("control_convention", "factors"): with_errors((RULES, FACTORS, AT), 1e-15),
    ("coinciding", "cluster"): with_errors((RULES, CLUSTER, -1), np.nan),
    ("coinciding", "null"): with_errors((RULES, NULL, -1), 1e-3),
    ("coinciding", "nuclear"): with_errors((RULES, NUCLEAR, -1), 1e-3),
    ("control_jnp", "cluster"): with_errors((JNP, CLUSTER, AT), 1e-15),
    ("control_jnp", "null"): with_errors((JNP, NULL, AT), 1e-15),
    ("functions",): with_array("functions", (2, -1), 1e-26),
    ("diagnosed",): with_array("diagnosed", (0, 0), "none"),
    ("squares",): with_array("squares", (RULES, 0, 6, 0), np.nan),
    ("squares_differences",): with_array("squares", (3, 1, 2, 1), 1e-6),
    ("squares_jnp",): with_array("squares", (JNP, 1, 2, 1), 1e-6),
    ("control_squares", "orthonormal"): with_array("squares", (JNP, 1, 3, 0), 1e-15),
    ("control_squares", "equal_values"): with_array("squares", (JNP, 1, 4, 0), 1e-15),
    ("control_squares", "identity"): with_array("squares", (JNP, 1, 5, 0), 1e-15),
    ("control_squares", "zero"): with_array("squares", (JNP, 1, 6, 0), 1e-15),
    ("ridge",): with_array("ridge_rules", 12, 1.1),
    ("ridge_differences",): with_array("ridge_differences", 3, 1.1),
    ("ridge_found",): with_array("ridge_path_rules", -1, 1.2),
    ("control_ridge",): measured(ridge_jnp=np.ones(13)),
    ("completion",): with_array("completion_gradient_errors_rules", (0, 7), np.nan),
    ("completed",): with_array("completion_errors_rules", (0, -1), 0.1),
    ("completion_jnp",): with_array("completion_gradient_errors_jnp", (1, 7), 1e-3),
    ("control_completion",): measured(completion_gradient_errors_jnp=np.full((2, 20), 1e-15)),
}


def test_all_hold_on_data_that_bear_them_out(job):
    found = outcomes(job, measured())
    assert set(found.values()) == {"holds"}
    assert set(found) == set(DATA)


@pytest.mark.parametrize("claim", DATA, ids=" ".join)
def test_each_fails_on_data_that_refute_it(job, claim):
    assert outcomes(job, DATA[claim])[claim] == "fails"


@pytest.mark.parametrize("exponent", [7, 49])
def test_matrices_and_their_factors_are_exact_in_binary(part, exponent):
    matrices = part("matrices")
    known = matrices.Known(np.random.default_rng(0), matrices.near(2.0**-exponent))
    u, s, v, a = (
        [[Fraction(x) for x in row] for row in array]
        for array in (known.u, known.s[None], known.v, known.a)
    )
    assert s[0][1] - s[0][2] == Fraction(1, 2**exponent)
    for q in (u, v):
        products = [[sum(x * y for x, y in zip(p, r, strict=True)) for p in q] for r in q]
        assert products == [[int(i == j) for i in range(len(q))] for j in range(len(q))]
    assert a == [[sum(u[i][k] * s[0][k] * v[j][k] for k in range(4)) for j in range(4)]
                 for i in range(8)]  # fmt: skip


def test_closed_forms_agree_with_differences(job, part):
    rng, losses = np.random.default_rng(1), type(job.config).model_fields["losses"].default
    known = part("matrices").Known(rng, (2.0, 1.5, 1.0, 0.5))
    w, z = rng.normal(size=(1, 8, 8)), rng.normal(size=(1, 8, 4))
    for loss in losses:
        exact = known.gradient(loss, w[0], z[0])
        found = part("losses").differences(loss, known.a[None], w, z, np.ones(1))
        np.testing.assert_allclose(found[0], exact, atol=1e-8)  # eps^(2/3), times a hundred


def test_a_loss_has_a_derivative_unless_it_tells_coinciding_values_apart(part):
    matrices, rng = part("matrices"), np.random.default_rng(0)
    pair = matrices.Known(rng, matrices.SPECTRA["pair"])
    flat = matrices.Known(rng, matrices.SPECTRA["rank_two"])
    assert [pair.differentiable(loss) for loss in LOSSES] == [False, True, True, True, True]
    assert [flat.differentiable(loss) for loss in LOSSES] == [True, False, False, False, False]
    assert not pair.through_factors("factors")
    assert pair.through_factors("projected")


def test_the_formula_for_least_squares_agrees_with_differences_along_constant_rank(part):
    squares, rng = part("squares"), np.random.default_rng(2)
    for kind in squares.KINDS:
        pair = squares.system(rng, kind, 6, 5)
        along = [rng.normal(size=factor.shape) for factor in pair]
        b, c = rng.normal(size=6), rng.normal(size=5)
        slope = squares.difference(pair, along, b, c)
        tangent = along[0] @ pair[1] + pair[0] @ along[1]
        exact = squares.closed_form(pair, b, c)
        assert np.sum(exact * tangent) == pytest.approx(slope, abs=1e-7)  # eps^(4/5), conditioned


def test_the_ridge_fit_by_hand_agrees_with_differences(job, part):
    fits = part("fits")
    data = fits.series(job.config)
    for harmonics in (1, 5):
        _, times, _, slope = fits.ridge_by_hand(data, harmonics, fits.START)
        found = fits._ridge_differences(data, harmonics)
        np.testing.assert_allclose(found, np.append(times, slope), atol=1e-7)  # eps / step


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exponents": [7, 9, 11, 49]}, "exponents must hold at least 4 up to 43"),
        ({"exponents": [7, 7, 9, 11, 13]}, "exponents must be distinct"),
        ({"losses": ["polar", "polar"]}, "losses must be distinct"),
        ({"num_times": 32, "num_harmonics": 16}, "num_harmonics must be below num_times / 2 = 16"),
        ({"rank": 20}, "rank must be below rows and columns"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        configs.load(CONFIG, changes=changes)


def test_the_table_is_drawn_with_what_is_none_and_what_is_lost(job):
    data = measured()
    data["table"][JNP, CLUSTER, 0] = np.nan
    with style.context():
        figure = job.module.plot(data, job.config)["coinciding"]
    words = [text.get_text() for text in figure.axes[0].texts]
    assert len(words) == 5 * (4 * 2 + 1)
    counts = {word: words.count(word) for word in ("none", "NaN", "refuses")}
    assert counts == {"none": 5, "NaN": 1, "refuses": 4}


def test_titles_assert_what_holds_and_ask_otherwise(job):
    data = measured()
    with style.context():
        verdicts = job.module.verdicts(data, job.config)
        figures = job.module.plot(data, job.config, verdicts=verdicts)
        asked = job.module.plot(data, job.config)
    for name in ("gap", "squares", "ridge", "completion"):
        assert not figures[name].get_suptitle().endswith("?"), name
        assert asked[name].get_suptitle().endswith("?"), name


def test_least_squares_show_the_share_that_is_lost_over_all_shapes(job):
    data = measured()
    data["squares"][JNP, 0, 3] = np.nan
    with style.context():
        figure = job.module.plot(data, job.config)["squares"]
    shares = [words.get_text() for words in figure.axes[0].texts]
    assert shares == ["50 %", "100 %", "100 %"]
