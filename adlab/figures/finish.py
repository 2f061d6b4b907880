"""What is done to a finished figure: theme, scale, titles, and the decimal comma of Russian.

An experiment draws for a white slide, in points of a slide of 13.3 x 7.5 inches. What a lecture
wants otherwise is done here to any figure, its own or a user's, after it was drawn: nothing of it
is known to the code that draws.
"""

import colorsys
import contextlib
import contextvars
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import Collection
from matplotlib.colors import to_hex, to_rgb, to_rgba
from matplotlib.figure import Figure
from matplotlib.layout_engine import PlaceHolderLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.ticker import Formatter

from adlab.figures import labels
from adlab.figures.colors import DARK, contrast, tint
from adlab.figures.labels import comma

__all__ = ["DARK", "Look", "as_title", "finish", "look", "wear"]

_THEMES = ("light", "dark")


@dataclass(frozen=True)
class Look:
    """How figures are to look.

    Attributes:
      theme: "light", or "dark" for a dark slide.
      scale: factor of type, lines and markers relative to the picture; drawings, whose texts are
        fitted to their places, keep their size.
      titles: whether figures carry their titles.

    Raises:
      ValueError: another theme; a scale outside [0.5, 2].
    """

    theme: Literal["light", "dark"] = "light"
    scale: float = 1.0
    titles: bool = True

    def __post_init__(self) -> None:
        if self.theme not in _THEMES:
            raise ValueError(f"theme must be one of {', '.join(_THEMES)}, got {self.theme!r}")
        if not 0.5 <= self.scale <= 2:
            raise ValueError(f"scale must be from 0.5 to 2, got {self.scale}")


_USUAL = Look()
_LOOK = contextvars.ContextVar("look", default=_USUAL)
_RESIZED: "weakref.WeakSet[Figure]" = weakref.WeakSet()
_TITLES: "weakref.WeakSet[Text]" = weakref.WeakSet()


def look() -> Look:
    """Return the look of figures here: that of the surrounding `wear`, else the usual one."""
    return _LOOK.get()


@contextlib.contextmanager
def wear(chosen: Look) -> Iterator[None]:
    """Make `chosen` the look of figures inside the `with` block, for this thread or task."""
    token = _LOOK.set(chosen)
    try:
        yield
    finally:
        _LOOK.reset(token)


def finish(figure: Figure) -> None:
    """Give a figure the current look and language's numbers; a second call changes nothing.

    Called by `style.save`, and before each frame of a movie, where new artists may have come.
    """
    chosen = look()
    if not chosen.titles:
        _untitle(figure)
    engine = figure.get_layout_engine()  # without one all has its place in inches
    fitted = engine is None or isinstance(engine, PlaceHolderLayoutEngine)
    if chosen.scale != 1.0 and figure not in _RESIZED and not fitted:
        width, height = figure.get_size_inches()
        figure.set_size_inches(width / chosen.scale, height / chosen.scale)
        figure.set_dpi(figure.get_dpi() * chosen.scale)
        _RESIZED.add(figure)
    if chosen.theme == "dark":
        _darken(figure)
    if labels.current() == "ru":
        _write_commas(figure)


def as_title(words: Text) -> None:
    """Say that a text is its figure's title, where that isn't matplotlib's own."""
    _TITLES.add(words)


def _untitle(figure: Figure) -> None:
    """Take the title away: the figure's, or where it has none, that of its only axes."""
    for words in figure.findobj(Text):
        if words in _TITLES:
            words.set_visible(False)
    if figure.get_suptitle():
        figure.suptitle("").set_in_layout(False)
    elif len(figure.axes) == 1:
        figure.axes[0].set_title("")


# Decimal commas


class _WithCommas(Formatter):
    """Another formatter's ticks with decimal commas."""

    def __init__(self, inner: Formatter) -> None:
        self._inner = inner

    def __call__(self, x: float, pos: int | None = None) -> str:
        return comma(self._inner(x, pos))

    def format_ticks(self, values: Any) -> list[str]:
        return [comma(words) for words in self._inner.format_ticks(values)]

    def get_offset(self) -> str:
        return comma(self._inner.get_offset())

    def set_axis(self, axis: Any) -> None:
        super().set_axis(axis)
        self._inner.set_axis(axis)

    def set_locs(self, locs: Any) -> None:
        self._inner.set_locs(locs)


def _write_commas(figure: Figure) -> None:
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            _reformat(axis)
    for words in figure.findobj(Text):
        assert isinstance(words, Text)
        written = words.get_text()
        if (with_commas := comma(written)) != written:
            words.set_text(with_commas)


def _reformat(axis: Axis) -> None:
    """Wrap an axis' formatters; axes that are shared have them in common."""
    major, minor = axis.get_major_formatter(), axis.get_minor_formatter()
    if not isinstance(major, _WithCommas):
        axis.set_major_formatter(_WithCommas(major))
    if not isinstance(minor, _WithCommas):
        axis.set_minor_formatter(_WithCommas(minor))


# The dark theme


_MADE: set[str] = {value.lower() for value in DARK.values()}  # colours of the dark theme


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


def _between(first: str, last: str, weight: float) -> str:
    mixed = (1 - weight) * np.array(to_rgb(first)) + weight * np.array(to_rgb(last))
    return to_hex((float(mixed[0]), float(mixed[1]), float(mixed[2])))


def _darken(figure: Figure) -> None:
    on_images = {id(text) for ax in figure.axes if _has_image(ax) for text in ax.texts}
    for artist in figure.findobj():
        if id(artist) not in on_images:  # chosen for the colours of the image
            _recolor(artist)


def _has_image(ax: Axes) -> bool:
    return bool(ax.images) or any(c.get_array() is not None for c in ax.collections)


def _recolor(artist: Artist) -> None:
    if isinstance(artist, Text):
        artist.set_color(dark(artist.get_color()))
        if (box := artist.get_bbox_patch()) is not None:
            _recolor(box)
    elif isinstance(artist, Line2D):
        artist.set_color(dark(artist.get_color()))
        for part in ("markerfacecolor", "markeredgecolor"):
            value = getattr(artist, f"get_{part}")()
            if not (isinstance(value, str) and value in ("none", "auto")):
                getattr(artist, f"set_{part}")(dark(value))
    elif isinstance(artist, Patch):
        for part in ("facecolor", "edgecolor"):
            value = getattr(artist, f"get_{part}")()
            if value[3] > 0:  # else it would get the opacity of the whole patch
                getattr(artist, f"set_{part}")(dark(value))
    elif isinstance(artist, Collection) and artist.get_array() is None:
        faces, edges = np.asarray(artist.get_facecolor()), np.asarray(artist.get_edgecolor())
        artist.set_facecolor([dark(row) for row in faces.reshape(-1, 4)] or "none")
        artist.set_edgecolor([dark(row) for row in edges.reshape(-1, 4)] or "none")
