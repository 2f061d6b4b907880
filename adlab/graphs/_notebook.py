"""What a notebook shows of a graph, or of a trace through it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adlab.graphs.graph import Graph
    from adlab.graphs.records import Record

__all__ = ["picture"]


def picture(graph: Graph, records: Sequence[Record] = ()) -> str:
    """Return an SVG element. What draws it stands above this package: it is imported here, late."""
    from adlab.drawing import to_svg

    return to_svg(graph, records)
