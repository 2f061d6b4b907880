"""The Lanczos recurrence with full reorthogonalisation, of several runs side by side.

A run projects A on the space of q_1, A q_1, ..., A^(m-1) q_1: with orthonormal rows Q it keeps
Q A Q^T = T, which is tridiagonal for symmetric A. Row j + 1 is what is left of A q_j without its
components along the rows before, and beta_j, its length, stands beside the diagonal of T.

Each new vector is made orthogonal to all earlier ones twice (classical Gram-Schmidt; "twice is
enough", Giraud et al. 2005, doi:10.1007/s00211-005-0615-4). Without that, converged eigenvalues
come back as copies, and every count of outliers is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from adlab.core.types import DTypeLike
from adlab.curvature._engine import HOST, Engine
from adlab.curvature._lengths import lengths, unit_of

__all__ = [
    "Krylov",
    "Tridiagonal",
    "advance",
    "begin",
    "check",
    "check_symmetry",
    "orthogonalize",
    "recur",
    "renew",
    "ritz",
    "tridiagonal",
    "vanishing",
]

_ALL = slice(None)


class Tridiagonal(NamedTuple):
    """T = Q A Q^T of `p` recurrences, m steps each.

    Attributes:
      diagonal: (p, m).
      off_diagonal: (p, m); its last column is the norm of what is left of A q_m, which bounds the
        error of the Ritz values.
      asymmetry: (p,), the largest entry of Q A Q^T outside of T, over the length of the terms of
        A q.
    """

    diagonal: Any
    off_diagonal: Any
    asymmetry: Any


class Krylov(NamedTuple):
    """The state of `p` recurrences in dimension d, of `m` steps at most.

    Attributes:
      vectors: (p, m, d), the rows of Q that are filled, then zeros.
      diagonal, off_diagonal: (p, m), of T; the latter is 0 where an invariant subspace has ended.
      begins: (p, m), whether a row is a random direction, orthogonal to all before: the first, one
        after an invariant subspace, and where `renew` said so.
      projected: (p, m, m), Q A Q^T, of which the upper triangle is filled; None unless asked for.
      scale: (p,), the largest length that the terms of a product had.
      asymmetry: (p,), the largest entry of Q A Q^T outside of T.
      taken: number of steps.
    """

    vectors: Any
    diagonal: Any
    off_diagonal: Any
    begins: Any
    projected: Any
    scale: Any
    asymmetry: Any
    taken: Any


def orthogonalize(vectors: Any, rows: Any, near: Any = _ALL) -> tuple[Any, Any]:
    """Return `vectors` (p, d) less their components along `rows` (p, n, d), and these (p, n).

    `near` says along which rows the first of the two passes goes. The second takes all of them.
    """
    first = (rows[:, near] @ vectors[:, :, None])[:, :, 0]
    rest = vectors - (first[:, None] @ rows[:, near])[:, 0]
    second = (rows @ rest[:, :, None])[:, :, 0]
    rest -= (second[:, None] @ rows)[:, 0]
    if isinstance(second, np.ndarray):
        second[:, near] += first
        return rest, second
    return rest, first + second


def begin(engine: Engine, starts: Any, num_matvecs: int, *, projected: bool = False) -> Krylov:
    """Return the state before the first step from `starts`, (p, d)."""
    xp, (count, dim) = engine.xp, starts.shape
    zeros, none = (
        xp.zeros(shape, engine.wide(starts.dtype)) for shape in ((count, num_matvecs), count)
    )
    vectors = xp.zeros((count, num_matvecs, dim), starts.dtype)
    return Krylov(
        engine.put(vectors, (_ALL, 0), starts / lengths(starts, xp)[:, None]),
        zeros,
        xp.zeros_like(zeros),
        engine.put(xp.zeros_like(zeros, bool), (_ALL, 0), True),
        xp.zeros((count, num_matvecs, num_matvecs), zeros.dtype) if projected else None,
        none,
        none,
        0,
    )


def advance(
    engine: Engine, run: Krylov, step: Any, products: Any, sizes: Any, fresh: Callable[..., Any]
) -> Krylov:
    """Take the products (p, d) with the rows `step`, whose terms have lengths `sizes`.

    Fills the next rows: by what is left of the products, or where nothing is, by directions that
    `fresh` draws.
    """
    xp, count = engine.xp, run.vectors.shape[1]
    row, rows, left = xp.arange(count), engine.filled(run.vectors, step + 1), _left(run, xp)
    with np.errstate(invalid="ignore"):  # BLAS may raise this for finite numbers: looked at below
        rest, along = orthogonalize(products, rows, _near(engine, left, step))
    components = engine.put(xp.zeros_like(run.diagonal), (_ALL, slice(along.shape[1])), along)
    expected = xp.where(row == step - 1, run.off_diagonal, 0)
    outside = xp.where((row < step) & ~left, abs(components - expected), 0)
    scale, norm = xp.maximum(run.scale, sizes), lengths(rest, xp)
    asymmetry = xp.maximum(run.asymmetry, xp.max(outside, axis=1))
    if engine is HOST:  # a program can't stop: `check` looks at what it brought
        _check_step(norm, asymmetry / np.where(scale > 0, scale, 1), products.dtype)
    ended = norm <= vanishing(products.dtype) * scale
    unit = rest / xp.where(ended, 1, norm).astype(rest.dtype)[:, None]
    unit = engine.choose(
        xp.any(ended) & (step + 1 < count),  # of the last step nothing is kept
        lambda unit: xp.where(ended[:, None], _outside(fresh(step + 1), rows, xp), unit),
        lambda unit: unit,
        unit,
    )
    following = xp.minimum(step + 1, count - 1)
    unit, begins = engine.choose(
        step + 1 < count,
        lambda new, _: new,
        lambda _, old: old,
        (unit, ended),
        (run.vectors[:, following], run.begins[:, following]),
    )
    held = run.projected is not None
    projected = engine.put(run.projected, (_ALL, _ALL, step), components) if held else None
    return Krylov(
        engine.put(run.vectors, (_ALL, following), unit),
        engine.put(run.diagonal, (_ALL, step), components[:, step]),
        engine.put(run.off_diagonal, (_ALL, step), xp.where(ended, 0, norm)),
        engine.put(run.begins, (_ALL, following), begins),
        projected,
        scale,
        asymmetry,
        step + 1,
    )


def _left(run: Krylov, xp: Any) -> Any:
    """Return which rows are the last of a run that was left though its space hadn't ended.

    A q has components along these, as along the row before.
    """
    follows = xp.concatenate([run.begins[:, 1:], run.begins[:, :1] & False], axis=1)
    return follows & (run.off_diagonal > 0)


def _near(engine: Engine, left: Any, step: int) -> Any:
    """Return the rows along which the product with row `step` has more than round-off.

    These are the last two and those at which earlier runs were left: after these, one pass over all
    rows does what two do for an arbitrary vector, at half the memory traffic. In a program, where
    indices have to be known, it is all rows.
    """
    if engine is not HOST:
        return _ALL
    last, ends = range(max(0, step - 1), step + 1), np.flatnonzero(left[:, :step].any(axis=0))
    return sorted({*ends.tolist(), *last}) if ends.size else slice(last[0], None)  # a view


def _outside(fresh: Any, rows: Any, xp: Any) -> Any:
    """Return the parts of random vectors (p, d) outside of the spaces of `rows`, of length 1."""
    rest, _ = orthogonalize(fresh, rows)
    return (rest / lengths(rest, xp)[:, None]).astype(rest.dtype)


def renew(engine: Engine, run: Krylov, wanted: Any, fresh: Callable[..., Any]) -> Krylov:
    """Leave the runs where that is `wanted`, though their spaces haven't ended.

    The row that follows, which is filled already, then is a random direction.
    """
    xp = engine.xp
    at = (_ALL, xp.minimum(run.taken, run.vectors.shape[1] - 1))

    def replaced(vectors: Any) -> Any:
        rows = engine.filled(engine.put(vectors, at, 0), run.taken)
        return _outside(fresh(run.taken), rows, xp)

    row = engine.choose(
        wanted & ~run.begins[at].all(), replaced, lambda vectors: vectors[at], run.vectors
    )
    return run._replace(
        vectors=engine.put(run.vectors, at, row),
        begins=engine.put(run.begins, at, run.begins[at] | wanted),
    )


def recur(
    engine: Engine, matvec: Callable[..., Any], starts: Any, num_matvecs: int,
    fresh: Callable[..., Any],
) -> Krylov:  # fmt: skip
    """Run one recurrence per row of `starts`, (p, d), with one blocked product per step.

    Raises, from the host:
      ValueError: a product isn't finite; the operator isn't symmetric.
    """

    def step(index: Any, run: Krylov) -> Krylov:
        products, sizes = matvec(run.vectors[:, index])
        return advance(engine, run, index, products, sizes, fresh)

    return engine.repeat(0, num_matvecs, step, begin(engine, starts, num_matvecs))


def tridiagonal(run: Krylov) -> Tridiagonal:
    """Return T of all steps."""
    xp = np if isinstance(run.scale, np.ndarray) else jnp
    relative = run.asymmetry / xp.where(run.scale > 0, run.scale, 1)
    return Tridiagonal(run.diagonal, run.off_diagonal, relative)


def vanishing(dtype: DTypeLike) -> float:
    """Return what is nothing beside the length of a product's terms: round-off."""
    return 16 * float(jnp.finfo(dtype).eps)


