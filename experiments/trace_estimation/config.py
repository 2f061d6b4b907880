"""Which spectra and estimators are compared, at how many products, and how often."""

from __future__ import annotations

import itertools
import typing
from typing import Annotated, Literal

from pydantic import Field, model_validator

from adlab import lab

Spectrum = Literal["power", "exponential", "flat", "network"]
Name = Literal["rademacher", "gaussian", "sphere", "hutch++", "xtrace"]
LAWS = ("rademacher", "gaussian", "sphere")  # of Hutchinson's probes: the name is the law
Budget = Annotated[int, Field(ge=6, multiple_of=6)]
INPUTS, CLASSES = {"mixture": 8, "digits": 64}, {"mixture": 6, "digits": 10}


class Config(lab.ExperimentConfig):
    """Which spectra and estimators are compared, at how many products, and how often."""

    x64: Literal[True] = True
    """Compute in float64: round-off must not show beside the error of interest."""
    spectra: Annotated[tuple[Spectrum, ...], Field(min_length=1)] = typing.get_args(Spectrum)
    """Matrices whose trace is estimated."""
    estimators: Annotated[tuple[Name, ...], Field(min_length=1)] = typing.get_args(Name)
    """Hutchinson's with each law of probes, by the name of the law; Hutch++; XTrace."""
    table: Literal["mixture", "digits"] = "mixture"
    """What the network classifies: a Gaussian mixture, or handwritten digits."""
    hidden: Annotated[int, Field(ge=1)] = 10
    """Hidden units of the network; all matrices have as many rows as it has parameters."""
    training_steps: Annotated[int, Field(ge=0)] = 300
    """Steps that the network is trained for, on all data."""
    num_matvecs: Annotated[tuple[Budget, ...], Field(min_length=2)] = (6, 12, 24, 48, 96)
    """Numbers of products, multiples of 6."""
    num_draws: Annotated[int, Field(ge=100)] = 4000
    """Independent estimates by Hutchinson per law, spectrum and number of products."""
    num_other_draws: Annotated[int, Field(ge=100)] = 2000
    """The same for Hutch++ and XTrace, which cost more and are asked for less precisely."""

    @property
    def dim(self) -> int:
        """Number of parameters of the network, and of rows of every matrix."""
        inputs, classes = INPUTS[self.table], CLASSES[self.table]
        return (inputs + 1) * self.hidden + (self.hidden + 1) * classes

    @model_validator(mode="after")
    def _ordered_and_within(self) -> Config:
        budgets = self.num_matvecs
        if any(a >= b for a, b in itertools.pairwise(budgets)):
            raise ValueError(f"num_matvecs must increase, got {list(budgets)}")
        if budgets[-1] >= self.dim:
            raise ValueError(
                f"num_matvecs must be < {self.dim}, the rows of the matrices, got {budgets[-1]}; "
                "raise hidden"
            )
        for name in ("spectra", "estimators"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} must differ from each other, got {getattr(self, name)}")
        return self
