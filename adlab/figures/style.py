"""The look of every figure: type and sizes of a slide, one colour per method, deterministic files.

Colours are those of Okabe & Ito, told apart with any kind of colour vision; black and grey belong
to theory.
"""

import contextlib
import contextvars
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from adlab.figures import labels

__all__ = ["SLIDE", "THEORY", "color", "context", "marker", "save", "shades"]

SLIDE = (13.333, 7.5)
"""Width and height of a slide in inches."""

THEORY = "#222222"
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
    "gradient_descent": ("#0072B2", "o"),
    "reverse_mode": ("#0072B2", "o"),
    "forward_mode": ("#56B4E9", "P"),
    "two_point": ("#D55E00", "s"),
    "one_sided": ("#E69F00", "v"),
    "finite_difference": ("#009E73", "^"),
    "forward_gradient": ("#CC79A7", "D"),
}
_SPARE_COLORS = ("#332288", "#882255", "#6F4E37", "#808000")
_SPARE_MARKERS = ("X", "*", "h", "<", ">")

_NOTE = contextvars.ContextVar("note", default="")
_NOTE_HEIGHT = 0.03  # of the figure, kept free below for the note

_RC: Any = {
    "figure.figsize": SLIDE,
    "figure.constrained_layout.use": True,
    "figure.titlesize": 24,
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "font.family": "DejaVu Sans",  # ships with matplotlib and holds Cyrillic
    "mathtext.fontset": "dejavusans",
    "font.size": 17,
    "axes.titlesize": 19,
    "axes.labelsize": 18,
    "xtick.labelsize": 16,
    "ytick.labelsize": 16,
    "legend.fontsize": 15,
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
    "grid.color": "#E3E3E3",
    "grid.linewidth": 1.0,
    "svg.fonttype": "path",  # the same picture where the font is missing
    "svg.hashsalt": "adlab",
    "pdf.fonttype": 42,
}


@contextlib.contextmanager
def context(lang: str = "en", *, note: str = "") -> Iterator[None]:
    """Draw for a slide, in the language `lang`, inside the `with` block.

    Args:
      lang: of the texts.
      note: what `save` writes into the lower right corner, below all else, such as a profile.

    Raises:
      ValueError: `lang` is not one of `labels.LANGUAGES`.
    """
    before = _NOTE.set(note)
    try:
        with labels.speak(lang), mpl.rc_context(_RC):
            yield
    finally:
        _NOTE.reset(before)


def color(method: str) -> str:
    """Return the colour of a method: fixed for the known kinds, drawn from the name of others."""
    return _look(method)[0]


def marker(method: str) -> str:
    """Return the marker of a method: fixed for the known kinds, drawn from the name of others."""
    return _look(method)[1]


def shades(method: str, count: int) -> list[str]:
    """Return `count` tones of a method's colour, light to full, one per value of a parameter."""
    red, green, blue = to_rgb(color(method))
    weights = [1.0] if count == 1 else [0.4 + 0.6 * i / (count - 1) for i in range(count)]
    return [to_hex((1 - w * (1 - red), 1 - w * (1 - green), 1 - w * (1 - blue))) for w in weights]


def save(figure: Figure, stem: Path, formats: Sequence[str] | None = None) -> list[Path]:
    """Write `stem`.svg, .pdf and .png; the same figure gives the same bytes, today and tomorrow.

    The layout is settled once and kept, so that the three files agree and so does a second call.
    Missing folders are made.

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
    with mpl.rc_context(_RC):
        if _NOTE.get():
            _write_note(figure, _NOTE.get())
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
    figure.text(0.995, 0.004, note, ha="right", va="bottom", fontsize=14, color="#555555")


def _look(method: str) -> tuple[str, str]:
    if method in _LOOKS:
        return _LOOKS[method]
    digest = hashlib.sha256(method.encode()).digest()
    return (
        _SPARE_COLORS[digest[0] % len(_SPARE_COLORS)],
        _SPARE_MARKERS[digest[1] % len(_SPARE_MARKERS)],
    )
