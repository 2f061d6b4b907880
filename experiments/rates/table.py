"""The curves of the table of rates as tidy rows, with what each point cost: calls, evaluations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from adlab import optimize

from .cells import Arrays
from .config import Config
from .verdicts import hits

Row = dict[str, Any]
Cost = tuple[float, float]  # calls of any kind, and evaluations
PAIR: Cost = (2, 2.0)
COSTS = ("calls", "evaluations")


def table(data: Arrays, config: Config) -> list[Row]:
    """Return a row per curve and recorded iteration: mean over seeds, and its interval."""
    rows: list[Row] = []
    for cell, quantity in (("smooth", "squared_gradient"), ("convex", "gap")):
        if cell in config.parts:
            rows += _tail(data, config, cell, quantity)
    if "strongly_convex" in config.parts:
        rows += _strongly_convex(data, config)
    if "real_data" in config.parts:
        rows += _real_data(data, config)
    return rows


def _tail(data: Arrays, config: Config, cell: str, quantity: str) -> Iterator[Row]:
    k, gd, price = (data[f"{cell}_{field}"] for field in ("gd_k", "gd", "price"))
    for place, value in zip(k, gd, strict=True):
        cost = (1, float(price))
        yield _row(cell, "reverse_mode", "", place, cost, quantity, (value, value, value))
    for i, n in enumerate(config.dims):
        yield from _curve(
            cell, "two_point", n, data[f"{cell}_k"][i], PAIR, quantity, data[f"{cell}_curves"][i],
            config.seed,
        )  # fmt: skip


def _strongly_convex(data: Arrays, config: Config) -> Iterator[Row]:
    for i, spec in enumerate(config.estimators):
        for field, quantity in (("curves", "relative_gap"), ("squares", "relative_square")):
            k, curves = hits(data, i, field)
            for j, n in enumerate(config.full_dims):
                calls, spent = (float(data[f"strongly_convex_{x}"][i, j]) for x in COSTS)
                yield from _curve(
                    "strongly_convex", spec.name, n, k[j], (calls, spent), quantity, curves[j],
                    config.seed,
                )  # fmt: skip


def _real_data(data: Arrays, config: Config) -> Iterator[Row]:
    for name in config.tables:
        fields = ("gd_k", "gd", "k", "curves", "factors", "price")
        gd_k, gd, k, curves, factors, price = (
            data[f"real_data_{name}_{field}"] for field in fields
        )
        for place, value in zip(gd_k, gd, strict=True):
            cost, ends = (1, float(price)), (value, value, value)
            yield _row(name, "reverse_mode", "", place, cost, "relative_gap", ends)
        for grid, runs, factor in zip(k, curves, factors, strict=True):
            method = f"two_point(law=gaussian), step 1/({factor:.3g} L)"
            yield from _curve(name, method, "", grid, PAIR, "relative_gap", runs, config.seed)


def _curve(
    cell: str, method: str, n: Any, k: Any, cost: Cost, quantity: str, curves: Any, seed: int
) -> Iterator[Row]:
    mean = optimize.mean_interval(curves, seed=seed)
    ends = np.stack([mean.estimate, mean.low, mean.high], axis=-1)
    for place, values in zip(k, ends, strict=True):
        yield _row(cell, method, n, place, cost, quantity, values)


def _row(cell: str, method: str, n: Any, k: Any, cost: Cost, quantity: str, ends: Any) -> Row:
    mean, low, high = map(float, ends)
    return {
        "cell": cell, "estimator": method, "n": n, "iteration": int(k),
        "oracle_calls": int(k) * int(cost[0]), "evaluations": float(k) * cost[1],
        "quantity": quantity, "mean": mean, "low": low, "high": high,
    }  # fmt: skip
