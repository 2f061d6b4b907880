"""The Lanczos recurrence with full reorthogonalisation, from the host or fused.

Each new vector is made orthogonal to all earlier ones twice (classical Gram-Schmidt; "twice is
enough", Giraud et al. 2005, doi:10.1007/s00211-005-0615-4). Without that, converged eigenvalues
come back as copies, and every count of outliers is wrong.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adlab.curvature._lengths import lengths, unit_of
from adlab.curvature.drive import CountedMatvec
from adlab.curvature.operators import Operator, products_and_sizes

__all__ = [
    "Recurrence",
    "Tridiagonal",
    "check",
    "check_symmetry",
    "fused",
    "host",
    "orthogonalize",
    "ritz",
    "vanishing",
]


class Tridiagonal(NamedTuple):
    """T = Q A Q^T of `p` recurrences, m steps each, and the basis where it was asked for.

    diagonal: (p, m). off_diagonal: (p, m); its last column is the norm of what is left of A q_m,
    which bounds the error of the Ritz values. basis: (p, m, d) or None.
    asymmetry: (p,) the largest entry of Q A Q^T outside of T, over the length of the terms of A q.
    """

    diagonal: Any
    off_diagonal: Any
    asymmetry: Any
    basis: Any = None


def orthogonalize(vector: Any, basis: Any) -> tuple[Any, Any]:
    """Return `vector` (d,) less its components along the rows of `basis`, and these components."""
    first = basis @ vector
    vector = vector - first @ basis
    second = basis @ vector
    return vector - second @ basis, first + second


def _recur(product: np.ndarray, rows: np.ndarray, ends: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the product with the last row less its components along all rows, and these.

    But for round-off it has components along the last two rows and along those at which earlier
    runs were left, `ends`: after these, one pass over all rows does what two do for an arbitrary
    vector, at half the memory traffic.
    """
    last = range(max(0, len(rows) - 2), len(rows))
    near: Any = sorted({*ends, *last}) if ends else slice(last[0], None)  # a slice isn't copied
    components = np.zeros(len(rows), product.dtype)
    components[near] = rows[near] @ product
    rest = product - components[near] @ rows[near]
    second = rows @ rest
    rest -= second @ rows
    return rest, components + second


class Recurrence:
    """One recurrence in the host's memory; its basis (m, d) is filled row by row.

    projected: (m, m), Q A Q^T, of which the upper triangle is filled. begins: (m,), whether a row
    is a random direction, orthogonal to all before: the first, one after an invariant subspace, and
    where `renew` was called.
    """

    def __init__(self, start: np.ndarray, num_matvecs: int, rng: np.random.Generator) -> None:
        self.basis = np.empty((num_matvecs, start.size), start.dtype)
        self.basis[0] = start / lengths(start, np)
        self.diagonal, self.off_diagonal = np.zeros((2, num_matvecs))
        self.projected = np.zeros((num_matvecs, num_matvecs))
        self.begins = np.zeros(num_matvecs, bool)
        self.begins[0] = True
        self.ends: list[int] = []  # rows at which a run was left though its space hadn't ended
        self.scale, self.asymmetry, self.rng = 0.0, 0.0, rng

    def advance(self, step: int, product: np.ndarray, size: float) -> None:
        """Take the product with row `step`, whose terms have length `size`; fill the next row."""
        rows = self.basis[: step + 1]
        self.scale = max(self.scale, float(size))
        rest, components = _recur(product, rows, self.ends)
        self.diagonal[step] = components[step]
        self.projected[: step + 1, step] = components
        outside = abs(components[:step])
        outside[self.ends] = 0.0
        if step and not self.begins[step]:
            outside[-1] = abs(components[step - 1] - self.off_diagonal[step - 1])
        self.asymmetry = max(self.asymmetry, float(outside.max(initial=0.0)))
        norm = float(lengths(rest, np))
        ended = norm <= vanishing(self.basis.dtype) * self.scale
        self.off_diagonal[step] = 0.0 if ended else norm
        if step + 1 < len(self.basis):
            self.begins[step + 1] = ended
            self.basis[step + 1] = self._fresh(rows) if ended else rest / norm

    def renew(self, step: int) -> None:
        """Leave the run, though its space hasn't ended: let row `step` begin another one."""
        if not self.begins[step]:
            self.ends.append(step - 1)
            self.begins[step] = True
            self.basis[step] = self._fresh(self.basis[:step])

    def found(self, taken: int) -> Tridiagonal:
        """Return T after so many steps of one run, without the basis."""
        relative = self.asymmetry / (self.scale or 1.0)
        return Tridiagonal(
            self.diagonal[None, :taken], self.off_diagonal[None, :taken], np.array([relative])
        )

    def _fresh(self, rows: np.ndarray) -> np.ndarray:
        """Return a random direction outside of the space of these rows."""
        fresh = self.rng.standard_normal((1, rows.shape[1])).astype(rows.dtype)
        rest, _ = orthogonalize(fresh[0], rows)
        return rest / lengths(rest, np)


def vanishing(dtype: Any) -> float:
    """Return what is nothing beside the length of a product's terms: round-off."""
    return 16 * float(jnp.finfo(dtype).eps)


