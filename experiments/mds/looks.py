"""Colours, markers and names of the methods, the same in every picture."""

from __future__ import annotations

from matplotlib.figure import Figure

from adlab.figures import style
from adlab.figures.labels import text

from .config import METHODS, SIMPLEXES

TONES = {
    **{method: style.color(method) for method in METHODS},
    **dict(zip(SIMPLEXES, map(style.tone, ("indigo", "wine", "olive")), strict=True)),
}
MARKS = {
    **{method: style.marker(method) for method in METHODS},
    **dict(zip(SIMPLEXES, "Pv<", strict=True)),
}


def name_of(method: str) -> str:
    """Return what a method is called in a legend."""
    return text(f"method.{method}" if method in METHODS else f"mds.simplex.{method}")


def blank(title: str) -> Figure:
    """Return a slide whose axes are to be placed by hand, as maps with names need it."""
    figure = Figure(figsize=style.SLIDE)
    figure.set_layout_engine("none")
    figure.suptitle(title)
    return figure
