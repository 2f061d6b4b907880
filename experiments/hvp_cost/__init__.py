"""A Hessian-vector product costs at most 10 evaluations of the loss, however it is composed.

The gradient costs at most 4 evaluations and differentiating it along v at most 2.5 times as much
(Griewank & Walther 2008, doi:10.1137/1.9780898717761, chapters 3 to 5), at any number n of
parameters, without the n x n matrix. Of a deep network's M multiplications per evaluation, m of
them in its first layer, the gradient makes 3M - m and a product 8M - 5m, or 6M - 4m once the
gradient has been linearised: at most 8/3 and 2 gradients. Where the gradient keeps a value, a
product keeps at most 4: the value, its adjoint, and the derivatives of both along v.

Operations are counted in the compiled program. As written, before the compiler drops what nobody
uses and skips the zeros of dilated convolutions, a ResNet's products exceed 10.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, get_args

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field

from adlab import curvature, lab, models
from adlab import data as datasets
from adlab.core import flops, trees
from adlab.figures import panels, style
from adlab.figures.labels import text
from adlab.lab import Text, Verdict, timing

from .needs import needs as needs

Arrays = dict[str, np.ndarray]
Mode = Literal["forward_over_reverse", "reverse_over_forward", "reverse_over_reverse"]
MODES: tuple[Mode, ...] = get_args(Mode)
PRODUCTS = (*MODES, "linearized")
PROGRAMS = ("loss", "gradient", *PRODUCTS)
FAMILIES = ("mlp", "resnet")
CLASSES = 10
EVALUATIONS, GRADIENTS, MEMORY = 10.0, 3.0, 4.0  # what a product may cost at most
DRAWN = 3  # repeats that an interval needs at least
PRODUCT = style.tone("wine")  # of all products; the gradient has its own colour


Width = Annotated[int, Field(ge=CLASSES - 1)]  # what holds the means of so many classes


class Config(lab.ExperimentConfig):
    """Which networks are measured, at which sizes."""

    mlp_depth: Annotated[int, Field(ge=2)] = 16
    """Dense layers of the multilayer perceptron."""
    mlp_widths: Annotated[tuple[Width, ...], Field(min_length=1)] = (32, 64, 128, 256)
    """Widths of its layers; its inputs are as wide, drawn from a Gaussian mixture."""
    resnet_depth: Annotated[int, Field(ge=8)] = 8
    """Layers of the residual network on images of digits: 8, 14, 20, ..."""
    resnet_widths: tuple[Annotated[int, Field(ge=1)], ...] = (4, 8, 16)
    """Channels of its first stage; none for no such network."""
    batch_size: Annotated[int, Field(ge=1, le=1500)] = 64
    """Examples in the loss."""
    repeats: Annotated[int, Field(ge=1)] = 9
    """How often each program is timed."""


def run(config: Config, progress: lab.Progress) -> Arrays:
    """Count, compile and time the loss, its gradient and its products on every network."""
    rows: dict[str, list[Any]] = {"family": [], "width": []}
    networks = [("mlp", width) for width in sorted(set(config.mlp_widths))]
    networks += [("resnet", width) for width in sorted(set(config.resnet_widths))]
    for index, (family, width) in enumerate(networks):
        name = f"{family}_{width}"
        fun, args = _network(config, family, width, jax.random.key(config.seed))
        found = progress.stage(name, lambda: _measured(config, name, fun, args, progress))  # noqa: B023
        for key, value in {**found, "family": family, "width": width}.items():
            rows.setdefault(key, []).append(value)
        if index == 0:
            dense = flops.count(jax.hessian(fun), *args).flops / flops.count(fun, *args).flops
    return {name: np.array(values) for name, values in rows.items()} | {"dense": np.array(dense)}


def _network(config: Config, family: str, width: int, key: jax.Array) -> tuple[Callable, tuple]:
    """Return fun(params, x, y) and its arguments."""
    if family == "mlp":
        hidden = [width] * (config.mlp_depth - 1)
        model = models.mlp(inputs=width, hidden=hidden, outputs=CLASSES)
        examples, _ = datasets.gaussian_mixture(
            classes=CLASSES, dim=width, num_examples=config.batch_size, separation=4.0,
            seed=config.seed,
        )  # fmt: skip
    else:
        stages = (width, 2 * width, 4 * width)
        model = models.resnet(depth=config.resnet_depth, widths=stages, channels=1)
        examples, _ = datasets.digits(seed=config.seed)
    x, y = (array[: config.batch_size] for array in examples)
    return models.classification_loss(model), (model.init(key), x, y)


def _measured(
    config: Config, name: str, fun: Callable, args: tuple, progress: lab.Progress
) -> Arrays:
    """Return n, and per program flops as written, flops and bytes as compiled: shape (6,)."""
    progress.update(0, len(PROGRAMS), "compiling")
    programs = _programs(fun, args)
    written = [flops.count(program, *own).flops for program, own in programs.values()]
    started = time.perf_counter()
    compiled = {
        name: (jax.jit(program).lower(*own).compile(), own)
        for name, (program, own) in programs.items()
    }
    ready = time.perf_counter()
    calls = [functools.partial(program, *own) for program, own in compiled.values()]
    progress.timing(f"seconds_{name}", timing.in_turn(calls, config.repeats))
    progress.seconds(name, compile=ready - started, run=time.perf_counter() - ready)
    costs = [program.cost_analysis() or {} for program, _ in compiled.values()]
    return {
        "parameters": np.array(trees.size(args[0])),
        "written": np.array(written, dtype=float),
        "flops": np.array([cost.get("flops", np.nan) for cost in costs], dtype=float),
        "bytes": np.array([_memory(program) for program, _ in compiled.values()]),
    }


def _programs(fun: Callable, args: tuple) -> dict[str, tuple[Callable, tuple]]:
    """Return each program with its arguments; v is the vector of ones."""
    v = jax.tree.map(np.ones_like, args[0])
    found: dict[str, tuple[Callable, tuple]] = {"loss": (fun, args)}
    found["gradient"] = (jax.grad(fun), args)
    for mode in MODES:
        found[mode] = (curvature.hvp(fun, mode=mode), (v, *args))
    _, matvec = jax.jit(lambda *args: curvature.linearize_hvp(fun, *args))(*args)
    found["linearized"] = (lambda matvec, v: matvec(v), (matvec, v))
    return found


def _memory(program: Any) -> float:
    """Return temporary and output bytes: intermediates may lie in the buffers of outputs."""
    sizes = program.memory_analysis()
    return np.nan if sizes is None else sizes.temp_size_in_bytes + sizes.output_size_in_bytes


def closed_form(config: Config, width: int) -> np.ndarray:
    """Return the multiplications of each program over those of the loss, for the perceptron.

    Elementwise work, which is left out, adds less the wider the layers are.
    """
    inner = (config.mlp_depth - 1) * width
    first = width / (inner + CLASSES)  # its share of the multiplications
    return np.array([1.0, 3 - first, *([8 - 5 * first] * len(MODES)), 6 - 4 * first])


def verdicts(data: Arrays, config: Config) -> list[Verdict]:
    """Judge the work in evaluations and in gradients, its growth, and the memory."""
    work = data["flops"] / data["flops"][:, :1]
    products = [PROGRAMS.index(name) for name in PRODUCTS]
    found = []
    for index, name in zip(products, PRODUCTS, strict=True):
        claim = Text("hvp_cost.claim.evaluations", program=Text(f"hvp_cost.program.{name}"))
        found.append(_below(claim, work[:, index], EVALUATIONS))
    gradient = Text("hvp_cost.claim.gradients")
    ratios = work[:, products] / work[:, 1:2]
    found.append(_below(gradient, ratios, GRADIENTS))
    width = max(config.mlp_widths)
    ratios = work[data["family"] == "mlp"][-1, 1:] / closed_form(config, width)[1:]
    claim = Text("hvp_cost.claim.closed_form", width=width)
    found.append(Verdict.worst(claim, ratios, 1.0, 0.05, kind="range", basis="measured"))
    slopes = _slopes(data, work[:, products])
    if slopes.size:
        claim = Text("hvp_cost.claim.growth")
        found.append(Verdict.worst(claim, slopes, 0.0, 0.05, kind="range", basis="measured"))
    memory = data["bytes"][:, products] / data["bytes"][:, 1:2]
    claim = Text("hvp_cost.claim.memory")
    found.append(_below(claim, memory, MEMORY))
    n, dense = int(data["parameters"][0]), float(data["dense"])
    claim = Text("hvp_cost.claim.control_dense", n=n)
    ends = (dense, dense, dense)  # counted as written; the others by the compiler
    bound = Verdict.at_most(claim, *ends, EVALUATIONS, control=True, basis="arithmetic")
    return [*found, bound]


def _below(claim: Text, values: np.ndarray, bound: float) -> Verdict:
    """Judge what the compiler made of every program: it could have come out otherwise."""
    return Verdict.worst(claim, values, bound, side="at_most", basis="measured")


def _slopes(data: Arrays, work: np.ndarray) -> np.ndarray:
    """Return the slopes of log(work) over log(n), one per family of several sizes and product."""
    slopes = []
    for family in FAMILIES:
        mine = data["family"] == family
        if mine.sum() > 1:
            slopes.append(np.polyfit(np.log(data["parameters"][mine]), np.log(work[mine]), 1)[0])
    return np.array(slopes)


def plot(data: Arrays, config: Config, *, verdicts: Sequence[Verdict] = ()) -> dict[str, Figure]:
    """Draw the work of all programs on all networks, their memory, and their times if given.

    Times are arrays `seconds_<family>_<width>` of shape (6, repeats) in `data`.
    """
    title = lab.heading(
        "hvp_cost.figure.evaluations_title", verdicts, "hvp_cost.claim.evaluations",
        "hvp_cost.claim.control_dense",
    )  # fmt: skip
    work = np.stack([data["flops"] / data["flops"][:, :1]] * 2, axis=-1)  # counts don't scatter
    figures = {"work": _rows(data, work, "evaluations", title, config)}
    title = lab.heading("hvp_cost.figure.memory", verdicts, "hvp_cost.claim.memory")
    figures["memory"] = _memories(data, title)
    names = [f"seconds_{f}_{w}" for f, w in zip(data["family"], data["width"], strict=True)]
    if all(name in data and data[name].shape[1] >= DRAWN for name in names):
        medians = np.stack([timing.medians(data[name]) for name in names])
        ratios = medians / medians[:, :1]
        figures["seconds"] = _rows(data, ratios, "times", text("hvp_cost.figure.times_title"))
    return figures


def _families(data: Arrays) -> list[tuple[str, np.ndarray]]:
    """Return each family that was measured, with the places of its networks."""
    found = [(family, np.flatnonzero(data["family"] == family)) for family in FAMILIES]
    return [(family, places) for family, places in found if places.size]


def _rows(
    data: Arrays, ratios: np.ndarray, axis: str, title: str, config: Config | None = None
) -> Figure:
    """Draw ratios (networks, 6, 1 + resamples) in rows; theory too where there is a config.

    The networks of a family lie below one another, the largest last.
    """
    families = _families(data)
    figure, axes = panels.grid(1, len(families), title=title)
    names = [text(f"hvp_cost.program.{name}").replace(" ", "\n", 1) for name in PROGRAMS[1:]]
    high = max(EVALUATIONS, *(timing.interval(each)[2] for row in ratios for each in row))
    for column, (family, places) in enumerate(families):
        ax = axes[0, column]
        _dots(ax, ratios[places, 1:], axis)
        if config and family == "mlp":
            expected, rows = closed_form(config, int(data["width"][places[-1]]))[1:], np.arange(5)
            label = text("hvp_cost.figure.closed_form")
            ax.vlines(expected, rows - 0.4, rows + 0.4, style.THEORY, lw=3, label=label, zorder=4)
        ends = (f"{data['parameters'][k]:,}".replace(",", r"\,") for k in places[[0, -1]])
        low, last = ends
        size = text("hvp_cost.figure.range", low=low, high=last) if low != last else f"${low}$"
        name = text(f"hvp_cost.figure.{family}")
        ax.set_title(text("hvp_cost.figure.sizes", family=name, size=size), fontsize=19)
        ax.set_yticks(np.arange(len(names)), names if column == 0 else [""] * len(names))
        ax.set_xlim(0, 1.1 * high)
        ax.set_xticks(np.arange(0, 1.1 * high, 5))
        ax.set_xlabel(text(f"hvp_cost.figure.{axis}"))
    panels.legend_below(figure, axes[0, 0], cols=3)
    return figure


def _dots(ax: Axes, ratios: np.ndarray, kind: str) -> None:
    """Draw ratios (networks, programs, 1 + resamples) with their intervals, and the bound.

    Bars reach to the largest, which is written in them.
    """
    count = len(ratios)
    offsets = np.linspace(-0.22, 0.22, count) if count > 1 else np.zeros(1)
    for row in range(ratios.shape[1]):
        color = PRODUCT if row else style.color("reverse_mode")
        middle, low, high = np.transpose([timing.interval(each) for each in ratios[:, row]])
        ax.barh(row, middle.max(), height=0.7, color=color, alpha=0.25, lw=0)
        ax.errorbar(
            middle, row + offsets, xerr=[middle - low, high - middle], fmt="o", color=color,
            capsize=4, label=text(f"hvp_cost.figure.dot_{kind}") if row == 1 else "_nolegend_",
        )  # fmt: skip
        ax.text(
            0.12, row, f"{middle.max():.1f}", va="center", fontsize=20,
            color=style.ink(color, style.tint(color, 0.25)),
        )  # fmt: skip
    bound = text("hvp_cost.figure.bound")
    ax.axvline(EVALUATIONS, color=style.THEORY, linestyle="--", label=bound)
    ax.set_ylim(len(PROGRAMS) - 1.5, -0.5)
    ax.grid(visible=False, axis="y")


def _memories(data: Arrays, title: str) -> Figure:
    """Draw the gradient's memory, that of products between the least and the most, and n^2."""
    families = _families(data)
    figure, axes = panels.grid(1, len(families), title=title)
    for ax, (family, places) in zip(axes[0], families, strict=True):
        n, mebi = data["parameters"][places].astype(float), data["bytes"][places] / 2**20
        products = mebi[:, 2:]
        label = text("hvp_cost.figure.products")
        ax.fill_between(n / 1000, products.min(axis=1), products.max(axis=1), color=PRODUCT,
                        alpha=0.25, lw=0)  # fmt: skip
        for k, edge in enumerate((products.max(axis=1), products.min(axis=1))):
            ax.plot(n / 1000, edge, "X-", color=PRODUCT, label="_nolegend_" if k else label)
        label = text("hvp_cost.program.gradient")
        ax.plot(n / 1000, mebi[:, 1], "o-", color=style.color("reverse_mode"), lw=5, label=label)
        ends = np.array([n.min() / 1.2, n.max() * 1.2])  # a line at a single size, too
        label = text("hvp_cost.figure.hessian")
        hessian = panels.Curve(ends / 1000, 4 * ends**2 / 2**20, label)
        panels.convergence(
            ax, [], references=[hessian], xlabel=text("hvp_cost.figure.parameters"),
            ylabel=text("hvp_cost.figure.mebibytes") if ax is axes[0, 0] else "",
            title=text(f"hvp_cost.figure.{family}"), legend="",
        )  # fmt: skip
    panels.legend_below(figure, axes[0, 0], cols=3)
    return figure
