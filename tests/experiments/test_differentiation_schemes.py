"""`differentiation_schemes`: its oracles against closed forms, and its verdicts refuted by data."""

import re
import sys
from math import prod
from pathlib import Path

import jax
import numpy as np
import pytest
from mpmath import mp

from adlab import lab
from adlab.lab import config as configs

ROOT = Path(__file__).parents[2]
CHANGES = {"long": [12, 14, 16], "repeats": 6}
POINTS = 40


@pytest.fixture(scope="module")
def job():
    return configs.load(ROOT / "configs" / "differentiation_schemes.toml", changes=CHANGES)


@pytest.fixture(scope="module")
def parts(job):
    """Return the experiment's modules."""
    names = ("programs", "symbolic", "measure", "verdicts")
    return {name: sys.modules[f"{job.module.__name__}.{name}"] for name in names}


def test_the_oracle_gives_the_derivative_of_the_closed_form(parts):
    # l_n(x) = sin^2(2^(n-1) asin sqrt x), Schroeder 1870
    program, n = parts["programs"].named("logistic", 2), 30
    x = program.points(0, n, 5)
    assert x[0, 0] == 0.3
    found = parts["programs"].exact(program, n, x)[0]
    with mp.workdps(50):
        for point, slope in zip(x[0], found, strict=True):
            angle = mp.asin(mp.sqrt(mp.mpf(float(point))))
            rate = mp.mpf(2) ** (n - 1) / (2 * mp.sqrt(point * (1 - mp.mpf(float(point)))))
            assert slope == float(mp.sin(2**n * angle) * rate)


@pytest.mark.parametrize(("name", "size"), [("logistic", 7), ("product", 5), ("network", 3)])
def test_every_symbolic_scheme_and_the_manual_one_give_the_gradient(parts, name, size):
    program = parts["programs"].named(name, 2)
    x = program.points(1, size, 4)
    truth = parts["programs"].exact(program, size, x)
    schemes = parts["symbolic"].differentiate(program, size, expanded=False)
    found = {scheme: gradient.call(x) for scheme, gradient in schemes.items()}
    found["manual"] = program.manual(list(x), size, np.tanh)
    assert found.keys() == {"naive", "cse", "kept", "manual"}
    for rows in found.values():
        # 1e-12: l_7 loses 2^7 of 1e-16 to chaos, and more where its derivative is small
        np.testing.assert_allclose(np.stack(rows), truth, rtol=1e-12, atol=1e-14)


def test_the_product_is_differentiated_by_hand_at_numbers(parts):
    program, x = parts["programs"].named("product", 2), [2.0, 3.0, 5.0, 7.0]
    assert program.manual(x, 4) == [105, 70, 42, 30]
    assert program.value(x, 4) == prod(x)
    exact = parts["programs"].exact(program, 4, np.array(x)[:, None])
    assert exact[:, 0].tolist() == [105, 70, 42, 30]


def test_operations_of_symbolic_gradients_follow_their_laws(parts):
    logistic, product = (parts["programs"].named(name, 2) for name in ("logistic", "product"))
    found = parts["symbolic"].differentiate(logistic, 6, expanded=True)
    assert {k: v.operations for k, v in found.items()} == {
        "naive": 768, "cse": 2 * 6**2 - 5, "kept": 6 * 6 - 7, "expanded": 92,
    }  # fmt: skip
    found = parts["symbolic"].differentiate(product, 8, expanded=False)
    assert found["naive"].operations == 8 * 6
    assert found["cse"].operations == 8 * 7 // 2
    assert found["kept"].operations == 3 * 8 - 5


def test_integers_that_floats_skip_are_floats_in_what_is_written(parts):
    program = parts["programs"].named("logistic", 2)
    found = parts["symbolic"].differentiate(program, 7, expanded=True)["expanded"]
    assert found.call(np.array([[0.3, 1e-3]]))[0].dtype == np.float64


def test_the_rounded_orbit_has_a_derivative_of_its_own(parts):
    x = np.array([0.3, 0.9])
    found = parts["measure"].of_rounded_orbit(x, 3)
    np.testing.assert_allclose(found, (4 - 8 * x) * (4 - 8 * 4 * x * (1 - x)), rtol=1e-15)
    # at 1/4 the states are 1/4, 3/4: (7/4)/(1/2) + 1 and (5/4)/(1/2) + 1
    bound = parts["measure"].rounding_bound(np.array([0.25]), 3)
    assert bound[0] == 2.0**-53 * (4.5 + 3.5)


def test_without_its_extra_the_experiment_names_it(parts, monkeypatch):
    monkeypatch.setitem(sys.modules, "sympy", None)
    with pytest.raises(
        lab.LabError, match=re.escape("pip install -e '.[symbolic]' in adlab's folder")
    ):
        parts["symbolic"].require()


