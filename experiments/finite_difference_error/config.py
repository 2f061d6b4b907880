"""What is measured, and how often."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from adlab import lab

Scheme = Literal["forward", "central", "richardson"]
Precision = Literal["float32", "float64"]
Dimension = Annotated[int, Field(ge=2, le=1000)]


class Config(lab.ExperimentConfig):
    """Which schemes, and on how many points and functions."""

    x64: Literal[True] = True
    """Allow float64; float32 is used beside it."""
    schemes: Annotated[tuple[Scheme, ...], Field(min_length=1)] = (
        "forward",
        "central",
        "richardson",
    )
    """Schemes beside the complex step."""
    precisions: Annotated[tuple[Precision, ...], Field(min_length=1)] = ("float32", "float64")
    """Precisions of x and of the function."""
    num_points: Annotated[int, Field(ge=100)] = 2000
    """Random points, whose root mean square an error of e^x sin 3x is."""
    functions: Annotated[int, Field(ge=4)] = 60
    """Functions of one unknown drawn of each kind."""
    neighbours: Annotated[int, Field(ge=100)] = 100
    """Points near each other, whose root mean square an error of such a function is."""
    dims: tuple[Dimension, ...] = (10, 100)
    """Numbers of unknowns of functions of many; none for no such functions."""
    starts: Annotated[int, Field(ge=2)] = 20
    """Points at which those are differentiated."""

    @model_validator(mode="after")
    def _distinct(self) -> Config:
        for name in ("schemes", "precisions", "dims"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} must be distinct, got {list(values)}")
        return self
