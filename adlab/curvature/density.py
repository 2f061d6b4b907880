"""The spectral density of an operator by stochastic Lanczos quadrature."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks, probes
from adlab.core._html import table
from adlab.core.nodes import register
from adlab.core.types import AnyArray, ArrayLike, ChunkSize, Key, Loop, OnProgress
from adlab.curvature import lanczos
from adlab.curvature._engine import FUSED, HOST, Engine, engine_of
from adlab.curvature._lengths import lengths
from adlab.curvature.drive import (
    CountedMatvec,
    FlatMatvec,
    call,
    check_memory,
    chunk_length,
    drive,
    prepare,
    resolve_law,
)
from adlab.curvature.estimate import Estimate, mean_and_error
from adlab.curvature.lanczos import Tridiagonal
from adlab.curvature.matrices import OperatorLike, as_operator
from adlab.curvature.operators import Operator
from adlab.curvature.resume import Kept, entries

__all__ = ["SpectralDensity", "lanczos_bytes", "spectral_density"]

_FEWEST_PROBES = 4  # before their scatter is trusted to stop a run
_log = logging.getLogger("adlab.curvature")


@register("nodes", "weights", "residuals", "broadening", "grid", "density", "standard_error")
@dataclass(frozen=True, eq=False, repr=False)
class SpectralDensity:
    """The density of the eigenvalues of an operator of dimension `dim`; it integrates to 1.

    Attributes:
      nodes, weights: (p, m), the quadrature of each of p probes: Ritz values in increasing order,
        in the units of eigenvalues, and weights that sum to 1.
      residuals: (p, m), |A y - node y| of each Ritz vector y, within which of the node an
        eigenvalue lies: estimated by the recurrence, not below the round-off of products.
      broadening: the standard deviation of the Gaussians below.
      grid, density, standard_error: (g,), the mean over probes of the quadrature smoothed by these
        Gaussians, and its standard error: `smoothed` gives the same with intervals.
      dim: d, the number of eigenvalues.
      num_matvecs: products that were spent.
    """

    nodes: AnyArray
    weights: AnyArray
    residuals: AnyArray
    broadening: ArrayLike
    grid: AnyArray
    density: AnyArray
    standard_error: AnyArray
    dim: int
    num_matvecs: int

    def __repr__(self) -> str:
        if np.ndim(self.nodes) != 2 or not checks.concrete(self.nodes):
            return f"SpectralDensity(dim={self.dim}, traced or batched)"
        count, steps = self.nodes.shape
        low, high = float(self.nodes.min()), float(self.nodes.max())
        return (
            f"SpectralDensity(dim={self.dim}, {count} probe{'s' * (count != 1)} of {steps} "
            f"step{'s' * (steps != 1)}, nodes from {low:.4g} to {high:.4g})"
        )

    def _repr_html_(self) -> str:
        return table(
            ["estimate of", "value"],
            [["trace", self.trace()], ["negative energy", self.negative_energy()]],
            repr(self),
        )

    def mean(self, function: Callable[[AnyArray], AnyArray]) -> Estimate:
        """Estimate the mean of a function over the eigenvalues, (1/d) sum_i function(lambda_i).

        Exact in the quadrature for polynomials of degree up to 2m - 1; `function` maps arrays. Each
        probe is a sample: `Estimate.interval` is Student's with one degree of freedom less than
        probes. Two or three samples that agree to round-off state no error.
        """
        values = function(self.nodes)
        samples = (self.weights * values).sum(axis=1)
        return self._estimate(samples)

    def _estimate(self, samples: Any, *, zeros: bool = True) -> Estimate:
        mean, error = mean_and_error(samples, zeros=zeros)
        return Estimate(mean, error, self.num_matvecs, samples, len(samples) - 1)

    def moment(self, order: int) -> Estimate:
        """Estimate tr A^order / d; exact in the quadrature for order < 2m."""
        checks.at_least("order", order, 0)
        return self.mean(lambda x: x**order)

    def trace(self) -> Estimate:
        """Estimate tr A."""
        return self.mean(lambda x: self.dim * x)

    def negative_energy(self) -> Estimate:
        """Estimate the sum of |lambda_i| over the negative eigenvalues.

        It needs no threshold, unlike their number: eigenvalues near 0 of either sign, which are
        most of a network's, count for next to nothing.
        """
        xp = engine_of(self.nodes).xp
        return self.mean(lambda x: self.dim * (xp.abs(x) - x) / 2)

    def cumulative(self, x: ArrayLike) -> Estimate:
        """Estimate the share of eigenvalues that are at most x; x a number or (k,)."""
        xp = engine_of(self.nodes).xp
        below = self.nodes[:, :, None] <= xp.reshape(xp.asarray(x), (1, 1, -1))
        samples = xp.where(below, self.weights[:, :, None], 0).sum(axis=1)
        samples = samples.reshape(-1, *np.shape(x))
        return self._estimate(samples)

    def smoothed(self, grid: ArrayLike, broadening: ArrayLike) -> Estimate:
        """Estimate the density at the points of `grid`, (g,), with Gaussians of this width."""
        engine = engine_of(self.nodes)
        xp, points = engine.xp, engine.xp.asarray(grid)

        def one(x: Any, w: Any) -> Any:  # of one probe at a time: (g, m) numbers
            return (w * xp.exp(-(((points[:, None] - x) / broadening) ** 2) / 2)).sum(axis=1)

        rows = engine.each(one, self.nodes, self.weights)
        return self._estimate(rows / (broadening * (2 * np.pi) ** 0.5), zeros=False)

    def bounds(self) -> tuple[tuple[AnyArray, AnyArray], tuple[AnyArray, AnyArray]]:
        """Return the smallest and the largest Ritz value, each with its residual.

        They lie inside the spectrum: lambda_min is at most the one, lambda_max at least the other.
        """
        low = (self.nodes[:, 0].argmin(), 0)
        high = (self.nodes[:, -1].argmax(), -1)
        return tuple((self.nodes[at], self.residuals[at]) for at in (low, high))  # type: ignore[return-value]


def lanczos_bytes(
    operator: OperatorLike, *, num_matvecs: int, num_probes: int = 1, chunk_size: ChunkSize = "auto"
) -> int:
    """Return how much memory a Lanczos run's vectors take, in bytes: known before it starts.

    `num_matvecs` vectors for each of the probes that share a product, one by default where more
    would take over 1 GiB; a handful of further vectors comes on top.

    >>> lanczos_bytes(jnp.eye(100), num_matvecs=20)  # float32
    8000
    """
    found = as_operator(operator)
    chunk = _chunk(found, num_matvecs, num_probes, chunk_size)
    return chunk * num_matvecs * found.dim * found.dtype.itemsize


def _chunk(operator: Operator, num_matvecs: int, num_probes: int, chunk_size: ChunkSize) -> int:
    return chunk_length(chunk_size, operator.dim, num_probes, num_matvecs, operator.dtype)


def spectral_density(
    operator: OperatorLike,
    *,
    key: Key,
    num_matvecs: int,
    num_probes: int = 1,
    law: probes.LawName | probes.Law = "sphere",
    broadening: float | Literal["auto"] = "auto",
    grid: int | AnyArray = 1024,
    rtol: float | None = None,
    chunk_size: ChunkSize = "auto",
    loop: Loop = "auto",
    resume: str | os.PathLike[str] | None = None,
    on_progress: OnProgress | None = None,
) -> SpectralDensity:
    """Estimate the spectral density by Lanczos runs of m = `num_matvecs` steps from random vectors.

    Each of `num_probes` runs gives a quadrature whose m nodes are its Ritz values; their mean is
    unbiased on polynomials of degree up to 2m - 1. The Wasserstein distance to the true density is
    about (lambda_max - lambda_min) / m, plus what scatters as 1 / sqrt(num_probes d).

    Memory: m vectors per probe of a chunk, see `lanczos_bytes`, which are announced at level INFO
    of the logger "adlab.curvature". Reorthogonalisation is full: no eigenvalue comes back as a
    copy.

    >>> A = jnp.diag(jnp.array([1.0, 1.0, 3.0, 3.0]))
    >>> found = spectral_density(A, key=jax.random.key(0), num_matvecs=2, num_probes=8)
    >>> np.allclose(found.nodes, [1.0, 3.0], atol=1e-5)
    True

    Args:
      operator: an Operator, a symmetric array, or whatever has `matvec` and `like`.
      key: a random key. Probe i depends on the key and on i alone.
      num_matvecs: number of steps m per probe, at most the dimension.
      num_probes: number of runs; errors need 2 at least, and 4 where samples agree.
      law: of the starting vectors, which are normalised.
      broadening: standard deviation of the Gaussian on every node, in units of the eigenvalues;
        "auto" is a hundredth of the range of the nodes, and at least 1e-4 of the largest |node|.
      grid: the points of the density, or their number: from 4 broadenings below the lowest node to
        4 above the highest.
      rtol: stop once the standard error of the density, integrated over the grid, is below `rtol`,
        from 4 probes on, looked at after every chunk; from the host only.
      chunk_size: probes per product; changes speed and memory, not the probes.
      loop: "host" calls one compiled product at a time and orthogonalises in the host's memory;
        "fused" is one compiled program. "auto" is the host's on CPU, for batches from the host, and
        with `rtol`, `resume` or `on_progress`, else fused; inside a trace always fused.
      resume: path of an .npz file that keeps the runs that are done, and gives them back to a later
        call with the same arguments; from the host only.
      on_progress: called as (products done, products in all); from the host only.

    Returns:
      The SpectralDensity.

    Raises:
      ValueError: num_matvecs < 1 or above the dimension; num_probes < 1, or < 4 with rtol; a grid
        that doesn't increase; options of the host's in a fused loop; a product that isn't finite,
        named with its number; an operator that isn't symmetric; vectors that don't fit into this
        machine's memory; a `resume` file of another run.
      TypeError: no key; not an operator.

    Source: Golub & Welsch (1969), doi:10.1090/S0025-5718-69-99647-1; Lin, Saad & Yang (2016),
    doi:10.1137/130934283; error: Chen, Trogdon & Ubaru (2021), arXiv:2105.06595.
    """
    checks.require_key("spectral_density", key)
    operator, host = prepare(operator, loop, key, rtol=rtol, resume=resume, on_progress=on_progress)
    law = resolve_law(law)
    check_steps(operator, num_matvecs)
    checks.at_least("num_probes", num_probes, 1)
    _check_grid(grid)
    if rtol is not None:
        checks.positive("rtol", rtol)
        checks.at_least("num_probes, with rtol,", num_probes, _FEWEST_PROBES)
        if chunk_size == "auto":
            chunk_size = _chunk(operator, num_matvecs, _FEWEST_PROBES, "auto")
    if broadening != "auto":
        checks.positive("broadening", broadening)
    announce(operator, num_matvecs, num_probes, chunk_size)

    def summary(found: Tridiagonal, engine: Engine) -> SpectralDensity:
        return _summary(found, operator, broadening, grid, engine.xp)

    def enough(part: Tridiagonal) -> bool:
        if rtol is None or len(part.diagonal) < _FEWEST_PROBES:
            return False
        return _integrated(summary(part, HOST)) <= rtol

    def run(engine: Engine) -> SpectralDensity:
        matvec = CountedMatvec(operator, num_probes * num_matvecs, on_progress)
        file = None
        if engine is HOST and resume is not None:
            file = _file(Path(resume), operator, key, law, num_matvecs)
        sizes = num_probes, _chunk(operator, num_matvecs, num_probes, chunk_size)
        found = _quadratures(engine, matvec, key, law, num_matvecs, sizes, file, enough)
        if not checks.concrete(found):
            return summary(found, FUSED)
        if engine is FUSED:
            lanczos.check(found, operator.dtype, num_matvecs)
        return summary(jax.tree.map(np.asarray, found), HOST)

    return drive(host, loop, run)


def _check_grid(grid: Any) -> None:
    if np.ndim(grid) == 0:
        checks.at_least("grid", grid, 2)
    elif np.ndim(grid) != 1 or np.size(grid) < 2:
        raise ValueError(f"grid must be one row of 2 points or more, got shape {np.shape(grid)}")
    elif checks.concrete(grid) and not np.all(np.diff(np.asarray(grid)) > 0):
        raise ValueError(f"grid must be increasing, got {grid!r}")


def check_steps(operator: Operator, num_matvecs: int) -> None:
    """Raise unless Lanczos can take so many steps."""
    checks.at_least("num_matvecs", num_matvecs, 1)
    if num_matvecs > operator.dim:
        raise ValueError(
            f"num_matvecs must be at most the dimension of the operator, {operator.dim}, "
            f"got {num_matvecs}"
        )


def announce(operator: Operator, num_matvecs: int, num_probes: int, chunk_size: ChunkSize) -> None:
    """Log what a run's vectors will take; raise ValueError where memory can't hold them."""
    size = lanczos_bytes(
        operator, num_matvecs=num_matvecs, num_probes=num_probes, chunk_size=chunk_size
    )
    check_memory("the Lanczos vectors", size)
    _log.info(
        "Lanczos: %d probe(s) of %d steps in dimension %d; vectors take %.3g MiB",
        num_probes, num_matvecs, operator.dim, size / 2**20,
    )  # fmt: skip


def _integrated(found: SpectralDensity) -> float:
    return float(np.trapezoid(found.standard_error, found.grid))


def _summary(
    found: Tridiagonal, operator: Operator, broadening: Any, grid: Any, xp: Any
) -> SpectralDensity:
    nodes, vectors = lanczos.ritz(found, xp)
    weights = vectors[:, 0, :] ** 2
    low, high = xp.min(nodes), xp.max(nodes)
    round_off = _coarsest(operator) * xp.maximum(abs(low), abs(high))
    residuals = xp.maximum(abs(found.off_diagonal[:, -1:] * vectors[:, -1, :]), round_off)
    if isinstance(broadening, str):
        size = xp.maximum(abs(low), abs(high))
        broadening = xp.maximum((high - low) / 100, xp.where(size > 0, 1e-4 * size, 1e-4))
    if np.ndim(grid) == 0:
        points = xp.linspace(low - 4 * broadening, high + 4 * broadening, int(grid))
    else:
        points = xp.asarray(grid)

    count = nodes.shape[0] * nodes.shape[1]
    density = SpectralDensity(
        nodes, weights, residuals, broadening, points, points, points, operator.dim, count
    )
    curve = density.smoothed(points, broadening)  # which reads the quadrature alone
    return replace(density, density=curve.value, standard_error=curve.standard_error)


def _coarsest(operator: Operator) -> float:
    """Return the round-off of products: that of the coarsest dtype of the operator's vectors."""
    return max(float(jnp.finfo(leaf.dtype).eps) for leaf in jax.tree.leaves(operator.like))