def check_symmetry(asymmetry: Any, dtype: DTypeLike) -> None:
    """Raise ValueError where Q A Q^T isn't tridiagonal to the precision that products have.

    `asymmetry` is relative to the length of the terms: the difference of two large matrices has
    their round-off.
    """
    if asymmetry > float(jnp.finfo(dtype).eps) ** (1 / 3):
        raise ValueError(
            f"operator must be symmetric, got |u.Av - v.Au| = {float(asymmetry):.3g} |Av| "
            "for two unit vectors; a matvec that isn't deterministic (dropout, augmented data) is "
            "not symmetric either"
        )


def _check_step(norm: Any, asymmetry: Any, dtype: DTypeLike) -> None:
    """Raise ValueError where a step of finite products overflowed, or found no symmetry."""
    if not (np.isfinite(norm).all() and np.isfinite(asymmetry).all()):
        raise ValueError(
            f"products must be small enough for sums of their entries in {np.dtype(dtype)}, got "
            "an overflow; scale the operator down"
        )
    check_symmetry(np.max(asymmetry), dtype)


def check(found: Tridiagonal, dtype: DTypeLike, num_matvecs: int) -> None:
    """Raise ValueError for what a fused run met: a product that isn't finite, or asymmetry."""
    finite = np.isfinite(np.asarray(found.diagonal)).all(axis=0)
    if not finite.all():
        raise ValueError(
            f"matvec must return finite numbers, got NaN or infinity at step "
            f"{int(np.argmin(finite)) + 1} of {num_matvecs}; check the loss and its parameters "
            "for NaN"
        )
    check_symmetry(np.max(np.asarray(found.asymmetry)), dtype)


def ritz(found: Tridiagonal, xp: Any = np) -> tuple[Any, Any]:
    """Return eigenvalues (p, m), in increasing order, and eigenvectors (p, m, m) of every T."""
    size, dtype = found.diagonal.shape[1], found.diagonal.dtype
    above = found.off_diagonal[:, :, None] * xp.eye(size, k=1, dtype=dtype)
    full = found.diagonal[:, :, None] * xp.eye(size, dtype=dtype)
    full = full + above + xp.swapaxes(above, 1, 2)
    unit = unit_of(full, xp, axis=(1, 2), keepdims=True)
    values, vectors = xp.linalg.eigh(full / unit)
    return unit[:, :, 0] * values, vectors
