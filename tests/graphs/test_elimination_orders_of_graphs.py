"""Orders of elimination against counts by hand, exhaustive search and closed forms."""

import itertools
import math

import numpy as np
import pytest

from adlab.graphs import orders

ORDERS = ("forward", "reverse", "markowitz", "optimal")


def layered(*widths):
    """Layers of these widths, each vertex joined to all of the next layer."""
    starts = np.cumsum([0, *widths])
    layers = [range(a, b) for a, b in itertools.pairwise(starts)]
    edges = [pair for a, b in itertools.pairwise(layers) for pair in itertools.product(a, b)]
    return orders.dag(edges, tuple(layers[0]), tuple(layers[-1]))


LECTURE = orders.dag([(0, 2), (1, 3), (2, 3), (3, 4), (3, 5), (4, 5)], (0, 1), (5,))
# x1, x2 and then x3 enter a chain of three vertices with one end; beside it the same reversed.
FANS = orders.dag(
    [
        *[(0, 4), (1, 4), (4, 5), (2, 5), (5, 6), (6, 10)],
        *[(3, 7), (7, 8), (8, 9), (8, 11), (9, 12), (9, 13)],
    ],
    (0, 1, 2, 3),
    (10, 11, 12, 13),
)
DIAMOND = orders.dag([(0, 1), (1, 2), (1, 3), (2, 4), (3, 4), (4, 5), (4, 6), (5, 7)], (0,), (6, 7))
# dense sweeps forward and reverse, then ORDERS: each number counted by hand
TABLE = {
    "lecture": (LECTURE, (12, 6), (7, 4, 4, 4)),
    "bottleneck": (layered(3, 1, 5), (24, 40), (15, 15, 15, 15)),
    "hourglass 3": (layered(2, 3, 1, 3, 2), (36, 36), (24, 24, 16, 16)),
    "hourglass 5": (layered(5, 3, 1, 3, 5), (180, 180), (105, 105, 55, 55)),
    "fans": (FANS, (48, 48), (13, 13, 11, 10)),
    "diamond": (DIAMOND, (8, 16), (7, 11, 6, 6)),
}

# The cheapest vertex next loses here, whichever of equally cheap ones comes first.
GREEDY_LOSES = (
    [
        (0, 4),
        (0, 5),
        (0, 7),
        (1, 3),
        (1, 6),
        (2, 3),
        (3, 4),
        (3, 8),
        (4, 5),
        (4, 6),
        (4, 8),
        (5, 7),
    ],
    (0, 1, 2),
    (6, 7, 8),
)


def random_dag(rng, vertices=9):
    """A few inputs, binary vertices after them; those without successors are the outputs."""
    inputs = int(rng.integers(1, 4))
    edges = []
    for v in range(inputs, vertices):
        parents = rng.choice(v, size=min(v, 2), replace=False)
        edges += [(int(a), v) for a in parents]
    ends = sorted(set(range(inputs, vertices)) - {a for a, _ in edges})
    return orders.dag(edges, range(inputs), ends)


@pytest.mark.parametrize("name", TABLE)
def test_every_order_costs_what_it_does_by_hand(name):
    graph, dense, costs = TABLE[name]
    assert orders.dense_sweeps(graph) == dense
    found = [orders.multiplications(graph, orders.find_order(graph, order)) for order in ORDERS]
    assert tuple(found) == costs


def test_layers_cost_what_products_of_matrices_do():
    a, b, c, d, e = 5, 10, 1, 10, 5
    graph = layered(a, b, c, d, e)
    costs = {o: orders.multiplications(graph, orders.find_order(graph, o)) for o in ORDERS[:3]}
    assert orders.dense_sweeps(graph) == (600, 600)
    assert costs["forward"] == a * b * c + a * c * d + a * d * e == 350
    assert costs["reverse"] == c * d * e + b * c * e + a * b * e == 350
    assert costs["markowitz"] == a * b * c + c * d * e + a * c * e == 125


def test_on_random_graphs_the_optimum_is_no_dearer_than_any_other_order():
    rng = np.random.default_rng(0)
    better = 0
    for _ in range(1000):
        graph = random_dag(rng)
        *others, best = (orders.multiplications(graph, orders.find_order(graph, o)) for o in ORDERS)
        assert best <= min(others)
        better += best < min(others[:2])
    assert 0 < better < 1000


def test_the_optimum_is_that_of_an_exhaustive_search():
    rng = np.random.default_rng(1)
    for _ in range(40):
        graph = random_dag(rng, vertices=8)
        if len(graph.between) > 5:
            continue
        tried = [by_hand(graph, order) for order in itertools.permutations(graph.between)]
        best = orders.multiplications(graph, orders.find_order(graph, "optimal"))
        assert best == min(tried)
        assert max(tried) == max(
            orders.multiplications(graph, o) for o in itertools.permutations(graph.between)
        )


def by_hand(graph, order):
    """Multiplications of an elimination, on sets of pairs."""
    edges = {(a, b) for a, out in enumerate(graph.successors) for b in out}
    total = 0
    for v in order:
        into, out = [a for a, b in edges if b == v], [b for a, b in edges if a == v]
        total += len(into) * len(out)
        edges = {e for e in edges if v not in e} | set(itertools.product(into, out))
    return total


def test_the_greedy_order_can_lose_to_reverse_mode():
    graph = orders.dag(*GREEDY_LOSES)
    costs = [by_hand(graph, orders.find_order(graph, order)) for order in ORDERS]
    assert costs == [16, 14, 15, 14]


def test_too_many_vertices_for_the_optimum_are_refused_with_a_way_out():
    chain = orders.dag([(v, v + 1) for v in range(orders.LIMIT + 2)], (0,), (orders.LIMIT + 2,))
    with pytest.raises(ValueError, match=rf"at most {orders.LIMIT} .* order=\"markowitz\""):
        orders.find_order(chain, "optimal")


def test_a_chain_costs_one_per_vertex():
    chain = orders.dag([(v, v + 1) for v in range(10)], (0,), (10,))
    assert orders.multiplications(chain, orders.find_order(chain, "optimal")) == 9


@pytest.mark.parametrize(
    ("edges", "outputs", "match"),
    [([(1, 0)], (1,), "from smaller to larger"), ([(0, 1), (1, 2)], (1, 2), "no successors")],
)
def test_what_is_no_graph_is_refused(edges, outputs, match):
    with pytest.raises(ValueError, match=match):
        orders.dag(edges, (0,), outputs)


def test_an_order_of_other_vertices_is_refused():
    with pytest.raises(ValueError, match=r"each of \[2, 3, 4\] once"):
        orders.multiplications(LECTURE, (2, 3))
    with pytest.raises(ValueError, match="did you mean 'reverse'"):
        orders.find_order(LECTURE, "reversed")


def test_binary_trees_cost_as_many_as_they_have_edges():
    depth = 3
    size = 2 ** (depth + 1) - 1  # the heap numbered from its leaves; the root is last
    edges = [(size - 1 - child, size - 1 - (child - 1) // 2) for child in range(1, size)]
    leaves = tuple(range(2**depth))
    graph = orders.dag(edges, leaves, (size - 1,))
    assert orders.multiplications(graph, orders.find_order(graph, "reverse")) == size - 1 - 2
    by_level = sum(2**level * 2 ** (depth - level) for level in range(1, depth))
    assert orders.multiplications(graph, orders.find_order(graph, "forward")) == by_level
    assert math.log2(len(leaves)) == depth
