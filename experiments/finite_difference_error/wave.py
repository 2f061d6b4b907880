"""The function e^x sin 3x, and its derivatives in closed form."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

SPAN = (0.5, 1.5)  # of the points at which e^x sin 3x is differentiated
ROOT = 1 + 3j  # e^x sin 3x = Im exp(ROOT x)


def wave(x: Any) -> Any:
    """Return e^x sin 3x."""
    return jnp.exp(x) * jnp.sin(3 * x)


def wave_derivative(order: int, x: np.ndarray) -> np.ndarray:
    """Return a derivative of e^x sin 3x in closed form."""
    return np.imag(ROOT**order * np.exp(ROOT * x))
