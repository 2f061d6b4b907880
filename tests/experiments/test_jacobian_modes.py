"""Every verdict of `jacobian_modes` holds on data that bear it out, and fails on other data."""

from pathlib import Path

import numpy as np
import pytest

from adlab.figures import style
from adlab.figures.labels import text
from adlab.lab import config as configs

ROOT = Path(__file__).parents[2]
M, N = np.array([1, 10, 30, 100, 300, 1000]), 100
SWEEPS = np.stack([2.0 * M * N * (N + 1), 2.0 * M * N * (M + 1)], axis=1)


@pytest.fixture(scope="module")
def job():
    changes = {"inputs": N, "outputs": M.tolist(), "repeats": 9}
    return configs.load(ROOT / "configs" / "jacobian_modes.toml", changes=changes)


def measured(**changed):
    """Counts by hand; auto takes the better sweep, so that neither verdict on it is slack."""
    sweep = np.where(M < N, "reverse", "forward")
    flops = np.column_stack([SWEEPS, SWEEPS.min(axis=1)])
    return {"m": M, "flops": flops, "best": sweep, "sweep": sweep} | changed


def timed(reverse=1.0, auto=1.0, spread=0.01):
    """Times as the counts have them, at 1e-10 s each, of nine repeats that differ by `spread`."""
    noise = 1 + spread * np.random.default_rng(0).standard_normal((len(M), 3, 9))
    times = 1e-10 * measured()["flops"]
    times[:, 1] *= reverse
    times[:, 2] *= auto
    return {f"seconds_{m}": t[:, None] * e for m, t, e in zip(M, times, noise, strict=True)}


def outcomes(job, data):
    return {
        verdict.claim.key.rpartition(".")[2]: verdict.outcome
        for verdict in job.module.verdicts(data, job.config)
    }


def scaled(column, factor, rows=slice(None)):
    flops = measured()["flops"]
    flops[rows, column] *= factor
    return {"flops": flops}


BAD = {
    "crossing": scaled(1, 1.2),
    "slope": scaled(1, 1.3, slice(3, None)),
    "auto": scaled(2, 1.2, 2),
    "sweep": {"sweep": np.where(M < 400, "reverse", "forward")},
    "control": {"flops": np.column_stack([SWEEPS[:, 1], SWEEPS[:, 1], SWEEPS[:, 1]])},
}

TIMED = {"crossing_seconds", "auto_seconds"}


def test_all_hold_on_data_that_bear_them_out(job):
    found = outcomes(job, measured())
    assert set(found) == set(BAD)
    assert set(found.values()) == {"holds"}
    found = outcomes(job, measured(**timed()))
    assert set(found) == {*BAD, *TIMED}
    assert set(found.values()) == {"holds"}


@pytest.mark.parametrize("claim", BAD)
def test_each_fails_on_data_that_refute_it(job, claim):
    assert outcomes(job, measured(**BAD[claim]))[claim] == "fails"


@pytest.mark.parametrize(
    ("claim", "changes"),
    [("crossing_seconds", {"reverse": 3.0}), ("auto_seconds", {"auto": 1.2})],
)
def test_verdicts_on_times_fail_on_times_that_refute_them(job, claim, changes):
    found = outcomes(job, measured(**timed(**changes)))
    assert found.pop(claim) == "fails"
    assert set(found.values()) == {"holds"}


def test_times_that_vary_too_much_are_undecided(job):
    found = outcomes(job, measured(**timed(auto=1.08, spread=0.1)))
    assert found["auto_seconds"] == "undecided"


def test_one_size_that_was_disturbed_does_not_move_the_crossing(job):
    times = timed()
    times["seconds_10"] *= [[1.0], [20.0], [1.0]]  # reverse mode seems to lose at m = 10
    found = {v.claim.key: v for v in job.module.verdicts(measured(**times), job.config)}
    assert found["jacobian_modes.claim.crossing_seconds"].outcome == "holds"


