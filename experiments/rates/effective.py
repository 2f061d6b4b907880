"""What takes the dimension's place: descent on quadratics of two spectra, ever more unknowns.

Both start on an axis of the eigenvalue mu, so that gradient descent is one and the same in every
dimension and for both. The other eigenvalues are all L, whose sum grows as n, or L and each half of
the one before, whose sum stays below 2 L. Each descent has the step 1/(c L), c the effective
dimension (tr H + 2 L)/L.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import jax
import numpy as np

from adlab import gradients, lab, optimize, problems

from . import fits
from .cells import Arrays
from .config import Config
from .real_data import descend

Spectrum = Literal["equal", "halving"]
SPECTRA: tuple[Spectrum, ...] = get_args(Spectrum)
TARGET = 0.1  # of f(x0) - f*
POINTS = 60
MORE_SEEDS = 4  # times as many as elsewhere: a slope of 0 takes them, and such descents are short


def effective_dimension(config: Config, key: jax.Array, progress: lab.Progress) -> Arrays:
    """Run two-point descent on both spectra in every dimension of `full_dims`, and its reference.

    Returns factors c (2, D), k (2, D, P), curves (2, D, S, P), and gd_k (Q,) and gd (Q,), f - f* of
    gradient descent relative to the start.
    """
    part, dims = "effective_dimension", config.full_dims
    slow = 1 / config.condition
    length = np.log(1 / TARGET) / -2 / np.log1p(-slow) if slow < 1 else 1.0  # of gradient descent
    gd_k = optimize.log_grid(int(2 * length) + 10, 40)
    problem = _quadratic("equal", dims[0], slow)
    exact = gradients.reverse_mode(problem.fun)
    gd = descend(problem, exact, 1.0, gd_k, None, None, progress, part)
    shape = (len(SPECTRA), len(dims))
    factors, k, curves = np.empty(shape), [], []
    for i, spectrum in enumerate(SPECTRA):
        for j, dim in enumerate(dims):
            progress.update(i * len(dims) + j, factors.size, f"{spectrum}, n = {dim}")
            problem = _quadratic(spectrum, dim, slow)
            factors[i, j] = factor = problems.effective_dimension(_hessian(spectrum, dim, slow))
            k.append(_grid(2 * length * factor + 40))
            own = jax.random.fold_in(jax.random.fold_in(key, dim), i)
            estimate = gradients.two_point(problem.fun, law="gaussian", smoothing="relative")
            seeds = MORE_SEEDS * config.num_seeds
            curves.append(descend(problem, estimate, factor, k[-1], own, seeds, progress, part))
    return {
        "gd_k": gd_k, "gd": gd, "factors": factors, "k": np.reshape(k, (*shape, POINTS)),
        "curves": np.reshape(curves, (*shape, -1, POINTS)),
    }  # fmt: skip


def _eigenvalues(spectrum: Spectrum, dim: int, slow: float) -> np.ndarray:
    rest = np.ones(dim - 1) if spectrum == "equal" else 0.5 ** np.arange(dim - 1)
    return np.concatenate([[slow], rest])


def _hessian(spectrum: Spectrum, dim: int, slow: float) -> np.ndarray:
    return np.diag(_eigenvalues(spectrum, dim, slow))


def _quadratic(spectrum: Spectrum, dim: int, slow: float) -> problems.Problem:
    """Return the quadratic, from the start on its axis of the eigenvalue `slow`."""
    problem = problems.quadratic(dim=dim, spectrum=list(_eigenvalues(spectrum, dim, slow)))
    return dataclasses.replace(problem, x0=np.eye(dim)[0])


def _grid(length: float) -> np.ndarray:
    """Return iterations up to `length`, more of them at the end."""
    place = np.arange(POINTS)
    grid = np.rint(np.geomspace(1, length, POINTS)).astype(int) - place
    return np.maximum.accumulate(grid) + place


def slowdowns(data: Arrays, seed: int) -> list[list[optimize.Interval]]:
    """Return, per spectrum and dimension, iterations to the target over gradient descent's."""
    fields = ("gd_k", "gd", "k", "curves")
    gd_k, gd, k, curves = (data[f"effective_dimension_{field}"] for field in fields)
    scale = float(fits.hitting_time(gd_k, gd, TARGET))
    return [
        [fits.hitting_interval(grid / scale, runs, TARGET, seed=seed)
         for grid, runs in zip(*row, strict=True)]
        for row in zip(k, curves, strict=True)
    ]  # fmt: skip
