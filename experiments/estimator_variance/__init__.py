"""The mean squared error of every gradient estimator is what its closed form says.

On a quadratic of n unknowns with gradient g, m independent probes give an unbiased estimate of mean
squared error (n - 1)/m |g|^2 on the sphere, for random signs and random coordinates, (n + 1)/m
|g|^2 for Gaussian probes, and (n/m - 1) |g|^2 for m <= n orthogonal ones, which is 0 at m = n.
One-sided differences add a term in the square of their step, and random coordinates then a bias.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from pydantic import Field, model_validator

from adlab import lab
from adlab.figures import labels, panels, style
from adlab.figures.labels import name as label_name
from adlab.figures.labels import text
from adlab.lab import Text, Verdict
from adlab.optimize import Interval

from .needs import needs as needs

Arrays = dict[str, np.ndarray]
SWEPT = ("sphere", "gaussian", "orthogonal")
TONES = {
    "sphere": style.color("two_point"),
    "gaussian": style.tone("indigo"),
    "orthogonal": style.tone("wine"),
}
_make = lab.estimators.make
_ROUND_OFF = 1e-12  # what is left of an estimate without error, over |g|^2


class Config(lab.ExperimentConfig):
    """Which estimators are drawn, how often, and in how many dimensions."""

    x64: Literal[True] = True
    """Compute in float64: round-off must not show beside the error of interest."""
    dim: Annotated[int, Field(ge=3)] = 12
    """Number n of unknowns."""
    num_draws: Annotated[int, Field(ge=100)] = 50_000
    """Independent estimates per estimator."""
    probes: tuple[Annotated[int, Field(ge=1)], ...] = (1, 2, 4, 8, 12)
    """Numbers of probes of the second figure, up to `dim`; none for no such figure."""
    estimators: tuple[lab.Estimator, ...] = (
        _make("reverse_mode"),
        _make("finite_difference"),
        _make("two_point", smoothing="relative"),
        _make("two_point", law="gaussian", smoothing="relative"),
        _make("two_point", law="rademacher", smoothing="relative"),
        _make("two_point", law="coordinate", smoothing="relative"),
        _make("two_point", num_probes=4, smoothing="relative"),
        _make("two_point", law="orthogonal", num_probes=4, smoothing="relative"),
        _make("two_point", law="orthogonal", num_probes=12, smoothing="relative"),
        _make("one_sided", smoothing=0.2),
        _make("one_sided", law="gaussian", smoothing=0.2),
        _make("one_sided", law="rademacher", smoothing=0.2),
        _make("one_sided", law="coordinate", smoothing=0.2),
        _make("forward_gradient"),
        _make("forward_gradient", law="gaussian"),
    )
    """Estimators to draw; a plugin's kind may stand here."""

    @model_validator(mode="after")
    def _has_closed_forms(self) -> Config:
        for index, spec in enumerate(self.estimators):
            if spec.kind == "one_sided" and getattr(spec, "law", "") == "orthogonal":
                raise ValueError(
                    f"estimators.{index}: one_sided must have independent probes here, got "
                    'law = "orthogonal", whose error has no closed form; use two_point'
                )
        return self


def _checked_as(spec: Any) -> Any:
    """Return what tells whether an estimator's step can be used.

    The error of a long one-sided step is what is measured here, and no reason to refuse it; on a
    quadratic the same step to both sides has none.
    """
    if spec.kind != "one_sided":
        return spec
    return _make("two_point", smoothing=spec.smoothing, law=spec.law)


def run(config: Config, progress: lab.Progress) -> Arrays:
    """Draw every estimator, and three laws over their number of probes."""
    hessian, x = _problem(config)
    drawn, swept_key = jax.random.split(jax.random.key(config.seed))
    for spec in map(_checked_as, config.estimators):
        spec.build(jax.tree_util.Partial(_quadratic, hessian)).check(jnp.asarray(x))
    data: Arrays = {"hessian": hessian, "x": x}
    moments = progress.stage(
        "estimators", lambda: _moments(config, config.estimators, drawn, progress)
    )
    probes = [m for m in config.probes if m <= config.dim]
    swept = [
        _make("two_point", smoothing="relative", law=law, num_probes=m, chunk_size=1)
        for law in SWEPT
        for m in probes
    ]
    over_probes = progress.stage("probes", lambda: _moments(config, swept, swept_key, progress))
    data |= moments | {f"probes_{name}": array for name, array in over_probes.items()}
    return data | {"probes": np.array(probes)}


