"""Which model is counted, and which is run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from adlab import lab

Dtype = Literal["bfloat16", "float32"]
Run = Literal["tiny", "small", "gpt2", "gpt2-xl"]
POLICIES = ("none", "layer", "dots", "sqrt", "binomial")
PARTS = ("states", "layers", "attention", "head")
LECTURE = ("gpt2-xl", 1024, 32)


class Config(lab.ExperimentConfig):
    """Which model is counted, on how many tokens, and which is run."""

    size: Literal["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"] = "gpt2-xl"
    """Published size of the model: 124 M, 355 M, 774 M or 1.5 B parameters."""
    sequence: Annotated[int, Field(ge=2, le=1024)] = 1024
    """Tokens s of a sequence."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """Sequences b in a batch."""
    slots: Annotated[int, Field(ge=1)] = 8
    """States that the binomial schedule stores."""
    dtypes: Annotated[tuple[Dtype, ...], Field(min_length=1)] = ("bfloat16", "float32")
    """Types of the parameters and products; norms and softmax are in float32 in both."""
    measured: tuple[Run, ...] = ("small",)
    """Models of which a gradient is run: 0.03 M, 10 M, 124 M or 1.5 B parameters (on a GPU)."""
    processes: Annotated[int, Field(ge=1)] = 2
    """Fresh processes in which each gradient is run."""
