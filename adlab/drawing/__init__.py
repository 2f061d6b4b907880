"""Pictures of graphs and of traces through them, and both as text.

* `draw`, `pages`, `movie`: a slide, a slide per step, and an animation;
* `to_svg`, `to_dot`, `to_latex`, `to_rows`: the same as SVG, for Graphviz, for amsmath, as a table.

Nothing is computed here: everything is a function of a graph and its records. matplotlib is
imported by what draws, when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from adlab.drawing.markup import to_dot, to_latex, to_rows

if TYPE_CHECKING:
    from adlab.drawing.pictures import draw, movie, pages, to_svg

__all__ = ["draw", "movie", "pages", "to_dot", "to_latex", "to_rows", "to_svg"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("adlab.drawing.pictures"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
