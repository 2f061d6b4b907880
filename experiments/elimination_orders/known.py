"""Known graphs, and the orders that are compared on them."""

from __future__ import annotations

from typing import get_args

from adlab.graphs import orders

ORDERS: tuple[orders.Order, ...] = get_args(orders.Order)
MODES = slice(0, 2)
LAYERS = ((3, 1, 5), (2, 3, 1, 3, 2), (5, 3, 1, 3, 5), (4, 6, 1, 6, 4))
OTHERS = {
    "lecture": ([(0, 2), (1, 3), (2, 3), (3, 4), (3, 5), (4, 5)], (0, 1), (5,)),
    "fan_in": ([(0, 3), (1, 3), (3, 4), (2, 4), (4, 5), (5, 6)], (0, 1, 2), (6,)),
    "fan_out": ([(0, 1), (1, 2), (2, 3), (2, 4), (3, 5), (3, 6)], (0,), (4, 5, 6)),
    "diamond": (
        [(0, 1), (1, 2), (1, 3), (2, 4), (3, 4), (4, 5), (4, 6), (5, 7)], (0,), (6, 7)
    ),
}  # fmt: skip
