"""Hutchinson's idea on a matrix small enough to be looked at: signs cancel what isn't diagonal.

z^T A z is the sum of all z_i z_j a_ij. For independent signs z the diagonal stays as it is, since
z_i^2 = 1, and the rest changes sign at random: its mean over m probes is of order 1/sqrt(m).
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from adlab import curvature
from adlab.core import probes
from adlab.figures import panels, style
from adlab.figures.labels import text
from adlab.lab import Text, Verdict

Arrays = dict[str, np.ndarray]
SIZE, PROBES, SINGLE = 6, 1024, 2


def run(seed: int) -> Arrays:
    """Return a symmetric matrix (6, 6), probes (m, 6), and z^T A z of each, as `trace` has it."""
    rng = np.random.default_rng(seed)
    half = rng.uniform(-2, 2, (SIZE, SIZE))
    matrix = (half + half.T) / 2
    np.fill_diagonal(matrix, np.linspace(2.5, 1, SIZE))
    key = jax.random.fold_in(jax.random.key(seed), 31)
    like = jax.ShapeDtypeStruct((SIZE,), jnp.float64)
    found = curvature.trace(
        curvature.Matrix(jnp.asarray(matrix)), key=key, num_matvecs=PROBES, law="rademacher",
        loop="fused",
    )  # fmt: skip
    draw = jax.vmap(lambda i: probes.rademacher(like, key=jax.random.fold_in(key, i)))
    return {
        "idea_matrix": matrix,
        "idea_probes": np.asarray(jax.jit(draw)(jnp.arange(PROBES))),
        "idea_samples": np.asarray(found.samples),
    }


def products(data: Arrays) -> np.ndarray:
    """Return the matrices z_i z_j a_ij, of shape (m, 6, 6); the sum of each is z^T A z."""
    z = data["idea_probes"]
    return np.asarray(z[:, :, None] * z[:, None, :] * data["idea_matrix"])


def verdicts(data: Arrays) -> list[Verdict]:
    """Judge that the samples are these sums, the diagonal, and what is left beside it."""
    each, a = products(data), data["idea_matrix"]
    off = np.max(np.abs(each.sum(axis=(1, 2)) - data["idea_samples"])) / np.sum(np.abs(a))
    beside = ~np.eye(SIZE, dtype=bool)
    # Of m signs the mean is normal with variance 1/m; the entries of a pair i, j agree.
    squares = np.mean((each.mean(axis=0)[np.triu(beside)] / a[np.triu(beside)]) ** 2) * len(each)
    mean, error = data["idea_samples"].mean(), data["idea_samples"].std(ddof=1) / len(each) ** 0.5
    score = abs(mean - np.trace(a)) / error
    sums = Text("trace_estimation.claim.idea_sums")
    rest = Text("trace_estimation.claim.idea_rest", number=len(each))
    average = Text("trace_estimation.claim.idea_mean", number=len(each))
    return [
        Verdict.at_most(sums, off, off, off, 1e-12, basis="identity"),
        Verdict.at_most(rest, squares, squares, squares, 3.0, basis="measured"),
        Verdict.at_most(average, score, score, score, 4.0, basis="measured"),
    ]


def plot(data: Arrays) -> Figure:
    """Draw the matrix, it with the signs of single probes, and means over more and more probes."""
    each = products(data)
    shown = [data["idea_matrix"], *each[:SINGLE], each[:16].mean(axis=0), each.mean(axis=0)]
    heads = [
        "$A$", *(text("trace_estimation.idea.probe", number=k + 1) for k in range(SINGLE)),
        text("trace_estimation.idea.mean", number=16),
        text("trace_estimation.idea.mean", number=len(each)),
    ]  # fmt: skip
    trace = float(np.trace(data["idea_matrix"]))
    sums = [rf"$\mathrm{{tr}}\,A = {trace:.2f}$"]
    sums += [rf"$z^T\!A z = {m.sum():.2f}$" for m in shown[1 : SINGLE + 1]]
    sums += [text("trace_estimation.idea.average", value=f"{m.sum():.2f}") for m in shown[-2:]]
    figure, grid = panels.grid(2, 1, title=text("trace_estimation.idea.title"))
    grid[0, 0].get_gridspec().set_height_ratios([1.2, 1])
    below, above = grid[1, 0], grid[0, 0].get_subplotspec().subgridspec(1, len(shown))
    grid[0, 0].remove()
    for k, (matrix, head, total) in enumerate(zip(shown, heads, sums, strict=True)):
        signs = data["idea_probes"][k - 1] if 1 <= k <= SINGLE else None
        _matrix(figure.add_subplot(above[0, k]), matrix, data["idea_matrix"], head, total, signs)
    _running(below, data, trace)
    return figure


def _matrix(
    ax: Axes, matrix: np.ndarray, scale: np.ndarray, head: str, total: str,
    signs: Sequence[float] | np.ndarray | None,
) -> None:  # fmt: skip
    """Draw entries as colours, with the signs of the probe beside rows and columns."""
    tones = [style.color("two_point"), style.tone("paper"), style.color("reverse_mode")]
    colors = LinearSegmentedColormap.from_list("signs", tones)
    most = np.max(np.abs(scale))
    ax.imshow(matrix, cmap=colors, vmin=-most, vmax=most)
    marks = [""] * SIZE if signs is None else ["+" if s > 0 else "−" for s in signs]
    ax.set_xticks(range(SIZE), marks)
    ax.set_yticks(range(SIZE), marks)
    ax.tick_params(length=0, labelsize=18, top=False, labeltop=True, labelbottom=False)
    ax.grid(visible=False)
    ax.set_title(head, fontsize=19)
    ax.set_xlabel(total, fontsize=19)
    for spine in ax.spines.values():
        spine.set_visible(True)


def _running(ax: Axes, data: Arrays, trace: float) -> None:
    """Draw the samples, and their mean over the first m with two standard errors."""
    samples = data["idea_samples"]
    m = np.arange(1, len(samples) + 1)
    mean = np.cumsum(samples) / m
    spread = np.sqrt(np.maximum(np.cumsum(samples**2) / m - mean**2, 0) / np.maximum(m - 1, 1))
    tone = style.color("reverse_mode")
    ax.plot(m, samples, ".", color=style.tone("grey"), markersize=5,
            label=text("trace_estimation.idea.samples"))  # fmt: skip
    ax.plot(m, mean, color=tone, label=text("trace_estimation.idea.running"))
    late = m >= 8  # fewer samples don't know their spread
    ax.fill_between(m[late], (mean - 2 * spread)[late], (mean + 2 * spread)[late], color=tone,
                    alpha=0.2, linewidth=0)  # fmt: skip
    label = text("trace_estimation.idea.exact")
    ax.axhline(trace, color=style.THEORY, linestyle="--", label=label)
    ax.set(xscale="log", xlabel=text("trace_estimation.idea.probes"), xlim=(1, len(samples)))
    ax.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1000"])
    ax.minorticks_off()
    ax.tick_params(labelsize=18)
    ax.legend(loc="upper right", ncols=3, fontsize=18)
    low, high = samples.min(), samples.max()
    ax.set_ylim(low - 0.1 * (high - low), high + 0.45 * (high - low))
