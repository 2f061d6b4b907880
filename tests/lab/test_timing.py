"""Times are judged only where they are many and steady; no clock is read here."""

import ast
import statistics
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from adlab.lab import Verdict, timing

ROOT = Path(__file__).parents[2]
STEADY = np.array([1.0, 1.02, 0.98, 1.01, 0.99, 1.0])
CLOCKS = {
    *("perf_counter", "perf_counter_ns", "process_time", "monotonic", "sleep", "default_timer"),
    *("now", "utcnow", "today", "compile_seconds", "run_seconds"),
}


def verdict(**changes):
    numbers = {"measured": 3.0, "low": 2.9, "high": 3.1, "expected": 1.0, "tolerance": 0.5}
    return Verdict("a ratio of times", **numbers | changes)


@pytest.mark.parametrize("processor", [False, True])
def test_times_are_taken_in_turn_after_each_ran_once(monkeypatch, processor):
    """By a clock of our own that the calls set forward: what each takes is known."""
    clock, order = {"wall": 0.0, "processor": 0.0}, []

    def call(name, seconds):
        def run():
            order.append(name)
            clock["wall"] += seconds
            clock["processor"] += 2 * seconds

        return run

    clocks = {"perf_counter": lambda: clock["wall"], "process_time": lambda: clock["processor"]}
    monkeypatch.setattr(timing, "time", SimpleNamespace(**clocks))
    calls = [call("a", 0.25), call("b", 1.0)]
    found = timing.in_turn(calls, 3, processor=processor)
    unit = 2 if processor else 1
    np.testing.assert_array_equal(found, unit * np.array([[0.25] * 3, [1.0] * 3]))
    assert "".join(order) == "ab" + "ab" * 3  # neither is quick
    order.clear()
    found = timing.in_turn(calls, 6, least=0.75)
    np.testing.assert_array_equal(found, [[0.25] * 6, [1.0] * 6])
    assert "".join(order) == "ab" + "ab" + ("a" * 4 + "b") * 6  # 0.75 s hold three, and one more
    order.clear()
    timing.in_turn(calls, 2, least=0.75)
    assert "".join(order) == "ab" + "ab" * 2  # too few to be judged: each as it comes
    assert timing.in_turn([], 2).shape == (0, 2)


def test_what_a_large_program_leaves_behind_is_not_taken_for_the_next_ones_time(monkeypatch):
    """Whoever comes after `large` takes 9 s more, once: pages that go back to the system."""
    clock, debt = {"now": 0.0}, {"seconds": 0.0}
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: clock["now"]))

    def small():
        clock["now"] += 0.125 + debt.pop("seconds", 0.0)

    def large():
        clock["now"] += 4.0
        debt["seconds"] = 9.0

    debt.clear()
    found = timing.in_turn([small, large], 6, least=0.5)
    np.testing.assert_array_equal(found, [[0.125] * 6, [4.0] * 6])


def test_steady_times_leave_the_verdict_as_it_is():
    times = np.stack([STEADY, 5 * STEADY])
    assert timing.judged(verdict(), times, STEADY) == verdict()
    assert timing.judged(verdict(measured=1, low=0.9, high=1.1), times).outcome == "holds"


@pytest.mark.parametrize(
    "times",
    [
        STEADY[: timing.REPEATS - 1],
        STEADY[:1],
        1 + 20 * (STEADY - 1),  # quartiles 0.85 and 1.15 of the median 1
        np.stack([STEADY, 1 + 20 * (STEADY - 1)]),  # one program is enough
        np.append(STEADY, np.nan),
    ],
    ids=["five", "one", "scattered", "one-scattered", "nan"],
)
def test_few_or_scattered_times_decide_nothing(times):
    for changes in ({}, {"measured": 1.0, "low": 0.9, "high": 1.1}, {"control": True}):
        assert timing.judged(verdict(**changes), STEADY, times).outcome == "undecided"


def test_the_limit_is_on_the_quartiles_over_the_median():
    times = np.array([1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 3.0, 3.0, 3.0])  # quartiles 1 and 3
    assert not timing.steady(times)
    near = 2 + (times - 2) * timing.SPREAD
    assert timing.steady(near)
    assert timing.steady(2.0**-30 * near)
    assert not timing.steady(2 + (times - 2) * timing.SPREAD * 1.01)


@pytest.mark.parametrize("count", [6, 9, 11, 21])
def test_the_interval_of_a_median_covers_it_as_often_as_order_statistics_do(count):
    rng, draws = np.random.default_rng(count), 2000
    ends = np.array([timing.median(row)[1:] for row in rng.exponential(size=(draws, count))])
    share = np.mean((ends[:, 0] <= np.log(2)) & (np.log(2) <= ends[:, 1]))
    # 1 - 2 P(fewer than so many of `count` values lie below the median); z <= 5 of a share
    exact = {6: 31 / 32, 9: 123 / 128, 11: 253 / 256, 21: 0.97341}[count]
    assert abs(share - exact) <= 5 * np.sqrt(exact * (1 - exact) / draws)
    assert np.isnan(timing.median(np.ones(5))[1:]).all()


def test_the_worst_of_several_medians_has_ends_for_all_of_them():
    """Of seven programs alike the worst is outside its own interval often, of theirs seldom."""
    rng, draws, cases = np.random.default_rng(0), 2000, 7
    times = rng.lognormal(sigma=0.1, size=(draws, cases, 9))
    worst = np.take_along_axis(
        times, np.argmax(np.median(times, axis=2), axis=1)[:, None, None], axis=1
    )[:, 0]
    missed = np.mean([timing.median(row, cases)[1] > 1 for row in worst])
    exact = 1 - (1 - 2.0**-9) ** cases  # some program has all of its nine times above the median
    assert missed <= exact + 5 * np.sqrt(exact * (1 - exact) / draws)  # z <= 5
    assert np.mean([timing.median(row)[1] > 1 for row in worst]) > 4 * exact
    assert np.isnan(timing.median(np.ones(6), cases)[1:]).all()


def test_medians_begin_with_the_measured_ones_and_draw_the_same_repeats_for_all():
    times = np.stack([STEADY, 3 * STEADY])
    found = timing.medians(times)
    assert found[:, 0].tolist() == [1.0, 3.0]
    np.testing.assert_allclose(found[1], 3 * found[0], rtol=1e-15)  # one rounding
    middle, low, high = timing.interval(found[0])
    assert 0.98 <= low < middle == statistics.median(STEADY) < high <= 1.02


def test_no_test_reads_a_clock():
    for file in (ROOT / "tests").rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        nodes = list(ast.walk(tree))
        names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        names |= {node.id for node in nodes if isinstance(node, ast.Name)}
        imported = {n.module for n in nodes if isinstance(n, ast.ImportFrom)}
        imported |= {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
        assert not imported & {"time", "timeit", "datetime"}, file
        assert "timeout" not in {node.arg for node in nodes if isinstance(node, ast.keyword)}, file
        # None in a trace is no time
        allowed = {"compile_seconds"} if file.name == "test_loop.py" else set()
        assert names & CLOCKS <= allowed, file
