"""What the data say of the claims."""

from __future__ import annotations

from typing import Any

import numpy as np

from adlab import optimize
from adlab.lab import Text, Verdict
from adlab.lab.verdict import Basis

from .config import METHODS, PAIR, SIMPLEXES, TARGET, Config, growing

Arrays = dict[str, np.ndarray]
TOLERANCE = 0.25  # d_eff is of the solution, and the steps aren't infinitely short
ERROR = 0.03  # of a map, over its radius
EXACT = 1e-10


def verdicts(data: Arrays, config: Config) -> list[Verdict]:
    """Judge descent, its price without gradients, simplexes, the closed form, and the maps."""
    return [
        *_reached(data, config),
        *_ratios(data, config),
        *_growth(data, config),
        *_price(data, config),
        *_closed_form(data, config),
        *_maps(data, config),
        *_world(data),
    ]


def clouds(config: Config) -> list[str]:
    """Return the names of the clouds."""
    return ["cloud_{}_{}".format(*case) for case in config.cases]


def ratios(data: Arrays, name: str) -> np.ndarray:
    """Return calls of two-point over those of gradient descent, per start, (S,)."""
    return data[f"{name}.hits"][1] / data[f"{name}.hits"][0]


def simplex_evaluations(data: Arrays, config: Config, kind: int) -> np.ndarray:
    """Return evaluations to the target, (clouds, seeds); the budget where they didn't suffice."""
    found = np.stack([data[f"{name}.evaluations"][kind] for name in clouds(config)])
    return np.where(np.isnan(found), config.budget, found)


def _reached(data: Arrays, config: Config) -> list[Verdict]:
    found = []
    for place, method in enumerate(METHODS):
        names = [*(clouds(config) if method in PAIR else []), *config.maps]
        losses = np.concatenate([data[f"{name}.last"][place] for name in names])
        claim = _claim("reached", method=Text(f"method.{method}"))
        found.append(_below(claim, losses, TARGET))
    return found


def _ratios(data: Arrays, config: Config) -> list[Verdict]:
    """Judge calls over those of gradient descent against 2 d_eff n/(n + 2), and 2 n."""
    found = []
    for name in [*clouds(config), *config.maps]:
        shares = ratios(data, name) / (2 * data[f"{name}.slower"])
        ends = optimize.ratio_interval(shares).ends
        claim = _claim("ratio", place=_place(name))
        found.append(Verdict(claim, *ends, 1.0, TOLERANCE, basis="measured"))
    shares = np.concatenate([_of_coordinates(data, name) for name in config.maps])
    claim = _claim("coordinates")
    worst = Verdict.worst(claim, shares, 1.0, 0.01, kind="range", basis="measured")
    return [*found, worst]


def _growth(data: Arrays, config: Config) -> list[Verdict]:
    """Judge slopes over the clouds, of geometric means over seeds."""
    names = clouds(config)
    n = np.array([count * dim for count, dim in config.cases])
    price = np.stack([ratios(data, name) for name in names]) / 2
    slower = np.array([np.mean(data[f"{name}.slower"]) for name in names])
    steps = np.stack([data[f"{name}.hits"][0] for name in names])
    found = [
        _slope("slope", slower, price, 1.0, TOLERANCE),
        _slope("control_slope", n, price, 1.0, TOLERANCE, control=True),
        _slope("descent_slope", n, steps, 0.5, None),
    ]
    more = growing(config)
    for place, kind in enumerate(SIMPLEXES):
        evaluations = simplex_evaluations(data, config, place)[more]
        words = Text(f"mds.simplex.{kind}")
        found.append(
            _slope("simplex_slope", n[more], evaluations, 1.0, None, least=True, method=words)
        )
    return found


def _price(data: Arrays, config: Config) -> list[Verdict]:
    """Judge operations without gradients over those of gradient descent, on every cloud."""
    n = np.array([count * dim for count, dim in config.cases])
    found = []
    for method in ("two_point", *SIMPLEXES):
        table = flop_ratios(data, config, method)
        words = Text(f"method.{method}" if method in METHODS else f"mds.simplex.{method}")
        means = np.exp(np.mean(np.log(table), axis=1))
        claim = _claim("dearer", method=words)
        found.append(
            Verdict.worst(claim, means, 1.0, side="at_least", kind="range", basis="measured")
        )
        found.append(_slope("more_so", n, table, 0.0, None, least=True, method=words))
    return found


