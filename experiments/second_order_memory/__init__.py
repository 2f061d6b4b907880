"""Second-order methods need n^2 numbers where they store the Hessian; Newton-CG needs none of it.

A Newton step solves H d = -g. With the Hessian stored it takes n^2 numbers, and as many again to
factorise it. Conjugate gradients ask for products H v alone: a few vectors, whatever n (Nocedal &
Wright 2006, doi:10.1007/978-0-387-40065-5, section 7.1). So the lecture's reason against
second-order methods, memory, holds of Newton's method as it is written, not of what it computes.

The function is the mean logistic loss of m examples with n features, plus mu/2 |w|^2. Its Hessian
is mu I and a matrix of rank m, so that conjugate gradients end after m + 1 products, up to
rounding. Memory is that of the compiled step, its result among it and its arguments not.

The control is the lecture's claim itself, that every second-order step needs n^2 numbers, which
Newton-CG must violate. A second one is gradient descent: as little memory, but no Newton step.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_factor, cho_solve
from jax.scipy.sparse.linalg import cg
from matplotlib.figure import Figure
from pydantic import Field, model_validator

from adlab import curvature, lab
from adlab.figures import panels, style
from adlab.figures.labels import text
from adlab.lab import Text, Verdict

from .needs import needs as needs

Arrays = dict[str, np.ndarray]
PROGRAMS = ("gradient", "product", "newton_cg", "hessian", "newton")
LOOKS = dict(
    zip(PROGRAMS, ("gradient_descent", "forward_gradient", "finite_difference", "one_sided",
                   "two_point"), strict=True)
)  # fmt: skip
METHODS = ("newton", "newton_cg", "descent")
BUDGET = 8e9  # bytes, a small accelerator's
VECTORS = 20.0  # memory of a Newton-CG step, in gradients, at most
CLOSE = 1e-6  # relative distance of two Newton iterates


class Config(lab.ExperimentConfig):
    """Which losses are minimised, and how far."""

    x64: Literal[True] = True
    """Compute in float64: iterates are compared."""
    sizes: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=2)] = (
        64, 256, 1024, 4096, 16_384,
    )  # fmt: skip
    """Numbers n of parameters whose steps are compiled, increasing; nothing so large is run."""
    num_examples: Annotated[int, Field(ge=2)] = 32
    """m."""
    strong_convexity: Annotated[float, Field(gt=0)] = 1e-2
    """mu."""
    num_steps: Annotated[int, Field(ge=3)] = 12
    """Steps of each method, at the least n."""

    @model_validator(mode="after")
    def _ordered(self) -> Config:
        if any(a >= b for a, b in zip(self.sizes, self.sizes[1:], strict=False)):
            raise ValueError(f"sizes must increase, got {list(self.sizes)}")
        return self


def loss(w: Any, x: Any, y: Any, mu: float) -> Any:
    """Return the mean logistic loss of labels y = +-1, plus mu/2 |w|^2."""
    return jnp.mean(jax.nn.softplus(-y * (x @ w))) + mu / 2 * jnp.vdot(w, w)


def programs(config: Config) -> dict[str, Callable[..., Any]]:
    """Return what is compiled, as functions of w, x and y."""
    fun = functools.partial(loss, mu=config.strong_convexity)
    product = curvature.hvp(fun)

    def newton(w: Any, x: Any, y: Any) -> Any:
        hessian = jax.hessian(fun)(w, x, y)
        return w - cho_solve(cho_factor(hessian), jax.grad(fun)(w, x, y))

    def newton_cg(w: Any, x: Any, y: Any) -> Any:
        gradient = jax.grad(fun)(w, x, y)
        step, _ = cg(lambda v: product(v, w, x, y), gradient, tol=1e-10,
                     maxiter=2 * config.num_examples)  # fmt: skip
        return w - step

    return {
        "gradient": jax.grad(fun),
        "product": lambda w, x, y: product(jnp.ones_like(w), w, x, y),
        "newton_cg": newton_cg,
        "hessian": jax.hessian(fun),
        "newton": newton,
    }


def run(config: Config, progress: lab.Progress) -> Arrays:
    """Return the bytes of each step at each n, (sizes, 5), and what each method attains."""
    found = progress.stage("steps", functools.partial(_measured, config, progress))
    return {"sizes": np.array(config.sizes)} | found


def _measured(config: Config, progress: lab.Progress) -> Arrays:
    rows, found = [], {}
    for index, n in enumerate(config.sizes):
        progress.update(index, len(config.sizes), f"n = {n}")
        shapes = [
            jax.ShapeDtypeStruct(shape, jnp.float64)
            for shape in ((n,), (config.num_examples, n), (config.num_examples,))
        ]
        compiled = {
            name: jax.jit(program).lower(*shapes).compile()
            for name, program in programs(config).items()
        }
        rows.append([_bytes(each) for each in compiled.values()])
        if index == 0:
            found = _descents(config, compiled)
    return found | {"bytes": np.array(rows)}


def _bytes(compiled: Any) -> float:
    """Return temporary and output bytes: intermediates may lie in the buffers of outputs."""
    sizes = compiled.memory_analysis()
    return np.nan if sizes is None else sizes.temp_size_in_bytes + sizes.output_size_in_bytes


def _descents(config: Config, compiled: Mapping[str, Callable[..., Any]]) -> Arrays:
    """Return iterates of each method at the least n, (methods, steps + 1, n), and gradients."""
    rng, n, m = np.random.default_rng(config.seed), config.sizes[0], config.num_examples
    x = rng.normal(size=(m, n))
    y = np.sign(x @ rng.normal(size=n))
    smooth = np.linalg.norm(x, 2) ** 2 / (4 * m) + config.strong_convexity  # L
    steps: dict[str, Callable[..., Any]] = {name: compiled[name] for name in METHODS[:2]}
    steps["descent"] = lambda w, x, y: w - np.asarray(compiled["gradient"](w, x, y)) / smooth
    paths = []
    for name in METHODS:
        path = [np.zeros(n)]
        for _ in range(config.num_steps):
            path.append(np.asarray(steps[name](path[-1], x, y)))
        paths.append(path)
    iterates = np.array(paths)
    return {"iterates": iterates, "gradients": gradient_norms(iterates, x, y, config)}


def gradient_norms(iterates: np.ndarray, x: np.ndarray, y: np.ndarray, config: Config) -> Any:
    """Return |grad f| at the iterates by its formula, in NumPy."""
    weights = 1 / (1 + np.exp(y * (iterates @ x.T)))
    gradients = config.strong_convexity * iterates - (weights * y) @ x / len(y)
    return np.linalg.norm(gradients, axis=-1)


def verdicts(data: Arrays, config: Config) -> list[Verdict]:
    """Judge how memory grows, what Newton-CG needs and attains, and the controls."""
    n, memory = data["sizes"], dict(zip(PROGRAMS, data["bytes"].T, strict=True))
    last, numbers = int(n[-1]), {name: each[-1] / 8 for name, each in memory.items()}
    found = []
    for name in ("hessian", "newton"):
        growth = _growth(n, memory[name])
        claim = Text("second_order_memory.claim.square", program=_name(name))
        found.append(Verdict.worst(claim, growth, 2.0, 0.1, basis="measured"))
    for name in ("product", "newton_cg"):
        claim = Text("second_order_memory.claim.linear", program=_name(name))
        found.append(
            Verdict.worst(claim, _growth(n, memory[name]), 1.1, side="at_most", basis="measured")
        )
    ratio = numbers["newton_cg"] / numbers["gradient"]
    claim = Text("second_order_memory.claim.vectors", n=last)
    found.append(Verdict.worst(claim, ratio, VECTORS, side="at_most", basis="measured"))
    newton, newton_cg, descent = range(len(METHODS))
    ends = data["iterates"][:, -1]
    off = np.linalg.norm(ends[newton_cg] - ends[newton]) / np.linalg.norm(ends[newton])
    claim = Text("second_order_memory.claim.same", number=config.num_steps)
    found.append(Verdict.worst(claim, off, CLOSE, side="at_most", basis="identity"))
    for name, square in (("newton", False), ("newton_cg", True)):
        key = "control_lecture" if square else "lecture"
        claim = Text(f"second_order_memory.claim.{key}", program=_name(name), n=last)
        share = numbers[name] / float(last) ** 2
        found.append(
            Verdict.worst(claim, share, 1.0, side="at_least", control=square, basis="measured")
        )
    left = data["gradients"][descent, -1] / data["gradients"][newton_cg, -1]
    claim = Text("second_order_memory.claim.control_descent", number=config.num_steps)
    found.append(Verdict.worst(claim, left, 10.0, side="at_most", control=True, basis="measured"))
    return found


def _name(program: str) -> Text:
    return Text(f"second_order_memory.program.{program}")


def _growth(n: np.ndarray, values: np.ndarray) -> float:
    """Return the exponent between the two largest sizes, where constants count least."""
    return float(np.log(values[-1] / values[-2]) / np.log(n[-1] / n[-2]))


def plot(data: Arrays, config: Config, *, verdicts: Sequence[Verdict] = ()) -> dict[str, Figure]:
    """Draw memory over n, and what each method attains with it."""
    del config
    return {"memory": _memories(data, verdicts), "descent": _paths(data)}


def _memories(data: Arrays, verdicts: Sequence[Verdict]) -> Figure:
    claims = "second_order_memory.claim"
    title = lab.heading("second_order_memory.figure.title", verdicts, claims)
    figure, axes = panels.grid(title=title)
    ax, n = axes[0, 0], data["sizes"]
    for name, memory in zip(PROGRAMS, data["bytes"].T, strict=True):
        tone, mark = style.color(LOOKS[name]), style.marker(LOOKS[name])
        size = 18 if name in ("gradient", "hessian") else 9  # they show below equal ones
        ax.plot(n, memory, color=tone, marker=mark, markersize=size,
                label=_name(name).render(None), zorder=2 if size > 9 else 3)  # fmt: skip
    far = np.array([n[0], 1e5])
    label = text("second_order_memory.figure.square")
    ax.plot(far, 8 * far**2, "--", color=style.THEORY, linewidth=2, label=label)
    ax.axhline(BUDGET, color=style.THEORY, linestyle=":", linewidth=2)
    ax.annotate(text("second_order_memory.figure.budget"), (n[0], BUDGET), (0, 8), fontsize=18,
                textcoords="offset points", color=style.THEORY)  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel=text("second_order_memory.figure.parameters"))
    ax.set(ylabel=text("second_order_memory.figure.bytes"))
    low, high = ax.get_ylim()
    ax.set_ylim(low, 20 * max(high, BUDGET))
    ax.tick_params(labelsize=18)
    panels.legend_below(figure, ax, cols=3)
    return figure


def _paths(data: Arrays) -> Figure:
    figure, axes = panels.grid(title=text("second_order_memory.figure.descent"))
    ax = axes[0, 0]
    looks = {"newton": "two_point", "newton_cg": "finite_difference", "descent": "gradient_descent"}
    for method, norms in zip(METHODS, data["gradients"], strict=True):
        label = text(f"second_order_memory.method.{method}")
        look, size = looks[method], 14 if method == "newton" else 8  # one lies below the other
        ax.plot(np.arange(len(norms)), np.maximum(norms, 1e-17), color=style.color(look),
                marker=style.marker(look), markersize=size, label=label)  # fmt: skip
    ax.set(yscale="log", xlabel=text("axis.iteration"))
    ax.set(ylabel=text("second_order_memory.figure.gradient"))
    ax.tick_params(labelsize=18)
    panels.legend_below(figure, ax, cols=3)
    return figure
