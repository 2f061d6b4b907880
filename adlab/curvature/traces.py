"""The trace of an operator from products with random probes, and its diagonal."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks, probes, trees
from adlab.core.nodes import register
from adlab.curvature._lengths import hypotenuse, lengths
from adlab.curvature.drive import (
    ChunkSize,
    CountedMatvec,
    Loop,
    OnProgress,
    check_memory,
    chunk_length,
    draw,
    draw_on_host,
    drive,
    prepare,
    require_finite,
    resolve_law,
)
from adlab.curvature.estimate import (
    FEWEST_AGREEING,
    FEWEST_SAMPLES,
    Estimate,
    agreeing,
    mean_and_error,
)
from adlab.curvature.operators import Operator, flat_products
from adlab.curvature.sketches import hutchpp, inner_products, whole, xtrace

__all__ = ["diagonal", "trace"]

PyTree = Any
Estimator = Literal["hutchinson", "hutch++", "xtrace"]
_SAMPLES_TO_STOP = 8  # before the scatter of samples is trusted to stop a run
_ROTATION_INVARIANT = (probes.sphere, probes.gaussian)


def trace(
    operator: Any,
    *,
    key: jax.Array,
    num_matvecs: int,
    estimator: Estimator = "hutchinson",
    law: probes.LawName | probes.Law | Literal["auto"] = "auto",
    rtol: float | None = None,
    chunk_size: ChunkSize = "auto",
    loop: Loop = "auto",
    on_progress: OnProgress | None = None,
) -> Estimate:
    """Estimate tr A from m = `num_matvecs` products A u with random probes, E[u u^T] = I.

    * "hutchinson": the mean of u . A u. Unbiased; for symmetric A the variance of one probe is
      2 (|A|_F^2 - sum a_ii^2) for Rademacher signs, 2 |A|_F^2 for Gaussian probes, and
      2d/(d+2) (|A|_F^2 - tr^2 / d) for the sphere: nothing for diagonal A in the first case, for
      multiples of I in the last. Any other A has the variance of its symmetric part.
    * "hutch++": the exact trace on the range of A S, S of m/3 probes, plus Hutchinson on the rest.
      Unbiased; its error falls as 1/m where the spectrum decays, and is worse than Hutchinson's
      where it is flat. Its samples are the probes of the rest, m/3 or more: no error is stated
      where they agree by chance, though their products don't vanish.
    * "xtrace": the mean over the m/2 probes of what each gives with the range of the others; the
      most exact where the spectrum decays. Unbiased. What is left of a probe is rescaled to the
      length expected, with sphere and Gaussian probes, whose direction doesn't depend on it. Its
      samples depend on one another, and its standard error is too small: by a factor from 1.1
      where the spectrum is flat to 3 where it decays fast; there is no interval. From m >= d
      products on it is exact: it takes d products with the unit vectors, and no probe.

    Samples of signs often agree. A standard error is therefore NaN below 4 samples, which are m for
    Hutchinson, and below 20 of Hutchinson's that are all equal; `Estimate.interval` is Student's,
    and what is printed as +- its half width at 95 %.

    All of them take any square A. Memory, as measured at the peak: up to eight vectors per probe of
    a chunk, of which drawing takes the most; for "hutch++" 2 m vectors, for "xtrace" 2.2 m.

    >>> A = jnp.diag(jnp.array([1.0, 2.0, 3.0]))
    >>> print(trace(A, key=jax.random.key(0), num_matvecs=20))
    6 ± 0 (20 products)

    Args:
      operator: an Operator, a square array, or whatever has `matvec` and `like`.
      key: a random key. Probe i depends on the key and on i alone.
      num_matvecs: number of products m; with `rtol` at most so many. XTrace leaves one of an odd
        number away.
      estimator: see above.
      law: of the probes: "rademacher", "gaussian", "sphere", "coordinate", or a callable. "auto" is
        the sphere for "xtrace" and Rademacher signs for the others.
      rtol: stop once the standard error is below rtol |estimate|, from 8 samples on, looked at
        after every chunk; "hutchinson" from the host only. Stopping at a lucky moment makes the
        error look smaller by some.
      chunk_size: probes per product; changes the speed, not the probes.
      loop: "host" or "fused"; see `spectral_density`.
      on_progress: called as (products done, products in all); from the host only.

    Returns:
      The Estimate, with its samples, in the dtype that vectors are laid out in.

    Raises:
      ValueError: num_matvecs too small for the estimator, or above the dimension where it needs an
        orthonormal basis; an unknown estimator, law or loop; a product that isn't finite; vectors
        that don't fit into this machine's memory; `rtol` where it can't stop anything.
      TypeError: no key; not an operator.

    Source: Hutchinson (1990), doi:10.1080/03610919008812866; Meyer et al. (2021),
    doi:10.1137/1.9781611976496.16; Epperly, Tropp & Webber (2024), doi:10.1137/23M1548323.
    """
    checks.one_of("estimator", estimator, get_args(Estimator))
    checks.require_key("trace", key)
    operator, host = prepare(operator, loop, key, rtol=rtol, on_progress=on_progress)
    if law == "auto":
        law = "sphere" if estimator == "xtrace" else "rademacher"
    law = resolve_law(law)
    _check_budget(estimator, num_matvecs, operator.dim)
    exact = estimator == "xtrace" and num_matvecs >= operator.dim
    if rtol is not None:
        checks.positive("rtol", rtol)
        if estimator != "hutchinson":
            raise ValueError(
                f"rtol must be left away unless the estimator is Hutchinson's, got {rtol!r} "
                f'with estimator={estimator!r}; pass estimator="hutchinson"'
            )
    if estimator == "hutchinson":
        run = _hutchinson(operator, law, key, num_matvecs, chunk_size, rtol)
        return drive(host, loop, lambda: run.host(rtol, on_progress), run.fused)
    dtype, dim = trees.common_dtype(operator.like), operator.dim
    peak = 2.0 if estimator == "hutch++" else 2.2
    check_memory(f"the vectors of {estimator}", int(peak * num_matvecs * dim * dtype.itemsize))
    method = hutchpp
    if estimator == "xtrace":
        num_matvecs -= num_matvecs % 2
        method = whole if exact else xtrace
    spent = dim if exact else num_matvecs
    rotated = law in _ROTATION_INVARIANT

    def on_host() -> Estimate:
        products = CountedMatvec(operator, spent, on_progress)
        starts = functools.partial(_drawn, law, operator, key, chunk_size)
        found = method(_chunked(products, chunk_size), starts, num_matvecs, dim, rotated, np)
        return _sketched(*found, method, spent)

    def fused() -> Estimate:
        samples, known = _fused(operator, key, law, method, num_matvecs, rotated)
        require_finite(samples)
        return _sketched(samples, known, method, spent)

    return drive(host, loop, on_host, fused)


def _check_budget(estimator: str, num_matvecs: int, dim: int) -> None:
    least = {"hutchinson": 1, "hutch++": 3, "xtrace": 4}[estimator]
    checks.at_least(f"num_matvecs of {estimator}", num_matvecs, least)
    basis = num_matvecs // {"hutchinson": 1, "hutch++": 3, "xtrace": 2}[estimator]
    if estimator != "hutchinson" and basis > max(dim, least // 2):
        raise ValueError(
            f"num_matvecs of {estimator} must leave a basis of at most d = {dim} vectors, got "
            f"{num_matvecs}; the trace itself costs {dim} products: to_dense()"
        )


def _summary(samples: Any, num_matvecs: int, agreeing_from: int = FEWEST_AGREEING) -> Estimate:
    mean, error = mean_and_error(samples, FEWEST_SAMPLES, agreeing_from=agreeing_from)
    return Estimate(mean, error, num_matvecs, samples, samples.shape[0] - 1)


def _sketched(samples: Any, known: Any, method: Callable, num_matvecs: int) -> Estimate:
    """Return the estimate, without an error where samples agree by chance: not `known` exact."""
    found = _summary(samples, num_matvecs, FEWEST_SAMPLES)
    if method is whole:
        return replace(found, standard_error=abs(found.value) * 0)
    xp = jnp if isinstance(samples, jax.Array) else np
    by_chance = agreeing(samples, xp) & ~known
    error = xp.where(by_chance, xp.asarray(np.nan, samples.dtype), found.standard_error)
    # XTrace's samples depend on one another: their scatter has no known law.
    return replace(found, standard_error=error, degrees=0 if method is xtrace else found.degrees)


@register("operator", "key")
@dataclass(frozen=True, eq=False)
class _Hutchinson:
    """Hutchinson's estimator, a chunk of probes at a time."""

    operator: Operator
    key: jax.Array
    law: Any
    num_matvecs: int
    chunk_size: ChunkSize

    def chunk(self) -> int:
        dtype = trees.common_dtype(self.operator.like)
        return chunk_length(self.chunk_size, self.operator.dim, self.num_matvecs, 2, dtype)

    def host(self, rtol: float | None, on_progress: OnProgress | None) -> Estimate:
        products = CountedMatvec(self.operator, self.num_matvecs, on_progress)
        samples = np.zeros(0)
        for vectors, product in probe_products(self, products):
            samples = np.concatenate([samples, inner_products(vectors, product, np)])
            if rtol is not None and len(samples) >= _SAMPLES_TO_STOP:
                found = _summary(samples, len(samples))
                if found.standard_error <= rtol * abs(found.value):
                    break
        found = _summary(samples, len(samples))
        return jax.tree.map(products.dtype.type, found)

    def fused(self) -> Estimate:
        samples = _hutchinson_fused(self)
        require_finite(samples)
        return _summary(samples, self.num_matvecs)


