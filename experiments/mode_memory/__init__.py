"""Forward mode stores nothing: its memory doesn't grow with the chain, that of reverse mode does.

The chain is x_k = tanh(x_{k-1} w), k = 1, ..., L, each state of b n numbers, and the derivative is
that of its sum in w. Forward mode needs the current state and its tangent, whatever L. Reverse mode
needs what the forward pass has left for every step: at least a state each, L b n numbers.

Both are measured in the compiled program, beside its arguments and results, with the loop as a scan
and written out; beside them stands what JAX hands from the forward to the backward pass. What is
stored per step is more than the one state of the textbook: a scan leaves three arrays, since it
keeps the operands of each operation by themselves.

The control is forward mode for the whole gradient at once. It stores no steps either, but carries
a tangent for each of the d = n^2 weights.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from pydantic import Field, model_validator

from adlab import lab
from adlab.checkpointing import memory_report
from adlab.figures import panels, style
from adlab.figures.labels import text
from adlab.lab import Text, Verdict

from .needs import needs as needs

Arrays = dict[str, np.ndarray]
Loop = Literal["scan", "unrolled"]
MODES = ("forward", "reverse")
CONTROL_WIDTH = 8  # n of the control: d = 64 tangents


class Config(lab.ExperimentConfig):
    """Which chains are differentiated."""

    batch_size: Annotated[int, Field(ge=1)] = 32
    """b, rows of a state."""
    width: Annotated[int, Field(ge=1)] = 64
    """n, columns of a state."""
    lengths: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=2)] = (
        4, 8, 16, 32, 64, 128, 256,
    )  # fmt: skip
    """Numbers L of steps, increasing."""
    loops: Annotated[tuple[Loop, ...], Field(min_length=1)] = ("scan", "unrolled")
    """How the steps are written: as a scan, or one after the other."""
    longest_unrolled: Annotated[int, Field(ge=1)] = 32
    """L up to which they are written out: compiling takes long."""

    @model_validator(mode="after")
    def _ordered(self) -> Config:
        if any(a >= b for a, b in zip(self.lengths, self.lengths[1:], strict=False)):
            raise ValueError(f"lengths must increase, got {list(self.lengths)}")
        if "unrolled" in self.loops and self.longest_unrolled < self.lengths[1]:
            raise ValueError(
                f"longest_unrolled must be at least {self.lengths[1]}, the second of lengths, "
                f"got {self.longest_unrolled}"
            )
        return self


def chain(w: Any, x: Any, length: int, loop: Loop) -> Any:
    """Return the sum of the last state."""

    def step(x: Any, _: Any = None) -> tuple[Any, None]:
        return jnp.tanh(x @ w), None

    if loop == "scan":
        return jnp.sum(jax.lax.scan(step, x, None, length=length)[0])
    for _ in range(length):
        x, _ = step(x)
    return jnp.sum(x)


def run(config: Config, progress: lab.Progress) -> Arrays:
    """Return bytes per loop, mode and length, and how far the modes' derivatives are apart.

    `<loop>_<mode>` are the compiled program's, `<loop>_saved` what JAX leaves to the backward pass.
    """
    data: Arrays = {}
    for loop in dict.fromkeys(config.loops):
        data |= progress.stage(loop, functools.partial(_loop, config, loop, progress))
    return data | progress.stage("control", functools.partial(_control, config))


def _loop(config: Config, loop: Loop, progress: lab.Progress) -> Arrays:
    lengths = [n for n in config.lengths if loop == "scan" or n <= config.longest_unrolled]
    rows = []
    for index, length in enumerate(lengths):
        progress.update(index, len(lengths), f"L = {length}")
        fun = functools.partial(chain, length=length, loop=loop)
        shapes = _shapes(config.batch_size, config.width)
        report = memory_report(fun, *shapes)
        compiled = jax.jit(_forward(fun)).lower(*shapes, shapes[0]).compile()
        rows.append([_bytes(compiled), report.temporary_bytes or np.nan, report.saved_bytes])
    both = _derivatives(config, functools.partial(chain, length=lengths[0], loop=loop))
    columns = np.array(rows, dtype=np.float64).T
    names = (f"{loop}_forward", f"{loop}_reverse", f"{loop}_saved")
    found = dict(zip(names, columns, strict=True))
    return {f"{loop}_lengths": np.array(lengths), f"{loop}_derivatives": both} | found


def _shapes(batch_size: int, width: int) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    return (
        jax.ShapeDtypeStruct((width, width), jnp.float32),
        jax.ShapeDtypeStruct((batch_size, width), jnp.float32),
    )


def _forward(fun: Callable[..., Any]) -> Callable[..., Any]:
    """Return value and derivative along v."""
    return lambda w, x, v: jax.jvp(lambda w: fun(w, x), (w,), (v,))


def _bytes(compiled: Any) -> float:
    """Return the bytes of temporaries; NaN where the compiler doesn't tell."""
    sizes = compiled.memory_analysis()
    return np.nan if sizes is None else float(sizes.temp_size_in_bytes)


