"""Pictures of graphs and of traces through them, and both as text.

* `draw`, `pages`, `movie`: a slide, a slide per step, and an animation;
* `draw_node`, `draw_elimination`, `draw_network`: the chain rule at one node, one vertex that is
  eliminated, a feed-forward network as layers of units;
* `to_svg`, `to_dot`, `to_latex`, `to_rows`: the same as SVG, for Graphviz, for amsmath, as a table.

Nothing is computed here: everything is a function of a graph and its records. matplotlib is
imported by what draws, when it is asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from adlab.drawing.markup import to_dot, to_latex, to_rows

if TYPE_CHECKING:
    from adlab.drawing.eliminations import draw_elimination
    from adlab.drawing.networks import draw_network
    from adlab.drawing.nodes import draw_node
    from adlab.drawing.pictures import draw, movie, pages, to_svg

__all__ = [
    "draw",
    "draw_elimination",
    "draw_network",
    "draw_node",
    "movie",
    "pages",
    "to_dot",
    "to_latex",
    "to_rows",
    "to_svg",
]

_PLACES = {"draw_elimination": "eliminations", "draw_network": "networks", "draw_node": "nodes"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"adlab.drawing.{_PLACES.get(name, 'pictures')}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
