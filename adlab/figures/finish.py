"""What is done to a finished figure: theme, scale, titles, and the decimal comma of Russian.

An experiment draws for a white slide, in points of a slide of 13.3 x 7.5 inches. What a lecture
wants otherwise is done here to any figure, its own or a user's, after it was drawn: nothing of it
is known to the code that draws.
"""

import contextlib
import contextvars
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import PlaceHolderLayoutEngine
from matplotlib.text import Text
from matplotlib.ticker import Formatter

from adlab.figures import labels
from adlab.figures._dark import darken
from adlab.figures.colors import DARK
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
        darken(figure)
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
