"""Extreme eigenvalues and eigenvectors, with residuals that bound their errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks, probes, trees
from adlab.core._html import table
from adlab.core.nodes import register
from adlab.core.types import AnyArray, Array, Key, Loop, OnProgress, PyTree
from adlab.curvature import lanczos
from adlab.curvature._derivatives import without_derivative
from adlab.curvature._engine import FUSED, HOST, Engine
from adlab.curvature._lengths import lengths
from adlab.curvature._search import Goal, Which, goal, search
from adlab.curvature.density import announce, check_steps
from adlab.curvature.drive import CountedMatvec, FlatMatvec, call, drive, prepare
from adlab.curvature.lanczos import Tridiagonal
from adlab.curvature.matrices import OperatorLike
from adlab.curvature.operators import Operator
from adlab.curvature.products import vector

__all__ = ["Eigenpairs", "eigenpairs"]

_HEADER = ["value", "residual", "converged"]
_SHOWN = 10  # rows at each end of a long table


@register("values", "vectors", "residuals", "converged", "num_matvecs")
@dataclass(frozen=True, eq=False, repr=False)
class Eigenpairs:
    """Eigenvalues with their vectors; printed as a table.

    Attributes:
      values: (k,), in decreasing order, or in that of |value| if that was asked for.
      vectors: a tree with a leading axis k, of unit length each.
      residuals: (k,), |A v - value v|: an eigenvalue lies so close to the value.
      converged: (k,), whether the residual is as small as was asked, and no eigenvalue beyond was
        missed.
      num_matvecs: products that were spent.
    """

    values: AnyArray
    vectors: PyTree
    residuals: AnyArray
    converged: AnyArray
    num_matvecs: int | Array

    def _rows(self) -> list[list[str]]:
        """Return the cells of the table, those in the middle left out where it is long."""
        columns = zip(self.values, self.residuals, self.converged, strict=True)
        rows = [
            [f"{float(value):.5g}", f"{float(residual):.1e}", "yes" if done else "not converged"]
            for value, residual, done in columns
        ]
        cut = len(rows) > 2 * _SHOWN
        return [*rows[:_SHOWN], ["...", "...", "..."], *rows[-_SHOWN:]] if cut else rows

    def __repr__(self) -> str:
        if np.ndim(self.values) != 1 or not checks.concrete(self):
            return "Eigenpairs(traced or batched)"
        lines = [f"{a:>12}  {b:>8}  {c:>13}" for a, b, c in [_HEADER, *self._rows()]]
        return "\n".join([*lines, f"({self.num_matvecs} products)"])

    def _repr_html_(self) -> str:
        return table(_HEADER, self._rows(), f"{self.num_matvecs} products")


def eigenpairs(
    operator: OperatorLike,
    *,
    key: Key,
    k: int = 1,
    which: Which = "both",
    num_matvecs: int | Literal["auto"] = "auto",
    rtol: float = 1e-3,
    loop: Loop = "auto",
    on_progress: OnProgress | None = None,
    start: PyTree | None = None,
) -> Eigenpairs:
    """Compute extreme eigenvalues and their vectors, by Lanczos.

    The k largest and the k smallest (algebraically), those of one end, or the k of the largest
    |value|.

    The pairs are the best of the space that all steps span. Their residuals are measured, not
    estimated: each pair costs one product more, beside the steps.

    A Lanczos run finds one copy of a multiple eigenvalue. Once the pairs have converged, another
    run begins in a random direction orthogonal to all vectors before, and so on until the last one
    found nothing beyond the pairs: an eigenvalue that lies by more than rtol times the largest
    |value| beyond the last of them would need a share in that direction that has a probability of
    less than 1e-4. Pairs for which this couldn't be said within the steps haven't converged.
    Looking costs as many steps as tell the k-th eigenvalue from the next, about
    log(2e4 sqrt(d)) / (2 sqrt(gap / range)); nothing but a few steps for k = 1; a run for each
    further copy. Memory: one vector per step, and one per pair. For the largest |value| both ends
    are searched, but only the pairs that are asked for need to converge.

    >>> found = eigenpairs(jnp.diag(jnp.arange(1.0, 6.0)), key=jax.random.key(0))
    >>> np.round(found.values, 4)
    array([5., 1.], dtype=float32)

    Args:
      operator: an Operator, a symmetric array, or whatever has `matvec` and `like`.
      key: a random key, for the start.
      k: number of pairs at each end that is asked for; where they would be more than the dimension,
        all pairs come, each of them once.
      which: "both" ends, the "largest" or the "smallest" alone, or the largest by "magnitude",
        |value|, which come in the order of that.
      num_matvecs: steps at most, in all runs together, and at most the dimension; both loops stop
        as soon as all pairs have converged. "auto" is 40 + 20 k, or the dimension. One product per
        pair comes on top: 2k for "both", else k.
      rtol: a pair has converged when its residual is at most rtol times the largest |value|, and
        no eigenvalue beyond it was missed.
      loop: "host" or "fused"; see `spectral_density`.
      on_progress: called as (products done, products at most) from the host's loop.
      start: where the first run begins, shaped as the operator's vectors, of any length: a vector
        known from before, say, of which pairs that changed little converge in a few steps. What it
        is orthogonal to it can't find, so that a run in a random direction follows. A random
        direction without it.

    Returns:
      The Eigenpairs, which may not have converged: read `converged`. Their values have derivatives,
      v . dA v for a simple eigenvalue; those of the vectors are NaN.

    Raises:
      ValueError: k < 1 or more pairs than the steps; num_matvecs out of range; a product that isn't
        finite; an operator that isn't symmetric; a start of another shape, zero, or not finite.
      TypeError: no key; not an operator; a start that isn't real floating-point.

    Source: Lanczos (1950), doi:10.6028/jres.045.026.
    """
    checks.require_key("eigenpairs", key)
    operator, host = prepare(operator, loop, (key, start), on_progress=on_progress)
    checks.at_least("k", k, 1)
    checks.one_of("which", which, get_args(Which))
    checks.positive("rtol", rtol)
    wanted = goal(k, which, operator.dim, random=start is None)
    first = None if start is None else _first(start, operator)
    steps = min(operator.dim, 40 + 20 * k) if num_matvecs == "auto" else num_matvecs
    check_steps(operator, steps)
    if sum(wanted.ends) > steps:
        raise ValueError(
            f"k must ask for at most num_matvecs = {steps} pairs in all, got k = {k} "
            f"with which={which!r}{', which looks at both ends' if wanted.magnitude else ''}"
        )
    announce(operator, steps, 1, 1)

    def run(engine: Engine) -> Eigenpairs:
        matvec = CountedMatvec(operator, steps + wanted.num_pairs, on_progress)
        pairs, found = call(engine, _pairs, matvec, key, rtol, first, wanted=wanted, steps=steps)
        if engine is FUSED and checks.concrete(found):
            lanczos.check(found, operator.dtype, steps)
        return pairs

    return drive(host, loop, run)


def _first(start: PyTree, operator: Operator) -> Array:
    """Return a start vector laid out flat, of length 1.

    Raises:
      ValueError: it has another shape, is zero, or isn't finite.
      TypeError: it isn't real floating-point.
    """
    flat = trees.ravel(vector(start, operator.like, "the operator's vectors", name="start"))
    largest = jnp.max(abs(flat))
    if checks.concrete(flat) and not (np.isfinite(largest) and largest > 0):
        raise ValueError(f"start must be finite and not zero, got a largest entry of {largest}")
    scaled = flat / largest  # whose squares are in range
    unit: Array = jax.lax.stop_gradient(scaled / jnp.linalg.norm(scaled))
    return unit.astype(operator.dtype)


def _pairs(
    engine: Engine, matvec: FlatMatvec, key: Any, rtol: Any, first: Any, *, wanted: Goal, steps: int
) -> tuple[Eigenpairs, Tridiagonal]:
    xp, like = engine.xp, trees.probe_like(matvec.operator.like)
    if first is None:
        start = engine.draw(probes.sphere, matvec.operator, key, np.arange(1))
    else:
        start = xp.asarray(first)[None]
    fresh = engine.directions(key, start.shape, start.dtype)
    # Only the values have derivatives, by the products below, at vectors that are held constant.
    held = engine.held(matvec, start)
    run, state = search(
        engine, held, start[0], fresh, engine.constant(rtol), wanted=wanted, steps=steps
    )
    rows = engine.filled(run.vectors, run.taken)[0]
    vectors = state.coordinates.T.astype(rows.dtype) @ rows
    vectors /= lengths(vectors, xp)[:, None].astype(rows.dtype)

    def pair(value: Any, vector: Any) -> tuple[Any, Any]:
        (product,), _ = matvec(vector[None])
        rest = engine.constant(product) - value * vector
        return xp.vdot(vector, product), lengths(rest, xp)

    values = state.values.astype(rows.dtype)
    quotients, residuals = engine.each(pair, values, vectors)
    values = values + (quotients - engine.constant(quotients))
    converged = (residuals <= xp.asarray(rtol, state.scale.dtype) * state.scale) & state.cleared

    def unravelled(vector: Any) -> Any:
        return trees.unravel(vector, like)

    if engine is HOST:
        tree = jax.device_put(engine.each(unravelled, vectors))
    else:
        tree = jax.vmap(unravelled)(without_derivative(vectors, values))
    spent = run.taken + wanted.num_pairs
    return Eigenpairs(values, tree, residuals, converged, spent), lanczos.tridiagonal(run)
