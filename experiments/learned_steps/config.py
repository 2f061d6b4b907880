"""The config of `learned_steps`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from adlab import lab


class Config(lab.ExperimentConfig):
    """Which descents are learned, and how."""

    x64: Literal[True] = True
    """Compute in float64: learned steps are compared with exact ones to many digits."""
    num_steps: Annotated[int, Field(ge=2, le=16)] = 10
    """Steps k of the descent, each with a size of its own."""
    dim: Annotated[int, Field(ge=3, le=500)] = 50
    """Unknowns of the quadratic."""
    condition: Annotated[float, Field(ge=2, le=1e4)] = 100.0
    """L/mu of the quadratic; its spectrum is geometric from 1/condition to 1."""
    num_starts: Annotated[int, Field(ge=10)] = 100
    """Starts on which the steps are learned."""
    num_heldout: Annotated[int, Field(ge=50)] = 2000
    """Other starts, on which they are tried."""
    iterations: Annotated[int, Field(ge=200)] = 2000
    """Iterations of Adam on the logarithms of the steps."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.03
    """Its rate at first; it falls to 0 along a cosine."""
    num_seeds: Annotated[int, Field(ge=2)] = 8
    """Trainings along two-point estimates."""
    num_tasks: Annotated[int, Field(ge=4)] = 32
    """Logistic regressions to learn on, and as many to try on."""
    num_rows: Annotated[int, Field(ge=10)] = 60
    """Examples in each of them."""
    num_features: Annotated[int, Field(ge=2)] = 10
    """Unknowns of each of them."""

    @model_validator(mode="after")
    def _leaves_a_loss(self) -> Config:
        if self.dim <= self.num_steps:
            raise ValueError(
                f"dim must be > num_steps = {self.num_steps}, got {self.dim}: as many steps as "
                "eigenvalues end at the minimum, and there is nothing to compare"
            )
        return self
