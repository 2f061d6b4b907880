"""The mean square of the error of a difference of sin over a period, where it is least."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Theory(NamedTuple):
    """What is expected of a scheme at the noise s.

    Attributes:
      truncation: h -> the mean square of the error of exact values, in closed form.
      gain: the noise adds gain s^2/h^2.
      step: (c, q): the best step is c s^q.
      error: (c, q): the root mean square of its error is c s^q.
    """

    truncation: Callable[[Any], Any]
    gain: float
    step: tuple[float, float]
    error: tuple[float, float]

    def square(self, h: Any, noise: float) -> Any:
        """Return the mean square of the error."""
        return self.truncation(h) + self.gain * noise**2 / h**2


def _forward(h: Any) -> Any:
    """Return the mean square of (sin(x + h) - sin x)/h - cos x = Re[((e^ih - 1)/ih - 1) e^ix]."""
    return np.abs(np.expm1(1j * h) / (1j * h) - 1) ** 2 / 2


def _central(h: Any) -> Any:
    """Return the mean square of (sin(x + h) - sin(x - h))/(2h) - cos x = (sin h / h - 1) cos x."""
    return (np.sin(h) / h - 1) ** 2 / 2


_BEST = (3 * math.sqrt(2)) ** (1 / 3)
THEORY = {
    "forward": Theory(_forward, 2.0, (2.0, 1 / 2), (1.0, 1 / 2)),
    "central": Theory(_central, 0.5, (_BEST, 1 / 3), (math.sqrt(3) / (2 * _BEST), 2 / 3)),
}
"""To leading order in h, of which the rest is h^2/20 or less at the steps that count."""
