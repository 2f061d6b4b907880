"""Figures for lectures: arrays in, `matplotlib.figure.Figure` out.

* `labels`: the texts of figures and verdicts, in English and Russian (imports no matplotlib);
* `style`: type, colours and sizes of a slide, and deterministic files;
* `colors`: the palette, tints of it, and the contrast of text;
* `finish`: what a dark slide, a larger type or Russian makes of any finished figure;
* `panels`: the pictures that experiments share;
* `animation`: movies, as GIF or MP4.

They are imported when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adlab.figures import animation as animation
    from adlab.figures import labels as labels
    from adlab.figures import panels as panels
    from adlab.figures import style as style

_MODULES = ("animation", "labels", "panels", "style")

if not TYPE_CHECKING:

    def __getattr__(name):
        if name in _MODULES:
            return importlib.import_module(f"adlab.figures.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(_MODULES)
