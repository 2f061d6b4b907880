"""Extreme eigenvalues and eigenvectors, with residuals that bound their errors."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks, probes, trees
from adlab.core.nodes import register
from adlab.curvature import lanczos
from adlab.curvature._derivatives import without_derivative
from adlab.curvature._lengths import lengths
from adlab.curvature._search import CHECKED_EVERY, Basis, Which, judge, places, search
from adlab.curvature.density import announce, check_steps
from adlab.curvature.drive import Loop, OnProgress, Products, draw, draw_on_host, drive, prepare
from adlab.curvature.lanczos import Tridiagonal
from adlab.curvature.operators import Operator, flat_products, products_and_sizes

__all__ = ["Eigenpairs", "eigenpairs"]

PyTree = Any


@register("values", "vectors", "residuals", "converged", "num_matvecs")
@dataclass(frozen=True, eq=False)
class Eigenpairs:
    """Eigenvalues in decreasing order with their vectors.

    values: (k,). vectors: a tree with a leading axis k, of unit length each. residuals: (k,),
    |A v - value v|: an eigenvalue lies so close to the value. converged: (k,), whether the residual
    is as small as was asked, and no eigenvalue beyond was missed. num_matvecs: products that were
    spent.
    """

    values: Any
    vectors: PyTree
    residuals: Any
    converged: Any
    num_matvecs: Any

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

    The pairs are the best of the space that all steps span. Their residuals are measured, not
    estimated: each pair costs one product more, beside the steps.

    A Lanczos run finds one copy of a multiple eigenvalue. Once the pairs have converged, another
    run begins in a random direction orthogonal to all vectors before, and so on until the last one
    found nothing beyond the pairs: an eigenvalue that lies by more than rtol times the largest
    |value| beyond the last of them would need a share in that direction that has a probability of
    less than 1e-4. Pairs for which this couldn't be said within the steps haven't converged. Looking
    costs as many steps as tell the k-th eigenvalue from the next, about
    log(2e4 sqrt(d)) / (2 sqrt(gap / range)); nothing but a few steps for k = 1; a run for each
    further copy. Memory: one vector per step, and one per pair.

    >>> found = eigenpairs(jnp.diag(jnp.arange(1.0, 6.0)), key=jax.random.key(0))
    >>> np.round(found.values, 4)
    array([5., 1.], dtype=float32)

    Args:
      operator: an Operator, a symmetric array, or whatever has `matvec` and `like`.
      key: a random key, for the start.
      k: number of pairs at each end that is asked for; where they would be more than the dimension,
        all pairs come, each of them once.
      which: "both" ends, or the "largest" or the "smallest" alone.
      num_matvecs: steps at most, in all runs together, and at most the dimension; both loops stop
        as soon as all pairs have converged. "auto" is 40 + 20 k, or the dimension. One product per
        pair comes on top: 2k for "both", k for one end.
      rtol: a pair has converged when its residual is at most rtol times the largest |value|, and
        no eigenvalue beyond it was missed.
      loop: "host" or "fused"; see `spectral_density`.
      on_progress: called as (products done, products at most) from the host's loop.

    Returns:
      The Eigenpairs, which may not have converged: read `converged`. Their values have derivatives,
      v . dA v for a simple eigenvalue; those of the vectors are NaN.

    Raises:
      ValueError: k < 1 or more pairs than the steps; num_matvecs out of range; a product that isn't
        finite; an operator that isn't symmetric.
      TypeError: no key; not an operator.

    Source: Lanczos (1950), doi:10.6028/jres.045.026.
    """
    checks.require_key("eigenpairs", key)
    operator, host = prepare(operator, loop, key, on_progress=on_progress)
    checks.at_least("k", k, 1)
    checks.one_of("which", which, get_args(Which))
    checks.positive("rtol", rtol)
    ends = places(k, which, operator.dim)
    steps = min(operator.dim, 40 + 20 * k) if num_matvecs == "auto" else num_matvecs
    check_steps(operator, steps)
    if sum(ends) > steps:
        raise ValueError(
            f"k must ask for at most num_matvecs = {steps} pairs in all, got k = {k} "
            f"with which={which!r}"
        )
    announce(operator, steps, 1, 1)

    def fused() -> Eigenpairs:
        pairs, found = _fused(operator, key, rtol, ends=ends, steps=steps)
        if checks.concrete(found):
            lanczos.check(found, trees.common_dtype(operator.like), steps)
        return pairs

    return drive(host, loop, lambda: _host(operator, key, ends, steps, rtol, on_progress), fused)


