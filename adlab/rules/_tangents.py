"""Tangents of factors that refuse what they can't answer: with NaN, never with a finite number.

Where values coincide, the factors of a matrix don't hold all that its derivatives need. Two faults
can be seen from inside a rule. The first is a second derivative: `once` lets a tangent depend on
the factors, and makes the derivative of that dependence NaN. The second shows in the cotangents of
the factors, which a rule for tangents never meets: `watched` looks at them as they come back.

JAX takes forward and reverse mode from one rule only if that rule is a `custom_jvp`, whose tangent
it transposes. So `watched` sends the tangents through a linear solve with the identity, which a
transposition of our own belongs to; `jax.custom_vjp` would give up forward mode.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from adlab.rules._matrices import COPIES, adjoint, spread, top

__all__ = ["once", "tells_apart", "turns", "watched"]

Parts = tuple[jax.Array, ...]
_NOISE = 1024  # of eps: cotangents below that are taken for round-off


@jax.custom_jvp
def once(parts: Parts, clustered: jax.Array) -> Parts:
    """Return `parts`, whose derivatives are NaN where `clustered` (batch shape) is true."""
    del clustered
    return parts


@once.defjvp
def _once_jvp(primals: Any, tangents: Any) -> tuple[Parts, Parts]:
    """A product, not a selection: the transpose of a selection would be 0, not NaN."""
    (parts, clustered), (moved, _) = primals, tangents
    return once(parts, clustered), _spoilt(moved, clustered)


def watched(parts: Parts, refuse: Callable[[Parts], jax.Array]) -> Parts:
    """Return tangents (..., *shape) of factors; their cotangents are NaN where `refuse` says so.

    The first part holds values, the last one vectors. `refuse` gets the cotangents, and answers in
    the shape of the values without their last axis. What it closes over counts as constant.

    All parts travel in one array, of the dtype of the vectors: the transpose of the solve expects a
    cotangent of each array, but one that nothing depends on has none.
    """
    values = parts[0]
    batch = values.shape[:-1]
    dtype = parts[-1].dtype  # that of vectors, complex or not
    flat = [part.reshape(*batch, -1).astype(dtype) for part in parts]
    cuts = [sum(part.shape[-1] for part in flat[:k]) for k in range(len(flat) + 1)]

    def unpacked(packed: jax.Array) -> Parts:
        pieces = (packed[..., cuts[k] : cuts[k + 1]] for k in range(len(parts)))
        return tuple(
            (piece if jnp.iscomplexobj(part) else jnp.real(piece))
            .astype(part.dtype)
            .reshape(part.shape)
            for piece, part in zip(pieces, parts, strict=True)
        )

    def transposed(_: Any, cotangent: jax.Array) -> jax.Array:
        return _spoilt((cotangent,), refuse(unpacked(cotangent)))[0]

    packed = jnp.concatenate(flat, axis=-1)
    solved = lax.custom_linear_solve(lambda x: x, packed, lambda _, b: b, transposed)
    return unpacked(solved)


def tells_apart(
    s: jax.Array,
    linked: jax.Array,
    cotangents: jax.Array,
    sizes: jax.Array,
    *,
    void: jax.Array | None = None,
) -> jax.Array:
    """Return whether cotangents tell apart coinciding values whose vectors have cotangents too.

    A loss that rebuilds the matrix, <W, v diag(s) v^H>, hands s_i the cotangent v_i^H W v_i, and
    what W holds between v_i and v_j is lost: different cotangents within a cluster give it away. A
    loss of values alone may have such ones at a kink: it has a subgradient, and no vectors.

    Two exceptions. In products such as v diag(s) the vectors of a cluster at 0 meet that 0, so that
    the vectors of all clusters count there. And a differentiable loss of singular factors is even
    in the singular values of a null space with a choice of bases: there any cotangent is different.

    Cotangents are different beyond sqrt(eps) of the largest ones of their cluster (those of vectors
    over the largest |s|), since copies that round-off sets apart by 24 eps may enter steep
    functions. Vectors have a cotangent if it isn't mere round-off, 24 eps, beside those of their
    cluster. What other clusters hold doesn't count: cotangents near 0 may be larger by far.

    Args:
      s: values (..., k).
      linked: which pairs of them coincide, (..., k, k).
      cotangents: those of the values, (..., k).
      sizes: largest entries of the cotangents of vectors, (..., >= k), a value's in its place.
      void: values 0 that leave a choice of bases, (..., k).
    """
    eps, height = float(jnp.finfo(s.dtype).eps), top(s)
    sizes = sizes / jnp.where(height > 0, height, jnp.ones((), s.dtype))
    largest = jnp.max(sizes, axis=-1, keepdims=True)
    nothing = jnp.zeros((), s.dtype)

    def in_cluster(each: jax.Array) -> jax.Array:
        """Return the largest of what a value's cluster holds, (..., k)."""
        return jnp.max(jnp.where(linked, each[..., None, :], nothing), axis=-1)

    distance = jnp.abs(cotangents[..., :, None] - cotangents[..., None, :])
    furthest = jnp.max(jnp.where(linked, distance, nothing), axis=-1)
    if void is not None:
        furthest = jnp.where(void, jnp.maximum(furthest, jnp.abs(cotangents)), furthest)
    own, vectors = in_cluster(jnp.abs(cotangents)), in_cluster(sizes[..., : s.shape[-1]])
    zero = jnp.abs(s) <= spread(s, linked.shape)
    seen = jnp.where(zero, largest, vectors) > COPIES * eps * (own + vectors)
    return jnp.any(seen & (furthest > eps**0.5 * (own + vectors)), axis=-1)