def _problem(config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Return a Hessian without structure, and a point where the gradient isn't special."""
    rng = np.random.default_rng(config.seed)
    square = rng.normal(size=(config.dim, config.dim)) / np.sqrt(config.dim)
    return square @ square.T, rng.normal(size=config.dim)


def _moments(
    config: Config, specs: Sequence[Any], key: jax.Array, progress: lab.Progress
) -> Arrays:
    """Return mean (E, n), its standard error, mean squared error (E,), its standard error, c (E,).

    c is the estimator's own second moment, NaN where a plugin doesn't know it.
    """
    hessian, x = _problem(config)
    quadratic = jax.tree_util.Partial(_quadratic, hessian)
    names = ("mean", "mean_error", "error", "error_error", "second_moment", "calls")
    rows: dict[str, list[Any]] = {name: [] for name in names}
    for index, spec in enumerate(specs):
        progress.update(index, len(specs), spec.name)
        gradient = spec.build(quadratic)
        keys = jax.random.split(jax.random.fold_in(key, index), config.num_draws)
        started = time.perf_counter()
        program = _draw.lower(gradient, x, keys).compile()
        compiled = time.perf_counter()
        errors = np.asarray(program(gradient, x, keys)) - hessian @ x
        progress.seconds("draws", compile=compiled - started, run=time.perf_counter() - compiled)
        squares = (errors**2).sum(axis=1)
        root = np.sqrt(len(errors))
        try:
            moment = gradient.second_moment(x)
        except ValueError:
            moment = np.nan
        found = (errors.mean(axis=0), errors.std(axis=0, ddof=1) / root, squares.mean(),
                 squares.std(ddof=1) / root, moment, gradient.cost(x).calls)  # fmt: skip
        for name, value in zip(names, found, strict=True):
            rows[name].append(value)
    return {name: np.array(values) for name, values in rows.items()}


def _quadratic(hessian: Any, x: Any) -> Any:
    return x @ (jnp.asarray(hessian, x.dtype) @ x) / 2


@jax.jit
def _draw(gradient: Any, x: jax.Array, keys: jax.Array) -> jax.Array:
    return jax.lax.map(lambda key: gradient(x, key=key), keys, batch_size=1000)


def closed_form(spec: Any, second_moment: float, hessian: Any, x: Any) -> tuple[Any, float]:
    """Return the bias (n,) and the mean squared error of an estimator on the quadratic.

    What a user's own estimator claims as its second moment stands for its closed form.
    """
    g, diagonal, n = hessian @ x, np.diag(hessian), len(x)
    if spec.kind == "finite_difference" and spec.scheme == "forward":
        bias = _length(spec.step) / 2 * diagonal
        return bias, float(bias @ bias)
    if spec.kind != "one_sided":
        return np.zeros(n), (second_moment - 1) * float(g @ g)
    m, h = spec.num_probes, _length(spec.smoothing)
    even = np.trace(hessian) ** 2 + 2 * (hessian**2).sum()
    added = {
        "sphere": n**2 / (n + 2) * even,
        "gaussian": (n + 4) * even,
        "rademacher": n * (even - 2 * (diagonal**2).sum()),
    }
    if spec.law in added:
        spread = (second_moment - 1) * (g @ g)
        return np.zeros(n), float(spread + h**2 / 4 * added[spec.law] / m)
    bias = h * np.sqrt(n) / 2 * diagonal  # random coordinates
    mean = g + bias
    return bias, float((n - 1) / m * (mean @ mean) + bias @ bias)


def _length(step: float | str) -> float:
    """Return a step as a number; an automatic one is too short to leave a trace."""
    return 0.0 if isinstance(step, str) else step


def verdicts(data: Arrays, config: Config) -> list[Verdict]:
    """Judge the mean squared errors one by one, and the means of all that scatter together."""
    scale = ((data["hessian"] @ data["x"]) ** 2).sum()
    found, scores = [], []
    for index, spec in enumerate(config.estimators):
        bias, expected = _expected(data, config, index)
        deviation = data["mean"][index] - bias
        if expected <= _ROUND_OFF * scale or spec.kind == "finite_difference":
            share = np.maximum(abs(data["error"][index] - expected), deviation @ deviation) / scale
            claim = Text("estimator_variance.claim.exact", estimator=spec.name)
            found.append(Verdict.at_most(claim, share, share, share, _ROUND_OFF, basis="identity"))
            continue
        scores.append(np.max(np.abs(deviation) / data["mean_error"][index]))
        ratio = data["error"][index] / expected
        half = 1.96 * data["error_error"][index] / expected
        claim = Text("estimator_variance.claim.error", estimator=spec.name)
        ends = (ratio, ratio - half, ratio + half)
        found.append(Verdict(claim, *ends, 1.0, 0.05, basis="measured"))
    if scores:
        claim = Text("estimator_variance.claim.mean", number=len(scores))
        found.insert(0, Verdict.worst(claim, scores, 5.0, side="at_most", basis="measured"))
    return found


def _expected(data: Arrays, config: Config, index: int) -> tuple[Any, float]:
    moment = float(data["second_moment"][index])
    return closed_form(config.estimators[index], moment, data["hessian"], data["x"])


def plot(data: Arrays, config: Config, *, verdicts: Sequence[Verdict] = ()) -> dict[str, Figure]:
    """Draw measured over expected error per estimator, and the error over the number of probes."""
    claims = ("estimator_variance.claim.error", "estimator_variance.claim.mean")
    title = lab.heading("estimator_variance.figure.title", verdicts, *claims)
    figures = {"ratios": _ratios(data, config, title)}
    return figures | ({"probes": _probes(data, config)} if data["probes"].size else {})


def _ratios(data: Arrays, config: Config, title: str) -> Figure:
    rows = []
    for index, spec in enumerate(config.estimators):
        _, expected = _expected(data, config, index)
        if not expected > 1e-9:
            continue
        ratio = data["error"][index] / expected
        half = 1.96 * data["error_error"][index] / expected
        rows.append(
            (
                labels.estimator(spec.kind, spec.params),
                spec.kind,
                Interval(ratio, ratio - half, ratio + half),
            )
        )
    figure, axes = panels.grid(title=title)
    panels.dot_plot(
        axes[0, 0], [name for name, _, _ in rows], [i.estimate for _, _, i in rows],
        low=[i.low for _, _, i in rows], high=[i.high for _, _, i in rows], tolerance=0.05,
        methods=[kind for _, kind, _ in rows], xlabel=text("estimator_variance.figure.ratio"),
    )  # fmt: skip
    return figure


def _probes(data: Arrays, config: Config) -> Figure:
    """Draw the error over m: two laws fall as 1/m, orthogonal probes reach 0 at m = n."""
    figure, axes = panels.grid(title=text("estimator_variance.figure.probes", n=config.dim))
    ax = axes[0, 0]
    m, n = data["probes"], config.dim
    g = data["hessian"] @ data["x"]
    errors = np.reshape(data["probes_error"], (len(SWEPT), -1)) / (g @ g)
    theory = {"sphere": (n - 1) / m, "gaussian": (n + 1) / m, "orthogonal": n / m - 1}
    curves, lines = [], []
    for law, measured in zip(SWEPT, errors, strict=True):
        seen = theory[law] > 0
        label = text("estimator_variance.figure.law", law=label_name("law", law))
        curves.append(panels.Curve(m[seen], measured[seen], label, "two_point", color=TONES[law]))
        first = text("panel.theory") if law == SWEPT[0] else ""
        lines.append(panels.Curve(m[seen], theory[law][seen], first, color=style.THEORY))
    panels.convergence(
        ax, curves, references=lines, xlabel=text("axis.num_probes"),
        ylabel=text("estimator_variance.figure.relative_error"),
    )  # fmt: skip
    return figure
