"""What theory says of each part, beside what was measured."""

from __future__ import annotations

from typing import Any

import numpy as np

from adlab import optimize
from adlab.lab import Text, Verdict
from adlab.lab.verdict import Basis

from .config import RESOLVED, Config, Loss
from .fits import STARTS
from .functions import able
from .losses import METHODS, SPLITTING
from .matrices import ROWS
from .measure import gaps
from .squares import DISTINCT, KINDS

Arrays = dict[str, np.ndarray]
EPS = float(np.finfo(float).eps)
LARGEST = 2.0  # the singular value that all round-off is relative to
APART = 0.5  # the least distance of those that don't come close
MERGED = 49.5 * EPS * LARGEST  # LAPACK's QR iteration stops at 99 units of round-off
CONVENTIONS: tuple[Loss, ...] = (*SPLITTING, "factors")
SMOOTH: tuple[Loss, ...] = ("nuclear", "largest")
"""Losses of singular values alone, which `jax.numpy.linalg` differentiates without the vectors."""


def verdicts(data: Arrays, config: Config) -> list[Verdict]:
    """Judge the gap sweep, the table, least squares, the ridge fit and the completion."""
    found = [*_resolved(data, config), *_coinciding(data, config), *_functions(data, config)]
    if config.diagnose:
        found.append(_diagnosed(data))
    return [*found, *_squares(data), *_ridge(data), *_completion(data)]


def relative(errors: Any, norms: Any) -> Any:
    """Return root-mean-square errors over the last axis; inf where any is NaN.

    They are relative to the gradients' own; NaN where these don't exist.
    """
    wrong = np.where(np.isnan(errors), np.inf, errors)
    with np.errstate(invalid="ignore"):
        return np.sqrt(wrong.sum(-1) / norms.sum(-1))


def _claim(name: str, **params: Any) -> Text:
    return Text(f"linear_algebra_gradients.claim.{name}", **params)


def _method(method: str) -> Text:
    return Text(f"linear_algebra_gradients.method.{method}")


def _loss(loss: Loss) -> Text:
    return Text(f"linear_algebra_gradients.loss.{loss}")


def _most(
    name: str, value: Any, bound: float, basis: Basis, *, control: bool = False, **params: Any
) -> Verdict:
    """Judge the worst of what was found, or for a control the least; NaN counts as infinite."""
    values = np.where(np.isnan(value), np.inf, value)
    return Verdict.worst(
        _claim(name, **params), values, bound, side="at_most", control=control, basis=basis
    )


def _resolved(data: Arrays, config: Config) -> list[Verdict]:
    """Judge gaps that the decomposition resolves: how errors grow, and how far at most."""
    wide = gaps(config) >= 2.0**-RESOLVED
    gap, errors, norms = gaps(config)[wide], data["sweep"][:, :, wide], data["sweep_norms"][:, wide]
    seen = [k for k, loss in enumerate(config.losses) if loss not in SMOOTH]
    split = [k for k in seen if config.losses[k] in SPLITTING]
    whole = [k for k in seen if config.losses[k] not in SPLITTING]
    found = []
    for places, name, slow in ((split, "split", -2 / 3), (whole, "whole", 0.0)):
        for index, method in enumerate(METHODS):
            able = [k for k in places if not (config.losses[k] == "null" and method == "jnp")]
            if able:
                fits = [_exponent(gap, errors[index, k], norms[k], config.seed) for k in able]
                power = slow if method == "differences" else -1.0
                claim = _claim(f"exponent_{name}", method=_method(method), number=len(able))
                found.append(Verdict(claim, *_united(fits), power, 0.05, basis="measured"))
    ours = relative(errors[1], norms) / (EPS * LARGEST / gap)
    found.append(_most("resolved", ours, float(ROWS), "measured", number=len(config.losses)))
    if whole:
        last = [relative(errors[k][whole, -1], norms[whole, -1]) for k in (1, 2)]
        ratio, at = last[1] / last[0], f"{gap[-1]:.0e}"
        found.append(_most("overtaken", ratio, 1.0, "measured", gap=at))
    return found


