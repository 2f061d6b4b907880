"""Every verdict of `gradient_cost` holds on data that bear it out, and fails on other data."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adlab import lab
from adlab.figures import style
from adlab.figures.labels import text
from adlab.lab import config as configs

ROOT = Path(__file__).parents[2]
D = np.array([1, 4, 16, 64, 256, 1024])
CALLS = np.stack([D + 1, 2 * D, D, np.ones_like(D)], axis=1).astype(float)
ONE, LATE = np.ones(len(D)), np.maximum(D / 16, 1.0)


@pytest.fixture(scope="module")
def job():
    changes = {"dims": D.tolist(), "points": 2048}
    return configs.load(ROOT / "configs" / "gradient_cost.toml", changes=changes)


def measured(**changed):
    """Counts as theory has them, of a value of a thousand operations."""
    operations = np.column_stack([CALLS * [1000, 1000, 2600, 2700], 1000 * ONE])
    called = np.where(D[:, None] <= 64, CALLS, np.nan)
    data = {"dims": D, "calls": CALLS, "called": called, "operations": operations}
    return data | {"difference": np.full(len(D), 1e-7)} | changed


def timed(method=3, factor=1.0, spread=0.01):
    """Times as the counts have them, those of one method changed by a factor per size."""
    noise = 1 + spread * np.random.default_rng(0).standard_normal((len(D), 5, 9))
    times = 1e-9 * measured()["operations"]
    times[:, method] *= factor
    return {f"seconds_{d}": t[:, None] * e for d, t, e in zip(D, times, noise, strict=True)}


def outcomes(job, data):
    found = {}
    for verdict in job.module.verdicts(data, job.config):
        about = verdict.claim.params.get("method")
        names = (verdict.claim.key, about.key if about else "")
        found[tuple(name.rpartition(".")[2] for name in names)] = verdict.outcome
    return found


def scaled(name, column, factor):
    array = measured()[name].copy()
    array[:, column] *= factor
    return {name: array}


METHODS = ("forward", "central", "forward_mode", "reverse_mode")
BAD = {
    **{("called", name): scaled("called", k, 2) for k, name in enumerate(METHODS)},
    **{("calls", name): scaled("calls", k, 2) for k, name in enumerate(METHODS)},
    **{("operations", name): scaled("operations", k, 1.1) for k, name in enumerate(METHODS[:2])},
    ("forward_mode", ""): scaled("operations", 2, 1.3),
    ("reverse_mode", ""): scaled("operations", 3, 2.0),
    ("control", ""): scaled("operations", 2, 1 / D),
    ("difference", ""): {"difference": np.full(len(D), 1e-2)},
}
BAD_TIMES = {
    ("growth", "forward"): (0, LATE**-0.3),
    ("growth", "central"): (1, LATE**0.3),
    ("growth", "forward_mode"): (2, LATE**0.3),
    ("growth", "reverse_mode"): (3, LATE**0.3),
    ("seconds", "forward"): (0, 2.0),
    ("seconds", "central"): (1, 0.3),
    ("reverse_seconds", ""): (3, 3.0),
}


def test_all_hold_on_data_that_bear_them_out(job):
    found = outcomes(job, measured())
    assert set(found) == set(BAD)
    assert set(found.values()) == {"holds"}
    found = outcomes(job, measured(**timed()))
    assert set(found) == {*BAD, *BAD_TIMES}
    assert set(found.values()) == {"holds"}


@pytest.mark.parametrize("claim", BAD, ids=" ".join)
def test_each_fails_on_data_that_refute_it(job, claim):
    assert outcomes(job, measured(**BAD[claim]))[claim] == "fails"


@pytest.mark.parametrize("claim", BAD_TIMES, ids=" ".join)
def test_each_on_times_fails_on_times_that_refute_it(job, claim):
    found = outcomes(job, measured(**timed(*BAD_TIMES[claim])))
    assert found[claim] == "fails"
    assert "fails" not in {v for name, v in found.items() if name[1:] != claim[1:]}


def test_few_sizes_or_repeats_decide_no_growth(job):
    few = {name: value[:3] for name, value in measured().items()}
    found = outcomes(job, few | {k: v for k, v in timed().items() if k in few or int(k[8:]) <= 16})
    assert {v for name, v in found.items() if name[0] == "growth"} == {"undecided"}


def test_few_repeats_or_one_program_whose_times_scatter_leave_times_undecided(job):
    wrong = timed(3, 20.0)  # five times what reverse mode may take
    short = {name: value[:, :5] for name, value in wrong.items()}
    scattered = {name: value.copy() for name, value in wrong.items()}
    scattered["seconds_64"][4] *= np.tile([1.0, 1.5, 0.7], 3)
    for times in (short, scattered):
        found = outcomes(job, measured(**times))
        assert {claim for claim, outcome in found.items() if outcome != "holds"} == set(BAD_TIMES)
        assert {found[claim] for claim in BAD_TIMES} == {"undecided"}


def test_calls_are_counted_as_they_run(job):
    assert job.module._called(3).tolist() == [4, 6, 3, 1]


def test_the_function_does_the_same_work_at_every_dimension(job):
    shifts = jnp.asarray(np.random.default_rng(0).normal(size=(2, 8)), jnp.float32)
    works = [job.module.flops.count(job.module.loss, jnp.ones(d), shifts).flops for d in (1, 2, 4)]
    assert works == [2 * 8 * 3 + 2 * 8] * 3  # a product, a sum, tanh; and the product at the end
    x = np.array([0.5, -1.0])
    z = np.repeat(x, 4)
    for shift in np.asarray(shifts):
        z = np.tanh(1.5 * z + shift)
    found = job.module.loss(jnp.asarray(x, jnp.float32), shifts)
    np.testing.assert_allclose(found, z @ np.asarray(shifts)[0], rtol=1e-5)  # float32


def test_each_method_gives_the_gradient(job):
    x, shifts = jnp.array([0.3, -0.2], jnp.float32), jnp.full((1, 4), 0.1, jnp.float32)
    slope = 1.5 * (1 - np.tanh(1.5 * np.asarray(x) + 0.1) ** 2) * 2 * 0.1
    for method, gradient in job.module.gradients(job.module.loss).items():
        # forward differences err by h f''/2 with h = 1/128
        tolerance = 0.02 if method == "forward" else 1e-3
        np.testing.assert_allclose(jax.jit(gradient)(x, shifts), slope, rtol=tolerance)


@pytest.mark.parametrize("changes", [{"dims": [4, 1]}, {"dims": [3]}, {"points": 4096 + 2048}])
def test_parameters_that_do_not_share_the_points_are_refused(changes):
    with pytest.raises(lab.LabError, match="dims"):
        configs.load(ROOT / "configs" / "gradient_cost.toml", changes=changes)


def test_times_are_drawn_where_they_are_given_as_ratios(job):
    with style.context():
        assert set(job.module.plot(measured(), job.config)) == {"operations"}
        figure = job.module.plot(measured(**timed(spread=0.0)), job.config)["seconds"]
    drawn = np.stack([line.get_ydata() for line in figure.axes[0].lines[:4]], axis=1)
    np.testing.assert_allclose(drawn, CALLS * [1, 1, 2.6, 2.7])


def test_two_repeats_are_too_few_for_a_picture_of_times(job):
    few = {name: array[:, :2] for name, array in timed().items()}
    with style.context():
        assert set(job.module.plot(measured(**few), job.config)) == {"operations"}


def test_titles_assert_what_holds_and_ask_otherwise(job):
    good = measured(**timed())
    dear = good | {"operations": good["operations"] * [1, 1, 1, 3, 1]}  # 8.1 values, not 5
    slow = good | timed(method=3, factor=D)  # reverse mode's time grows, its operations don't
    with style.context():
        found = [titles(job, data) for data in (good, dear, slow)]
        asserted, asked = (
            [text(f"gradient_cost.figure.{kind}_title{end}") for kind in ("operations", "time")]
            for end in ("", "_asked")
        )
    assert found == [asserted, [asked[0], asserted[1]], [asserted[0], asked[1]]]


def titles(job, data):
    figures = job.module.plot(data, job.config, verdicts=job.module.verdicts(data, job.config))
    return [figure.get_suptitle() for figure in figures.values()]
