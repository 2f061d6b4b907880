"""The dark theme: what becomes of a finished figure's colours.

A figure is drawn in the colours of a white slide. Each colour is then replaced alone, so that no
code that draws knows of the theme; but a row of tones, pale to full, is known to be one only where
it is made. `mixed` makes it for the dark paper, and what it made is left as it is here.
"""

import colorsys
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import Collection, PolyCollection, QuadMesh
from matplotlib.colors import to_hex, to_rgb, to_rgba
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from adlab.figures.colors import DARK, contrast, ink, tint

_MADE: set[str] = {value.lower() for value in DARK.values()}  # colours of the dark theme

_MIXED: set[str] = set()  # those of them that may be too near to the paper for text


def dark(color: Any) -> Any:
    """Return what a colour becomes on a dark slide, with its opacity; what is dark already stays.

    Greys change places with the paper's lightness between them. Tints become shades. Hues stay,
    lightened where they would be lost.
    """
    red, green, blue, alpha = to_rgba(color)
    if alpha == 0 or to_hex((red, green, blue)) in _MADE:
        return (red, green, blue, alpha)
    hue, light, saturation = colorsys.rgb_to_hls(red, green, blue)
    if max(red, green, blue) - min(red, green, blue) < 0.04:
        changed = _between(DARK["ink"], DARK["paper"], light)
    elif light > 0.7:
        changed = to_hex(colorsys.hls_to_rgb(hue, 1.12 - light, 0.6 * saturation))
    else:
        changed = to_hex((red, green, blue))
        while contrast(changed, DARK["paper"]) < 4.5:
            changed = tint(changed, 0.92)
    _MADE.add(changed)
    return (*to_rgb(changed), alpha)


def mixed(color: str, weight: float) -> str:
    """Return a colour's dark look mixed with the dark paper: 1 is the look itself, 0 the paper."""
    made = _between(DARK["paper"], to_hex(dark(color)), weight)
    _MADE.add(made)
    _MIXED.add(made)
    return made


def _between(first: str, last: str, weight: float) -> str:
    between = (1 - weight) * np.array(to_rgb(first)) + weight * np.array(to_rgb(last))
    return to_hex((float(between[0]), float(between[1]), float(between[2])))


def darken(figure: Figure) -> None:
    """Give all of a figure its dark look, but images and what is drawn over them."""
    kept = {id(artist) for ax in figure.axes for artist in _over_images(ax)}
    for artist in figure.findobj():
        if id(artist) not in kept:
            _recolor(artist)


def _over_images(ax: Axes) -> Iterator[Artist]:
    """Yield what lies wholly over an image: it was chosen for the image's colours."""
    ax.get_xlim(), ax.get_ylim()  # settled, or places in units of the axes aren't known
    grounds = [_box(artist) for artist in ax.get_children() if _is_image(artist)]
    for artist in (*ax.texts, *ax.lines, *ax.patches, *ax.collections) if grounds else ():
        points = _places(artist)
        if len(points) and any(_within(points, ground) for ground in grounds):
            yield artist
            yield from artist.findobj()


def _is_image(artist: Artist) -> bool:
    """Whether values fill an area of the axes with colours; points and contours alone don't."""
    if isinstance(artist, ContourSet):
        return bool(artist.filled)
    if isinstance(artist, Collection):
        return isinstance(artist, QuadMesh | PolyCollection) and artist.get_array() is not None
    return artist in getattr(artist.axes, "images", ())


def _places(artist: Artist) -> np.ndarray:
    """Return points of the picture between which the artist lies, shape (n, 2)."""
    if isinstance(artist, Line2D):
        points = np.asarray(artist.get_transform().transform(artist.get_xydata()))
        settled: np.ndarray = points[np.isfinite(points).all(axis=1)]
        return settled
    box = _box(artist)
    if isinstance(artist, Text):  # its middle: its size isn't the final one yet
        return np.array([[(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2]])
    return np.array([box.min, box.max])


def _box(artist: Artist) -> Bbox:
    """Return what the artist takes of the picture, in pixels."""
    if isinstance(artist, Collection) and artist.axes is not None:
        to_pixels = artist.axes.transData
        return Bbox(artist.get_datalim(to_pixels).transformed(to_pixels))
    return Bbox(artist.get_window_extent())


def _within(points: np.ndarray, box: Bbox) -> bool:
    margin = 0.02 * np.array([box.width, box.height])  # of round-off, and of half a line
    low, high = np.array(box.min) - margin, np.array(box.max) + margin
    return bool(np.all((low <= points) & (points <= high)))


def _recolor(artist: Artist) -> None:
    _recolor_effects(artist)
    if isinstance(artist, Text):
        artist.set_color(_written(artist.get_color()))
        parts = [artist.get_bbox_patch(), getattr(artist, "arrow_patch", None)]
        for part in parts:
            if part is not None:
                _recolor(part)
    elif isinstance(artist, Line2D):
        artist.set_color(dark(artist.get_color()))
        for name in ("markerfacecolor", "markeredgecolor"):
            value = getattr(artist, f"get_{name}")()
            if not (isinstance(value, str) and value in ("none", "auto")):
                getattr(artist, f"set_{name}")(dark(value))
    elif isinstance(artist, Patch):
        for name in ("facecolor", "edgecolor"):
            value = getattr(artist, f"get_{name}")()
            if value[3] > 0:  # else it would get the opacity of the whole patch
                getattr(artist, f"set_{name}")(dark(value))
    elif isinstance(artist, Collection):
        _recolor_collection(artist)


def _written(color: Any) -> Any:
    """Return a text's dark look: in a tone that is near to the paper it couldn't be read."""
    if (tone := to_hex(color)) in _MIXED:
        readable = ink(tone, DARK["paper"])
        _MADE.add(readable)
        return (*to_rgb(readable), to_rgba(color)[3])
    return dark(color)


def _recolor_collection(artist: Collection) -> None:
    faces, edges = np.asarray(artist.get_facecolor()), np.asarray(artist.get_edgecolor())
    if artist.get_array() is None:
        artist.set_facecolor([dark(row) for row in faces.reshape(-1, 4)] or "none")
    elif not len(faces) or np.array_equal(faces, edges):
        return  # values colour the edges: all there is of it, or together with the faces
    artist.set_edgecolor([dark(row) for row in edges.reshape(-1, 4)] or "none")


def _recolor_effects(artist: Artist) -> None:
    """Give halos and shadows their dark look; matplotlib keeps their colours in dictionaries."""
    for effect in artist.get_path_effects() or ():
        for held in vars(effect).values():
            if isinstance(held, Patch):
                _recolor(held)
            for name in ("foreground", "facecolor", "edgecolor") if isinstance(held, dict) else ():
                if name in held:
                    held[name] = dark(held[name])
