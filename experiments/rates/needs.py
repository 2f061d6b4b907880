"""What a run takes: the arrays that grow with the config, and evaluations."""

from __future__ import annotations

from adlab import lab

from .config import Config
from .effective import MORE_SEEDS
from .radial import BLOCK


def needs(config: Config) -> lab.Needs:
    """Return the bytes of the largest arrays, by the keys that they grow with."""
    seeds, most, full = config.num_seeds, max(config.dims), max(config.full_dims)
    cases = len(config.estimators) * len(config.full_dims)
    curves = len(config.dims) * config.num_points * 2 + 2 * 80 * cases
    probes = max((getattr(spec, "num_probes", 1) for spec in config.estimators), default=1)
    longest = config.window[1] * sum(config.dims)
    return lab.Needs(
        {
            "num_seeds": seeds * (BLOCK * 50 + 24 * curves),  # noise is drawn in blocks of steps
            "dims": 8 * 6 * most**2,  # the recursion for the mean square
            "full_dims": 8 * 8 * full**2,
            "full_dims, num_seeds": 8 * seeds * full * (8 * MORE_SEEDS + 2 * probes),
            "num_points": 8 * 4 * config.num_points * len(config.dims) * seeds,
        },
        evaluations=2 * seeds * (2 * longest + len(config.dims) * config.num_steps),
    )
