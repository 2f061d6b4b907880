"""Curves between circles, and the room that text takes, in inches."""

from __future__ import annotations

import functools
import re
import textwrap

import matplotlib as mpl
from matplotlib.path import Path as Curve
from matplotlib.textpath import TextPath

__all__ = ["Point", "extent", "fitted", "mathematics", "smooth"]

Point = tuple[float, float]


def smooth(way: list[Point], radius: float) -> Curve:
    """Return the curve through points, from the rim of a circle to that of another."""
    if len(way) == 2:
        return Curve([_towards(way[0], way[1], radius), _towards(way[1], way[0], radius + 0.03)])
    inner = way[1:-1]
    points = [
        _towards(way[0], inner[0], radius),
        *inner,
        _towards(way[-1], inner[-1], radius + 0.03),
    ]
    vertices, codes = [points[0]], [Curve.MOVETO]
    for k in range(len(points) - 1):
        before = points[max(k - 1, 0)]
        start, end = points[k], points[k + 1]
        after = points[min(k + 2, len(points) - 1)]
        first = (start[0] + (end[0] - before[0]) / 6, start[1] + (end[1] - before[1]) / 6)
        second = (end[0] - (after[0] - start[0]) / 6, end[1] - (after[1] - start[1]) / 6)
        vertices += [first, second, end]
        codes += [Curve.CURVE4] * 3
    return Curve(vertices, codes)


def _towards(start: Point, end: Point, distance: float) -> Point:
    length = ((end[0] - start[0]) ** 2 + (end[1] - start[1]) ** 2) ** 0.5
    share = distance / max(length, 1e-9)
    return start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


@functools.lru_cache(4096)
def _unit_extent(string: str) -> Point:
    if not string:  # of which matplotlib makes no path
        return 0.0, 0.0
    with mpl.rc_context({"text.usetex": False}):
        box = TextPath((0, 0), string, size=10).get_extents()
    return box.width / 10 / 72, box.height / 10 / 72


def extent(string: str, size: float) -> Point:
    """Return width and height in inches."""
    wide, high = _unit_extent(string)
    return wide * size, high * size


def fitted(string: str, size: float, room: float) -> float:
    """Return the font size, at most `size`, at which the string is no wider than `room` inches."""
    wide, _ = extent(string, size)
    return size if wide <= room else size * room / wide


@functools.lru_cache(4096)
def mathematics(latex: str, plain: str) -> str:
    """Return mathematics as matplotlib reads it; plain text where it can't."""
    if re.fullmatch(r"[=\d. ]+", latex):
        return latex  # the same without mathematics, whose layout takes long
    string = f"${latex.replace(chr(92) + 'textstyle', '')}$"
    try:
        readable = "$" not in latex and _unit_extent(string)
    except ValueError:
        readable = None
    if not readable:
        return textwrap.shorten(plain, 80).replace("$", r"\$")
    return string
