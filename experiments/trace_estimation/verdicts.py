"""Whether the errors are those of theory, which estimator wins where, and who knows its error."""

from __future__ import annotations

from typing import Any

import numpy as np

from adlab import optimize
from adlab.lab import Text, Verdict
from adlab.optimize import Interval

from . import idea
from .config import LAWS, Config, Name, Spectrum
from .measure import Arrays
from .theory import formulas

VARIANCE = 0.05  # tolerance of a variance over its formula
SLOPE = 0.05  # tolerance of an exponent
COVERAGE = 0.03  # tolerance of a share
ROUND_OFF = 1e-9
FACTORS: dict[Spectrum, float] = {"power": 10.0, "exponential": 1.0, "network": 1.0}
TITLES = {"hutch++": "Hutch++", "xtrace": "XTrace"}  # proper names
SHARE = 0.95  # of a normal law within two deviations, or so
_QUANTILE = 1.96


def verdicts(data: Arrays, config: Config) -> list[Verdict]:
    """Judge the errors of Hutchinson's estimator, then the others beside it, then controls."""
    return [
        _unbiased(data, config),
        *(_variance(data, config, law) for law in LAWS if law in config.estimators),
        *_slope(data, config),
        *_advantages(data, config),
        *_coverages(data, config),
        *_exact(data),
        *(idea.verdicts(data) if "idea_matrix" in data else []),
    ]


def squared_errors(data: Arrays, name: Name) -> np.ndarray:
    """Return the squared errors of an estimator, of shape (S, M, R)."""
    return (data[f"{name}_estimates"] - data["trace"][:, None, None]) ** 2


def coverage(data: Arrays, name: Name) -> np.ndarray:
    """Return how often the trace lies within two standard errors, of shape (S, M).

    NaN where an estimate or its error isn't a number.
    """
    apart = np.sqrt(squared_errors(data, name))
    known = np.isfinite(apart + data[f"{name}_errors"])
    return np.where(known, apart <= 2 * data[f"{name}_errors"], np.nan).mean(axis=-1)


def _unbiased(data: Arrays, config: Config) -> Verdict:
    """Judge the mean of every estimator, in its standard errors."""
    scores = []
    for name in config.estimators:
        drawn = data[f"{name}_estimates"]
        deviation = np.abs(drawn.mean(axis=-1) - data["trace"][:, None])
        scores.append(deviation / (drawn.std(axis=-1, ddof=1) / np.sqrt(drawn.shape[-1])))
    claim = Text("trace_estimation.claim.mean", number=np.size(scores))
    return Verdict.worst(claim, scores, 5.0, side="at_most", basis="measured")


def _variance(data: Arrays, config: Config, law: Name) -> Verdict:
    """Judge m * (mean squared error) over the formula, taken over all numbers of products."""
    scaled = squared_errors(data, law) * np.array(config.num_matvecs)[:, None]
    ratios = scaled.mean(axis=1) / formulas(data, law)[:, None]
    found = [_mean(runs) for runs in ratios]
    claim = Text("trace_estimation.claim.variance", law=Text(f"law.{law}"), number=len(found))
    return _judged(claim, optimize.farthest(found, 1.0), 1.0, VARIANCE)


def _slope(data: Arrays, config: Config) -> list[Verdict]:
    """Judge the exponent of m in the root mean squared error: half that of the mean square."""
    m = np.array(config.num_matvecs)
    squares = [
        runs for law in LAWS if law in config.estimators for runs in squared_errors(data, law)
    ]
    if not squares:
        return []
    halves = []
    for runs in squares:
        found = optimize.slope_interval(m, runs.T, seed=config.seed)
        ends = (found.estimate / 2, found.low / 2, found.high / 2)
        halves.append(Interval(*ends, enough=found.enough))
    claim = Text("trace_estimation.claim.slope", number=len(halves))
    return [_judged(claim, optimize.farthest(halves, -0.5), -0.5, SLOPE)]


