"""The look of every figure: type and sizes of a slide, one colour per method, deterministic files.

The same idea has the same colour in every figure; `colors` has them all, and `finish` what a dark
slide, a larger type or another language makes of a figure.
"""

import contextlib
import contextvars
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from adlab.figures import _dark, colors, labels
from adlab.figures.colors import DARK, TONES, ink, tone
from adlab.figures.finish import Look, finish, look, wear

__all__ = [
    "SLIDE",
    "THEORY",
    "color",
    "context",
    "ink",
    "marker",
    "save",
    "shades",
    "tint",
    "tone",
]

SLIDE = (13.333, 7.5)
"""Width and height of a slide in inches."""

THEORY = TONES["ink"]
"""Colour of reference lines."""

# By the canvases themselves: Figure.savefig draws everything twice, to settle the layout again.
_CANVASES: Any = {
    "svg": (FigureCanvasSVG, {"Date": None}),
    "pdf": (FigureCanvasPdf, {"CreationDate": None}),
    "png": (FigureCanvasAgg, {"Software": None}),
}
FORMATS = tuple(_CANVASES)

# The same idea has the same colour: descent along the exact gradient is blue, whoever computes it.
_LOOKS = {
    "gradient_descent": ("blue", "o"),
    "reverse_mode": ("blue", "o"),
    "forward_mode": ("sky", "P"),
    "two_point": ("vermilion", "s"),
    "one_sided": ("orange", "v"),
    "finite_difference": ("green", "^"),
    "forward_gradient": ("purple", "D"),
}
_SPARE_TONES = ("indigo", "wine", "brown", "olive")
_SPARE_MARKERS = ("X", "*", "h", "<", ">")

_NOTE = contextvars.ContextVar("note", default="")
_NOTE_HEIGHT = 0.04  # of the figure, kept free below for the note

_RC: Any = {
    "figure.figsize": SLIDE,
    "figure.constrained_layout.use": True,
    "figure.titlesize": 26,
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "font.family": "DejaVu Sans",  # ships with matplotlib and holds Cyrillic
    "mathtext.fontset": "dejavusans",
    "font.size": 18,
    "axes.titlesize": 21,
    "axes.labelsize": 20,
    "xtick.labelsize": 18,
    "ytick.labelsize": 18,
    "legend.fontsize": 18,
    "legend.frameon": True,
    "legend.framealpha": 0.85,
    "legend.edgecolor": "none",
    "lines.linewidth": 2.5,
    "lines.markersize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-4, 7),
    "grid.color": TONES["pale"],
    "grid.linewidth": 1.0,
    "svg.fonttype": "path",  # the same picture where the font is missing
    "svg.hashsalt": "adlab",
    "pdf.fonttype": 42,
}


_DARK_RC: Any = {
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"),
        DARK["ink"],
    ),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), DARK["paper"]),
    "grid.color": DARK["pale"],
    "legend.facecolor": DARK["paper"],
}


@contextlib.contextmanager
def context(
    lang: str = "en",
    *,
    theme: Literal["light", "dark"] = "light",
    scale: float = 1.0,
    titles: bool = True,
    note: str = "",
) -> Iterator[None]:
    """Draw for a slide, in the language `lang`, inside the `with` block.

    Args:
      lang: one of `labels.LANGUAGES`.
      theme: "light", or "dark" for a dark slide.
      scale: factor of type, lines and markers relative to the picture.
      titles: whether figures carry their titles.
      note: what `save` writes into the lower right corner, below all else, such as a profile.

    Raises:
      ValueError: one of them isn't known, or the scale is outside [0.5, 2].
    """
    before = _NOTE.set(note)
    try:
        with labels.speak(lang), wear(Look(theme, scale, titles)), mpl.rc_context(_rc()):
            yield
    finally:
        _NOTE.reset(before)


def _rc() -> Any:
    """Return matplotlib's settings for the current look."""
    return _RC | (_DARK_RC if look().theme == "dark" else {})


def color(method: str) -> str:
    """Return the colour of a method: fixed for the known kinds, drawn from the name of others."""
    return _look(method)[0]


def marker(method: str) -> str:
    """Return the marker of a method: fixed for the known kinds, drawn from the name of others."""
    return _look(method)[1]


def shades(method: str, count: int) -> list[str]:
    """Return `count` tones of a method's colour, pale to full, one per value of a parameter.

    As with `tint`, the pale ones are nearest to the paper.
    """
    weights = [1.0] if count == 1 else [0.4 + 0.6 * i / (count - 1) for i in range(count)]
    return [tint(color(method), weight) for weight in weights]


def tint(color: str, weight: float) -> str:
    """Return `color` mixed with the paper: 1 is the colour itself, 0 is the paper.

    The paper is that of the theme inside whose `context` it is mixed; outside any it is white.
    """
    return (_dark.mixed if look().theme == "dark" else colors.tint)(color, weight)


def save(figure: Figure, stem: Path, formats: Sequence[str] | None = None) -> list[Path]:
    """Write `stem`.svg, .pdf and .png; the same figure gives the same bytes, today and tomorrow.

    The layout is settled once and kept, so that the three files agree and so does a second call.
    Missing folders are made. The figure keeps the look and the numbers that it is written with:
    draw it again for another theme, scale or language.

    Args:
      figure: what to write.
      stem: path of the files without their endings.
      formats: some of `FORMATS` alone.

    Returns:
      The paths.
    """
    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    formats = FORMATS if formats is None else formats
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in formats]
    with mpl.rc_context(_rc()):
        if _NOTE.get():
            _write_note(figure, _NOTE.get())
        finish(figure)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        dpi = figure.dpi
        for path, suffix in zip(paths, formats, strict=True):
            figure.set_dpi(mpl.rcParams["savefig.dpi"])  # each canvas leaves its own
            canvas, undated = _CANVASES[suffix]
            getattr(canvas(figure), f"print_{suffix}")(path, metadata=undated)
        figure.set_dpi(dpi)
    return paths


def _write_note(figure: Figure, note: str) -> None:
    """Write a small note below all else; the layout leaves room for it."""
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        engine.set(rect=(0, _NOTE_HEIGHT, 1, 1 - _NOTE_HEIGHT))
    figure.text(0.995, 0.004, note, ha="right", va="bottom", fontsize=18, color=tone("muted"))


def _look(method: str) -> tuple[str, str]:
    if method in _LOOKS:
        name, shape = _LOOKS[method]
        return tone(name), shape
    digest = hashlib.sha256(method.encode()).digest()
    return (
        tone(_SPARE_TONES[digest[0] % len(_SPARE_TONES)]),
        _SPARE_MARKERS[digest[1] % len(_SPARE_MARKERS)],
    )
