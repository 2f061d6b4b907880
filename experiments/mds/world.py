"""The world: in a plane by distances along its surface, in space by chords through the globe."""

from __future__ import annotations

import numpy as np

from adlab import lab
from adlab.data import cities
from adlab.optimize import log_grid
from adlab.problems import classical_scaling, procrustes

from .config import Config
from .descents import GRADIENTS, descend, keep_paths, relative, scale
from .maps import SPREAD

Arrays = dict[str, np.ndarray]
EARTH = 6371.0088  # km, the mean radius


def measure(config: Config, progress: lab.Progress) -> Arrays:
    """Return of both attempts, "plane" and "space": last losses and errors (S,), and a path.

    Errors are against the azimuthal equidistant projection and the positions on the ellipsoid.
    Chords are 2 R sin(s / 2 R) of distances s along the surface: all that s alone tells.
    """
    places = cities("world")
    chords = 2 * EARTH * np.sin(places.distances / (2 * EARTH))
    found = _attempt("plane", places.distances, places.projected, config, progress)
    return found | _attempt("space", chords, places.positions, config, progress)


def _attempt(
    name: str, distances: np.ndarray, truth: np.ndarray, config: Config, progress: lab.Progress
) -> Arrays:
    size = float(np.sqrt(np.mean(distances**2)))
    table, target, dim = distances / size, truth / size, truth.shape[1]
    classical, _ = classical_scaling(table, dim=dim)
    step = config.step_fraction * scale(classical, table).longest
    rng = np.random.default_rng([config.seed, len(table), dim])
    many = config.map_seeds
    record = descend(
        GRADIENTS["gradient_descent"], SPREAD * rng.normal(size=(many, len(table), dim)),
        np.tile(table, (many, 1, 1)), np.full(many, step), num_steps=config.map_steps, every=1,
        seed=config.seed, progress=progress, metrics=keep_paths(),
    )  # fmt: skip
    losses, best = record["loss"], int(np.argmin(record["loss"][:, -1]))
    moments = log_grid(config.map_steps, config.frames)
    return {
        f"{name}.last": losses[:, -1],
        f"{name}.errors": np.array([procrustes(x, target).error for x in record["x"]]),
        f"{name}.classical_loss": np.array(float(relative(classical, table))),
        f"{name}.moments": moments,
        f"{name}.path": record["path"][best][moments] * size,
        f"{name}.paced": losses[best][moments],
    }