def _advantages(data: Arrays, config: Config) -> list[Verdict]:
    """Judge the error of Hutchinson over another's, at equal products, and the control."""
    if "rademacher" not in config.estimators:
        return []
    plain, found = squared_errors(data, "rademacher"), []
    for name, title in TITLES.items():
        if name not in config.estimators:
            continue
        other = squared_errors(data, name)
        for spectrum, ours, theirs in zip(config.spectra, plain, other, strict=True):
            ratio = _root_ratio(ours[-1], theirs[-1])
            names = {"estimator": title, "spectrum": _spectrum(spectrum)}
            at = names | {"number": config.num_matvecs[-1]}
            ends = ratio.ends
            if spectrum == "flat":
                claim = Text("trace_estimation.claim.control_flat", **at)
                found.append(Verdict.at_least(claim, *ends, 1.0, control=True, basis="measured"))
            else:
                claim = Text("trace_estimation.claim.advantage", **at)
                found.append(Verdict.at_least(claim, *ends, FACTORS[spectrum], basis="measured"))
    return found


def _coverages(data: Arrays, config: Config) -> list[Verdict]:
    """Judge how often +-2 standard errors hold the trace, at the largest number of products."""
    groups = {"Hutchinson": LAWS, "Hutch++": ("hutch++",), "XTrace": ("xtrace",)}
    found = []
    for title, names in groups.items():
        shares = [
            _share(share, data[f"{name}_errors"].shape[-1])
            for name in config.estimators
            if name in names
            for share in coverage(data, name)[:, -1]
        ]
        if not shares:
            continue
        params = {"number": len(shares), "products": config.num_matvecs[-1]}
        control = title == "XTrace"
        key = "control_coverage" if control else "coverage"
        claim = Text(f"trace_estimation.claim.{key}", estimator=title, **params)
        share = optimize.farthest(shares, SHARE)
        found.append(_judged(claim, share, SHARE, COVERAGE, control=control))
    return found


def _exact(data: Arrays) -> list[Verdict]:
    """Judge what must agree to round-off: one probe of a diagonal matrix, and two operators."""
    found = []
    for key in ("diagonal_matrix", "products"):
        if key in data:
            first, second = data[key]
            off = abs(first / second - 1)
            claim = Text(f"trace_estimation.claim.{key}")
            found.append(Verdict.at_most(claim, off, off, off, ROUND_OFF, basis="identity"))
    return found


def _mean(runs: np.ndarray) -> Interval:
    """Return the mean of independent draws with its normal interval."""
    middle, half = runs.mean(), _QUANTILE * runs.std(ddof=1) / np.sqrt(runs.size)
    return Interval(float(middle), float(middle - half), float(middle + half))


def _root_ratio(above: np.ndarray, below: np.ndarray) -> Interval:
    """Return the ratio of two root mean squares; its logarithm is nearly normal."""
    middle = 0.5 * np.log(above.mean() / below.mean())
    shares = [runs.var(ddof=1) / (runs.size * runs.mean() ** 2) for runs in (above, below)]
    half = 0.5 * _QUANTILE * np.sqrt(sum(shares))
    low, high = float(np.exp(middle - half)), float(np.exp(middle + half))
    return Interval(float(np.exp(middle)), low, high)


def _share(share: Any, draws: int) -> Interval:
    """Return Wilson's interval of a share of independent draws."""
    z = _QUANTILE**2 / draws
    middle = (share + z / 2) / (1 + z)
    half = np.sqrt(z * share * (1 - share) + z**2 / 4) / (1 + z)
    return Interval(float(share), float(middle - half), float(middle + half))


def _judged(
    claim: Text, found: Interval, expected: float, tolerance: float, *, control: bool = False
) -> Verdict:
    return Verdict(claim, *found.ends, expected, tolerance, control, basis="measured")


def _spectrum(spectrum: str) -> Text:
    return Text(f"trace_estimation.spectrum.{spectrum}")
