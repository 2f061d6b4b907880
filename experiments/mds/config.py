"""Which distances, and how long each method may go on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from adlab import lab

METHODS = ("gradient_descent", "two_point", "finite_difference")
PAIR = METHODS[:2]  # on clouds: finite differences take the same steps, at 2 n calls each
SIMPLEXES = ("adaptive_wide", "adaptive", "classic")
TARGET = 1e-4  # of the loss, in terms of that with all points in one place

Case = tuple[Annotated[int, Field(ge=3)], Annotated[int, Field(ge=1)]]
MapName = Literal["europe", "usa"]


class Config(lab.ExperimentConfig):
    """Which point clouds and maps, from how many starts, for how long."""

    x64: bool = True
    """Compute in float64; the target is near the rounding of float32 losses."""
    cases: Annotated[tuple[Case, ...], Field(min_length=2)] = (
        (8, 2), (16, 2), (32, 2), (16, 4), (16, 8),
    )  # fmt: skip
    """Random clouds: how many points N, in how many dimensions d."""
    num_seeds: Annotated[int, Field(ge=2)] = 16
    """Clouds of each size, each with a start of its own."""
    num_steps: Annotated[int, Field(ge=10)] = 400
    """Steps of gradient descent; a two-point step counts as 1/d_eff."""
    step_fraction: Annotated[float, Field(gt=0, le=0.5)] = 0.25
    """Steps over the longest that theory allows near a solution, 1/lambda_max for gradients. At a
    fraction f noise slows two-point descent by up to 1/(1 - f/2) beside its shorter steps."""
    simplex_seeds: Annotated[int, Field(ge=2)] = 3
    """How many of the clouds the simplex method is tried on."""
    budget: Annotated[int, Field(ge=100)] = 60_000
    """Evaluations after which a simplex is given up."""
    maps: Annotated[tuple[MapName, ...], Field(min_length=1)] = ("europe", "usa")
    """Maps of cities; the world is always there."""
    map_seeds: Annotated[int, Field(ge=2)] = 24
    """Starts on each map: normal numbers of a tenth of the map's size."""
    map_steps: Annotated[int, Field(ge=10)] = 1500
    """Steps of gradient descent on a map. From some starts it lingers at a saddle."""
    frames: Annotated[int, Field(ge=8, le=600)] = 90
    """Moments at which the paths of the cities are kept, for the animation; fewer for the world
    where steps are fewer."""

    @model_validator(mode="after")
    def _sizes_make_sense(self) -> Config:
        for points, dim in self.cases:
            if dim > points - 1:
                raise ValueError(
                    f"cases must have d <= N - 1, the most that N points span, got "
                    f"[{points}, {dim}]; take d = {points - 1} or more points"
                )
        for name in ("cases", "maps"):
            values = getattr(self, name)
            if twice := [value for k, value in enumerate(values) if value in values[:k]]:
                raise ValueError(f"{name} must not repeat themselves, got {twice[0]} twice")
        if len({points * dim for points, dim in self.cases}) < 2:
            raise ValueError(
                "cases must have two values of N d or more, for the growth with it; got "
                f"{self.cases[0][0] * self.cases[0][1]} only"
            )
        if len(growing(self)) < 2:
            raise ValueError(
                "cases must have two values of N at one d, for the growth with N; got "
                f"{[list(case) for case in self.cases]}"
            )
        if self.simplex_seeds > self.num_seeds:
            raise ValueError(
                f"simplex_seeds must be <= num_seeds = {self.num_seeds}, got {self.simplex_seeds}"
            )
        return self


def growing(config: Config, fixed: int = 1) -> list[int]:
    """Return the cases that differ in N alone, by size; with fixed = 0 those that do in d alone."""
    kept = [case[fixed] for case in config.cases]
    most = max(kept, key=kept.count)
    chosen = [k for k, value in enumerate(kept) if value == most]
    return sorted(chosen, key=lambda k: config.cases[k][1 - fixed])