def _quadratures(
    engine: Engine,
    matvec: CountedMatvec,
    key: Key,
    law: Any,
    num_matvecs: int,
    sizes: tuple[int, int],
    file: Kept | None,
    enough: Callable[[Tridiagonal], bool],
) -> Tridiagonal:
    """Return the runs from all probes, a chunk of them at a time; `sizes` of both."""
    count, chunk = sizes
    found = None if file is None else file.load()
    done = 0 if found is None else len(found.diagonal)
    matvec.done = done * num_matvecs
    while found is None or (done < count and not (engine is HOST and enough(found))):
        indices = np.arange(done, min(done + chunk, count))
        new = call(engine, _recur, matvec, key, indices, law=law, num_matvecs=num_matvecs)
        if found is not None:
            new = jax.tree.map(lambda a, b: engine.xp.concatenate([a, b]), found, new)
        found, done = new, len(new.diagonal)
        if file is not None:
            file.store(found)
    return Tridiagonal(*(rows[:count] for rows in found)) if done > count else found


def _recur(
    engine: Engine, matvec: FlatMatvec, key: Key, indices: Any, *, law: Any, num_matvecs: int
) -> Tridiagonal:
    """Return the runs from the probes of these indices."""
    starts = engine.draw(law, matvec.operator, key, indices)
    fresh = engine.directions(jax.random.key(0), starts.shape, starts.dtype)
    return lanczos.tridiagonal(lanczos.recur(engine, matvec, starts, num_matvecs, fresh))


def _file(path: Path, operator: Operator, key: Key, law: Any, num_matvecs: int) -> Kept:
    """Return the file of a run, which a product with its first probe tells from others."""
    data = jax.random.key_data(key) if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else key
    identity = {
        "key": np.asarray(data), "law": getattr(law, "__name__", "callable"),
        "dimension": operator.dim, "num_matvecs": num_matvecs,
    }  # fmt: skip
    start = HOST.draw(law, operator, key, np.arange(1))
    (product,), (size,) = CountedMatvec(operator, 1)(start)
    length, eps = float(lengths(product, np)), _coarsest(operator)
    tolerance = (1e3 if eps < 1e-5 else 8) * eps  # 16-bit types must still tell operators apart
    return Kept(path, identity, entries(product), tolerance * float(size) / (length or 1.0))
