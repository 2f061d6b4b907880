"""What is measured, in stages."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from adlab import lab, rules

from . import fits, functions, squares
from .config import Config, Loss
from .losses import METHODS, differences, gradients, value
from .matrices import COLUMNS, ROWS, SPECTRA, Known, near

Arrays = dict[str, np.ndarray]


def run(config: Config, progress: lab.Progress) -> Arrays:
    """Compare gradients of singular factors, least squares, a ridge fit and a completion."""
    return {
        **progress.stage("singular", lambda: _singular(config, progress)),
        **progress.stage("squares", lambda: squares.errors(config)),
        **progress.stage("ridge", lambda: fits.ridge(config)),
        **progress.stage("completion", lambda: fits.completion(config)),
    }


def gaps(config: Config) -> np.ndarray:
    """Return the gaps of the sweep, descending, and 0."""
    return np.array([*(2.0**-k for k in sorted(config.exponents)), 0.0])


def _singular(config: Config, progress: lab.Progress) -> Arrays:
    """Return squared errors and norms of the sweep and of the table of coinciding values.

    `sweep` and `table` have shapes (methods, losses, gaps or spectra, matrices), their norms lack
    the first axis. All matrices go through one compiled program per method.
    """
    rng = np.random.default_rng(config.seed)
    spectra = [near(gap) for gap in gaps(config)] + list(SPECTRA.values())
    known = [Known(rng, s) for s in spectra for _ in range(config.num_matrices)]
    a = np.stack([matrix.a for matrix in known])
    w, z = rng.normal(size=(len(known), ROWS, ROWS)), rng.normal(size=(len(known), ROWS, COLUMNS))
    split = np.repeat([abs(s[1] - s[2]) for s in spectra], config.num_matrices)
    exact = np.stack([
        [matrix.gradient(loss, *weights) for matrix, *weights in zip(known, w, z, strict=True)]
        for loss in config.losses
    ])  # fmt: skip
    found = []
    for place, method in enumerate(METHODS):
        progress.update(place, len(METHODS), method)
        if method == "differences":
            found.append(np.stack([differences(loss, a, w, z, split) for loss in config.losses]))
        else:
            found.append(gradients(method, config.losses, a, w, z))
    shape = (len(config.losses), len(spectra), config.num_matrices)
    errors = ((np.stack(found) - exact) ** 2).sum((-2, -1)).reshape(len(METHODS), *shape)
    norms = (exact**2).sum((-2, -1)).reshape(shape)
    cut = len(spectra) - len(SPECTRA)
    first = slice(cut * config.num_matrices, None, config.num_matrices)
    data = {
        "sweep": errors[:, :, :cut],
        "sweep_norms": norms[:, :cut],
        "table": errors[:, :, cut:],
        "table_norms": norms[:, cut:],
        "expected": np.array([[_kind(k, loss) for k in known[first]] for loss in config.losses]),
    }
    whole = functions.able(config.losses)
    if whole:
        data["functions"] = _of_functions(whole, config, exact, a, w, z, cut)
    if config.diagnose:
        asked = functools.partial(_asked, config.losses, progress)
        data["diagnosed"] = asked(a[first], w[first], z[first])
    return data


def _of_functions(
    whole: tuple[Loss, ...], config: Config, exact: Any, a: Any, w: Any, z: Any, cut: int
) -> np.ndarray:
    """Return squared errors of the sweep through matrix functions: (losses, gaps, matrices)."""
    swept = cut * config.num_matrices
    found = functions.gradients(whole, a[:swept], w[:swept], z[:swept])
    known = exact[[config.losses.index(loss) for loss in whole], :swept]
    squares_ = ((found - known) ** 2).sum((-2, -1))
    return squares_.reshape(len(whole), cut, config.num_matrices)


def _kind(known: Known, loss: Loss) -> str:
    """Return what a loss is at a matrix: exact through svd, differentiable all the same, or not."""
    if known.through_factors(loss):
        return "exact"
    return "differentiable" if known.differentiable(loss) else "none"


def _asked(losses: tuple[Loss, ...], progress: lab.Progress, a: Any, w: Any, z: Any) -> np.ndarray:
    """Return what `svd_diagnostics` answers, of shape (losses, spectra)."""
    kinds: list[str] = []
    for loss in losses:
        for place in range(len(a)):
            progress.update(len(kinds), len(losses) * len(a), "svd_diagnostics")
            given = (a[place], w[place], z[place])
            found = rules.svd_diagnostics(
                lambda u, s, vh: value(loss, (u, s, vh), *given),  # noqa: B023
                a[place],
                full_matrices=loss == "null",
            )
            differentiable = "differentiable" if found.differentiable else "none"
            kinds.append("exact" if found.exact else differentiable)
    return np.array(kinds).reshape(len(losses), len(a))
