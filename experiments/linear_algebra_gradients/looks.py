"""Colours, markers and words that all figures here share."""

from __future__ import annotations

from typing import Any

from adlab.figures import style
from adlab.figures.labels import text

LOOKS = {
    "jnp": (style.color("reverse_mode"), "s"),
    "rules": (style.tone("wine"), "o"),
    "functions": (style.tone("orange"), "D"),
    "differences": (style.color("finite_difference"), "^"),
}


def words(key: str, **params: Any) -> str:
    """Return a label of a figure."""
    return text(f"linear_algebra_gradients.figure.{key}", **params)


def name_of(method: str) -> str:
    """Return what a method is called in a legend."""
    return text(f"linear_algebra_gradients.method.{method}")