def _derivatives(config: Config, fun: Callable[..., Any]) -> np.ndarray:
    """Return the derivative along a random direction, by each mode."""
    rng = np.random.default_rng(config.seed)
    n = config.width
    w, v = (jnp.asarray(rng.normal(size=(n, n)) / np.sqrt(n), jnp.float32) for _ in range(2))
    x = jnp.asarray(rng.normal(size=(config.batch_size, n)), jnp.float32)

    def both(w: Any, x: Any, v: Any) -> Any:
        return jnp.stack([_forward(fun)(w, x, v)[1], jnp.vdot(jax.grad(fun)(w, x), v)])

    return np.asarray(jax.jit(both)(w, x, v), np.float64)


def _control(config: Config) -> Arrays:
    """Return bytes of forward mode in one direction, and in all at once, at a small width."""
    shapes = _shapes(config.batch_size, CONTROL_WIDTH)
    fun = functools.partial(chain, length=config.lengths[0], loop="scan")
    one = jax.jit(_forward(fun)).lower(*shapes, shapes[0]).compile()
    every = jax.jit(jax.jacfwd(fun)).lower(*shapes).compile()
    return {"control": np.array([_bytes(one), _bytes(every)])}


def verdicts(data: Arrays, config: Config) -> list[Verdict]:
    """Judge growth of each mode, what reverse mode keeps per step, and the control."""
    found = []
    state = 4 * config.batch_size * config.width
    for loop in dict.fromkeys(config.loops):
        lengths, params = data[f"{loop}_lengths"], {"loop": Text(f"mode_memory.loop.{loop}")}
        forward, reverse = (data[f"{loop}_{mode}"] for mode in MODES)
        growth = np.max(forward) / np.min(forward)
        claim = Text("mode_memory.claim.forward", number=int(lengths[-1]), **params)
        found.append(Verdict.at_most(claim, growth, growth, growth, 1.1, basis="measured"))
        kept, saved = (_slope(lengths, each) / state for each in (reverse, data[f"{loop}_saved"]))
        claim = Text("mode_memory.claim.reverse", **params)
        found.append(Verdict.at_least(claim, kept, kept, kept, 1.0, basis="measured"))
        claim = Text("mode_memory.claim.saved", **params)
        share = kept / saved
        found.append(Verdict(claim, share, share, share, 1.0, 0.05, basis="measured"))
        one, other = data[f"{loop}_derivatives"]
        off = abs(one - other) / abs(other)
        claim = Text("mode_memory.claim.agree", **params)
        found.append(Verdict.at_most(claim, off, off, off, 1e-4, basis="identity"))
    ratio = float(data["control"][1] / data["control"][0])
    claim = Text("mode_memory.claim.control", number=CONTROL_WIDTH**2)
    return [
        *found,
        Verdict.at_most(claim, ratio, ratio, ratio, 2.0, control=True, basis="measured"),
    ]


def _slope(lengths: np.ndarray, values: np.ndarray) -> float:
    """Return bytes per step, of the line through all lengths."""
    return float(np.polyfit(lengths, values, 1)[0])


def plot(data: Arrays, config: Config, *, verdicts: Sequence[Verdict] = ()) -> dict[str, Figure]:
    """Draw the memory of both modes over the length, in states; one panel per way of writing."""
    loops = list(dict.fromkeys(config.loops))
    title = lab.heading("mode_memory.figure.title", verdicts, "mode_memory.claim")
    figure, axes = panels.grid(1, len(loops), title=title)
    state = 4 * config.batch_size * config.width
    for ax, loop in zip(axes[0], loops, strict=True):
        lengths = data[f"{loop}_lengths"]
        for mode in MODES:
            method = f"{mode}_mode"
            ax.plot(lengths, data[f"{loop}_{mode}"] / state, color=style.color(method),
                    marker=style.marker(method), label=text(f"method.{method}"))  # fmt: skip
        label = text("mode_memory.figure.state")
        ax.plot(lengths, lengths, "--", color=style.THEORY, linewidth=2, label=label)
        ax.set(xscale="log", yscale="log", title=text(f"mode_memory.loop.{loop}"))
        shown = lengths[:: -(-len(lengths) // 5)]
        ax.set_xticks(shown, [str(n) for n in shown])
        ax.minorticks_off()
        ax.set(xlabel=text("mode_memory.figure.length"))
        ax.tick_params(labelsize=18)
    axes[0, 0].set(ylabel=text("mode_memory.figure.memory"))
    low, high = np.array([ax.get_ylim() for ax in axes[0]]).T
    for ax in axes[0]:
        ax.set_ylim(low.min(), high.max())
    panels.legend_below(figure, axes[0, 0], cols=3)
    return {"memory": figure}