@jax.jit
def _hutchinson_fused(run: _Hutchinson) -> jax.Array:
    """Return the samples."""

    def sample(index: jax.Array) -> jax.Array:
        vector = draw(run.law, run.operator.like, run.key, index[None])
        return jnp.vdot(vector, flat_products(run.operator, vector))

    chunk = run.chunk()
    indices = jnp.arange(run.num_matvecs)
    return jax.lax.map(sample, indices, batch_size=chunk if chunk > 1 else None)


def _hutchinson(
    operator: Operator, law: Any, key: Any, num_matvecs: int, chunk_size: Any, rtol: Any
) -> _Hutchinson:
    """Return the estimator, in chunks that let `rtol` stop it as early as it may.

    Raises:
      ValueError: not even one chunk fits into memory.
    """
    dtype = trees.common_dtype(operator.like)
    if rtol is not None and chunk_size == "auto":
        chunk_size = chunk_length("auto", operator.dim, _SAMPLES_TO_STOP, 2, dtype)
    run = _Hutchinson(operator, key, law, num_matvecs, chunk_size)
    size = 2 * run.chunk() * operator.dim * dtype.itemsize
    check_memory("a chunk of probes and their products", size)
    return run


def probe_products(run: Any, products: CountedMatvec) -> Any:
    """Yield chunks of probes (k, d) and their products, as arrays of NumPy."""
    chunk = run.chunk()
    for start in range(0, run.num_matvecs, chunk):
        indices = np.arange(start, min(start + chunk, run.num_matvecs))
        vectors = draw_on_host(run.law, run.operator, run.key, indices)
        yield vectors, products(vectors)


