"""What the experiment `hessian_spectrum` trains, and how finely it looks."""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

from pydantic import Field, model_validator

from adlab import lab

Norm = Literal["batch", "group", "none"]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


class Config(lab.ExperimentConfig):
    """What is trained, and how finely its spectrum is taken."""

    dataset: Literal["digits", "cifar10"] = "digits"
    """The images: 8 x 8 digits, or CIFAR-10, which needs `path`."""
    path: str = ""
    """Where the binary release of CIFAR-10 lies: cifar-10-binary.tar.gz, or its folder."""
    depth: Annotated[int, Field(ge=8)] = 8
    """Layers of the residual network, 6k + 2."""
    widths: tuple[Count, Count, Count] = (8, 16, 32)
    """Channels of its three stages."""
    norms: Annotated[tuple[Norm, ...], Field(min_length=1)] = ("batch", "none")
    """What normalises its layers; the verdicts are on the first."""
    num_seeds: Annotated[tuple[Count, ...], Field(min_length=1)] = (5, 2)
    """Trainings per entry of `norms`."""
    learning_rates: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.1, 0.02)
    """Of the descent, per entry of `norms`."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of the descent."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Of the loss whose Hessian is taken: wd/2 |params|^2."""
    batch_size: Count = 128
    """Examples per step of the descent, and per batch of the Hessian."""
    steps: Annotated[tuple[int, ...], Field(min_length=2)] = (0, 3, 12, 60, 150, 280)
    """Steps of the descent after which the spectrum is taken."""
    num_examples: Count = 384
    """Training examples whose loss the Hessian belongs to."""
    whole: bool = True
    """One batch of all these examples, or the mean over batches of `batch_size`."""
    num_matvecs: Annotated[int, Field(ge=2)] = 40
    """Lanczos steps per probe."""
    num_probes: Annotated[int, Field(ge=1)] = 2
    """Lanczos runs per spectrum."""

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if any(a >= b for a, b in itertools.pairwise(self.steps)) or self.steps[0] != 0:
            raise ValueError(f"steps must increase from 0, got {list(self.steps)}")
        for name in ("num_seeds", "learning_rates"):
            if len(getattr(self, name)) != len(self.norms):
                raise ValueError(
                    f"{name} must have one entry per norm, {len(self.norms)}, "
                    f"got {list(getattr(self, name))}"
                )
        if len(set(self.norms)) < len(self.norms):
            raise ValueError(f"norms must differ, got {list(self.norms)}")
        return self
