"""Counts the model from its shapes, and runs smaller ones in fresh processes."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab import checkpointing, lab, models
from adlab.checkpointing import MemoryReport
from adlab.core import flops

from . import peaks
from .config import PARTS, POLICIES, Config, Dtype

Arrays = dict[str, np.ndarray]


def run(config: Config, progress: lab.Progress) -> Arrays:
    """Account for the gradient under every policy, from shapes alone; run that of small models."""
    data = progress.stage("counts", lambda: _counts(config, progress))
    for name in dict.fromkeys(config.measured):
        data |= progress.stage(name, lambda: peaks.measured(config, name, progress))  # noqa: B023
    return data


def _counts(config: Config, progress: lab.Progress) -> Arrays:
    saved = np.zeros((len(config.dtypes), len(POLICIES), len(PARTS)))
    work = np.zeros((len(config.dtypes), len(POLICIES)))
    forward = np.zeros(len(config.dtypes))
    for row, dtype in enumerate(config.dtypes):
        plain: MemoryReport | None = None
        for column, policy in enumerate(POLICIES):
            progress.update(column, len(POLICIES), f"{dtype} {policy}")
            fun, args = _loss(config, dtype, policy)
            report = checkpointing.memory_report(fun, *args, baseline=plain, compile=False)
            saved[row, column] = _parts(report, plain, config)
            if plain is None:
                plain, forward[row] = report, flops.count(fun, *args).flops
            work[row, column] = report.flops
    return {"saved": saved, "flops": work, "forward": forward}


def _loss(config: Config, dtype: Dtype, policy: str) -> tuple[Any, tuple[Any, ...]]:
    """Return the loss of the next token under a policy, and the shapes of its arguments."""
    keep = jax.checkpoint_policies
    schedules = {"sqrt": checkpointing.sqrt(), "binomial": checkpointing.binomial(config.slots)}
    how: dict[str, Any] = {
        "layer": {"remat": keep.nothing_saveable},
        "dots": {"remat": keep.dots_with_no_batch_dims_saveable},
    }.get(policy, {})
    if policy in schedules:
        scan = functools.partial(checkpointing.checkpointed_scan, schedule=schedules[policy])
        how = {"scan": scan}
    mixed = dtype == "bfloat16"
    model = models.gpt2(**models.gpt2_size(config.size), mixed_precision=mixed, **how)
    init = functools.partial(model.init, dtype=jnp.dtype(dtype))
    tokens = jax.ShapeDtypeStruct((config.batch_size, config.sequence), np.int32)
    params = jax.eval_shape(init, jax.random.key(0))
    return models.classification_loss(model), (params, tokens, tokens)


def _parts(report: MemoryReport, plain: MemoryReport | None, config: Config) -> list[float]:
    """Return the bytes saved, in PARTS; `plain` is the report on storing everything, if not this.

    Outside the layers all policies save the same, but for the causal mask, which some recompute.
    """
    size, s = models.gpt2_size(config.size), config.sequence
    layers = [array for array in (plain or report).saved if array.shape[0] == size["layers"]]
    matrices = [array for array in layers if array.shape[-3:] == (size["heads"], s, s)]
    inside, attention = (sum(array.bytes for array in part) for part in (layers, matrices))
    if plain is None:
        return [0, inside - attention, attention, report.saved_bytes - inside]
    head = plain.saved_bytes - inside
    head += sum(array.bytes for array in report.saved if array.shape == (s, s))
    return [report.saved_bytes - head, 0, 0, head]
