"""The verdicts of `learned_steps`."""

from __future__ import annotations

from typing import Any

import numpy as np

from adlab import optimize
from adlab.lab import Text, Verdict
from adlab.lab.verdict import Basis

from . import theory
from .config import Config

Arrays = dict[str, np.ndarray]
CLOSE = 0.01
REACHED = 1.5  # times the least loss: what both ways of training must reach


def verdicts(data: Arrays, config: Config) -> list[Verdict]:
    """Judge gradients, what was learned, whom it beats, its order, and the controls."""
    return [
        *_gradients(data),
        *_learned(data),
        *_beaten(data),
        *_worst_case(data, config),
        *_saddle(data, config),
        *_logistic(data),
        *_controls(data),
    ]


def _at_most(
    name: str, value: Any, bound: float, basis: Basis, control: bool = False, **params: str | int
) -> Verdict:
    claim = Text(f"learned_steps.claim.{name}", **params)
    return Verdict.worst(claim, value, bound, side="at_most", control=control, basis=basis)


def _near(name: str, value: float, tolerance: float, basis: Basis) -> Verdict:
    claim = Text(f"learned_steps.claim.{name}")
    return Verdict(claim, value, value, value, 1.0, tolerance, basis=basis)


def _gradients(data: Arrays) -> list[Verdict]:
    errors = zip(data["gradient_names"], data["gradient_errors"], strict=True)
    found = [_at_most("gradient", error, 1e-10, "identity", way=str(way)) for way, error in errors]
    apart = float(data["logistic_gradient_error"])
    return [*found, _at_most("agreement", apart, 1e-6, "identity")]


def _learned(data: Arrays) -> list[Verdict]:
    """Judge the loss and the steps against the exact ones, and the calls of the other way."""
    ratio = np.sort(data["learned_steps"]) / np.sort(data["best_steps"])
    loss = float(data["learned_loss"] / data["best_loss"])
    dearer = Text("learned_steps.claim.calls", level=REACHED)
    return [
        _near("optimum", loss, CLOSE, "measured"),
        _at_most("nodes", np.abs(ratio - 1), CLOSE, "measured", number=len(ratio)),
        Verdict.at_least(dearer, *_calls(data), 1.0, basis="measured"),
    ]


def _calls(data: Arrays) -> tuple[float, float, float]:
    """Return the ratio of evaluations to `REACHED`: its geometric mean over seeds."""
    goal = REACHED * float(data["best_loss"])
    exact = float(data["price"]) * _first(data["learned_training"], data["learned_calls"], goal)
    curves, calls = data["two_point_training"], data["two_point_calls"]
    ratios = np.array([_first(curve, calls, goal) / exact for curve in curves])
    if not np.all(np.isfinite(ratios)):
        return float("inf"), 0.0, float("inf")
    return optimize.ratio_interval(ratios).ends


def _first(curve: np.ndarray, calls: np.ndarray, goal: float) -> float:
    """Return the calls at the first record that reaches the goal; infinite if none does."""
    reached = np.flatnonzero(curve <= goal)
    return float(calls[reached[0]]) if reached.size else float("inf")


def _ratio(upper: np.ndarray, lower: np.ndarray) -> tuple[float, float, float]:
    """Return the ratio of means over the same starts, with its interval on a log scale."""
    return optimize.mean_ratio_interval(upper, lower).ends


def _beaten(data: Arrays) -> list[Verdict]:
    """Judge the loss on held-out starts over that of other steps."""
    found = []
    for other in ("constant", "classical", "chebyshev"):
        ratio = _ratio(data["learned_ends"], data[f"{other}_ends"])
        claim = Text(f"learned_steps.claim.beats_{other}")
        found.append(Verdict.at_most(claim, *ratio, 0.5, basis="measured"))
    return found


def _worst_case(data: Arrays, config: Config) -> list[Verdict]:
    """Judge the contraction of Chebyshev's steps, that none does better, and the order."""
    mu, L = float(data["spectrum"][0]), float(data["spectrum"][-1])
    exact = theory.chebyshev_contraction(mu, L, config.num_steps)
    least = float(data["learned_contraction"] / exact)
    orders = data["reversed_ends"] / data["learned_ends"]
    return [
        _near("chebyshev", float(data["chebyshev_contraction"] / exact), 1e-6, "identity"),
        Verdict.at_least(
            Text("learned_steps.claim.worst_case"), least, least, least, 1.0, basis="identity"
        ),
        _at_most("order", np.abs(orders - 1), 1e-6, "identity"),
    ]


def _saddle(data: Arrays, config: Config) -> list[Verdict]:
    """Judge that equal steps have equal derivatives, and that the best of them are a saddle."""
    slopes = data["equal_gradient"]
    spread = float(np.ptp(slopes) / np.abs(slopes).max())
    apart, together = data["curvatures"]
    return [
        _at_most("symmetry", spread, 1e-10, "identity"),
        _near("saddle", float(-apart), 1e-6, "identity"),
        _near("valley", float(together / (2 * config.num_steps - 1)), 1e-6, "identity"),
    ]


def _logistic(data: Arrays) -> list[Verdict]:
    ratio = _ratio(data["logistic_learned_ends"], data["logistic_constant_ends"])
    claim = Text("learned_steps.claim.logistic")
    return [Verdict.at_most(claim, *ratio, 0.5, basis="measured")]


def _controls(data: Arrays) -> list[Verdict]:
    """Judge what must not do as well: equal steps, one step at a time, another order."""
    found = []
    for kind in ("constant", "greedy"):
        ratio = float(data[f"{kind}_loss"] / data["best_loss"])
        found.append(_at_most(f"control_{kind}", ratio, 1 + CLOSE, "measured", control=True))
    transient = float(data["reversed_curve"].max() / data["learned_curve"].max())
    found.append(_at_most("control_transient", transient, 1 + CLOSE, "measured", control=True))
    for kind in ("greedy", "reversed"):
        beside = _ratio(data[f"logistic_{kind}_ends"], data["logistic_constant_ends"])
        claim = Text(f"learned_steps.claim.control_logistic_{kind}")
        found.append(Verdict.at_most(claim, *beside, 0.5, control=True, basis="measured"))
    return found
