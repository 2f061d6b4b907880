"""The config of `trajectories`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from adlab import lab


class Config(lab.ExperimentConfig):
    """How many descents, how long, and with which displacements."""

    x64: Literal[True] = True
    """Compute in float64: paths that are equal must be so beyond doubt."""
    num_steps: Annotated[int, Field(ge=200)] = 400
    """Steps of each descent; 200 bring gradient descent to 1e-7 of its start."""
    num_seeds: Annotated[int, Field(ge=100)] = 20_000
    """Independent descents of each random kind."""
    eps: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=2)] = (0.1, 0.5, 2.0)
    """Lengths of the displacement, ascending; pictures show the first and the last."""
    shown: Annotated[int, Field(ge=20, le=200)] = 60
    """Steps that the pictures show."""
    cloud: Annotated[int, Field(ge=50, le=5000)] = 400
    """Seeds in the pictures of clouds."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Config:
        if any(b < 2 * a for a, b in zip(self.eps, self.eps[1:], strict=False)):
            raise ValueError(
                f"eps must at least double from one to the next, got {list(self.eps)}: closer ones "
                "can't be told apart in pictures, and repeated ones are counted twice"
            )
        if self.eps[0] < 1e-3:
            raise ValueError(
                f"eps must be >= 0.001, got {self.eps[0]}: shorter displacements show round-off, "
                "and the claims are about what is left without it"
            )
        if self.cloud > self.num_seeds:
            raise ValueError(
                f"cloud must be <= num_seeds = {self.num_seeds}, got {self.cloud}: raise num_seeds"
            )
        return self