def turns(
    linked: jax.Array, together: Sequence[tuple[jax.Array, jax.Array]], apart: jax.Array
) -> jax.Array:
    """Return whether cotangents say that a loss changes as coinciding vectors turn.

    Any orthonormal vectors of a cluster will do, so a function of the matrix is stationary under
    v -> v exp(t X) for every skew X within the cluster: the cotangents dv then make v^H dv
    Hermitian there, or the sum of two such products where two bases turn as one. A single vector of
    a cluster breaks this, unless it happens to stand where the loss is stationary.

    Counted is what exceeds eps^(1/4) of the cluster's cotangents: those of a loss that is a
    function of the matrix may be a difference of far larger numbers, or have passed through lower
    precision; those of one that isn't are off by about themselves. Where all cancel, as those of a
    Rayleigh quotient over the whole cluster do, nothing but round-off is left, of which the size
    can't be known here: below 1024 eps, which is much for a loss of about 1, none is counted. So a
    loss in far larger units may be NaN there, and one in far smaller units isn't looked at.

    Args:
      linked: which pairs of values coincide, (..., k, k).
      together: bases (..., n, k) with their cotangents, as JAX has them: without conjugation.
      apart: values (..., k) whose bases turn each by itself.
    """
    eye = jnp.eye(linked.shape[-1], dtype=bool)
    pairs = linked & ~eye

    def asked(_: None) -> jax.Array:
        products = [adjoint(basis) @ jnp.conj(cotangent) for basis, cotangent in together]
        alone = [jnp.abs(product - adjoint(product)) for product in products]
        both = sum(products[1:], products[0])
        joint = jnp.abs(both - adjoint(both))
        residual = jnp.where(apart[..., None], functools.reduce(jnp.maximum, alone), joint)
        squares = sum(jnp.sum(jnp.abs(c) ** 2, axis=-2) for _, c in together)
        size = jnp.max(jnp.where(linked, jnp.sqrt(squares)[..., None, :], 0 * joint), axis=-1)
        eps = float(jnp.finfo(joint.dtype).eps)
        floor = _NOISE * eps  # of a loss of about 1 that is stationary in its vectors
        beyond = pairs & (residual > jnp.maximum(eps**0.25 * size[..., None], floor))
        return jnp.any(beyond, axis=(-2, -1))

    def unasked(_: None) -> jax.Array:
        return jnp.zeros(linked.shape[:-2], bool)

    found: jax.Array = lax.cond(jnp.any(pairs), asked, unasked, None)
    return found


def _spoilt(parts: Parts, where: jax.Array) -> Parts:
    """Return the parts times 1, or times NaN where the condition, of their batch shape, holds."""

    def product(part: jax.Array) -> jax.Array:
        factor = jnp.where(where, jnp.nan, 1).astype(part.dtype)
        return part * factor.reshape(*where.shape, *[1] * (part.ndim - where.ndim))

    return tuple(map(product, parts))
