"""What the experiment `rates` simulates, and for how long."""

from __future__ import annotations

import itertools
import typing
from typing import Annotated, Literal

from pydantic import Field, model_validator

from adlab import lab

Part = Literal[
    "smooth",
    "convex",
    "worst_case",
    "strongly_convex",
    "lipschitz",
    "real_data",
    "controls",
    "full_dimension",
    "effective_dimension",
]
Dimension = Annotated[int, Field(ge=3)]
Positive = Annotated[float, Field(gt=0)]
_make = lab.estimators.make


class Config(lab.ExperimentConfig):
    """What is simulated, and for how long."""

    parts: tuple[Part, ...] = typing.get_args(Part)
    """Which parts are run: cells of the table, and what checks them."""
    x64: Literal[True] = True
    """Compute in float64, without which the increments of long runs would be lost."""
    dims: Annotated[tuple[Dimension, ...], Field(min_length=2)] = (8, 16, 32, 64, 128, 256, 512)
    """Dimensions n of the reduced simulations."""
    full_dims: Annotated[tuple[Dimension, ...], Field(min_length=2)] = (16, 32, 64, 128)
    """Dimensions in which every estimator is run in full."""
    num_seeds: Annotated[int, Field(ge=4)] = 32
    """Independent runs per curve."""
    window: tuple[Positive, Positive] = (30.0, 400.0)
    """First and last k/n of the fits."""
    num_points: Annotated[int, Field(ge=4)] = 24
    """Recorded iterations per window."""
    power: Positive = 0.1
    """Exponent q of the tail that isn't convex."""
    horizons: tuple[Annotated[int, Field(ge=1)], ...] = (30, 100, 300)
    """Values of K/n for the worst convex function."""
    condition: Annotated[float, Field(ge=1)] = 10.0
    """L/mu of the strongly convex quadratic."""
    accuracy: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    """Reduction of f - f* that estimators are timed to, in iterations and oracle calls."""
    num_steps: Annotated[int, Field(ge=100)] = 20_000
    """Steps on the Lipschitz function."""
    tables: tuple[Literal["breast_cancer", "digits"], ...] = ("breast_cancer",)
    """Real tables for logistic regression."""
    estimators: tuple[lab.Estimator, ...] = (
        _make("reverse_mode"),
        _make("finite_difference", step="relative"),
        _make("two_point", smoothing="relative"),
        _make("two_point", num_probes=4, smoothing="relative"),
        _make("two_point", law="orthogonal", num_probes=4, smoothing="relative"),
        _make("one_sided", law="gaussian", smoothing="relative"),
        _make("forward_gradient"),
    )
    """Compared on the quadratic and on real data; a plugin's kind may stand here."""

    @model_validator(mode="after")
    def _ordered(self) -> Config:
        for name in ("dims", "full_dims", "window"):
            values = getattr(self, name)
            if any(a >= b for a, b in itertools.pairwise(values)):
                raise ValueError(f"{name} must increase, got {list(values)}")
        return self
