"""Where the nodes of a graph stand in a picture: layers from left to right, few crossings.

The layered layout of Sugiyama, Tagawa and Toda, in these stages:

0. Merging (`_merged`), of a graph with more nodes than circles have room: a node with one child
   joins it, the smallest pairs first. No other path leads from one to the other, so that the merged
   graph has no cycle. Where nothing is a chain, neighbours in the order of computation are merged.
1. Layers (`_layers`): a node stands in the layer of the longest path to it, so that every edge
   leads to the right. A source that is used far from the left moves next to its first use.
2. Bands (`_banded`): the layers are wrapped as lines of text are. A node that a later band needs is
   repeated there, as a ghost. The number of bands is the one whose picture fills the slide best.
3. Long edges (`_placed`): an edge over several layers has a place of its own in each that it
   passes, so that from here on all edges join neighbouring layers.
4. Order within layers (`_ordered`): sweeps to the right, then to the left, sort a layer by the mean
   place of the neighbours in the layer before it (barycentres). The fewest crossings are NP-hard
   to find even for two layers; of all sweeps the best is kept.
5. Rows (`_rows`): each place wishes to stand at the mean row of its neighbours. The rows nearest to
   the wishes y that keep order and distances d solve

       min sum_i (x_i - y_i)^2   subject to   x_{i+1} - x_i >= d_i.

   With z_i = x_i - (d_1 + ... + d_{i-1}) the constraint is z_{i+1} >= z_i: isotonic regression,
   solved exactly by pooling neighbours that violate it into blocks at their mean (`_spread`).

Sources: Sugiyama, Tagawa & Toda (1981), doi:10.1109/TSMC.1981.4308636, for 3, 4 and the aim of 5;
Barlow, Bartholomew, Bremner & Brunk (1972), Statistical Inference under Order Restrictions, for
pooling adjacent violators.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from adlab.graphs.graph import Graph

__all__ = ["LIMIT", "Layout", "Line", "Spot", "arrange"]

LIMIT = 60  # circles that a picture can hold
_REACH = 3  # layers that an input may be away from its use before it moves there
_OVER, _UNDER = 0.45, 0.85  # rows from an edge that passes to a circle or edge below it, above it
_GAP = 0.25  # rows between bands
Point = tuple[float, float]
Links = set[tuple[int, int]]


class Spot(NamedTuple):
    """A circle.

    Attributes:
      group: that it stands for, an index of `Layout.groups`.
      x: its column, from 0 on.
      y: its row, from 0 on; rows count downward, and needn't be whole.
      ghost: whether it repeats a circle of an earlier band.
    """

    group: int
    x: float
    y: float
    ghost: bool


class Line(NamedTuple):
    """An edge between two spots.

    Attributes:
      start: index of the spot where it begins.
      end: index of the spot where it ends.
      by: points (column, row) that it passes, one in each layer between.
    """

    start: int
    end: int
    by: tuple[Point, ...]


class Layout(NamedTuple):
    """Where everything stands.

    Attributes:
      groups: of indices of nodes that share a circle, mostly one each.
      spots: the circles.
      lines: the edges.
      columns: width of all, in columns.
      rows: height of all, in rows.
    """

    groups: tuple[tuple[int, ...], ...]
    spots: tuple[Spot, ...]
    lines: tuple[Line, ...]
    columns: int
    rows: float


def arrange(graph: Graph, *, limit: int = LIMIT, aspect: float = 1.4) -> Layout:
    """Return places for the nodes of a graph.

    Of a graph of more than `limit` nodes, chains of steps are merged, then neighbours in the order
    of computation, until that many circles are left.

    Args:
      graph: what to draw.
      limit: the largest number of circles.
      aspect: rows that fit where so many columns do, times `aspect`: decides the number of bands.
    """
    groups, links = _merged(graph, limit)
    sources = {
        i for i, nodes in enumerate(groups) if all(graph.nodes[n].kind != "step" for n in nodes)
    }
    layers = _layers(len(groups), links, sources)
    depth = max(layers, default=0) + 1
    candidates = [_banded(layers, links, bands, sources) for bands in range(1, min(depth, 6) + 1)]
    best = min(candidates, key=lambda found: max(found[2], 2.0, found[3] * aspect, 0.0))
    return Layout(groups, *best)


def _merged(graph: Graph, limit: int) -> tuple[tuple[tuple[int, ...], ...], Links]:
    """Return groups of nodes, in topological order, and the links between groups."""
    owner = list(range(len(graph.nodes)))
    count = len(owner)
    largest = max(4, 2 * -(-count // limit))
    sources = {node.place for node in graph.nodes if node.kind != "step"}
    for kept in (sources, set[int]()):
        pairs = _joinable(graph, owner, kept, largest)
        while pairs and count > limit:
            into = dict(pairs[: count - limit])
            owner = [into.get(o, o) for o in owner]
            count -= len(into)
            pairs = _joinable(graph, owner, kept, largest)
    if count > limit:  # nothing is a chain: what is computed together stays together
        owner = [place * limit // len(owner) for place in range(len(owner))]
    members: dict[int, list[int]] = {}
    for node, o in enumerate(owner):
        members.setdefault(o, []).append(node)
    groups = sorted(members.values(), key=lambda nodes: nodes[-1])
    at = {node: i for i, nodes in enumerate(groups) for node in nodes}
    links = {(at[a], at[b]) for a, b in graph.edges if at[a] != at[b]}
    return tuple(map(tuple, groups)), links


def _joinable(
    graph: Graph, owner: list[int], kept: set[int], largest: int
) -> list[tuple[int, int]]:
    """Return pairs of groups that can become one, the smallest first, each group in one pair.

    A group with one child only can join it: no path leads around.
    """
    children: dict[int, set[int]] = {}
    for a, b in graph.edges:
        if owner[a] != owner[b]:
            children.setdefault(owner[a], set()).add(owner[b])
    sizes = Counter(owner)
    fixed = {owner[node] for node in kept}
    found = sorted(
        (sizes[a] + sizes[b], a, b)
        for a, kids in children.items() if len(kids) == 1 and a not in fixed
        for b in kids if sizes[a] + sizes[b] <= largest
    )  # fmt: skip
    taken: set[int] = set()
    pairs = []
    for _, a, b in found:
        if not taken.intersection((a, b)):
            taken.update((a, b))
            pairs.append((a, b))
    return pairs


def _layers(count: int, links: Links, sources: set[int]) -> list[int]:
    """Return the layer of every group: the longest path to it; sources near their first use."""
    layers = [0] * count
    for a, b in sorted(links, key=lambda link: link[1]):
        layers[b] = max(layers[b], layers[a] + 1)
    for source in sources:
        uses = [layers[b] for a, b in links if a == source]
        if uses and min(uses) > _REACH:
            layers[source] = min(uses) - 1
    return layers


def _banded(
    layers: list[int], links: Links, bands: int, sources: set[int]
) -> tuple[tuple[Spot, ...], tuple[Line, ...], int, float]:
    """Return spots, lines, columns and rows of the layers wrapped into so many bands."""
    depth = max(layers, default=0) + 1
    width = -(-depth // bands)
    spots: list[Spot] = []
    lines: list[Line] = []
    columns, top = 0, 0.0
    band_of = [layer // width for layer in layers]
    for source in sources:  # a source stands where it is used first
        uses = [band_of[b] for a, b in links if a == source]
        band_of[source] = min(uses, default=band_of[source])
    for band in range(-(-depth // width)):
        here = [g for g in range(len(layers)) if band_of[g] == band]
        inside = {(a, b) for a, b in links if band_of[b] == band}
        ghosts = {a for a, _ in inside if band_of[a] != band}
        columns_of = {g: layers[g] - band * width for g in here}
        for g in sorted(ghosts | {g for g in here if columns_of[g] < 0}):
            columns_of[g] = min(columns_of[b] for a, b in inside if a == g) - 1
        if not columns_of:
            continue
        shift = -min(0, *columns_of.values())
        columns_of = {g: column + shift for g, column in columns_of.items()}
        points, routes, height = _placed(columns_of, inside)
        start = len(spots)
        index = {g: start + i for i, g in enumerate(points)}
        spots += [Spot(g, x, y + top, g in ghosts) for g, (x, y) in points.items()]
        for (a, b), by in routes.items():
            lines.append(Line(index[a], index[b], tuple((x, y + top) for x, y in by)))
        columns = max(columns, max(columns_of.values()) + 1)
        top += height + _GAP
    return tuple(spots), tuple(lines), columns, top - _GAP


def _placed(
    columns_of: dict[int, int], links: Links
) -> tuple[dict[int, Point], dict[tuple[int, int], list[Point]], float]:
    """Return points of groups, points that links pass, and the height, for one band."""
    columns: list[list[object]] = [[] for _ in range(max(columns_of.values()) + 1)]
    for group in sorted(columns_of):
        columns[columns_of[group]].append(group)
    neighbours: dict[object, list[object]] = {}
    passing: dict[tuple[int, int], list[object]] = {}
    for a, b in sorted(links):
        way: list[object] = [(a, b, k) for k in range(columns_of[a] + 1, columns_of[b])]
        for k, place in enumerate(way):
            columns[columns_of[a] + 1 + k].append(place)
        passing[a, b] = way
        path = [a, *way, b]
        for one, other in itertools.pairwise(path):
            neighbours.setdefault(one, []).append(other)
            neighbours.setdefault(other, []).append(one)
    columns = _ordered(columns, neighbours)
    rows = _rows(columns, neighbours)
    low, high = min(rows.values()), max(rows.values())
    points = {g: (float(column), rows[g] - low) for g, column in columns_of.items()}
    routes = {
        link: [(float(columns_of[link[0]] + 1 + k), rows[place] - low)
               for k, place in enumerate(way)]
        for link, way in passing.items()
    }  # fmt: skip
    return points, routes, high - low + 1


def _ordered(
    columns: list[list[object]], neighbours: dict[object, list[object]]
) -> list[list[object]]:
    """Return the columns in an order of few crossings: the best of several sweeps."""
    best, fewest = columns, _crossings(columns, neighbours)
    current = [list(column) for column in columns]
    for sweep in range(12):
        forward = sweep % 2 == 0
        span = range(1, len(current)) if forward else range(len(current) - 2, -1, -1)
        for k in span:
            beside = {p: i for i, p in enumerate(current[k - 1 if forward else k + 1])}
            weight = {}
            for i, place in enumerate(current[k]):
                near = [beside[n] for n in neighbours.get(place, ()) if n in beside]
                weight[place] = sum(near) / len(near) if near else float(i)
            current[k].sort(key=weight.__getitem__)  # stable: ties keep their order
        found = _crossings(current, neighbours)
        if found < fewest:
            best, fewest = [list(column) for column in current], found
    return best


def _crossings(columns: list[list[object]], neighbours: dict[object, list[object]]) -> int:
    total = 0
    for left, right in itertools.pairwise(columns):
        beside = {p: i for i, p in enumerate(right)}
        ends = [sorted(beside[n] for n in neighbours.get(p, ()) if n in beside) for p in left]
        flat: list[int] = []
        for targets in ends:
            total += sum(1 for t in targets for seen in flat if seen > t)
            flat += targets
    return total


def _rows(
    columns: Sequence[Sequence[object]], neighbours: dict[object, list[object]]
) -> dict[object, float]:
    """Return the row of every place: near the mean of its neighbours, in the order given."""
    rows = {p: i - (len(c) - 1) / 2 for c in columns for i, p in enumerate(c)}
    for sweep in range(24):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            wished = []
            for place in column:
                near = [rows[n] for n in neighbours.get(place, ())]
                wished.append(sum(near) / len(near) if near else rows[place])
            rows.update(zip(column, _spread(wished, _distances(column)), strict=True))
    return rows


def _distances(column: Sequence[object]) -> list[float]:
    """Return how far each place must be from the one above it; captions hang below circles."""
    return [
        _OVER if isinstance(above, tuple) else _UNDER if isinstance(place, tuple) else 1.0
        for above, place in itertools.pairwise(column)
    ]


def _spread(wished: list[float], distances: list[float]) -> list[float]:
    """Return the rows nearest to those wished for (least squares) that keep the distances."""
    offsets = [0.0, *itertools.accumulate(distances)]
    blocks: list[list[float]] = []  # of wishes less offsets: each block moves as one
    for wish, offset in zip(wished, offsets, strict=False):
        blocks.append([wish - offset])
        while len(blocks) > 1 and _mean(blocks[-2]) >= _mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    base = [_mean(block) for block in blocks for _ in block]
    return [start + offset for start, offset in zip(base, offsets, strict=False)]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
