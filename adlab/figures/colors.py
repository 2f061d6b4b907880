"""The colours of all figures, and what makes them readable.

Hues are those of Okabe & Ito, told apart with any kind of colour vision, and four of Tol's that go
with them; the greys belong to theory, notes and paper. No figure has a colour of its own: what it
needs beside these are tints of them.
"""

from collections.abc import Sequence
from typing import TypeAlias

from matplotlib.colors import to_hex, to_rgb

__all__ = ["TONES", "contrast", "ink", "tint", "tone"]

Rgb: TypeAlias = tuple[float, float, float]

TONES = {
    "blue": "#0072B2",
    "sky": "#56B4E9",
    "vermilion": "#D55E00",
    "orange": "#E69F00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "indigo": "#332288",
    "wine": "#882255",
    "brown": "#6F4E37",
    "olive": "#808000",
    "ink": "#222222",
    "muted": "#555555",
    "grey": "#999999",
    "pale": "#E3E3E3",
    "paper": "#FFFFFF",
}
"""Name -> colour: ten hues, then greys from that of text to that of the paper."""

DARK = {"paper": "#14181F", "ink": "#E8EBF0", "pale": "#3A414C"}
"""Paper, text and grid lines of the dark theme; slightly blue, as no colour of the light one is."""

READABLE = 4.5
"""Least contrast of text (WCAG 2.1, level AA)."""


def tone(name: str) -> str:
    """Return a colour by its name.

    >>> tone("vermilion")
    '#D55E00'

    Raises:
      ValueError: there is none of that name.
    """
    if name not in TONES:
        raise ValueError(f"tone must be one of {', '.join(TONES)}, got {name!r}")
    return TONES[name]


def tint(color: str, weight: float) -> str:
    """Return `color` mixed with white: 1 is the colour itself, 0 is white.

    >>> tint("#222222", 0.0)
    '#ffffff'
    """
    return _mixed(color, "#FFFFFF", weight)


def ink(color: str, on: str = "#FFFFFF") -> str:
    """Return `color`, darkened (on a dark ground lightened) as far as text in it needs.

    >>> ink("#56B4E9") != "#56B4E9", contrast(ink("#56B4E9"), "#FFFFFF") >= 4.5
    (True, True)
    >>> ink("#222222")
    '#222222'
    """
    if contrast(color, on) >= READABLE:
        return color
    end = max(("#000000", "#FFFFFF"), key=lambda extreme: contrast(extreme, on))
    steps = (_mixed(color, end, 1 - i / 50) for i in range(1, 51))
    return next(step for step in steps if contrast(step, on) >= READABLE)


def contrast(one: str | Sequence[float], other: str | Sequence[float]) -> float:
    """Return the contrast ratio of two opaque colours, from 1 (equal) to 21 (black on white).

    As the Web Content Accessibility Guidelines 2.1 define it, by relative luminances.

    >>> contrast("#000000", "#FFFFFF")
    21.0
    """
    brighter, darker = sorted((_luminance(_rgb(one)), _luminance(_rgb(other))), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def _rgb(color: str | Sequence[float]) -> Rgb:
    return to_rgb(color if isinstance(color, str) else (color[0], color[1], color[2]))


def _luminance(rgb: Rgb) -> float:
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _mixed(color: str, other: str, weight: float) -> str:
    pairs = zip(to_rgb(color), to_rgb(other), strict=True)
    red, green, blue = (weight * a + (1 - weight) * b for a, b in pairs)
    return to_hex((red, green, blue))
