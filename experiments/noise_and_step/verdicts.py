"""What the best step and error grow as, and how near the rules come."""

from __future__ import annotations

from typing import Any

import numpy as np

from adlab import optimize
from adlab.lab import Text, Verdict
from adlab.optimize import Interval
from adlab.optimize.intervals import exponential

from .config import Config
from .measure import SCHEMES
from .theory import THEORY

Arrays = dict[str, np.ndarray]
SLOPE = 0.02  # tolerance of an exponent
CONSTANT = 0.1  # tolerance of a constant: steps lie a quarter of an octave apart
FACTOR = 3.0  # to which "auto" must attain the best error
NEAR = 4  # steps on either side of the best one that a parabola is laid through


def verdicts(data: Arrays, config: Config) -> list[Verdict]:
    """Judge exponents and constants of each scheme, then "auto", then the rule of thumb."""
    return [verdict for scheme in SCHEMES for verdict in _of_scheme(data, config, scheme)]


def least(squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the least error over mean squares (..., steps), and the place of the best step.

    The place is that of the minimum of a parabola through the logarithms near the least.
    """
    logs = np.log(squares)
    place = np.clip(np.argmin(logs, axis=-1), NEAR, squares.shape[-1] - 1 - NEAR)
    near = np.arange(-NEAR, NEAR + 1)
    values = np.take_along_axis(logs, place[..., None] + near, axis=-1)
    half, slope, _ = np.moveaxis(values @ np.linalg.pinv(np.vander(near, 3)).T, -1, 0)
    return np.sqrt(np.min(squares, axis=-1)), place - slope / (2 * half)


def _of_scheme(data: Arrays, config: Config, scheme: str) -> list[Verdict]:
    theory, noises = THEORY[scheme], data["noises"]
    squares = [data[f"{scheme}_squares"]]  # (seeds, noises, steps)
    ratio = data["steps"][1] / data["steps"][0]

    def error(mean: np.ndarray) -> Any:
        return optimize.slope(noises, least(mean)[0])

    def step(mean: np.ndarray) -> Any:
        return optimize.slope(noises, ratio ** least(mean)[1])

    def constant(mean: np.ndarray) -> Any:
        return least(mean)[0] / (theory.error[0] * noises ** theory.error[1])

    def interval(statistic: Any) -> Interval:
        return optimize.interval_of(statistic, squares, seed=config.seed)

    shares = optimize.farthest(_each(interval(constant)), 1.0)
    power = Text(f"noise_and_step.power.{scheme}_error")
    params = {"scheme": Text(f"noise_and_step.scheme.{scheme}")}
    grown = Text("noise_and_step.claim.error", power=power, **params)
    place = Text(f"noise_and_step.power.{scheme}_step")
    moved = Text("noise_and_step.claim.step", power=place, **params)
    same = Text("noise_and_step.claim.constant", number=len(noises), **params)
    return [
        Verdict(grown, *interval(error).ends, theory.error[1], SLOPE, basis="measured"),
        Verdict(moved, *interval(step).ends, theory.step[1], SLOPE, basis="measured"),
        Verdict(same, *shares.ends, 1.0, CONSTANT, basis="measured"),
        *_rules(data, config, scheme),
    ]


def _rules(data: Arrays, config: Config, scheme: str) -> list[Verdict]:
    """Judge the error of each rule over the least one, at the noise that speaks most against it."""
    params = {"scheme": Text(f"noise_and_step.scheme.{scheme}")}
    found = {rule: _each(regret(data, config, scheme, rule)) for rule in ("auto", "relative")}
    longest = max(found["auto"], key=lambda each: np.nan_to_num(each.high, nan=np.inf))
    shortest = min(found["relative"], key=lambda each: np.nan_to_num(each.low, nan=-np.inf))
    grown = optimize.slope_interval(
        data["noises"], data[f"{scheme}_relative"], seed=config.seed
    )  # of mean squares
    half, low, high = (end / 2 for end in grown.ends)
    auto = Text("noise_and_step.claim.auto", number=len(data["noises"]), **params)
    power = Text(f"noise_and_step.power.{scheme}_error")
    grows = Text("noise_and_step.claim.control_error", power=power, **params)
    near = Text("noise_and_step.claim.control_regret", **params)
    expected = THEORY[scheme].error[1]
    return [
        Verdict.at_most(auto, *longest.ends, FACTOR, basis="measured"),
        Verdict(grows, half, low, high, expected, SLOPE, control=True, basis="measured"),
        Verdict.at_most(near, *shortest.ends, FACTOR, control=True, basis="measured"),
    ]


def regret(data: Arrays, config: Config, scheme: str, rule: str) -> Interval:
    """Return a rule's error over that of the best step, at each noise."""
    both = np.concatenate([data[f"{scheme}_squares"], data[f"{scheme}_{rule}"][..., None]], axis=-1)

    def statistic(mean: np.ndarray) -> Any:
        return np.log(np.sqrt(mean[..., -1]) / least(mean[..., :-1])[0])

    return exponential(optimize.interval_of(statistic, [both], seed=config.seed))


def _each(interval: Interval) -> list[Interval]:
    ends = zip(interval.estimate, interval.low, interval.high, strict=True)
    return [Interval(float(a), float(b), float(c), interval.enough) for a, b, c in ends]
