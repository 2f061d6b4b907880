"""The trace of an operator from products with random probes, and its diagonal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, get_args

import jax
import numpy as np

from adlab.core import checks, probes, trees
from adlab.core.types import ChunkSize, Key, Loop, OnProgress
from adlab.curvature._engine import FUSED, HOST, Engine, engine_of
from adlab.curvature._lengths import hypotenuse, lengths
from adlab.curvature.drive import (
    CountedMatvec,
    FlatMatvec,
    call,
    check_memory,
    chunk_length,
    drive,
    over_probes,
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
from adlab.curvature.matrices import OperatorLike
from adlab.curvature.operators import Operator
from adlab.curvature.sketches import hutchpp, inner_products, whole, xtrace

__all__ = ["diagonal", "trace"]

Estimator = Literal["hutchinson", "hutch++", "xtrace"]
_SAMPLES_TO_STOP = 8  # before the scatter of samples is trusted to stop a run
_ROTATION_INVARIANT = (probes.sphere, probes.gaussian)


def trace(
    operator: OperatorLike,
    *,
    key: Key,
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
        sizes = num_matvecs, _chunk(operator, num_matvecs, chunk_size, rtol)
        matvec = CountedMatvec(operator, num_matvecs, on_progress)
        return drive(host, loop, lambda engine: _hutchinson(engine, matvec, key, law, sizes, rtol))
    dtype, dim = operator.dtype, operator.dim
    peak = 2.0 if estimator == "hutch++" else 2.2
    check_memory(f"the vectors of {estimator}", int(peak * num_matvecs * dim * dtype.itemsize))
    method = hutchpp
    if estimator == "xtrace":
        num_matvecs -= num_matvecs % 2
        method = whole if exact else xtrace
    spent = dim if exact else num_matvecs
    rotated = law in _ROTATION_INVARIANT

    def run(engine: Engine) -> Estimate:
        found = call(
            engine, _sketch, CountedMatvec(operator, spent, on_progress), key, law=law,
            method=method, budget=(num_matvecs, spent), rotated=rotated, chunk_size=chunk_size,
        )  # fmt: skip
        if engine is FUSED:
            require_finite(found.samples)
        return found

    return drive(host, loop, run)


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


def _sketched(samples: Any, known: Any, method: Callable[..., Any], num_matvecs: int) -> Estimate:
    """Return the estimate, without an error where samples agree by chance: not `known` exact."""
    found = _summary(samples, num_matvecs, FEWEST_SAMPLES)
    if method is whole:
        return replace(found, standard_error=abs(found.value) * 0)
    xp = engine_of(samples).xp
    by_chance = agreeing(samples, xp) & ~known
    error = xp.where(by_chance, xp.asarray(np.nan, samples.dtype), found.standard_error)
    # XTrace's samples depend on one another: their scatter has no known law.
    return replace(found, standard_error=error, degrees=0 if method is xtrace else found.degrees)


def _chunk(operator: Operator, count: int, chunk_size: ChunkSize, rtol: float | None) -> int:
    """Return how many of `count` probes share a product: so many that `rtol` may stop early.

    Raises:
      ValueError: not even one chunk fits into memory.
    """
    if rtol is not None and chunk_size == "auto":
        chunk_size = chunk_length("auto", operator.dim, _SAMPLES_TO_STOP, 2, operator.dtype)
    chunk = chunk_length(chunk_size, operator.dim, count, 2, operator.dtype)
    size = 2 * chunk * operator.dim * operator.dtype.itemsize
    check_memory("a chunk of probes and their products", size)
    return chunk


def _hutchinson(
    engine: Engine, matvec: CountedMatvec, key: Key, law: Any, sizes: tuple[int, int],
    rtol: float | None,
) -> Estimate:  # fmt: skip
    def enough(done: int, samples: Any) -> bool:
        if rtol is None or done < _SAMPLES_TO_STOP:
            return False
        found = _summary(samples[:done], done)
        return bool(found.standard_error <= rtol * abs(found.value))

    stopped = enough if engine is HOST and rtol is not None else None
    found = call(engine, _samples, matvec, key, law=law, sizes=sizes, enough=stopped)
    if engine is FUSED:
        require_finite(found.samples)
    return found


def _samples(
    engine: Engine, matvec: FlatMatvec, key: Key, *, law: Any, sizes: tuple[int, int], enough: Any
) -> Estimate:
    """Return the estimate from the samples u . A u of the probes u."""

    def step(done: Any, samples: Any, vectors: Any, products: Any) -> Any:
        found = inner_products(vectors, products, engine.xp)
        return engine.fill(samples, done, found)

    none = engine.xp.zeros(sizes[0], engine.wide(matvec.dtype))
    done, samples = over_probes(engine, matvec, key, law, sizes, step, none, enough)
    if engine is FUSED:
        return _summary(samples, sizes[0])
    found: Estimate = jax.tree.map(matvec.dtype.type, _summary(samples[:done], done))
    return found


def _sketch(
    engine: Engine, matvec: FlatMatvec, key: Key, *, law: Any, method: Callable[..., Any],
    budget: tuple[int, int], rotated: bool, chunk_size: ChunkSize,
) -> Estimate:  # fmt: skip
    """Return the estimate of a sketching method; `budget` is its size, and what it spends."""

    def chunked(function: Callable[[Any], Any], rows: Any) -> Any:
        if engine is FUSED:
            return function(rows)
        out = np.empty((len(rows), matvec.dim), matvec.dtype)  # not the products: it is overwritten
        chunk = chunk_length(chunk_size, matvec.dim, len(rows), 2, out.dtype)
        for cut in range(0, len(rows), chunk):
            out[cut : cut + chunk] = function(rows[cut : cut + chunk])
        return out

    def starts(indices: Any) -> Any:  # drawing takes memory too
        return chunked(lambda part: engine.draw(law, matvec.operator, key, part), indices)

    def products(vectors: Any) -> Any:
        return chunked(lambda part: matvec(part)[0], vectors)

    num_matvecs, spent = budget
    samples, known = method(products, starts, num_matvecs, matvec.dim, rotated, engine.xp)
    return _sketched(samples, known, method, spent)


def diagonal(
    operator: OperatorLike,
    *,
    key: Key,
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

    >>> A = jnp.diag(jnp.array([1.0, 2.0, 3.0]))
    >>> diagonal(A, key=jax.random.key(0), num_matvecs=4).value
    Array([1., 2., 3.], dtype=float32)

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
    matvec = CountedMatvec(operator, num_matvecs, on_progress)
    sizes, like = (num_matvecs, _chunk(operator, num_matvecs, chunk_size, rtol)), operator.like

    def enough(count: int, state: tuple[Any, Any]) -> bool:
        if rtol is None or count < _SAMPLES_TO_STOP:
            return False
        mean, root = (lengths(row, np) for row in state)
        return bool(root / ((count - 1) * count) ** 0.5 <= rtol * mean)

    def run(engine: Engine) -> Estimate:
        stopped = enough if engine is HOST and rtol is not None else None
        found = call(engine, _welford, matvec, key, sizes=sizes, enough=stopped)
        if engine is FUSED:
            require_finite(found.value)
        value, error = (
            trees.unravel(row, trees.probe_like(like))
            for row in (found.value, found.standard_error)
        )
        if engine is HOST:
            value, error = jax.device_put((value, error))
        return replace(found, value=value, standard_error=error)

    return drive(host, loop, run)


def _standard_error(root: Any, count: int, xp: Any) -> Any:
    """Return what `root`, that of the sum of squared deviations, says of the mean."""
    if count < FEWEST_SAMPLES:
        return root + np.nan
    error = root / xp.asarray(((count - 1) * count) ** 0.5, root.dtype)
    if count < FEWEST_AGREEING:
        error = xp.where(error == 0, xp.asarray(np.nan, root.dtype), error)
    return error


def _welford(
    engine: Engine, matvec: FlatMatvec, key: Key, *, sizes: tuple[int, int], enough: Any
) -> Estimate:
    """Return the mean of u * (A u) over the probes u, and its error, as rows."""

    def step(done: Any, state: Any, vectors: Any, products: Any) -> Any:
        def add(index: Any, state: tuple[Any, Any]) -> tuple[Any, Any]:
            mean, root = state
            count = engine.xp.asarray(done + index + 1, mean.dtype)
            change = vectors[index] * products[index] - mean
            return mean + change / count, _add(root, change, count, engine.xp)

        return engine.repeat(0, len(vectors), add, state)

    zeros = engine.xp.zeros(matvec.dim, matvec.dtype)
    count, (mean, root) = over_probes(
        engine, matvec, key, probes.rademacher, sizes, step, (zeros, zeros), enough
    )
    count = sizes[0] if engine is FUSED else count
    return Estimate(mean, _standard_error(root, count, engine.xp), count, None, count - 1)


def _add(root: Any, change: Any, count: Any, xp: Any) -> Any:
    """Return the root of the sum of squares after `change` from the mean of count - 1 numbers.

    Welford's recurrence adds change^2 (count - 1) / count to the sum; the squares themselves would
    underflow in float32 for entries of 1e-22.
    """
    return hypotenuse(root, change * xp.sqrt((count - 1) / count), xp)
