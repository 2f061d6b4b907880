"""The curves of the maps, for spreadsheets."""

from __future__ import annotations

from typing import Any

import numpy as np

from .config import METHODS, SIMPLEXES, Config

Arrays = dict[str, np.ndarray]


def table(data: Arrays, config: Config) -> list[dict[str, Any]]:
    """Return a row per map, method, start and record: oracle calls, operations and loss."""
    rows = []
    for name in config.maps:
        value, gradient = data[f"{name}.flops"]
        for method in (*METHODS, *SIMPLEXES):
            calls, per_call = data[f"{name}.calls.{method}"], (
                gradient if method == "gradient_descent" else value
            )  # fmt: skip
            for start, losses in enumerate(data[f"{name}.loss.{method}"]):
                rows += [
                    {
                        "map": name, "method": method, "start": start, "oracle_calls": int(spent),
                        "flops": int(spent * per_call), "relative_loss": float(loss),
                    }
                    for spent, loss in zip(calls, losses, strict=True)
                ]  # fmt: skip
    return rows
