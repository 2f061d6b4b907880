"""The config of `zero_order_finetuning`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from adlab import lab

Subspace = Literal["all", "biases", "low_rank"]


class Config(lab.ExperimentConfig):
    """Which model learns which languages, and how it is adapted."""

    x64: Literal[False] = False
    """Compute in float32, as networks are trained."""
    layers: Annotated[int, Field(ge=1, le=24)] = 2
    """Blocks of the GPT."""
    heads: Annotated[int, Field(ge=1)] = 4
    """Heads of its attention; they divide the width."""
    width: Annotated[int, Field(ge=4, le=1024)] = 48
    """Length of the state of a token."""
    vocabulary: Annotated[int, Field(ge=2, le=64)] = 12
    """Tokens of the language."""
    sequence: Annotated[int, Field(ge=4, le=256)] = 16
    """Tokens that the model reads at once."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Sequences in a batch; the descents that are compared see one batch all the time."""
    held_out: Annotated[int, Field(ge=8)] = 64
    """Other sequences, on which losses are measured."""
    sharpness: Annotated[float, Field(gt=0, le=5)] = 2.0
    """Standard deviation of the logits of the next token."""
    shift: Annotated[float, Field(gt=0, le=1)] = 0.4
    """Share of other logits in the second language; the squares of both shares add up to 1."""
    pretraining: Annotated[int, Field(ge=20)] = 600
    """Iterations of Adam on the first language."""
    learning_rate: Annotated[float, Field(gt=0, le=0.1)] = 3e-3
    """Of Adam at first; a third of that in adapting. It falls to 0 along a line."""
    adaptation: Annotated[int, Field(ge=10)] = 1000
    """Two-point iterations on the second language, each on a new batch."""
    adaptation_fraction: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Share of the largest step, where they start: batches scatter, and so do probes."""
    adam_steps: Annotated[int, Field(ge=10)] = 200
    """Iterations of Adam on the second language, each on a new batch."""
    subspaces: Annotated[tuple[Subspace, ...], Field(min_length=1)] = ("all", "biases", "low_rank")
    """What is adapted: all weights, biases and scales, or low-rank changes of the kernels."""
    rank: Annotated[int, Field(ge=1)] = 2
    """Rank of these changes."""
    num_seeds: Annotated[int, Field(ge=2)] = 5
    """Descents along two-point estimates, each with probes and batches of its own."""
    smoothing: Annotated[float, Field(gt=0, le=0.1)] = 1e-3
    """Step h of the two-point differences."""
    fraction: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the largest step that the descent lemma allows, where slowdowns are measured."""
    gd_steps: Annotated[int, Field(ge=4)] = 16
    """Iterations of gradient descent whose loss the two-point descent must reach."""
    num_matvecs: Annotated[int, Field(ge=8)] = 40
    """Hessian-vector products for the trace, and at most as many for the largest eigenvalue."""
    control_steps: Annotated[int, Field(ge=500)] = 2000
    """Two-point iterations on the isotropic quadratic."""

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Config:
        if self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads = {self.heads}, got {self.width}")
        if self.rank > self.width:
            raise ValueError(f"rank must be at most the width = {self.width}, got {self.rank}")
        return self
