"""GPT-2 of 1.5 B: 60 GB of activations, or 8 GB with checkpoints for a third more computation.

At sequence length s = 1024 and batch b = 32, with L = 48 layers of width h = 1600 and a = 25 heads,
12 b s h L numbers of two bytes are 60.4 GB (Rajbhandari et al. 2020, arXiv:1910.02054). One state
per layer, 2 b s h L bytes, one layer computed again, 24 b s h, and its attention matrix, 2 a b s^2,
are 7.97 GB. The forward pass costs a third of the gradient: to repeat it makes 4/3.

Beside the formula stands the model itself, in which every array kept for the backward pass is
counted from its shape. It keeps more: the formula leaves out the attention matrices of all layers
(Korthikanti et al. 2022, arXiv:2205.05198: b s h L (34 + 5 a s / h) bytes), the logits, and what
differentiating each normalisation and each gelu by its parts keeps in between. And it repeats less:
the last product of each block, which no derivative needs, isn't computed again.
"""

from __future__ import annotations

import functools
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field

from adlab import checkpointing, lab, models
from adlab.checkpointing import MemoryReport
from adlab.core import flops
from adlab.figures import panels
from adlab.figures.labels import text
from adlab.lab import Text, Verdict

from .needs import needs as needs

Arrays = dict[str, np.ndarray]
Dtype = Literal["bfloat16", "float32"]
POLICIES = ("none", "layer", "dots", "sqrt", "binomial")
PARTS = ("states", "layers", "attention", "head")
LECTURE = ("gpt2-xl", 1024, 32)
TONES = ("#0072B2", "#56B4E9", "#D55E00", "#999999")
GIGA = 1e9


class Config(lab.ExperimentConfig):
    """Which model is counted, on how many tokens; nothing of it is allocated."""

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


def run(config: Config, progress: lab.Progress) -> Arrays:
    """Account for the gradient of the loss under every policy, from shapes alone."""
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


def formula(config: Config) -> dict[str, np.ndarray]:
    """Return bytes in PARTS by the formulas, in numbers of two bytes.

    "none" and "layer" as in the module's text; "korthikanti" with all attention matrices.
    """
    size = models.gpt2_size(config.size)
    layers, heads, width = (size[name] for name in ("layers", "heads", "width"))
    state = config.batch_size * config.sequence * width
    matrix = heads * config.batch_size * config.sequence**2
    return {
        "none": np.array([0, 24 * state * layers, 0, 0.0]),
        "layer": np.array([2 * state * layers, 24 * state, 2 * matrix, 0.0]),
        "korthikanti": np.array([0, 34 * state * layers, 5 * matrix * layers, 0.0]),
    }


def repeated(config: Config) -> float:
    """Return by how much `jax.checkpoint` per layer multiplies the products of the gradient.

    Per token and layer there are 24 h^2 + 4 s h operations, 8 h^2 of them in the last product, and
    2 h V per token for the logits.
    """
    size, s, vocabulary = models.gpt2_size(config.size), config.sequence, 50257
    layers, width = size["layers"], size["width"]
    forward = layers * (24 * width**2 + 4 * s * width) + 2 * width * vocabulary
    return 1 + layers * (16 * width**2 + 4 * s * width) / (3 * forward)


def layers_alive(data: Arrays, config: Config, row: int, policy: str) -> np.ndarray:
    """Return the bytes in PARTS that are alive at once inside the layers.

    What is saved, and at most all that one layer makes when it is computed again. With checkpoints,
    the logits and the loss are done with by then.
    """
    saved = data["saved"][row, POLICIES.index(policy)].copy()
    if policy == "none":
        return np.asarray(saved)
    if policy == "dots":  # one state per layer, and products inside it
        states = data["saved"][row, POLICIES.index("layer"), 0]
        saved[:2] = states, saved[0] - states
    one = data["saved"][row, 0] / models.gpt2_size(config.size)["layers"]
    return np.asarray(saved + one) * np.array([1, 1, 1, 0])