def host(products: CountedMatvec, starts: np.ndarray, num_matvecs: int) -> Tridiagonal:
    """Run one recurrence per row of `starts`, (p, d), with one blocked product per step.

    Raises:
      ValueError: a product isn't finite; the operator isn't symmetric.
    """
    runs = [
        Recurrence(start, num_matvecs, np.random.default_rng(index))
        for index, start in enumerate(np.asarray(starts))
    ]
    for step in range(num_matvecs):
        vectors = np.stack([run.basis[step] for run in runs])
        for run, product, size in zip(runs, *products.with_sizes(vectors), strict=True):
            run.advance(step, product, size)
            check_symmetry(run.asymmetry, run.scale, products.dtype)
    found = [run.found(num_matvecs) for run in runs]
    return jax.tree.map(lambda *rows: np.concatenate(rows), *found)


def check_symmetry(asymmetry: Any, scale: Any, dtype: Any) -> None:
    """Raise ValueError where Q A Q^T isn't tridiagonal to the precision that products have."""
    # `scale` is that of the terms: the difference of two large matrices has their round-off.
    if asymmetry > float(jnp.finfo(dtype).eps) ** (1 / 3) * scale:
        raise ValueError(
            f"operator must be symmetric, got |u.Av - v.Au| = {float(asymmetry / scale):.3g} |Av| "
            "for two unit vectors; a matvec that isn't deterministic (dropout, augmented data) is "
            "not symmetric either"
        )


@functools.partial(jax.jit, static_argnames=("num_matvecs", "keep_basis"))
def fused(
    operator: Operator, starts: jax.Array, *, num_matvecs: int, keep_basis: bool = False
) -> Tridiagonal:
    """Run one recurrence per row of `starts`, (p, d), in one program."""
    count, dim = starts.shape
    starts = starts / jnp.linalg.norm(starts, axis=1, keepdims=True)
    basis = jnp.zeros((count, num_matvecs, dim), starts.dtype).at[:, 0].set(starts)
    zeros = jnp.zeros((num_matvecs, count), starts.dtype)
    state = (basis, zeros, zeros, jnp.zeros(count, starts.dtype), jnp.zeros(count, starts.dtype))

    def body(step: Any, state: Any) -> Any:
        basis, diagonal, off_diagonal, scale, asymmetry = state
        product, sizes = products_and_sizes(operator, basis[:, step])
        scale = jnp.maximum(scale, sizes)
        rest, components = jax.vmap(orthogonalize, out_axes=(0, 1))(product, basis)
        row = jnp.arange(num_matvecs)[:, None]
        before = jnp.where(step > 0, off_diagonal[step - 1], 0)
        expected = jnp.where(row == step - 1, before, 0)
        outside = jnp.abs(jnp.where(row < step, components - expected, 0))
        norm = lengths(rest)
        gone = norm <= vanishing(starts.dtype) * scale
        rest = jax.lax.cond(jnp.any(gone), _replace, lambda r, *_: r, rest, gone, basis, step)
        following = jnp.minimum(step + 1, num_matvecs - 1)  # of the last step nothing is kept
        rest = rest / lengths(rest)[:, None]
        rest = jnp.where(step + 1 < num_matvecs, rest, basis[:, following])
        basis = jax.lax.dynamic_update_index_in_dim(basis, rest, following, axis=1)
        return (
            basis,
            diagonal.at[step].set(components[step]),
            off_diagonal.at[step].set(jnp.where(gone, 0, norm)),
            scale,
            jnp.maximum(asymmetry, outside.max(axis=0)),
        )

    basis, diagonal, off_diagonal, scale, asymmetry = jax.lax.fori_loop(0, num_matvecs, body, state)
    relative = asymmetry / jnp.where(scale > 0, scale, 1)
    return Tridiagonal(diagonal.T, off_diagonal.T, relative, basis if keep_basis else None)


def _replace(rest: jax.Array, gone: jax.Array, basis: jax.Array, step: Any) -> jax.Array:
    """Return random directions outside of the basis for those recurrences that have ended."""
    key = jax.random.fold_in(jax.random.key(0), step)
    fresh = jax.random.normal(key, rest.shape, rest.dtype)
    fresh, _ = jax.vmap(orthogonalize)(fresh, basis)
    return jnp.where(gone[:, None], fresh, rest)


def check(found: Tridiagonal, dtype: Any, num_matvecs: int) -> None:
    """Raise ValueError for what a fused run met: a product that isn't finite, or asymmetry."""
    finite = np.isfinite(np.asarray(found.diagonal)).all(axis=0)
    if not finite.all():
        raise ValueError(
            f"matvec must return finite numbers, got NaN or infinity at step "
            f"{int(np.argmin(finite)) + 1} of {num_matvecs}; check the loss and its parameters "
            "for NaN"
        )
    check_symmetry(np.max(np.asarray(found.asymmetry)), 1.0, dtype)


def ritz(found: Tridiagonal, xp: Any = np) -> tuple[Any, Any]:
    """Return eigenvalues (p, m), in increasing order, and eigenvectors (p, m, m) of every T."""
    size, dtype = found.diagonal.shape[1], found.diagonal.dtype
    above = found.off_diagonal[:, :, None] * xp.eye(size, k=1, dtype=dtype)
    full = found.diagonal[:, :, None] * xp.eye(size, dtype=dtype)
    full = full + above + xp.swapaxes(above, 1, 2)
    unit = unit_of(full, xp, axis=(1, 2), keepdims=True)
    values, vectors = xp.linalg.eigh(full / unit)
    return unit[:, :, 0] * values, vectors
