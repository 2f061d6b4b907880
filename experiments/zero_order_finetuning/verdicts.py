"""The verdicts of `zero_order_finetuning`."""

from __future__ import annotations

import numpy as np

from adlab import optimize
from adlab.lab import Text, Verdict

from . import languages, theory
from .config import Config

Arrays = dict[str, np.ndarray]
CLOSE = 0.1  # within which the pretrained loss is the entropy, and the control its closed form
FALL = 0.95  # of the excess loss at most left by two-point adaptation
BAND = (0.5, 2.0)  # slowdown over the one foretold
SHARE = 0.01  # of the dimension at most is the slowdown


def verdicts(data: Arrays, config: Config) -> list[Verdict]:
    """Judge the floor, what adapting gains and costs, the slowdown, and the control."""
    return [
        _floor(data, config),
        *_falls(data, config),
        *_slowdowns(data, config),
        *_control(data, config),
        _operations(data, config),
        _memory(data),
    ]


def _claim(name: str, **params: str | int | Text) -> Text:
    return Text(f"zero_order_finetuning.claim.{name}", **params)


def subspace(kind: str) -> Text:
    """Return the name of what is adapted."""
    return Text(f"zero_order_finetuning.name.{kind}")


def _floor(data: Arrays, config: Config) -> Verdict:
    """Judge the loss on held-out sequences of the first language by the entropy."""
    entropy = languages.entropy(languages.law(config, "first"))
    ends = optimize.mean_interval(data["held_out_losses"] / entropy).ends
    return Verdict(_claim("floor"), *ends, 1.0, CLOSE, basis="measured")


def _falls(data: Arrays, config: Config) -> list[Verdict]:
    found = []
    for kind in dict.fromkeys(config.subspaces):
        gaps = data[f"{kind}_gaps"]
        ends = optimize.ratio_interval(gaps[:, -1] / gaps[:, 0]).ends
        claim = _claim("fall", kind=subspace(kind))
        found.append(Verdict.at_most(claim, *ends, FALL, basis="measured"))
    return found


def foretold(data: Arrays, kind: str) -> float:
    """Return the slowdown that the curvature at the start foretells."""
    return theory.effective_dimension(float(data[f"{kind}_trace"]), float(data[f"{kind}_largest"]))


def slowdowns(data: Arrays, kind: str) -> np.ndarray:
    """Return, per seed, iterations to gradient descent's last loss over gradient descent's."""
    level = float(data[f"{kind}_gd"][-1])
    exact = theory.hitting_time(data[f"{kind}_gd_k"], data[f"{kind}_gd"], level)
    curves, k = data[f"{kind}_losses"], data[f"{kind}_k"]
    return np.array([theory.hitting_time(k, curve, level) for curve in curves]) / exact


def isotropic_slowdowns(data: Arrays, config: Config) -> np.ndarray:
    """Return the same on the isotropic quadratic, per seed, by the rates of both.

    Its losses fall geometrically, so that the rate over any stretch is that to any level.
    """
    losses = np.asarray(data["control_losses"], float)
    rates = np.log(losses[:, -1] / losses[:, 0]) / config.control_steps
    return np.asarray(2 * np.log1p(-theory.CONTROL) / rates)


def interval(samples: np.ndarray) -> tuple[float, float, float]:
    """Return the geometric mean with its interval; unbounded where a descent never got there."""
    if not np.all(np.isfinite(samples) & (samples > 0)):
        return float("inf"), 0.0, float("inf")
    return optimize.ratio_interval(samples).ends


def _slowdowns(data: Arrays, config: Config) -> list[Verdict]:
    """Judge the slowdown by the one foretold, and by the number of weights."""
    found, (low, high) = [], BAND
    for kind in dict.fromkeys(config.subspaces):
        ends = interval(slowdowns(data, kind) / foretold(data, kind))
        claim, middle = _claim("slowdown", kind=subspace(kind)), (low + high) / 2
        found.append(Verdict(claim, *ends, middle, middle - low, basis="measured"))
        size = float(data[f"{kind}_size"])
        ends = interval(slowdowns(data, kind) / size)
        claim = _claim("dimension", kind=subspace(kind))
        found.append(Verdict.at_most(claim, *ends, SHARE, basis="measured"))
    return found


def _control(data: Arrays, config: Config) -> list[Verdict]:
    """Judge that the GPT's curvature doesn't foretell the quadratic's slowdown, which is n's."""
    slow, (low, high) = isotropic_slowdowns(data, config), BAND
    kind, middle, dim = config.subspaces[0], (low + high) / 2, int(data["dim"])
    ends = interval(slow / foretold(data, kind))
    control = Verdict(
        _claim("control", kind=subspace(kind)), *ends, middle, middle - low, control=True,
        basis="measured",
    )  # fmt: skip
    ends = interval(slow / theory.isotropic_slowdown(dim, theory.CONTROL))
    return [control, Verdict(_claim("isotropic"), *ends, 1.0, CLOSE, basis="measured")]


def operations(data: Arrays, kind: str) -> np.ndarray:
    """Return what each record of an adaptation cost, in evaluations by count of operations."""
    if kind == "adam":
        return np.asarray(data["adam_k"] * float(data["price"]))
    return np.asarray(2.0 * data[f"{kind}_adapted_k"])


def _operations(data: Arrays, config: Config) -> Verdict:
    """Judge the work of two-point adaptation, to where it ends, by that of Adam."""
    kind = config.subspaces[0]
    work, total = operations(data, "adam"), float(operations(data, kind)[-1])
    ends = data[f"{kind}_gaps"][:, -1]
    times = np.array([theory.hitting_time(work, data["adam_gaps"], level) for level in ends])
    with np.errstate(divide="ignore"):  # an adaptation that made it worse
        times = total / times
    claim = _claim("operations", kind=subspace(kind))
    return Verdict.at_least(claim, *interval(times), 1.0, basis="measured")


def _memory(data: Arrays) -> Verdict:
    """Judge the compiled temporaries of a two-point step by those of the gradient."""
    _, estimate, exact = data["temporaries"]
    share = float(estimate / exact)
    return Verdict.at_most(_claim("memory"), share, share, share, 1.0, basis="arithmetic")
