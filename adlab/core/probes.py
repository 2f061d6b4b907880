"""Laws of random probes u with E[u u^T] = I, over a whole pytree ravelled into one vector.

With that normalisation E[(u . g) u] = g whatever the law, so that no estimator contains the
dimension d. A probe on the sphere has length sqrt(d): the displacement h u is h sqrt(d) long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks, trees
from adlab.core._programs import one_program
from adlab.core.types import PyTree

__all__ = [
    "Law",
    "LawName",
    "coordinate",
    "gaussian",
    "orthogonal_block",
    "rademacher",
    "resolve",
    "second_moment",
    "sphere",
]

LawName = Literal["sphere", "gaussian", "rademacher", "coordinate", "orthogonal"]
_WORD = 32


class Law(Protocol):
    """Draws one probe u, shaped as `like` (arrays or shapes), with E[u u^T] = I."""

    def __call__(self, like: PyTree, *, key: jax.Array) -> PyTree:
        """Return a probe with the structure, shapes and dtypes of `like`."""
        ...


_Draw: TypeAlias = Callable[[jax.Array, int, np.dtype], jax.Array]


def _flat(draw: _Draw, like: PyTree, key: Any) -> PyTree:
    dtype = trees.common_dtype(like)
    return trees.unravel(draw(key, trees.size(like), dtype), like)


def gaussian(like: PyTree, *, key: jax.Array) -> PyTree:
    """Draw u ~ N(0, I). E|u|^4 = d (d + 2)."""
    return _flat(lambda k, d, dtype: jax.random.normal(k, (d,), dtype), like, key)


def sphere(like: PyTree, *, key: jax.Array) -> PyTree:
    """Draw u uniformly from the sphere of radius sqrt(d): a Gaussian vector, rescaled."""
    return _flat(_on_sphere, like, key)


@one_program(1, 2)
def _on_sphere(key: jax.Array, d: int, dtype: np.dtype) -> jax.Array:
    z = jax.random.normal(key, (d,), dtype)
    return z * jnp.sqrt(d / jnp.vdot(z, z))


def rademacher(like: PyTree, *, key: jax.Array) -> PyTree:
    """Draw independent signs, +1 or -1 with probability 1/2: 32 of them from each random word."""
    return _flat(_signs, like, key)


@one_program(1, 2)
def _signs(key: jax.Array, d: int, dtype: np.dtype) -> jax.Array:
    words = jax.random.bits(key, (-(-d // _WORD),), jnp.uint32)
    shifts = jnp.arange(d, dtype=jnp.uint32) % _WORD
    sign = (jnp.repeat(words, _WORD)[:d] << shifts) & jnp.uint32(0x80000000)
    one = jnp.uint32(0x3F800000)  # the bits of 1.0 in float32, whose first is the sign
    return jax.lax.bitcast_convert_type(sign | one, jnp.float32).astype(dtype)


def coordinate(like: PyTree, *, key: jax.Array) -> PyTree:
    """Draw u = sqrt(d) e_i with i uniform on the d coordinates, with replacement."""
    return _flat(_unit, like, key)


@one_program(1, 2)
def _unit(key: jax.Array, d: int, dtype: np.dtype) -> jax.Array:
    index = jax.random.randint(key, (), 0, d)
    return jnp.where(jnp.arange(d) == index, jnp.asarray(d**0.5, dtype), 0)


def orthogonal_block(like: PyTree, *, key: jax.Array, count: int) -> jax.Array:
    """Draw `count` <= d probes of length sqrt(d) that are orthogonal to one another.

    Returns an array of shape (count, d): the orthonormal basis of a random subspace, from the QR
    factorisation of a Gaussian matrix, times sqrt(d). Each row alone is uniform on the sphere: the
    factorisation is made unique by a positive diagonal, for a sign left to the algorithm would
    depend on the row's first entry, and one-sided differences would be biased. Needs memory and
    O(count^2 d) work for the whole block.

    Source: Kozak et al. (2023), doi:10.1007/s10107-022-01866-9; the signs: Mezzadri (2007),
    arXiv:math-ph/0609050.
    """
    return _orthogonal_rows(key, trees.size(like), trees.common_dtype(like), count)


@one_program(1, 2, 3)
def _orthogonal_rows(key: jax.Array, d: int, dtype: np.dtype, count: int) -> jax.Array:
    basis, triangle = jnp.linalg.qr(jax.random.normal(key, (d, count), dtype))
    signs = jnp.where(jnp.diagonal(triangle) < 0, -1, 1).astype(dtype)
    return (signs * jnp.asarray(d**0.5, dtype) * basis).T


_LAWS: dict[str, Law] = {
    "sphere": sphere,
    "gaussian": gaussian,
    "rademacher": rademacher,
    "coordinate": coordinate,
}


def resolve(law: LawName | Law) -> Law | Literal["orthogonal"]:
    """Return the callable behind a name; "orthogonal" stays a name, for it draws whole blocks.

    Raises:
      ValueError: an unknown name (with the nearest match).
      TypeError: neither a name nor a callable.
    """
    if callable(law):
        return law
    if not isinstance(law, str):
        raise TypeError(f"law must be a name or a callable (like, *, key), got {law!r}")
    if law not in _LAWS:
        checks.one_of("law", law, get_args(LawName))
    return _LAWS.get(law, "orthogonal")


def second_moment(law: LawName | Law, dim: int, num_probes: int) -> float:
    """Return c in E|(1/m) sum_i (u_i . g) u_i|^2 = c |g|^2 for m = `num_probes` probes.

    c = 1 + (d - 1)/m for sphere, Rademacher and coordinate probes, 1 + (d + 1)/m for Gaussian
    ones, d/m for m <= d orthogonal ones and 1 + r (d - r)/m^2, r = m mod d, for more of them.
    A law of the user's own states its E[(u . g)^2 |u|^2] for |g| = 1 by an attribute
    `second_moment`, a function of d.

    >>> second_moment("sphere", 100, 1), second_moment("orthogonal", 100, 4)
    (100.0, 25.0)

    Raises:
      ValueError: a callable law without that attribute.
    """
    if law == "orthogonal":
        rest = num_probes % dim
        return 1.0 + rest * (dim - rest) / num_probes**2
    if law == "gaussian":
        single = dim + 2.0
    elif isinstance(law, str):
        single = float(dim)
    elif hasattr(law, "second_moment"):
        single = float(law.second_moment(dim))
    else:
        raise ValueError(
            f"second_moment must be known for law {law!r}: give it an attribute "
            "`second_moment`, a function d -> E[(u . g)^2 |u|^2] for |g| = 1"
        )
    return 1.0 + (single - 1.0) / num_probes
