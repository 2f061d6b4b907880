"""Whether errors follow theory, and whether automatic steps are nearly as good as the best."""

from __future__ import annotations

from typing import Any

import numpy as np

from adlab.gradients.measured_steps import EVALUATIONS
from adlab.lab import Text, Verdict

from .config import Config
from .estimates import RULES, steps
from .measure import COUNTED
from .theory import branches, windows

Arrays = dict[str, np.ndarray]
SLOPE = 0.05  # tolerance of an exponent
OCTAVE = 1.0  # tolerance of a best step, which is known to a power of two
CONSTANT = 0.5  # tolerance of a best error over its formula
ROUNDINGS = 4.0  # what the complex step may be off by, in round-offs
MEDIAN, TAIL = 3.0, 30.0  # what a regret may be in the median, and in 95 of 100
PER_STENCIL = {"forward": (1, 1), "central": (2, 0), "richardson": (4, 0)}  # evaluations a d + b


def verdicts(data: Arrays, config: Config) -> list[Verdict]:
    """Judge slopes, best steps and errors, the complex step, costs, noise and regrets."""
    found = []
    for precision in config.precisions:
        found += _curves(data, config, precision)
    found += _costs(data, config)
    for precision in config.precisions:
        found.append(_noise(data, config, precision))
    for precision in config.precisions:
        for index, scheme in enumerate(config.schemes):
            found += _regrets(data, config, precision, index, scheme)
    return found


def _claim(name: str, **params: Any) -> Text:
    return Text(f"finite_difference_error.claim.{name}", **params)


def _scheme(name: str) -> Text:
    return Text(f"finite_difference_error.name.{name}")


def _curves(data: Arrays, config: Config, precision: str) -> list[Verdict]:
    h, eps, found = steps(precision), float(np.finfo(precision).eps), []
    part = f"{precision}_curves"
    for index, scheme in enumerate((*config.schemes, "complex")):
        noise = 0.0 if scheme == "complex" else data[f"{part}_noise"][index]
        theory = branches(scheme, data[f"{part}_x"], noise)
        error, resampled = data[f"{part}_error"][index], data[f"{part}_resampled"][:, index]
        params = {"scheme": _scheme(scheme), "precision": precision}
        for branch, window in windows(scheme, theory, eps).items():
            expected = theory.order if branch == "truncation" else -1
            ends = [slope(h, curve, window) for curve in resampled]
            claim = _claim(branch, exponent=expected, **params)
            found.append(_about(claim, slope(h, error, window), ends, expected, SLOPE))
        if scheme == "complex":
            continue
        octaves = np.log2(h / theory.step)
        best = octaves[np.nanargmin(resampled, axis=1)]
        claim = _claim("step", **params)
        found.append(_about(claim, octaves[np.nanargmin(error)], best, 0.0, OCTAVE))
        least = np.nanmin(resampled, axis=1) / theory.error
        claim = _claim("error", **params)
        found.append(_about(claim, np.nanmin(error) / theory.error, least, 1.0, CONSTANT))
    return found + _complex_step(data, precision, h, eps)


def _complex_step(data: Arrays, precision: str, h: np.ndarray, eps: float) -> list[Verdict]:
    part = f"{precision}_curves"
    theory = branches("complex", data[f"{part}_x"], 0.0)
    small = theory.truncation * h**theory.order < eps
    errors = np.append(data[f"{part}_error"][-1][small], data[f"{part}_ruled"][-1]) / eps
    control = float(data[f"{part}_control"] / eps)
    refused = float(data[f"{part}_refused"])
    return [
        Verdict.worst(
            _claim("complex", precision=precision), errors, ROUNDINGS, side="at_most",
            basis="measured",
        ),
        Verdict.at_most(
            _claim("control_complex", precision=precision), control, control, control, ROUNDINGS,
            control=True, basis="measured",
        ),
        Verdict(
            _claim("refused", precision=precision), refused, refused, refused, 1.0, 0.0,
            basis="identity",
        ),
    ]  # fmt: skip


def slope(h: np.ndarray, error: np.ndarray, window: tuple[float, float]) -> float:
    """Return the exponent of h in the error over a window; NaN for a single step."""
    inside = (h >= window[0]) & (h <= window[1]) & (error > 0)
    if np.sum(inside) < 2:
        return float("nan")
    return float(np.polyfit(np.log(h[inside]), np.log(error[inside]), 1)[0])


def _about(claim: Text, measured: float, resampled: Any, expected: float, within: float) -> Verdict:
    """Return the verdict with the 95 % interval of a bootstrap."""
    low, high = np.quantile(resampled, [0.025, 0.975])
    ends = (measured, min(low, measured), max(high, measured))
    return Verdict(claim, *ends, expected, within, basis="measured")


def _costs(data: Arrays, config: Config) -> list[Verdict]:
    found, dims = [], np.array(COUNTED)
    for row, rule in enumerate(RULES):
        more = EVALUATIONS if rule == "auto" else 0
        ratios = [
            data["calls"][index, row] / (PER_STENCIL[s][0] * dims + PER_STENCIL[s][1] + more)
            for index, s in enumerate(config.schemes)
        ]
        claim = _claim("cost_auto", more=more) if rule == "auto" else _claim("cost")
        found.append(Verdict.worst(claim, ratios, 1.0, kind="range", basis="identity"))
    return found


def _noise(data: Arrays, config: Config, precision: str) -> Verdict:
    """Judge the median over functions, of each of which a typical point counts."""
    octaves = np.log2(np.median(data[f"{precision}_zoo_noise"], axis=-1)).ravel()
    middle, low, high = _bootstrapped(octaves, 0.5, config.seed)
    claim = _claim("measured", precision=precision)
    return Verdict(claim, middle, low, high, 0.0, OCTAVE, basis="measured")


def pooled(data: Arrays, precision: str, scheme: int, rule: int) -> np.ndarray:
    """Return the regrets over functions of every kind, of one unknown and of many."""
    one = data[f"{precision}_zoo_regret"][scheme, rule].ravel()
    return np.append(one, data[f"{precision}_many_regret"][scheme, rule].ravel())


def _regrets(data: Arrays, config: Config, precision: str, scheme: int, name: str) -> list[Verdict]:
    """Judge the measured step, and as the control the one that knows the precision only."""
    params = {"scheme": _scheme(name), "precision": precision}
    auto, relative = (pooled(data, precision, scheme, row) for row in range(len(RULES)))
    found = []
    for quantile, share, bound in (("median", 0.5, MEDIAN), ("tail", 0.95, TAIL)):
        interval = _bootstrapped(auto, share, config.seed)
        claim = _claim(quantile, **params)
        found.append(Verdict.at_most(claim, *interval, bound, basis="measured"))
    interval = _bootstrapped(relative, 0.95, config.seed)
    claim = _claim("control_relative", **params)
    return [*found, Verdict.at_most(claim, *interval, TAIL, control=True, basis="measured")]


def _bootstrapped(values: np.ndarray, share: float, seed: int) -> tuple[float, float, float]:
    """Return a quantile, and the 95 % interval of it over resampled functions."""
    rng = np.random.default_rng(seed)
    finite = np.minimum(values, np.finfo(np.float64).max)  # the median of two infinities is NaN
    draws = np.quantile(rng.choice(finite, (500, len(finite))), share, axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    measured = float(np.quantile(finite, share))
    return measured, min(low, measured), max(high, measured)
