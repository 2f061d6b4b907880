"""Maps of cities that nearly fit a plane, with the paths of the cities."""

from __future__ import annotations

from typing import Any

import numpy as np

from adlab import lab
from adlab.data import cities
from adlab.optimize import log_grid
from adlab.problems import classical_scaling, procrustes, raw_stress

from .config import METHODS, SIMPLEXES, Config
from .descents import GRADIENTS, descend, keep_paths, race, relative, scale, simplex, work

Arrays = dict[str, np.ndarray]
SPREAD = 0.1  # of a start, per coordinate
KEPT = 100  # points of a curve of losses


def measure(config: Config, name: Any, progress: lab.Progress) -> Arrays:
    """Return losses, errors of the maps found, and the paths from the first start.

    For the target: the azimuthal equidistant projection centred on the cities.
    """
    places = cities(name)
    size = float(np.sqrt(np.mean(places.distances**2)))
    table, target = places.distances / size, places.projected / size
    classical, _ = classical_scaling(table, dim=2)
    theory = scale(classical, table)
    rng = np.random.default_rng([config.seed, len(places)])
    starts = SPREAD * rng.normal(size=(config.map_seeds, len(places), 2))
    many = (config.map_seeds, 1, 1)
    steps = np.full(config.map_seeds, config.step_fraction * theory.longest)
    hits, last, records = race(
        config, starts, np.tile(table, many), steps, theory.slower, progress,
        methods=METHODS, num_steps=config.map_steps, metrics=keep_paths(),
    )  # fmt: skip
    found: Arrays = {
        "d_eff": np.array(theory.d_eff),
        "slower": np.array(theory.slower),
        "hits": hits,
        "last": last,
        "flops": np.array(work(classical)),
        "errors": np.array([_errors(record["x"], target) for record in records.values()]),
        "classical_loss": np.array(float(relative(classical, table))),
        "size": np.array(size),
    }
    found |= _raw(config, starts, table, target, progress)
    found |= _curves(config, records, *work(classical))
    evaluations = found["moments"] / work(classical)[0]
    return found | _simplexes(config, starts[0], table, evaluations, progress)


def _errors(many: np.ndarray, target: np.ndarray) -> np.ndarray:
    return np.array([procrustes(points, target).error for points in many])


def _curves(config: Config, records: dict[str, Arrays], value: int, gradient: int) -> Arrays:
    """Return calls and losses; and paths and losses of the first start at moments of operations.

    Moments end with two-point descent, or gradient descent if that is later.
    """
    spent = {
        method: record["calls"] * (gradient if method == "gradient_descent" else value)
        for method, record in records.items()
    }
    last = max(spent["gradient_descent"][-1], spent["two_point"][-1])
    moments = np.geomspace(10 * gradient, last, config.frames)
    found: Arrays = {"moments": moments}
    for method, record in records.items():
        frames = np.searchsorted(spent[method], moments, side="right") - 1
        grid = np.concatenate([[0], log_grid(int(record["k"][-1]), KEPT)])
        rows = np.unique(np.searchsorted(record["k"], grid))
        found |= {
            f"calls.{method}": record["calls"][rows],
            f"loss.{method}": record["loss"][:, rows],
            f"path.{method}": record["path"][0][frames],
            f"paced.{method}": record["loss"][0][frames],
        }
    return found


def _simplexes(
    config: Config, start: np.ndarray, table: np.ndarray, moments: np.ndarray,
    progress: lab.Progress,
) -> Arrays:  # fmt: skip
    """Return each simplex's losses, and its path at the numbers of evaluations `moments`."""
    found: Arrays = {}
    for place, kind in enumerate(SIMPLEXES):
        progress.update(place, len(SIMPLEXES), kind)
        edge = SPREAD if kind == "adaptive_wide" else None
        record = simplex(
            start, table, adaptive=kind != "classic", edge=edge, budget=config.budget, keep=moments,
            target=0.0,
        )  # fmt: skip
        losses = record["loss"]
        rows = log_grid(len(losses), KEPT) - 1
        frames = np.clip(moments.astype(int), 1, len(losses)) - 1
        found |= {
            f"calls.{kind}": rows + 1,
            f"loss.{kind}": losses[None, rows],
            f"path.{kind}": record["path"],
            f"paced.{kind}": losses[frames],
        }
    return found


def _raw(
    config: Config, starts: np.ndarray, table: np.ndarray, target: np.ndarray,
    progress: lab.Progress,
) -> Arrays:  # fmt: skip
    """Return the relative raw stress and the error of each map by descent along its gradient.

    The step 1/(4 N) is that of Guttman's transform, which never raises the stress (de Leeuw 1977).
    """
    many = len(starts)
    record = descend(
        GRADIENTS["raw"], starts, np.tile(table, (many, 1, 1)), np.full(many, 0.25 / len(table)),
        num_steps=config.map_steps, every=config.map_steps, seed=config.seed, progress=progress,
        metrics={"loss": _relative_raw},
    )  # fmt: skip
    return {"raw_loss": record["loss"][:, -1], "raw_errors": _errors(record["x"], target)}


def _relative_raw(points: Any, distances: Any) -> Any:
    return raw_stress(points, distances) / (distances**2).sum()
