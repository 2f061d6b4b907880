"""Verdicts on operations, errors and, where given, times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from adlab.lab import Text, Verdict, timing

from .config import Config
from .measure import CHAOTIC, PROGRAMS, SCHEMES, UNIT, Arrays
from .programs import NAMES

__all__ = ["best", "errors", "operations", "verdicts"]

CHEAP = 5.0  # Baur & Strassen's bound on operations, for functions whose derivatives cost as much
FEWEST = 3  # sizes that an exponent needs at least
RESAMPLES = 300
TWICE = 2.0
TENFOLD = 10.0
THOUSAND = 1e3
HALF = 0.5


def operations(data: Arrays, problem: str, scheme: str) -> np.ndarray:
    """Return operations of a scheme over those of the value, of shape (sizes,)."""
    return data[f"{problem}_operations"][:, SCHEMES.index(scheme)] / data[f"{problem}_value"]


def errors(data: Arrays, problem: str, scheme: str) -> np.ndarray:
    """Return relative errors, of shape (sizes, points)."""
    return data[f"{problem}_error"][:, SCHEMES.index(scheme)]


def best(swept: np.ndarray) -> np.ndarray:
    """Return, of errors of shape (sizes, steps, points), the least median over the steps."""
    medians = np.median(np.where(np.isnan(swept), np.inf, swept), axis=2)
    return np.asarray(np.min(medians, axis=1))


def verdicts(data: Arrays, config: Config) -> list[Verdict]:
    """Judge the growth of operations, the errors, and the times if given."""
    found = [*_automatic(data), *_symbolic(data, config)]
    found += [*_expanded(data), *_numerical(data), *_rounding(data), *_chaos(data)]
    for name in NAMES:
        times = data.get(f"seconds_{name}_{config.largest(name)}")
        if times is not None:
            found += _timed(times, name)
    return found


def _claim(name: str, problem: str = "", **params: Any) -> Text:
    if problem:
        params["problem"] = Text(f"differentiation_schemes.name.{problem}")
    return Text(f"differentiation_schemes.claim.{name}", **params)


def _between(claim: Text, values: Any, expected: float, tolerance: float) -> Verdict:
    """Judge all counts at once, by their range; of none at all it is NaN."""
    return Verdict.worst(claim, values, expected, tolerance, kind="range", basis="arithmetic")


def _below(claim: Text, values: Any, bound: float) -> Verdict:
    """Judge that all counts are at most a bound, by their range."""
    return Verdict.worst(claim, values, bound, side="at_most", kind="range", basis="arithmetic")


def _exponent_is(claim: Text, slope: float, expected: float, tolerance: float) -> Verdict:
    """Judge an exponent of counts."""
    return Verdict(claim, slope, slope, slope, expected, tolerance, basis="arithmetic")


def _range(values: Any) -> tuple[float, float, float]:
    if len(values) == 0:
        return np.nan, np.nan, np.nan
    return float(np.min(values)), float(np.median(values)), float(np.max(values))


def exponent(x: np.ndarray, y: np.ndarray) -> float:
    """Return the slope of y over x on log-log axes; NaN from too few points."""
    if len(x) < FEWEST:
        return np.nan
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def _automatic(data: Arrays) -> list[Verdict]:
    """Judge that a gradient costs a few values, and as many for each operation added."""
    found = []
    for name in NAMES:
        cost, claim = operations(data, name, "reverse"), _claim("cheap", name)
        found.append(_below(claim, cost, CHEAP))
        sizes, value = data[f"{name}_sizes"], data[f"{name}_value"]
        counted = data[f"{name}_operations"][:, SCHEMES.index("reverse")]
        slope = exponent(sizes[1:], np.diff(counted) / np.diff(value))
        found.append(_exponent_is(_claim("flat", name), slope, 0.0, 0.05))
    return found


def _symbolic(data: Arrays, config: Config) -> list[Verdict]:
    """Judge growth of the naive scheme, of common subexpressions, and with intermediates kept."""
    found = []
    counted = {n: data[f"{n}_operations"][:, SCHEMES.index("naive")] for n in NAMES}
    n = np.array(config.steps)
    factors = counted["logistic"][1 : len(n)] / counted["logistic"][: len(n) - 1]
    theory = 2 * (n[1:] / n[:-1]) ** 2
    late = (n[1:] >= 6) & (np.diff(n) == 1)
    found.append(_between(_claim("naive_logistic"), (factors / theory)[late], 1.0, 0.02))
    sizes = data["product_sizes"]
    found.append(
        _between(_claim("naive_product"), counted["product"] / (sizes * (sizes - 2)), 1.0, 0.0)
    )
    deeper = np.diff(config.depths)
    for scheme, control in (("naive", False), ("reverse", True)):
        layers = data["network_operations"][:, SCHEMES.index(scheme)]
        low, middle, high = _range((layers[1:] / layers[:-1]) ** (1 / deeper))
        claim = _claim("control_network" if control else "naive_network", width=config.width)
        ends = (middle, low, high)
        found.append(
            Verdict.at_least(
                claim, *ends, config.width, control=control, kind="range", basis="arithmetic"
            )
        )
    for name in ("logistic", "product"):
        sizes, ratio = data[f"{name}_sizes"], operations(data, name, "cse")
        told = np.isfinite(ratio) & (sizes >= 4)
        slope = exponent(sizes[told], ratio[told])
        found.append(_exponent_is(_claim("cse", name), slope, 1.0, 0.1))
    for name in NAMES:
        ratio = operations(data, name, "kept") / operations(data, name, "reverse")
        ratio, claim = ratio[np.isfinite(ratio)], _claim("kept", name)
        found.append(_below(claim, ratio, 1.0))
    return found


def _expanded(data: Arrays) -> list[Verdict]:
    """Judge the error of the polynomial multiplied out, against its condition."""
    found = errors(data, "logistic", "expanded")
    told = np.isfinite(found[:, 0]) & (np.median(found, axis=1) > 0)
    condition, found = data["logistic_condition"][told], found[told]

    def slopes(draws: np.ndarray) -> Any:
        if len(found) < FEWEST:
            return np.full(len(draws), np.nan)
        x, y = (np.log(np.median(a[:, draws], axis=2)).T for a in (condition, found))
        return [np.polyfit(*pair, 1)[0] for pair in zip(x, y, strict=True)]

    def final(draws: np.ndarray) -> Any:
        if len(found) < FEWEST:
            return np.full(len(draws), np.nan)
        return np.median(found[-1, draws], axis=1)

    last = _resampled(final, found)
    return [
        Verdict(_claim("expanded"), *_resampled(slopes, found), 1.0, 0.05, basis="measured"),
        Verdict.at_least(_claim("lost"), *last, 1.0, basis="measured"),
    ]


def _resampled(
    measure: Callable[[np.ndarray], Any], points: np.ndarray
) -> tuple[float, float, float]:
    """Return a measure, given for many draws at once, and its 95 % interval over points."""
    count = points.shape[-1]
    rng = np.random.default_rng(0)
    again = measure(rng.integers(count, size=(RESAMPLES, count)))
    middle = float(measure(np.arange(count)[None])[0])
    low, high = np.quantile(again, [0.025, 0.975])
    return middle, min(float(low), middle), max(float(high), middle)


def _numerical(data: Arrays) -> list[Verdict]:
    """Judge what differences cost, how near they come, and how far they stay behind."""
    slope = exponent(data["product_sizes"], operations(data, "product", "central"))
    found = [_exponent_is(_claim("central"), slope, 1.0, 0.01)]
    curved = data["logistic_swept"][data["logistic_sizes"] >= 3]

    def least(draws: np.ndarray) -> Any:
        return [np.min(best(curved[:, :, draw])) / UNIT ** (2 / 3) for draw in draws]

    floor = _resampled(least, curved)
    found.append(Verdict.at_least(_claim("floor"), *floor, HALF, basis="measured"))
    for name in ("product", "network"):
        pair = np.stack([errors(data, name, s)[-1] for s in ("central", "reverse")])

        def ratios(draws: np.ndarray, pair: np.ndarray = pair) -> Any:
            far, near = np.median(pair[:, draws], axis=2)
            return far / near

        ends, claim = _resampled(ratios, pair), _claim("behind", name)
        found.append(Verdict.at_least(claim, *ends, THOUSAND, basis="measured"))
    return found


def _rounding(data: Arrays) -> list[Verdict]:
    """Judge errors against the derivative along the rounded orbit, over what roundings can do."""
    found = []
    bound = data["logistic_bound"]
    for scheme in ("reverse", "forward"):
        shares = data["logistic_own"][:, CHAOTIC.index(scheme)] / bound
        claim = _claim("own", scheme=Text(f"differentiation_schemes.scheme.{scheme}"))
        found.append(
            Verdict.worst(claim, shares, 1.0, side="at_most", kind="range", basis="measured")
        )
    curved = data["logistic_sizes"] >= 3
    ratio = (data["logistic_own"][:, CHAOTIC.index("central")] / bound)[curved]
    medians, claim = np.median(ratio, axis=1), _claim("control_own")
    control = Verdict.worst(
        claim, medians, 1.0, side="at_most", control=True, kind="range", basis="measured"
    )
    return [*found, control]


def _chaos(data: Arrays) -> list[Verdict]:
    """Judge the bits lost per step: of the derivative itself, of differences, of the best ones."""
    sizes, swept = data["logistic_sizes"], data["logistic_swept"]
    curves: dict[str, tuple[Callable, float]] = {
        "reverse": (lambda draws: _medians(data, "reverse", draws), 1.0),
        "central": (lambda draws: _medians(data, "central", draws), 2.0),
        "best": (lambda draws: [best(swept[:, :, draw]) for draw in draws], 2 / 3),
    }
    found = []
    for name, (curve, expected) in curves.items():
        first = 4 if name == "central" else 8  # before, other roundings count as much
        (everywhere,) = curve(np.arange(swept.shape[2])[None])
        told = (sizes >= first) & (everywhere < 1e-2)

        def slopes(draws: np.ndarray, told: Any = told, curve: Callable = curve) -> Any:
            if np.sum(told) < FEWEST:
                return np.full(len(draws), np.nan)
            return [np.polyfit(sizes[told], np.log2(row[told]), 1)[0] for row in curve(draws)]

        ends, claim = _resampled(slopes, swept), _claim(f"bits_{name}")
        found.append(Verdict(claim, *ends, expected, 0.1, basis="measured"))
    return found


def _medians(data: Arrays, scheme: str, draws: np.ndarray) -> np.ndarray:
    """Return the medians over the points of each draw, of shape (draws, sizes)."""
    return np.asarray(np.median(errors(data, "logistic", scheme)[:, draws], axis=2)).T


def _timed(times: np.ndarray, name: str) -> list[Verdict]:
    """Judge reverse mode beside the adjoint by hand, and the naive scheme beside the kept one."""
    row = dict(zip(PROGRAMS, times, strict=True))
    above, below = row["xla_reverse"], row["xla_manual"]
    ends, claim = timing.median(above / below), _claim("seconds_manual", name)
    verdict = Verdict.at_most(claim, *ends, TWICE, basis="measured")
    found = [timing.judged(verdict, above, below)]
    if name != "product":  # where it is slower by a factor n only
        above, below = row["numpy_naive"], row["numpy_kept"]
        ends = timing.median(above / below)
        claim = _claim("seconds_naive", name)
        verdict = Verdict.at_least(claim, *ends, TENFOLD, basis="measured")
        found.append(timing.judged(verdict, above, below))
    return found