def test_few_repeats_leave_times_undecided_and_sizes_on_one_side_say_nothing_of_them(job):
    few = {name: value[:, :5] for name, value in timed(reverse=3.0, auto=2.0).items()}
    found = outcomes(job, measured(**few))
    assert {claim for claim, outcome in found.items() if outcome != "holds"} == TIMED
    assert {found[claim] for claim in TIMED} == {"undecided"}
    small = {name: value[:3] for name, value in measured().items()}
    assert "crossing_seconds" not in outcomes(job, small | timed())


def test_times_that_scatter_leave_undecided_what_they_could_move(job):
    scatter = np.tile([1.0, 1.5, 0.7], 3)
    near, far = timed(), timed()
    near["seconds_100"][0] *= scatter  # where both modes take equally long
    assert outcomes(job, measured(**near))["crossing_seconds"] == "undecided"
    far["seconds_1000"][:2] *= scatter  # reverse mode takes ten times as long in any repeat
    assert outcomes(job, measured(**far))["crossing_seconds"] == "holds"


def test_auto_is_judged_by_the_sizes_where_it_may_do_worst(job):
    scatter = np.tile([1.0, 1.5, 0.7], 3)
    bad, good = timed(auto=2.0), timed(auto=np.where(M == 10, 1.0, 0.3))
    bad["seconds_30"][1] *= scatter
    good["seconds_30"][2] *= scatter
    assert outcomes(job, measured(**bad))["auto_seconds"] == "undecided"
    assert outcomes(job, measured(**good))["auto_seconds"] == "holds"


def test_a_crossing_is_interpolated_on_log_axes_and_none_is_nan(job):
    x = np.array([0.1, 1.0, 10.0])
    found = job.module._crossing(x, np.array([0.1, 0.5, 2.0]))
    assert found == pytest.approx(np.sqrt(10))  # 1 lies halfway between 1/2 and 2
    assert np.isnan(job.module._crossing(x, x + 1.0))


def test_times_are_drawn_where_they_are_given(job):
    with style.context():
        assert set(job.module.plot(measured(), job.config)) == {"work"}
        figure = job.module.plot(measured(**timed(spread=0.0)), job.config)["seconds"]
    drawn = np.stack([line.get_ydata() for line in figure.axes[0].lines[:3]], axis=1)
    np.testing.assert_allclose(drawn, 1e-10 * measured()["flops"])


def test_two_repeats_are_too_few_for_a_picture_of_times(job):
    few = {name: array[:, :2] for name, array in timed().items()}
    with style.context():
        assert set(job.module.plot(measured(**few), job.config)) == {"work"}


def test_titles_and_winners_are_told_where_that_holds_for_operations_and_times_apart(job):
    good = measured(**timed())
    with style.context():
        found = {
            name: told(job, data)
            for name, data in {
                "both": good, "operations": good | timed(reverse=9.0),
                "times": good | BAD["crossing"],
            }.items()
        }  # fmt: skip
        ends = {True: "", False: "_asked"}
        wanted = {
            name: [
                {
                    text(f"jacobian_modes.figure.{what}{ends[holds]}")
                    for what in (f"{axis}_title", "forward_wins", "reverse_wins")
                }
                for axis, holds in zip(("work", "seconds"), both, strict=True)
            ]
            for name, both in {
                "both": (True, True), "operations": (True, False), "times": (False, True),
            }.items()
        }  # fmt: skip
    for name, words in wanted.items():
        for some, all_ in zip(words, found[name], strict=True):
            assert some <= all_, name


def told(job, data):
    """All that stands in each figure's title and panel."""
    verdicts = job.module.verdicts(data, job.config)
    figures = job.module.plot(data, job.config, verdicts=verdicts).values()
    return [{f.get_suptitle(), *(t.get_text() for t in f.axes[0].texts)} for f in figures]
