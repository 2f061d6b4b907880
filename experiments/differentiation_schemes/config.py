"""What the experiment `differentiation_schemes` differentiates, and how often it looks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from adlab import lab

Steps = Annotated[int, Field(ge=2, le=60)]
Symbolic = Annotated[int, Field(ge=2, le=12)]
Factors = Annotated[int, Field(ge=3, le=128)]
Depth = Annotated[int, Field(ge=1, le=6)]


class Config(lab.ExperimentConfig):
    """Sizes of the three programs, the points, and the repeats."""

    x64: Literal[True] = True
    """Compute in float64, as the code that sympy writes does."""
    steps: Annotated[tuple[Symbolic, ...], Field(min_length=1)] = (2, 3, 4, 5, 6, 7, 8, 9, 10)
    """n of the logistic map l_n, for all schemes."""
    long: tuple[Steps, ...] = (12, 14, 16, 20, 25, 30, 35, 40)
    """More n of the logistic map, for all but the symbolic schemes."""
    expanded: Annotated[int, Field(ge=2, le=8)] = 7
    """The most steps at which the polynomial is multiplied out: it has 2^(n-1) terms."""
    factors: Annotated[tuple[Factors, ...], Field(min_length=1)] = (4, 8, 16, 32)
    """n of Speelpenning's product x_1 x_2 ... x_n."""
    depths: Annotated[tuple[Depth, ...], Field(min_length=1)] = (1, 2, 3, 4, 5)
    """Hidden layers of the network."""
    width: Annotated[int, Field(ge=1, le=4)] = 2
    """Neurons per layer, and inputs."""
    automatic_step: bool = True
    """Whether differences with an automatic step take part, at the sizes shown side by side."""
    points: Annotated[int, Field(ge=2)] = 100
    """Points at which errors are measured; they are told by their median."""
    batch: Annotated[int, Field(ge=2)] = 4096
    """Points per call when time is measured, so that the work outweighs the call."""
    repeats: Annotated[int, Field(ge=1)] = 21
    """How often each program is timed."""

    @model_validator(mode="after")
    def _compatible(self) -> Config:
        for name in ("steps", "long", "factors", "depths"):
            sizes = getattr(self, name)
            if list(sizes) != sorted(set(sizes)):
                raise ValueError(f"{name} must rise, each size once, got {list(sizes)}; sort them")
        if self.long and self.long[0] <= self.steps[-1]:
            raise ValueError(
                f"long must lie above steps, whose last is {self.steps[-1]}, got {self.long[0]}; "
                "leave it out"
            )
        if self.points > self.batch:
            raise ValueError(
                f"points must be at most batch = {self.batch}, whose first they are, got "
                f"{self.points}; raise batch"
            )
        return self

    def sizes(self, problem: str) -> tuple[int, ...]:
        """Return all sizes of a program."""
        return {
            "logistic": self.steps + self.long,
            "product": self.factors,
            "network": self.depths,
        }[problem]

    def shown(self, problem: str) -> int:
        """Return the size at which schemes are set beside each other: all that can be are there."""
        if problem == "logistic" and self.expanded in self.steps:
            return self.expanded
        return self.largest(problem)

    def largest(self, problem: str) -> int:
        """Return the largest size that the symbolic schemes take."""
        return self.steps[-1] if problem == "logistic" else self.sizes(problem)[-1]