def flop_ratios(data: Arrays, config: Config, method: str) -> np.ndarray:
    """Return operations to the target over those of gradient descent, (clouds, seeds)."""
    rows = []
    for place, name in enumerate(clouds(config)):
        value, gradient = data[f"{name}.flops"]
        if method == "two_point":
            calls = data[f"{name}.hits"][1]
        else:
            calls = simplex_evaluations(data, config, SIMPLEXES.index(method))[place]
        steps = data[f"{name}.hits"][0][: len(calls)]
        rows.append(calls * value / (steps * gradient))
    return np.stack(rows)


def _closed_form(data: Arrays, config: Config) -> list[Verdict]:
    names, found = clouds(config), []
    for kind, bound, control in (
        ("spectrum_error", EXACT, False),
        ("scores_error", EXACT, False),
        ("classical_loss", EXACT**2, False),
        ("unsquared_loss", EXACT**2, True),
    ):
        values = np.concatenate([data[f"{name}.{kind}"] for name in names])
        basis: Basis = "measured" if control else "identity"
        found.append(_below(_claim(kind), values, bound, basis, control=control))
    better = np.concatenate(
        [data[f"{name}.last"][0] / data[f"{name}.classical_loss"] for name in config.maps]
    )
    claim = _claim("not_classical")
    return [*found, _below(claim, better, 1.0)]


def _maps(data: Arrays, config: Config) -> list[Verdict]:
    found = []
    for name in config.maps:
        errors = data[f"{name}.errors"]
        claim = _claim("map", place=_place(name))
        found.append(_below(claim, errors, ERROR))
        best = data[f"{name}.raw_errors"][np.argmin(data[f"{name}.raw_loss"])]
        claim = _claim("raw", place=_place(name))
        found.append(Verdict.at_most(claim, best, best, best, ERROR, basis="measured"))
    return found


def _below(
    claim: Text, values: np.ndarray, bound: float, basis: Basis = "measured", *,
    control: bool = False,
) -> Verdict:  # fmt: skip
    """Judge that all values are at most a bound, by their range."""
    return Verdict.worst(
        claim, values, bound, side="at_most", control=control, kind="range", basis=basis
    )


def _world(data: Arrays) -> list[Verdict]:
    found = []
    for attempt, control in (("plane", True), ("space", False)):
        for kind, bound in (("last", TARGET), ("errors", ERROR)):
            values = data[f"world.{attempt}.{kind}"]
            best = np.min(values)  # whoever minimises from several starts takes the best
            if kind == "errors":
                best = values[np.argmin(data[f"world.{attempt}.last"])]
            claim = _claim(f"{attempt}_{kind}")
            ends = (best, best, best)
            found.append(Verdict.at_most(claim, *ends, bound, control=control, basis="measured"))
    return found


def _slope(
    claim: str, x: np.ndarray, values: np.ndarray, expected: float, tolerance: float | None, *,
    control: bool = False, least: bool = False, **params: Any,
) -> Verdict:  # fmt: skip
    """Judge the slope on log axes of geometric means (places, seeds) -> (places,) over x."""

    def statistic(*means: np.ndarray) -> np.ndarray:
        return np.asarray(optimize.slope(x, np.exp(np.stack(means, axis=-1))))

    found = optimize.interval_of(statistic, list(np.log(values)))
    # Of logarithms: few seeds are enough, as in `optimize.ratio_interval`.
    words, ends = _claim(claim, **params), (found.estimate, found.low, found.high)
    if tolerance is not None:
        return Verdict(words, *ends, expected, tolerance, control, basis="measured")
    make = Verdict.at_least if least else Verdict.at_most
    return make(words, *ends, expected, basis="measured")


def _of_coordinates(data: Arrays, name: str) -> np.ndarray:
    """Return calls of finite differences over 2 n times gradient descent's steps, (S,)."""
    descent, _, differences = data[f"{name}.hits"]
    n = int(np.prod(data[f"{name}.path.two_point"].shape[1:]))
    return differences / (2 * n * descent)


def _place(name: str) -> Text:
    if name.startswith("cloud_"):
        _, count, dim = name.split("_")
        return Text("mds.place.cloud", count=count, dim=dim)
    return Text(f"mds.place.{name}")


def _claim(name: str, **params: Any) -> Text:
    return Text(f"mds.claim.{name}", **params)
