"""The two branches of the error of e^x sin 3x, where they cross, and where each is seen alone."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from adlab.gradients.measured_steps import constants
from adlab.gradients.stencils import STENCILS

from .wave import ROOT, wave_derivative

# What follows truncation, over it, is about c (h |ROOT|)^s: (s, c) of each scheme.
_NEXT = {"forward": (1, 1 / 3), "central": (2, 1 / 20), "richardson": (2, 1 / 33.6),
         "complex": (2, 1 / 20)}  # fmt: skip
SLOPE_OFF = 0.05  # what the next term, and the other branch, may do to a slope
MARGIN = 100.0  # least ratio of the squares of the branches in a window
COARSE = 16.0  # steps under so many roundings of x aren't used


class Branches(NamedTuple):
    """Truncation h^order * truncation, and noise / h, both over the size of the derivative."""

    order: int
    truncation: float
    noise: float

    @property
    def step(self) -> float:
        """Where the sum of squares is least."""
        ratio = self.noise / (math.sqrt(self.order) * self.truncation)
        return ratio ** (1 / (self.order + 1))

    @property
    def error(self) -> float:
        """The root of that sum there."""
        return math.sqrt(1 + 1 / self.order) * self.noise / self.step

    @property
    def clear(self) -> float:
        """By which factor from the best step one branch is seen alone."""
        return MARGIN ** (1 / (2 * self.order + 2))


def branches(scheme: str, x: np.ndarray, noise: float) -> Branches:
    """Return theory for the points x and a noise; the complex step has none."""
    x = x.astype(np.float64)
    size = _rms(wave_derivative(1, x))
    if scheme == "complex":
        return Branches(2, _rms(wave_derivative(3, x)) / 6 / size, 0.0)
    order = STENCILS[scheme].order
    gain, truncation = constants(STENCILS[scheme])
    derivative = _rms(wave_derivative(order + 1, x))
    return Branches(order, truncation * derivative / size, gain * noise / size)


def windows(scheme: str, theory: Branches, eps: float) -> dict[str, tuple[float, float]]:
    """Return the steps, from and to, over which each branch is a power law."""
    power, factor = _NEXT[scheme]
    high = (SLOPE_OFF / (power * factor)) ** (1 / power) / abs(ROOT)
    if scheme == "complex":
        low = math.sqrt(math.sqrt(MARGIN) * eps / theory.truncation)
        return {"truncation": (low, high)}
    return {
        "truncation": (theory.step * theory.clear, high),
        "noise": (COARSE * eps, theory.step / theory.clear),
    }


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))
