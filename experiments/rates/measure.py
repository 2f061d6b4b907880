"""Every cell of the table, and the controls, one stage after the other."""

from __future__ import annotations

import functools

import jax

from adlab import lab

from . import cells, controls, effective, real_data
from .cells import Arrays
from .config import Config

STAGES = {
    "smooth": cells.smooth,
    "convex": cells.convex,
    "worst_case": cells.worst_case,
    "strongly_convex": cells.strongly_convex,
    "lipschitz": cells.lipschitz,
    "controls": controls.controls,
    "full_dimension": controls.full_dimension,
    "real_data": real_data.real_data,
    "effective_dimension": effective.effective_dimension,  # in this order: keys are numbered by it
}


def run(config: Config, progress: lab.Progress) -> Arrays:
    """Simulate every cell of the table, and the controls."""
    data: Arrays = {}
    for index, (name, compute) in enumerate(STAGES.items()):
        if name not in config.parts:
            continue
        key = jax.random.fold_in(jax.random.key(config.seed), index)
        arrays = progress.stage(name, functools.partial(compute, config, key, progress))
        data |= {f"{name}_{field}": array for field, array in arrays.items()}
    return data
