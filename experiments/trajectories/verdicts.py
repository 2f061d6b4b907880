"""The verdicts of `trajectories`."""

from __future__ import annotations

import numpy as np

from adlab.lab import Text, Verdict
from adlab.optimize import Interval, farthest

from .config import Config
from .measure import DIM, LECTURE_EPS, PROBLEM

Arrays = dict[str, np.ndarray]
ROUND_OFF = 1e-10  # over |x_0|: values of about 100, to 1e-16, over the shortest eps
SCORES = 5.0
JUDGED = 12 * DIM  # steps after which few seeds make the mean square: a sample misses them
PLACES = (2, 4, 8, 16)


def verdicts(data: Arrays, config: Config) -> list[Verdict]:
    """Judge paths without noise, then means, spreads and floors, then the controls."""
    return [*_paths(data, config), *_means(data), *_spreads(data, config), *_controls(data)]


def _paths(data: Arrays, config: Config) -> list[Verdict]:
    """Judge what must agree to round-off."""
    number = len(config.eps)
    pairs = {
        "gradient": (data["exact"], data["exact_exact"]),
        "central": (data["central"], data["exact"]),
        "forward": (data["forward"], data["forward_exact"]),
        "limit": (data["forward"][:, -1], data["displaced"]),
        "every_eps": (data["two_point_paths"], data["two_point_paths"][:1]),
    }
    found = []
    for name, (measured, expected) in pairs.items():
        gap = _gap(measured, expected)
        claim = Text(f"trajectories.claim.{name}", number=number)
        # 400 steps bring the slowest mode to 1e-15, but 200 only to 1e-7.
        slowest = 1 - float(data["step"]) * PROBLEM.mu
        rest = 2 * slowest**config.num_steps if name == "limit" else 0.0
        found.append(Verdict.at_most(claim, gap, gap, gap, ROUND_OFF + rest, basis="identity"))
    return found


def _gap(measured: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest distance between points of two paths, over |x_0|."""
    distance = np.linalg.norm(measured - expected, axis=-1)
    return float(np.max(distance) / np.linalg.norm(PROBLEM.x0))


def _score(mean: np.ndarray, expected: np.ndarray, deviation: np.ndarray) -> float:
    """Return the largest deviation of a mean path, in its standard errors."""
    steps = slice(1, JUDGED + 1)
    gap = np.abs(mean - expected)[..., steps, :]
    return float(np.max(gap / deviation[..., steps, :]))


def _means(data: Arrays) -> list[Verdict]:
    """Judge mean paths: gradient descent's, forward differences', or a slower descent's."""
    goals = {
        "two_point": data["exact"],
        "sphere": data["exact"],
        "coordinate": data["forward"],
    }
    found = []
    for kind, goal in goals.items():
        score = _score(data[f"{kind}_mean"], goal, data[f"{kind}_deviation"])
        claim = Text(f"trajectories.claim.mean_{kind}")
        found.append(Verdict.at_most(claim, score, score, score, SCORES, basis="measured"))
    return found


def _spreads(data: Arrays, config: Config) -> list[Verdict]:
    """Judge the spread about the mean path, and the floor of the one-sided estimate."""
    found = []
    for kind in ("two_point", "sphere", "coordinate"):
        exact = data[f"{kind}_exact_spread"][-1, PLACES]
        ratio = data[f"{kind}_spread"][-1, PLACES] / exact
        half = 1.96 * data[f"{kind}_spread_error"][-1, PLACES] / exact
        claim = Text(f"trajectories.claim.spread_{kind}", eps=config.eps[-1], number=len(PLACES))
        found.append(_worst(claim, ratio, half, 0.1))
    late = data["sphere_exact_square"][:, config.num_steps // 2 :].mean(axis=1)
    ratio, half = data["sphere_late"] / late, 1.96 * data["sphere_late_error"] / late
    claim = Text("trajectories.claim.floor", number=len(ratio))
    return [*found, _worst(claim, ratio, half, 0.05)]


def _worst(claim: Text, ratio: np.ndarray, half: np.ndarray, tolerance: float) -> Verdict:
    """Return the verdict on the ratio that reaches farthest from 1, with its interval."""
    found = [Interval(r, r - h, r + h) for r, h in zip(ratio, half, strict=True)]
    return Verdict(claim, *farthest(found, 1.0).ends, 1.0, tolerance, basis="measured")


def _controls(data: Arrays) -> list[Verdict]:
    """Judge the lecture's picture, and what a bias does to a mean."""
    mean, deviation = data["lecture_mean"], data["lecture_deviation"]
    short, long = LECTURE_EPS
    slow = _slower(data)
    scores = {
        "lecture_slow": (_score(mean, slow, deviation), False),
        "control_factor": (_score(mean, data["exact"], deviation), True),
        "control_bias": (
            _score(data["coordinate_mean"][-1], data["exact"], data["coordinate_deviation"][-1]),
            True,
        ),
    }
    found = []
    for name, (score, control) in scores.items():
        claim = Text(f"trajectories.claim.{name}", eps=short)
        ends = (score, score, score)
        found.append(Verdict.at_most(claim, *ends, SCORES, control=control, basis="measured"))
    rest = float(np.linalg.norm(data["lecture_path"][-1]))
    claim = Text("trajectories.claim.control_eps", eps=long)
    far = Verdict.at_most(claim, rest, rest, rest, 0.01, control=True, basis="measured")
    return [*found, far]


def _slower(data: Arrays) -> np.ndarray:
    """Return the path of gradient descent with the step s/n: that of an estimate of g/n."""
    once = np.eye(DIM) - data["step"] / DIM * data["hessian"]
    powers = [np.linalg.matrix_power(once, k) for k in range(len(data["exact"]))]
    return np.array([power @ PROBLEM.x0 for power in powers])