def _united(fits: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    """Return the median of several estimates, and the hull of their intervals."""
    middle, low, high = np.array(fits).T
    return float(np.median(middle)), float(np.min(low)), float(np.max(high))


def _exponent(
    gap: np.ndarray, errors: np.ndarray, norms: np.ndarray, seed: int
) -> tuple[float, float, float]:
    """Return the slope of log error over log gap, with its 95 % interval over matrices.

    The error is the root of a ratio of means: the slope is linear in their logarithms.
    """
    if not np.all(np.isfinite(errors)):
        return np.nan, np.nan, np.nan
    centred = np.log(gap) - np.mean(np.log(gap))
    half = 0.5 * centred / (centred @ centred)
    pairs = np.concatenate([errors, norms]).T  # (matrices, 2 gaps)
    return optimize.log_linear_interval(pairs, np.concatenate([half, -half]), seed=seed).ends


def _coinciding(data: Arrays, config: Config) -> list[Verdict]:
    """Judge gaps that count as 0: exact where the loss doesn't see them, a convention elsewhere."""
    inside = gaps(config) <= ROWS * EPS * LARGEST
    errors, norms = data["sweep"][:, :, inside], data["sweep_norms"][:, inside]
    bound, found = MERGED / APART, []
    for place, loss in enumerate(config.losses):
        about: dict[str, Any] = {"loss": _loss(loss)}
        exists = np.isfinite(norms[place]).all(axis=-1)
        jnp, ours = (relative(errors[k, place], norms[place])[exists] for k in (0, 1))
        if not exists.any():
            continue
        if loss in CONVENTIONS:
            found.append(
                _most("control_convention", ours, bound, "measured", control=True, **about)
            )
            continue
        found.append(_most("coinciding", ours, bound, "identity", **about))
        if loss not in SMOOTH:
            found.append(_most("control_jnp", jnp, bound, "measured", control=True, **about))
    return found


def _functions(data: Arrays, config: Config) -> list[Verdict]:
    """Judge functions of the matrix: they don't notice the gap, nor that it vanishes.

    Round-off of a a^T moves eigenvectors by its size over the distance of squares that stay apart.
    """
    whole = able(config.losses)
    if not whole:
        return []
    norms = data["sweep_norms"][[config.losses.index(loss) for loss in whole]]
    errors = relative(data["functions"], norms)
    bound = ROWS * EPS * (LARGEST / APART) ** 2
    return [_most("functions", errors, bound, "measured", number=len(whole))]


def _diagnosed(data: Arrays) -> Verdict:
    wrong = float(np.sum(data["diagnosed"] != data["expected"]))
    claim = _claim("diagnosed", number=data["expected"].size)
    return Verdict.at_most(claim, wrong, wrong, wrong, 0.0, basis="measured")


def _squares(data: Arrays) -> list[Verdict]:
    """Judge least squares: condition numbers are 9 at most, so that 1e-12 is much round-off."""
    jnp, ours, _, by_differences = data["squares"]
    distinct = [KINDS.index(kind) for kind in DISTINCT]
    found = [
        _most("squares", ours, 1e-12, "identity", number=ours.size),
        _most("squares_differences", by_differences, 1e-8, "identity", number=ours.size),
        _most("squares_jnp", jnp[:, distinct], 1e-12, "identity"),
    ]
    for kind in KINDS[len(DISTINCT) :]:
        about = {"kind": Text(f"linear_algebra_gradients.kind.{kind}")}
        values = jnp[:, KINDS.index(kind)]
        found.append(_most("control_squares", values, 1e-12, "measured", control=True, **about))
    return found


def _ridge(data: Arrays) -> list[Verdict]:
    exact = data["ridge_exact"]

    def off(name: str) -> Any:
        difference = np.linalg.norm(data[f"ridge_{name}"] - exact)
        return np.nan_to_num(difference / np.linalg.norm(exact), nan=np.inf)

    distance = abs(data["ridge_path_rules"][-1] - data["ridge_best"])
    return [
        _most("ridge", off("rules"), 1e-12, "identity"),
        _most("ridge_differences", off("differences"), 1e-7, "identity"),
        Verdict.at_most(
            _claim("ridge_found"), distance, distance, distance, 0.01, basis="measured"
        ),
        _most("control_ridge", off("jnp"), 1e-12, "measured", control=True),
    ]


def _completion(data: Arrays) -> list[Verdict]:
    off = "completion_gradient_errors"
    steps = data["completion_errors_rules"].shape[1]
    last = data["completion_errors_rules"][:, -1]
    zero, random = (STARTS.index(start) for start in ("zero", "random"))
    return [
        _most("completion", data[f"{off}_rules"], 1e-11, "identity", steps=steps),
        _most("completed", last[zero], 1e-3, "measured", steps=steps),
        _most("completion_jnp", data[f"{off}_jnp"][random], 1e-11, "identity", steps=steps),
        _most("control_completion", data[f"{off}_jnp"][zero], 1e-11, "measured", control=True),
    ]
