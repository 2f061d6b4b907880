"""Measure times in turn, and judge them: undecided where they are too few, or scatter too much.

What a program takes differs from call to call, and most where other programs keep the machine busy.
No claim is decided from fewer than `REPEATS` times of each program, nor where the quartiles of one
program's times lie farther apart than `SPREAD` of their median. Every experiment that judges times
does so here, and takes them by `in_turn`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import stats

from adlab.lab.verdict import Verdict

__all__ = ["REPEATS", "SPREAD", "in_turn", "interval", "judged", "median", "medians", "steady"]

REPEATS = 6  # five values enclose their law's median in 94 of 100 cases, six in 97
SPREAD = 0.25  # three times what a quiet machine shows, a third of what a busy one does
RESAMPLES = 400
QUICK = 0.2  # seconds below which a program is called once more before each measurement


def in_turn(
    calls: Sequence[Callable[[], Any]],
    repeats: int,
    *,
    least: float = 0.0,
    processor: bool = False,
) -> np.ndarray:
    """Return seconds per call, of shape (calls, repeats): one after the other, again and again.

    So what else the machine does meets all alike. Each is called once before, unmeasured, and its
    results are waited for; a quick one before every measurement, too: whoever comes after a program
    that takes gigabytes would pay for their return to the system, a hundred times its own time.

    Args:
      calls: the functions, without arguments.
      repeats: how often each is timed.
      least: seconds; a quicker function is called several times per measurement, to take as long,
        where there are enough repeats to be judged.
      processor: whether to take the processor's time where it is what computes: other programs'
        share of the clock isn't the function's.
    """
    import jax

    on_processor = processor and jax.default_backend() == "cpu"
    clock = time.process_time if on_processor else time.perf_counter

    def seconds(call: Callable[[], Any], number: int) -> float:
        started = clock()
        for _ in range(number):
            jax.block_until_ready(call())
        return (clock() - started) / number

    quick = [seconds(call, 1) < QUICK for call in calls]

    def warmed(call: Callable[[], Any], again: bool, number: int) -> float:
        if again:
            jax.block_until_ready(call())
        return seconds(call, number)

    numbers = [1] * len(calls)
    if least and repeats >= REPEATS:
        lasts = [warmed(*each, 1) for each in zip(calls, quick, strict=True)]
        numbers = [1 + int(least / max(last, 1e-6)) for last in lasts]  # coarse ticks may say 0
    rows = list(zip(calls, quick, numbers, strict=True))
    times = [[warmed(*row) for row in rows] for _ in range(repeats)]
    return np.reshape(times, (repeats, len(calls))).T


def steady(*times: Any) -> bool:
    """Return whether times, (..., repeats) each, are enough and close enough to be judged by."""
    return all(_steady(np.asarray(each, np.float64)) for each in times)


def _steady(times: np.ndarray) -> bool:
    if times.shape[-1] < REPEATS:
        return False
    low, middle, high = np.quantile(times, [0.25, 0.5, 0.75], axis=-1)
    return bool(np.all(high - low <= SPREAD * middle))  # NaN isn't


def judged(verdict: Verdict, *times: Any) -> Verdict:
    """Return the verdict; without an interval, hence undecided, where `times` aren't steady.

    Args:
      verdict: what would be said of steady times.
      *times: all times that it rests on, (..., repeats) each.
    """
    if steady(*times):
        return verdict
    return replace(verdict, low=np.nan, high=np.nan)


def median(values: Any, cases: int = 1) -> tuple[float, float, float]:
    """Return the median of values (repeats,), and the ends of its interval of 95 % or more.

    The ends are values themselves: their ranks hold the median of any law. NaN below `REPEATS`.

    Args:
      values: what was measured, again and again.
      cases: of how many medians this one was picked; the ends then hold for all of them at once
        (Bonferroni). They are NaN where repeats are too few for that.
    """
    ordered, count = np.sort(values), len(values)
    middle = float(np.median(ordered))
    if count < REPEATS:
        return middle, np.nan, np.nan
    place = int(stats.binom.ppf(0.025 / cases, count, 0.5))
    if place < 1:
        return middle, np.nan, np.nan
    return middle, float(ordered[place - 1]), float(ordered[count - place])


def medians(times: Any) -> np.ndarray:
    """Return the medians over repeats of times (..., repeats), then those of resampled repeats.

    The same repeats are drawn for all programs, since they ran in turn. Shape (..., 1 + resamples).
    """
    times = np.asarray(times, np.float64)
    repeats = times.shape[-1]
    draws = np.random.default_rng(0).integers(repeats, size=(RESAMPLES, repeats))
    draws = np.concatenate([np.arange(repeats)[None], draws])
    return np.asarray(np.median(times[..., draws], axis=-1))


def interval(values: Any) -> tuple[float, float, float]:
    """Return the first, of a quantity computed from each of `medians`, with its 95 % interval.

    Between percentiles, widened to hold the first. Of a median itself it covers 91 to 95 of 100
    from six repeats on, where `median` gives 95 or more.
    """
    first, resampled = float(values[0]), values[1:]
    low, high = np.quantile(resampled, [0.025, 0.975])
    return first, min(float(low), first), max(float(high), first)
