"""What a run takes: the arrays that grow with the config, and evaluations."""

from __future__ import annotations

from adlab import lab

from .config import Config


def needs(config: Config) -> lab.Needs:
    """Return the bytes of the largest arrays, by the keys that they grow with."""
    seeds, clouds, calls = config.num_seeds, 0, 0
    for points, dim in config.cases:
        table, unknowns = points**2, points * dim
        tables = 8 * seeds * table * (3 * dim + 6)
        hessians = 8 * 5 * unknowns**2
        losses = 8 * seeds * config.num_steps * 4
        clouds = max(clouds, tables + hessians + losses)
        calls += seeds * config.num_steps * 2 * unknowns + 3 * config.simplex_seeds * config.budget
    cities = 41  # on the largest map
    paths = 8 * config.map_seeds * config.map_steps * 2 * cities * 6
    frames = 8 * config.frames * 2 * cities * 6
    calls += (1 + len(config.maps)) * config.map_seeds * config.map_steps * 6 * cities
    return lab.Needs(
        {
            "cases, num_seeds, num_steps": clouds,
            "map_seeds, map_steps": paths + frames,
            "budget": 50 * config.budget,  # a list of losses
        },
        evaluations=calls,
    )
