"""Extreme eigenvalues and eigenvectors, with residuals that bound their errors."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks, probes, trees
from adlab.core.nodes import register
from adlab.curvature import lanczos
from adlab.curvature.density import announce, check_steps
from adlab.curvature.drive import Loop, OnProgress, Products, draw, draw_on_host, prepare
from adlab.curvature.operators import Operator, flat_products

__all__ = ["Eigenpairs", "eigenpairs"]

PyTree = Any
Which = Literal["both", "largest", "smallest"]
_CHECKED_EVERY = 5  # steps


@register("values", "vectors", "residuals", "converged")
@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """Eigenvalues in decreasing order with their vectors.

    values: (k,). vectors: a tree with a leading axis k, of unit length each. residuals: (k,),
    |A v - value v|: an eigenvalue lies so close to the value. converged: (k,), whether the residual
    is as small as was asked. num_matvecs: products that were spent.
    """

    values: Any
    vectors: PyTree
    residuals: Any
    converged: Any
    num_matvecs: int

    def __str__(self) -> str:
        rows = zip(self.values, self.residuals, self.converged, strict=True)
        lines = [
            f"{float(value):12.5g} ± {float(residual):.1e}{'' if done else '  not converged'}"
            for value, residual, done in rows
        ]
        return "\n".join([*lines, f"({self.num_matvecs} products)"])


def eigenpairs(
    operator: Any,
    *,
    key: jax.Array,
    k: int = 1,
    which: Which = "both",
    num_matvecs: int | Literal["auto"] = "auto",
    rtol: float = 1e-3,
    loop: Loop = "auto",
    on_progress: OnProgress | None = None,
) -> Eigenpairs:
    """Compute the k largest and the k smallest eigenvalues (algebraically), by Lanczos.

    The pairs are the best of the Krylov space of one random start. Their residuals are measured,
    not estimated: each pair costs one product more, beside the `num_matvecs` of the steps. Of a
    multiple eigenvalue one copy is found, unless the Krylov space is exhausted before the steps
    are. Memory: one vector per step, and one per pair.

    >>> found = eigenpairs(jnp.diag(jnp.arange(1.0, 6.0)), key=jax.random.key(0))
    >>> np.round(found.values, 4)
    array([5., 1.], dtype=float32)

    Args:
      operator: an Operator, a symmetric array, or whatever has `matvec` and `like`.
      key: a random key, for the start.
      k: number of pairs at each end that is asked for.
      which: "both" ends, or the "largest" or the "smallest" alone.
      num_matvecs: steps at most, and at most the dimension; the host's loop stops as soon as all
        pairs have converged. "auto" is 40 + 10 k, or the dimension. One product per pair comes on
        top: 2k for "both", k for one end.
      rtol: a pair has converged when its residual is at most rtol times the largest |value|.
      loop: "host" or "fused"; see `spectral_density`.
      on_progress: called as (products done, products at most) from the host's loop.

    Returns:
      The Eigenpairs, which may not have converged: read `converged`.

    Raises:
      ValueError: k < 1 or more pairs than the dimension or the steps; num_matvecs out of range; a
        product that isn't finite; an operator that isn't symmetric.
      TypeError: no key; not an operator.

    Source: Lanczos (1950), doi:10.6028/jres.045.026.
    """
    checks.require_key("eigenpairs", key)
    operator, host = prepare(operator, loop, key, on_progress=on_progress)
    checks.at_least("k", k, 1)
    checks.one_of("which", which, get_args(Which))
    checks.positive("rtol", rtol)
    count = 2 * k if which == "both" else k
    steps = min(operator.dim, 40 + 10 * k) if num_matvecs == "auto" else num_matvecs
    check_steps(operator, steps)
    if count > steps:
        raise ValueError(
            f"k must ask for at most num_matvecs = {steps} pairs in all, got k = {k} "
            f"with which={which!r}"
        )
    announce(operator, steps, 1, 1)
    if host:
        return _host(operator, key, k, which, steps, rtol, on_progress)
    pairs, found = _fused(operator, key, rtol, k=k, which=which, steps=steps)
    if checks.concrete(found):
        lanczos.check(found, trees.common_dtype(operator.like), steps)
    return pairs


def _places(k: int, which: Which, size: int) -> np.ndarray:
    """Return where the pairs stand among `size` values in increasing order, from the largest on."""
    largest, smallest = np.arange(size - 1, size - 1 - k, -1), np.arange(k - 1, -1, -1)
    return {"largest": largest, "smallest": smallest}.get(
        which, np.concatenate([largest, smallest])
    )


def _host(
    operator: Operator, key: Any, k: int, which: Which, steps: int, rtol: float, on_progress: Any
) -> Eigenpairs:
    count = len(_places(k, which, steps))
    products = Products(operator, steps + count, on_progress)
    start = draw_on_host(probes.sphere, operator, key, np.arange(1))[0]
    run = lanczos.Recurrence(start, steps, np.random.default_rng(0))
    for taken in _advance(run, products, steps):
        places = _places(k, which, taken) if taken >= count else None
        if places is not None and (taken == steps or taken % _CHECKED_EVERY == 0):
            values, coordinates = lanczos.ritz(run.found(taken))
            bounds = abs(run.off_diagonal[taken - 1] * coordinates[0, -1, places])
            if np.all(bounds <= rtol / 2 * abs(values[0]).max()):
                break
    chosen = values[0][places].astype(products.dtype)
    vectors = coordinates[0][:, places].T.astype(products.dtype) @ run.basis[:taken]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    residuals = np.array(
        [
            np.linalg.norm(products(vector[None])[0] - value * vector)
            for value, vector in zip(chosen, vectors, strict=True)
        ]
    )
    converged = residuals <= rtol * abs(values[0]).max()
    like = trees.probe_like(operator.like)
    tree = jax.vmap(lambda vector: trees.unravel(vector, like))(jnp.asarray(vectors))
    return Eigenpairs(chosen, tree, residuals, converged, products.done)


def _advance(run: Any, products: Products, steps: int) -> Iterator[int]:
    for step in range(steps):
        product, size = products.with_sizes(run.basis[step : step + 1])
        run.advance(step, product[0], size[0])
        lanczos.check_symmetry(run.asymmetry, run.scale, products.dtype)
        yield step + 1


@functools.partial(jax.jit, static_argnames=("k", "which", "steps"))
def _fused(
    operator: Operator, key: Any, rtol: Any, *, k: int, which: Which, steps: int
) -> tuple[Eigenpairs, lanczos.Tridiagonal]:
    start = draw(probes.sphere, operator.like, key, jnp.arange(1))
    found = lanczos.fused(operator, start, num_matvecs=steps, keep_basis=True)
    values, coordinates = lanczos.ritz(found, jnp)
    places = _places(k, which, steps)
    chosen = values[0][places]
    vectors = coordinates[0][:, places].T @ found.basis[0]
    vectors = vectors / jnp.linalg.norm(vectors, axis=1, keepdims=True)

    def residual(pair: tuple[jax.Array, jax.Array]) -> jax.Array:  # one product at a time
        value, vector = pair
        return jnp.linalg.norm(flat_products(operator, vector[None])[0] - value * vector)

    residuals = jax.lax.map(residual, (chosen, vectors))
    converged = residuals <= jnp.asarray(rtol, start.dtype) * jnp.max(jnp.abs(values))
    like = trees.probe_like(operator.like)
    tree = jax.vmap(lambda vector: trees.unravel(vector, like))(vectors)
    pairs = Eigenpairs(chosen, tree, residuals, converged, steps + len(places))
    return pairs, found._replace(basis=None)