@pytest.mark.parametrize(
    "changes", [{"steps": [3, 2]}, {"long": [10]}, {"factors": [4, 4]}, {"points": 5000}]
)
def test_sizes_that_do_not_rise_and_points_beyond_the_batch_are_refused(changes):
    with pytest.raises(lab.LabError, match=next(iter(changes))):
        configs.load(ROOT / "configs" / "differentiation_schemes.toml", changes=changes)


def schemes(**values):
    order = ("manual", "naive", "expanded", "cse", "kept", "central", "automatic_step", "reverse",
             "forward")  # fmt: skip
    rows = [np.asarray(values.get(name, 1.0), dtype=float) for name in order]
    return np.stack(np.broadcast_arrays(*rows), axis=1)


def measured():
    """Data as theory has them; the noise of points is 10 %."""
    n = np.array([2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16])
    noise = np.exp(0.1 * np.random.default_rng(0).normal(size=(len(n), POINTS)))
    step, unit, late = 2.0**n, 2.0**-53, n > 10
    naive = np.where(late, np.nan, n**2 * 2.0**n / 3)
    cse = np.where(late, np.nan, n * (n - 1.0))
    condition = noise * 10.0 ** np.minimum(2.0 ** (n - 2), 40)[:, None]
    expanded = np.where(n[:, None] > 7, np.nan, condition * unit)
    truth, far = unit * step[:, None] * noise, 1e-11 * 4.0 ** n[:, None] * noise
    floor = unit ** (2 / 3) * 2.0 ** (2 * n / 3)
    error = schemes(expanded=expanded, central=far, reverse=truth)
    own = np.stack([truth, unit * noise, unit * noise, far], axis=1)
    m, depth = np.array([4, 8, 16, 32]), np.arange(1, 6)
    pair = schemes(central=np.full((5, POINTS), 1e-11), reverse=np.full((5, POINTS), 1e-16))
    rng = np.random.default_rng(1)
    times = {
        f"seconds_{name}": 1e-3 * (1 + 0.01 * rng.normal(size=(12, 6)))
        for name in ("logistic_10", "product_32", "network_5")
    }
    for array in times.values():
        array[8] *= 100  # numpy_naive
    return times | {
        "logistic_sizes": n, "product_sizes": m, "network_sizes": depth,
        "logistic_value": 3.0 * (n - 1), "product_value": m - 1.0, "network_value": 8.0 * depth + 5,
        "logistic_operations": schemes(
            naive=naive, cse=cse, kept=5 * (n - 1), central=6 * (n - 1), reverse=8 * (n - 1)
        ),
        "product_operations": schemes(
            naive=m * (m - 2), cse=m * (m - 1) / 2, kept=2 * m, central=2 * m * (m - 1),
            reverse=3 * (m - 1),
        ),
        "network_operations": schemes(
            naive=100 * depth * 2.0**depth, kept=24 * depth, reverse=26 * depth + 6
        ),
        "logistic_error": error, "product_error": pair[1:], "network_error": pair,
        "logistic_swept": np.stack([far, floor[:, None] * noise, far], axis=1),
        "logistic_own": own, "logistic_bound": 2 * unit * np.ones_like(noise),
        "logistic_condition": condition,
    }  # fmt: skip


def outcomes(job, data):
    """Return (claim, program or scheme or "") -> outcome."""
    found = {}
    for verdict in job.module.verdicts(data, job.config):
        about = verdict.claim.params.get("problem") or verdict.claim.params.get("scheme")
        names = (verdict.claim.key, about.key if about else "")
        found[tuple(name.rpartition(".")[2] for name in names)] = verdict.outcome
    return found


def changed(name, place, factor):
    """Return data in which one entry along axis 1 is multiplied, by a number or one per size."""
    data = measured()
    array = data[name].copy()
    factor = np.asarray(factor, dtype=float)
    shape = factor.shape + (1,) * (array.ndim - 1 - factor.ndim)
    array[:, place] *= factor.reshape(shape)
    return data | {name: array}