def _host(
    operator: Operator, key: Any, ends: tuple[int, int], steps: int, rtol: float, on_progress: Any
) -> Eigenpairs:
    products = Products(operator, steps + sum(ends), on_progress)
    start = draw_on_host(probes.sphere, operator, key, np.arange(1))[0]
    words = np.asarray(jax.random.bits(jax.random.fold_in(key, 1), (4,)))
    run = lanczos.Recurrence(start, steps, np.random.default_rng(words))
    for step in range(steps):
        product, size = products.with_sizes(run.basis[step : step + 1])
        run.advance(step, product[0], size[0])
        lanczos.check_symmetry(run.asymmetry, run.scale, products.dtype)
        taken = step + 1
        if taken >= sum(ends) and (taken == steps or taken % CHECKED_EVERY == 0):
            basis = Basis(run.projected, run.diagonal, run.off_diagonal, run.begins, taken)
            state = judge(basis.first(taken), ends, operator.dim, rtol, np)
            if state.over():
                break
            if state.small.all() and state.stuck and taken < steps:
                run.renew(taken)
    values = state.values.astype(products.dtype)
    vectors = state.coordinates.T.astype(products.dtype) @ run.basis[:taken]
    vectors /= lengths(vectors, np)[:, None].astype(products.dtype)
    rests = [
        products(vector[None])[0] - value * vector
        for value, vector in zip(values, vectors, strict=True)
    ]
    residuals = lengths(np.stack(rests), np)
    converged = (residuals <= rtol * state.scale) & state.cleared
    like = trees.probe_like(operator.like)
    tree = jax.vmap(lambda vector: trees.unravel(vector, like))(jnp.asarray(vectors))
    return Eigenpairs(values, tree, residuals, converged, products.done)


@functools.partial(jax.jit, static_argnames=("ends", "steps"))
def _fused(
    operator: Operator, key: Any, rtol: Any, *, ends: tuple[int, int], steps: int
) -> tuple[Eigenpairs, Tridiagonal]:
    start = draw(probes.sphere, operator.like, key, jnp.arange(1))[0]
    # Only the values have derivatives, by the products below, at vectors that are held fast. What a
    # function closes over has to be held fast as well.
    products, arrays = jax.closure_convert(
        functools.partial(products_and_sizes, operator), start[None]
    )
    arrays, rtol = jax.lax.stop_gradient((arrays, rtol))
    run = search(lambda v: products(v, *arrays), start, key, rtol, ends=ends, steps=steps)
    state = run.state
    vectors = state.coordinates.T @ run.vectors
    vectors = vectors / lengths(vectors)[:, None]

    def product(pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:  # one at a time
        value, vector = pair
        product = flat_products(operator, vector[None])[0]
        quotient = jnp.vdot(vector, product)
        rest = jax.lax.stop_gradient(product) - value * vector
        return quotient, lengths(rest)

    quotients, residuals = jax.lax.map(product, (state.values, vectors))
    values = state.values + (quotients - jax.lax.stop_gradient(quotients))
    converged = (residuals <= jnp.asarray(rtol, start.dtype) * state.scale) & state.cleared
    like = trees.probe_like(operator.like)
    tree = jax.vmap(lambda vector: trees.unravel(vector, like))(without_derivative(vectors, values))
    taken = run.basis.taken + sum(ends)
    relative = run.asymmetry / jnp.where(run.size > 0, run.size, 1)
    found = Tridiagonal(run.basis.diagonal[None], run.basis.off_diagonal[None], relative[None])
    return Eigenpairs(values, tree, residuals, converged, taken), found
