"""How much noise, and at how many points."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from adlab import lab

Noise = Annotated[float, Field(ge=1e-12, le=0.01)]


class Config(lab.ExperimentConfig):
    """How much noise, and at how many points."""

    x64: Literal[True] = True
    """Compute in float64, whose rounding is far below the least noise."""
    noises: Annotated[tuple[Noise, ...], Field(min_length=3)] = (
        1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2,
    )  # fmt: skip
    """Standard deviations s of the noise in a value."""
    num_seeds: Annotated[int, Field(ge=8)] = 32
    """Independent noises, each with points of its own."""
    num_points: Annotated[int, Field(ge=16)] = 64
    """Points in a period, whose mean square an error is."""

    @model_validator(mode="after")
    def _increasing(self) -> Config:
        if any(a >= b for a, b in zip(self.noises, self.noises[1:], strict=False)):
            raise ValueError(f"noises must increase, got {list(self.noises)}")
        return self