NAIVE, CSE, KEPT, CENTRAL, REVERSE = 1, 3, 4, 5, 7
N = measured()["logistic_sizes"]
BAD = {
    ("cheap", "logistic"): ("logistic_operations", REVERSE, 2),
    ("cheap", "product"): ("product_operations", REVERSE, 2),
    ("cheap", "network"): ("network_operations", REVERSE, 3),
    ("flat", "logistic"): ("logistic_operations", REVERSE, N**0.2),
    ("flat", "product"): ("product_operations", REVERSE, np.array([4, 8, 16, 32]) ** 0.2),
    ("flat", "network"): ("network_operations", REVERSE, np.arange(1, 6) ** 0.2),
    ("naive_logistic", ""): ("logistic_operations", NAIVE, 1.1**N),
    ("naive_product", ""): ("product_operations", NAIVE, 1.01),
    ("naive_network", ""): ("network_operations", NAIVE, 0.3 ** np.arange(5)),
    ("control_network", ""): ("network_operations", REVERSE, 3.0 ** np.arange(5)),
    ("cse", "logistic"): ("logistic_operations", CSE, N**-0.5),
    ("cse", "product"): ("product_operations", CSE, np.array([4, 8, 16, 32]) ** 0.2),
    ("kept", "logistic"): ("logistic_operations", KEPT, 2),
    ("kept", "product"): ("product_operations", KEPT, 2),
    ("kept", "network"): ("network_operations", KEPT, 2),
    ("expanded", ""): ("logistic_error", 2, 10.0**N),
    ("lost", ""): ("logistic_error", 2, 1e-30),
    ("central", ""): ("product_operations", CENTRAL, np.array([4, 8, 16, 32]) ** 0.1),
    ("floor", ""): ("logistic_swept", 1, 0.01),
    ("behind", "product"): ("product_error", CENTRAL, 1e-3),
    ("behind", "network"): ("network_error", CENTRAL, 1e-3),
    ("own", "reverse"): ("logistic_own", 1, 100),
    ("own", "forward"): ("logistic_own", 2, 100),
    ("control_own", ""): ("logistic_own", 3, 1e-20),
    ("bits_reverse", ""): ("logistic_error", REVERSE, 2.0 ** (N / 2)),
    ("bits_central", ""): ("logistic_error", CENTRAL, 2.0 ** (-N / 2)),
    ("bits_best", ""): ("logistic_swept", 1, 2.0 ** (N / 4)),
    ("seconds_manual", "logistic"): ("seconds_logistic_10", None, (2, 3)),
    ("seconds_manual", "product"): ("seconds_product_32", None, (2, 3)),
    ("seconds_manual", "network"): ("seconds_network_5", None, (2, 3)),
    ("seconds_naive", "logistic"): ("seconds_logistic_10", None, (8, 0.01)),
    ("seconds_naive", "network"): ("seconds_network_5", None, (8, 0.01)),
}


def refuting(name, place, factor):
    if place is not None:
        return changed(name, place, factor)
    row, times = factor
    data = measured()
    data[name][row] *= times
    return data


def test_all_hold_on_data_that_bear_them_out(job):
    found = outcomes(job, measured())
    assert {name for name, outcome in found.items() if outcome != "holds"} == set()
    assert set(found) == set(BAD)


def test_slopes_over_points_have_the_ends_of_their_scatter(job):
    found = {v.claim.key.rpartition(".")[2]: v for v in job.module.verdicts(measured(), job.config)}
    for name in ("expanded", "lost", "floor", "bits_reverse", "bits_central"):
        assert found[name].low < found[name].measured < found[name].high, name


@pytest.mark.parametrize("claim", BAD, ids=" ".join)
def test_each_fails_on_data_that_refute_it(job, claim):
    assert outcomes(job, refuting(*BAD[claim]))[claim] == "fails"


def test_few_sizes_decide_no_exponent_and_few_repeats_no_time(job):
    data = {k: v[:2] if not k.startswith("seconds") else v[:, :2] for k, v in measured().items()}
    config = job.config.model_copy(update={"steps": (2, 3), "long": (), "depths": (1, 2)})
    found = {v.claim.key: v.outcome for v in job.module.verdicts(data, config)}
    assert found["differentiation_schemes.claim.seconds_manual"] == "undecided"
    assert "fails" not in found.values()
    exponents = ("flat", "cse", "expanded", "central", "bits_best", "naive_logistic")
    assert {found[f"differentiation_schemes.claim.{name}"] for name in exponents} == {"undecided"}


def test_times_that_are_few_or_scatter_refute_nothing(job):
    data = measured()
    claims = [claim for claim in BAD if "seconds" in claim[0]]
    names = {BAD[claim][0] for claim in claims}
    for name, _, (row, times) in (BAD[claim] for claim in claims):  # rows of their own
        data[name][row] *= times
    assert {outcomes(job, data)[claim] for claim in claims} == {"fails"}
    few = {name: data[name][:, :5] for name in names}
    scattered = {name: data[name] * [1.0, 1.5, 0.7, 1.0, 1.5, 0.7] for name in names}
    for changes in (few, scattered):
        found = outcomes(job, data | changes)
        assert {claim: found[claim] for claim in claims} == dict.fromkeys(claims, "undecided")


def test_operations_are_counted_in_the_gradients_themselves(parts):
    with jax.enable_x64(True):
        measure, program = parts["measure"], parts["programs"].named("product", 2)
        found = measure._counted(program, 6, measure._gradients(program, 6))
    assert (found["value"], found["reverse"], found["manual"]) == (5, 15, 12)
    assert found["central"] == 12 * 5