def verdicts(data: Arrays, config: Config) -> list[Verdict]:
    """Judge the formula on the lecture's setting, and the model's own count on any."""
    by_formula = formula(config)
    found = []
    if (config.size, config.sequence, config.batch_size) == LECTURE:
        for name, gigabytes, tolerance in (("none", 60.0, 1.0), ("layer", 8.0, 0.1)):
            claim = Text(f"gpt2_memory.claim.formula_{name}")
            found.append(_near(claim, [by_formula[name].sum() / GIGA], gigabytes, tolerance))
    again = 1 + data["forward"] / data["flops"][:, 0]
    found.append(_near(Text("gpt2_memory.claim.again"), again, 4 / 3, 4 / 3 * 0.02))
    layer = data["flops"][:, 1] / data["flops"][:, 0]
    claim = Text("gpt2_memory.claim.layer_work")
    found.append(Verdict.worst(claim, layer, 4 / 3, side="at_most"))
    claim = Text("gpt2_memory.claim.closed_form")
    found.append(_near(claim, layer / repeated(config), 1.0, 0.01))
    states = data["saved"][:, 1:, 0] / _states(config)
    found.append(_near(Text("gpt2_memory.claim.layer_states"), states[:, 0], 1.0, 0.01))
    for column, policy in enumerate(("sqrt()", f"binomial({config.slots})"), 2):
        claim = Text("gpt2_memory.claim.schedule", policy=policy)
        found.append(_near(claim, states[:, column], 1.0, 0.01))
    for name in ("none", "layer"):
        alive = [layers_alive(data, config, row, name).sum() for row in range(len(again))]
        ratio = np.array(alive) / by_formula[name].sum()
        claim = Text(f"gpt2_memory.claim.control_{name}")
        found.append(_near(claim, ratio, 1.0, 0.1, control=True))
    return found


def _states(config: Config) -> np.ndarray:
    """Return the bytes of the states that each policy but "none" should keep, per dtype."""
    size = models.gpt2_size(config.size)
    schedules = (checkpointing.sqrt(), checkpointing.binomial(config.slots))
    kept = [size["layers"]] * 2 + [1 + schedule.slots(size["layers"]) for schedule in schedules]
    state = config.batch_size * config.sequence * size["width"]
    widths = np.array([jnp.dtype(dtype).itemsize for dtype in config.dtypes])
    return state * np.outer(widths, kept)


def _near(
    claim: Text, values: Any, expected: float, tolerance: float, *, control: bool = False
) -> Verdict:
    return Verdict.worst(claim, values, expected, tolerance, control=control, kind="range")


def plot(data: Arrays, config: Config) -> dict[str, Figure]:
    """Draw what the formula counts and what the model keeps, without and with checkpoints."""
    by_formula = formula(config)
    title = text(
        "gpt2_memory.figure.title", size=config.size, s=config.sequence, b=config.batch_size
    )
    figure, axes = panels.grid(1, 2, title=title)
    rows = range(len(config.dtypes))
    stored = [(text("gpt2_memory.figure.formula"), by_formula["none"])]
    stored += [(text("gpt2_memory.figure.korthikanti"), by_formula["korthikanti"])]
    stored += [(_model(config, row), layers_alive(data, config, row, "none")) for row in rows]
    kept = [(text("gpt2_memory.figure.formula"), by_formula["layer"])]
    for policy in POLICIES[1:]:
        name = text(f"gpt2_memory.policy.{policy}", slots=config.slots)
        kept.append((name, layers_alive(data, config, 0, policy)))
    kept.append((text("gpt2_memory.figure.head"), data["saved"][0, 0] * np.array([0, 0, 0, 1])))
    _bars(axes[0, 0], stored, text("gpt2_memory.figure.stored"))
    _bars(axes[0, 1], kept, text("gpt2_memory.figure.checkpoints", dtype=config.dtypes[0]))
    panels.legend_below(figure, axes[0, 0], cols=2)
    return {"bytes": figure}


def _model(config: Config, row: int) -> str:
    return text("gpt2_memory.figure.model", dtype=config.dtypes[row])


def _bars(ax: Axes, bars: list[tuple[str, np.ndarray]], title: str) -> None:
    """Draw a stacked bar per row, with its sum at the end."""
    places = np.arange(len(bars))
    sizes = np.array([parts for _, parts in bars]) / GIGA
    starts = np.cumsum(sizes, axis=1) - sizes
    for part, name in enumerate(PARTS):
        label = text(f"gpt2_memory.part.{name}")
        ax.barh(places, sizes[:, part], 0.65, starts[:, part], color=TONES[part], label=label)
    totals = sizes.sum(axis=1)
    for place, total in enumerate(totals):
        ax.text(total + 0.015 * totals.max(), place, f"{total:.3g}", va="center")
    ax.set_yticks(places, [name for name, _ in bars])
    ax.set(xlim=(0, 1.18 * totals.max()), ylim=(len(bars) - 0.4, -0.6), title=title)
    ax.set_xlabel(text("gpt2_memory.figure.gigabytes"))
    ax.grid(visible=False, axis="y")
