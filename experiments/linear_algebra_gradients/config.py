"""What is differentiated, and how often."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from adlab import lab

Loss = Literal[
    "vector", "leading", "cluster", "null", "polar", "nuclear", "largest", "factors", "projected"
]
LOSSES: tuple[Loss, ...] = get_args(Loss)
FEWEST = 4  # gaps that a slope needs


class Config(lab.ExperimentConfig):
    """Gaps, losses, and the sizes of what is fitted."""

    x64: Literal[True] = True
    """Compute in float64: gaps down to 1e-14 are meant to be seen."""
    losses: Annotated[tuple[Loss, ...], Field(min_length=1)] = LOSSES
    """Losses of the singular factors; `losses` in the module of that name defines them."""
    exponents: tuple[Annotated[int, Field(ge=3, le=49)], ...] = (*range(7, 47, 3), 47, 48, 49)
    """Gaps between two singular values, 2^-k: exact, as the matrices are, up to k = 49."""
    num_matrices: Annotated[int, Field(ge=8)] = 32
    """Random matrices at each gap."""
    diagnose: bool = True
    """Ask `svd_diagnostics` about every loss at matrices with coinciding singular values."""
    shapes: Annotated[
        tuple[tuple[Annotated[int, Field(ge=4)], Annotated[int, Field(ge=4)]], ...],
        Field(min_length=1, max_length=3),
    ] = ((7, 5), (5, 7))
    """Rows and columns of least-squares systems."""
    num_systems: Annotated[int, Field(ge=2)] = 20
    """Random least-squares systems of each kind."""
    num_times: Annotated[int, Field(ge=5)] = 48
    """Measurements, at regular times, that the ridge fit learns from."""
    num_harmonics: Annotated[int, Field(ge=1)] = 16
    """Cosines and sines that are fitted."""
    noise: Annotated[float, Field(gt=0)] = 0.5
    """Standard deviation of the measurements."""
    ridge_steps: Annotated[int, Field(ge=1)] = 60
    """Descent steps on the logarithm of the ridge strength."""
    rows: Annotated[int, Field(ge=3)] = 30
    """Rows of the matrix that is completed."""
    columns: Annotated[int, Field(ge=3)] = 20
    """Columns of the matrix that is completed."""
    rank: Annotated[int, Field(ge=1)] = 2
    """Its rank."""
    observed: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """Share of its entries that are known."""
    completion_steps: Annotated[int, Field(ge=1)] = 150
    """Descent steps on its entries."""

    @model_validator(mode="after")
    def _makes_sense(self) -> Config:
        for name in ("losses", "exponents"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise ValueError(f"{name} must be distinct, got {list(values)}; drop the repeated")
        resolved = [k for k in self.exponents if k <= RESOLVED]
        if len(resolved) < FEWEST:
            raise ValueError(
                f"exponents must hold at least {FEWEST} up to {RESOLVED}, through which a slope is "
                f"fitted, got {list(self.exponents)}; add some"
            )
        if 2 * self.num_harmonics >= self.num_times:
            raise ValueError(
                f"num_harmonics must be below num_times / 2 = {self.num_times / 2:g}, or they look "
                f"alike at regular times, got {self.num_harmonics}; take more times"
            )
        if self.rank >= min(self.rows, self.columns):
            raise ValueError(
                f"rank must be below rows and columns, got {self.rank} of {self.rows} x "
                f"{self.columns}; a matrix of full rank has nothing to be completed by"
            )
        return self


RESOLVED = 43
"""2^-43 is the least gap that LAPACK is bound to resolve: it stops at 99 units of round-off."""