@functools.partial(jax.jit, static_argnames=("law", "method", "num_matvecs", "rotated"))
def _fused(
    operator: Operator, key: Any, law: Any, method: Callable, num_matvecs: int, rotated: bool
) -> tuple[jax.Array, jax.Array]:
    products = functools.partial(flat_products, operator)
    starts = functools.partial(draw, law, operator.like, key)
    return method(products, starts, num_matvecs, operator.dim, rotated, jnp)


def _chunked(products: CountedMatvec, chunk_size: ChunkSize) -> Callable[[np.ndarray], np.ndarray]:
    """Return products with the rows of any array, a chunk of them at a time."""

    def apply(vectors: np.ndarray) -> np.ndarray:
        chunk = chunk_length(chunk_size, vectors.shape[1], len(vectors), 2, vectors.dtype)
        out = np.empty_like(vectors)
        for cut in range(0, len(vectors), chunk):
            out[cut : cut + chunk] = products(vectors[cut : cut + chunk])
        return out

    return apply


def _drawn(law: Any, operator: Operator, key: Any, chunk_size: Any, indices: Any) -> np.ndarray:
    """Return the probes of these indices, drawn a chunk at a time: drawing takes memory too."""
    out = np.empty((len(indices), operator.dim), trees.common_dtype(operator.like))
    chunk = chunk_length(chunk_size, operator.dim, len(indices), 2, out.dtype)
    for cut in range(0, len(indices), chunk):
        out[cut : cut + chunk] = draw_on_host(law, operator, key, indices[cut : cut + chunk])
    return out


