"""What a run takes: the arrays that grow with the config, and evaluations."""

from __future__ import annotations

from adlab import lab

from .config import Config


def needs(config: Config) -> lab.Needs:
    """Return the bytes of the largest arrays, by the keys that they grow with."""
    k, n, iterations = config.num_steps, config.dim, config.iterations
    starts, seeds = config.num_starts + config.num_heldout, config.num_seeds
    tasks = 2 * config.num_tasks
    return lab.Needs(
        {
            "num_heldout, num_starts, dim": 8 * starts * (4 * n + 2 * k),
            "num_starts, dim": 8 * config.num_starts * n * 3 * k,  # back through all steps
            "num_seeds, num_starts, dim": 8 * seeds * config.num_starts * 3 * n,
            "num_seeds, iterations": 8 * 4 * (seeds + 3) * iterations,
            "num_tasks, num_rows, num_features": 8
            * tasks
            * (4 * config.num_rows * config.num_features + config.num_features**2)
            + 8 * config.num_tasks * k * 4 * (config.num_rows + config.num_features),
            "num_features": 32 * config.num_features**2,
        },
        evaluations=iterations * (6 + 2 * seeds),
    )
