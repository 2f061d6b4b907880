"""Every verdict of `checkpoint_schedules` holds on data that bear it out, and fails on others."""

from math import comb
from pathlib import Path

import numpy as np
import pytest

from adlab.checkpointing import binomial
from adlab.figures import style
from adlab.lab import config as configs

ROOT = Path(__file__).parents[2]
LENGTHS = np.array([16, 64, 256])
CHANGES = {"lengths": [16, 64, 256], "slots": [3], "width": 8, "batch_size": 4, "repeats": 3}
STATE = 4 * 8 * 4


@pytest.fixture(scope="module")
def job():
    return configs.load(ROOT / "configs" / "checkpoint_schedules.toml", changes=CHANGES)


def measured():
    """Data as they are expected, for storing all, the root, and three slots."""
    root = np.sqrt(LENGTHS).astype(int)
    sweeps = np.array([3, 6, 10])  # C(3 + r, 3) = 20, 84, 286 reach the lengths, and no less
    least = [r * n - comb(3 + r, 4) for r, n in zip(sweeps, LENGTHS, strict=True)]
    extra = np.stack([0 * LENGTHS, (root - 1) ** 2, np.array(least) - LENGTHS + 1], axis=1)
    slots = np.stack([LENGTHS - 1, 2 * root - 2, np.full(3, 3)], axis=1)
    return {
        "lengths": LENGTHS,
        "slots": slots,
        "extra": extra,
        "run": (2 * LENGTHS[:, None] + extra).astype(float),
        "bytes": (slots + 3.0) * STATE,
        "difference": np.full((3, 3), 1e-7),
    }


def outcomes(job, **changed):
    """Return (claim, schedule or "") -> outcome."""
    found = {}
    for verdict in job.module.verdicts(measured() | changed, job.config):
        schedule = verdict.claim.params.get("schedule")
        names = (verdict.claim.key, schedule.key if schedule else "")
        found[tuple(name.rpartition(".")[2] for name in names)] = verdict.outcome
    return found


def scaled(name, place, factor):
    array = measured()[name]
    array[:, place] = array[:, place] * factor
    return {name: array}


def with_power(place, power):
    array = measured()["bytes"]
    array[:, place] = STATE * (5 + LENGTHS**power)
    return {"bytes": array}


BAD = {
    ("memory", "store_all"): scaled("bytes", 0, 1.3),
    ("memory", "sqrt"): scaled("bytes", 1, 0.8),
    ("memory", "binomial"): scaled("bytes", 2, 1.2),
    ("counted", "store_all"): scaled("run", 0, 1.01),
    ("counted", "sqrt"): scaled("run", 1, 1.01),
    ("counted", "binomial"): scaled("run", 2, 0.99),
    ("closed_form", "binomial"): scaled("run", 2, 1.01),
    ("exponent", ""): with_power(1, 0.6),
    ("control_all", ""): with_power(0, 0.5),
    ("gradients", ""): {"difference": np.full((3, 3), 1e-2)},
}


def test_all_hold_on_data_that_bear_them_out(job):
    found = outcomes(job)
    assert set(found.values()) == {"holds"}
    assert set(found) == set(BAD)


@pytest.mark.parametrize("claim", BAD, ids=" ".join)
def test_each_fails_on_data_that_refute_it(job, claim):
    assert outcomes(job, **BAD[claim])[claim] == "fails"


def test_what_the_compiler_does_not_tell_is_undecided(job):
    found = outcomes(job, bytes=np.full((3, 3), np.nan))
    unknown = {name for name, outcome in found.items() if outcome == "undecided"}
    assert {name for name, _ in unknown} == {"memory", "exponent", "control_all"}
    assert set(found.values()) == {"undecided", "holds"}


@pytest.mark.parametrize(("power", "constant"), [(0.5, 0.0), (0.5, 40.0), (1.0, 7.0), (0.8, 3.0)])
def test_the_exponent_is_found_beside_a_constant(job, power, constant):
    found = job.module.exponent(LENGTHS, constant + 2.0 * LENGTHS**power)
    assert found == pytest.approx(power, abs=1e-3)  # the grid


def test_the_closed_form_at_its_corner(job):
    # With 3 slots, C(5, 3) = 10 steps are what two sweeps just reach.
    assert job.module.closed_form(10, 3) == 2 * 10 - comb(5, 4) == 15


def test_what_is_drawn_over_time_is_what_the_schedule_keeps(job):
    stored, current, left = job.module.alive(binomial(3), 16)
    assert stored.sum(axis=1).max() == 3
    assert stored[0].tolist() == [True] + [False] * 15
    assert (current[-1], left[-1]) == (0, 0)
    assert np.all(np.diff(left) <= 0)


def test_times_are_drawn_where_they_are_given_as_ratios_of_medians(job):
    data = measured()
    with style.context():
        assert set(job.module.plot(data, job.config)) == {
            "growth", "pareto", "timelines", "moments",
        }  # fmt: skip
        data["seconds_256"] = np.outer([2.0, 3.0, 5.0], [1e-3, 9e-3, 2e-3])
        figure = job.module.plot(data, job.config)["seconds"]
    points = [line.get_xdata()[0] for line in figure.axes[0].lines]
    np.testing.assert_allclose(points, [1, 1.5, 2.5])
    with style.context():
        data["seconds_256"] = data["seconds_256"][:, :2]
        assert "seconds" not in job.module.plot(data, job.config)


def test_times_have_their_interval_and_stand_beside_work_alone(job):
    data = measured()
    data["seconds_256"] = np.outer([2.0, 3.0, 5.0], [1.0, 1.0, 1.0, 1.0])
    data["seconds_256"][2] = [4.0, 5.0, 5.0, 6.0]
    with style.context():
        ax = job.module.plot(data, job.config)["seconds"].axes[0]
    ticks, *intervals = ax.collections
    work = 1 + data["extra"][-1] / (4 * 256)
    np.testing.assert_allclose(ticks.get_offsets()[:, 0], work)
    ends = [interval.get_segments()[0][:, 0] for interval in intervals]
    np.testing.assert_allclose(ends[:2], [[1, 1], [1.5, 1.5]])
    assert 2 <= ends[2][0] < 2.5 < ends[2][1] <= 3
