"""What is run: clouds of growing size, maps of cities, and the world."""

from __future__ import annotations

import numpy as np

from adlab import lab

from . import clouds, maps, world
from .config import Config

Arrays = dict[str, np.ndarray]


def run(config: Config, progress: lab.Progress) -> Arrays:
    """Measure everything; the arrays of a cloud or map begin with its name."""
    found: Arrays = {}
    for case in config.cases:
        name = "cloud_{}_{}".format(*case)
        arrays = progress.stage(name, lambda: clouds.measure(config, case, progress))  # noqa: B023
        found |= {f"{name}.{key}": value for key, value in arrays.items()}
    for name in config.maps:
        arrays = progress.stage(name, lambda: maps.measure(config, name, progress))  # noqa: B023
        found |= {f"{name}.{key}": value for key, value in arrays.items()}
    arrays = progress.stage("world", lambda: world.measure(config, progress))
    return found | {f"world.{key}": value for key, value in arrays.items()}
