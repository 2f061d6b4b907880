"""Whether the large negative eigenvalues vanish."""

from __future__ import annotations

import numpy as np

from adlab import optimize
from adlab.lab import Text, Verdict

from .config import Config
from .spectra import series

Arrays = dict[str, np.ndarray]
FALL = 10.0  # by which |lambda_min| falls at least
_ROUND_OFF = 1e-7
RATIO = 0.2  # to which |lambda_min|/lambda_max falls at most, of what it was


def verdicts(data: Arrays, config: Config) -> list[Verdict]:
    """Judge the fall of lambda_min, of its ratio to lambda_max and of the negative energy.

    On trainings with the first norm alone; intervals are `optimize.ratio_interval` over them. A
    Ritz value lies inside the spectrum: at the end |lambda_min| counts with its residual on top,
    against the claims.
    """
    norm = config.norms[0]
    found = series(data, norm)
    floor = _ROUND_OFF * found.largest  # where there is no negative eigenvalue
    depth = -found.smallest
    depth[:, -1] += found.residual[:, -1]
    depth = np.maximum(depth, floor)
    ratio = depth / found.largest
    energy = np.maximum(found.negative_energy, floor)
    fall, ratio, energy = (
        geometric(before / after)
        for before, after in (
            (depth[:, 0], depth[:, -1]), (ratio[:, -1], ratio[:, 0]), (energy[:, 0], energy[:, -1])
        )
    )  # fmt: skip
    return [
        Verdict.at_least(_claim("fall", norm), *fall, FALL, basis="measured"),
        Verdict.at_most(_claim("ratio", norm), *ratio, RATIO, basis="measured"),
        Verdict.at_least(_claim("energy", norm), *energy, FALL, basis="measured"),
    ]


def _claim(name: str, norm: str) -> Text:
    return Text(f"hessian_spectrum.claim.{name}", norm=Text(f"hessian_spectrum.norm.{norm}"))


def geometric(values: np.ndarray) -> tuple[float, float, float]:
    """Return the geometric mean of positive values with its 95 % interval; unbounded for one."""
    if len(values) == 1:
        return float(values[0]), -np.inf, np.inf
    return optimize.ratio_interval(values).ends