def diagonal(
    operator: Any,
    *,
    key: jax.Array,
    num_matvecs: int,
    rtol: float | None = None,
    chunk_size: ChunkSize = "auto",
    loop: Loop = "auto",
    on_progress: OnProgress | None = None,
) -> Estimate:
    """Estimate the diagonal of A from m = `num_matvecs` products with Rademacher probes.

    The mean of u * (A u), entry by entry. Unbiased; the variance of entry i is
    (1/m) sum_{j != i} a_ij^2. Standard errors are NaN for m < 4, and for m < 20 where all samples
    of an entry are equal. Memory, as measured at the peak: up to eight vectors per probe of a
    chunk, of which drawing takes the most.

    Args:
      operator: an Operator, a square array, or whatever has `matvec` and `like`.
      key: a random key. Probe i depends on the key and on i alone.
      num_matvecs: number of products m; with `rtol` at most so many.
      rtol: stop once the Euclidean norm of the standard errors is below rtol times that of the
        estimate, from 8 probes on, looked at after every chunk; from the host only.
      chunk_size: probes per product; changes the speed, not the probes.
      loop: "host" or "fused"; see `spectral_density`.
      on_progress: called as (products done, products in all); from the host only.

    Returns:
      The Estimate: trees shaped as the operator's vectors, in at least float32; samples None.

    Raises:
      ValueError: num_matvecs < 1; an unknown loop; a product that isn't finite; vectors that don't
        fit into this machine's memory; `rtol` where it can't stop anything.
      TypeError: no key; not an operator.

    Source: Bekas, Kokiopoulou & Saad (2007), doi:10.1016/j.apnum.2007.01.003.
    """
    checks.require_key("diagonal", key)
    operator, host = prepare(operator, loop, key, rtol=rtol, on_progress=on_progress)
    checks.at_least("num_matvecs", num_matvecs, 1)
    if rtol is not None:
        checks.positive("rtol", rtol)
    run = _hutchinson(operator, probes.rademacher, key, num_matvecs, chunk_size, rtol)
    like = trees.probe_like(operator.like)

    def result(mean: Any, root: Any, count: int, xp: Any) -> Estimate:
        error = root + np.nan
        if count >= FEWEST_SAMPLES:
            error = root / xp.asarray(((count - 1) * count) ** 0.5, root.dtype)
        if count < FEWEST_AGREEING:
            error = xp.where(error == 0, xp.asarray(np.nan, root.dtype), error)
        mean, error = (trees.unravel(jnp.asarray(flat), like) for flat in (mean, error))
        return Estimate(mean, error, count, None, count - 1)

    def fused() -> Estimate:
        mean, root = _diagonal_fused(run)
        require_finite((mean, root))
        return result(mean, root, num_matvecs, jnp)

    def on_host() -> Estimate:
        mean, root, count = _diagonal_host(run, rtol, on_progress)
        return result(mean, root, count, np)

    return drive(host, loop, on_host, fused)


def _diagonal_host(run: _Hutchinson, rtol: float | None, on_progress: Any) -> tuple[Any, Any, int]:
    """Return the mean, the root of the sum of squared deviations, and the number of probes."""
    products = CountedMatvec(run.operator, run.num_matvecs, on_progress)
    mean = np.zeros(run.operator.dim, products.dtype)
    root, count = np.zeros_like(mean), 0
    for vectors, product in probe_products(run, products):
        for vector, row in zip(vectors, product, strict=True):
            row = vector * row
            count += 1
            change = row - mean
            mean += change / count
            root = _add(root, change, count, np)
        if rtol is not None and count >= _SAMPLES_TO_STOP:
            error = lengths(root, np) / ((count - 1) * count) ** 0.5
            if error <= rtol * lengths(mean, np):
                break
    return mean, root, count


def _add(root: Any, change: Any, count: Any, xp: Any) -> Any:
    """Return the root of the sum of squares after `change` from the mean of count - 1 numbers.

    Welford's recurrence adds change^2 (count - 1) / count to the sum; the squares themselves would
    underflow in float32 for entries of 1e-22.
    """
    count = xp.asarray(count, change.dtype)
    return hypotenuse(root, change * xp.sqrt((count - 1) / count), xp)


@jax.jit
def _diagonal_fused(run: _Hutchinson) -> tuple[Any, Any]:
    """Return the mean, and the root of the sum of squared deviations from it."""

    def add(state: tuple[Any, Any], index: jax.Array) -> tuple[tuple[Any, Any], None]:
        mean, root = state
        vector = draw(run.law, run.operator.like, run.key, index[None])
        row = (vector * flat_products(run.operator, vector))[0]
        change = row - mean
        mean = mean + change / (index + 1).astype(mean.dtype)
        return (mean, _add(root, change, index + 1, jnp)), None

    zeros = jnp.zeros(run.operator.dim, trees.common_dtype(run.operator.like))
    (mean, root), _ = jax.lax.scan(add, (zeros, zeros), jnp.arange(run.num_matvecs))
    return mean, root
