"""Laws of random probes u with E[u u^T] = I, over a whole tree taken as one vector.

With that normalisation E[(u . g) u] = g whatever the law, so that no estimator contains the
dimension d. A probe on the sphere has length sqrt(d): the displacement h u is h sqrt(d) long.

Named laws draw block by block: each block of a large tree has a key of its own (`_blocks`), so that
a probe is the same on however many devices, and needn't be held. Trees of up to 65,536 numbers are
one block, which takes the key as it is.
"""

from __future__ import annotations

import abc
import math
from dataclasses import replace
from typing import Literal, Protocol, get_args

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import _blocks, _shardings, checks, trees
from adlab.core._blocks import Block
from adlab.core._programs import one_program
from adlab.core._redrawn import BlockLaw, Redrawn, redrawn
from adlab.core.types import Array, Key, PyTree

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


class _Named(BlockLaw):
    """A law that has a name; called, it draws the whole probe."""

    def __call__(self, like: PyTree, *, key: jax.Array) -> PyTree:
        leaves, structure = jax.tree.flatten(like)
        shapes = tuple(_shardings.struct(leaf, jnp.result_type(leaf)) for leaf in leaves)
        return jax.tree.unflatten(structure, _leaves(self, shapes, key))


@one_program(0, 1)
def _leaves(law: BlockLaw, shapes: tuple[jax.ShapeDtypeStruct, ...], key: Key) -> list[Array]:
    found: list[Array] = redrawn(law, list(shapes), key).tree(list(shapes))
    return found


class _Filled(_Named):
    """A law whose blocks are independent of one another, each filled from words of its own."""

    @abc.abstractmethod
    def numbers(self, words: Array, count: int, dtype: np.dtype) -> Array:
        """Return the numbers that words stand for."""

    def part(self, probe: Redrawn, block: Block) -> Array:
        count, words = math.prod(block.tile), probe.words
        if words is None:
            words = self.words(probe.key_of(block), count, probe.dtype)
        return block.cut(self.numbers(words, count, probe.dtype))


class _Gaussian(_Filled):
    """Draws u ~ N(0, I). E|u|^4 = d (d + 2)."""

    __name__ = "gaussian"

    def words(self, key: Key, count: int, dtype: np.dtype) -> Array:
        return jax.random.bits(key, (count,), f"uint{8 * dtype.itemsize}")

    def numbers(self, words: Array, count: int, dtype: np.dtype) -> Array:
        """Return sqrt(2) erfinv(v), where v is uniform on (-1, 1): the leading bits of a word."""
        del count
        info = jnp.finfo(dtype)
        one = np.asarray(1, dtype).view(words.dtype)
        mantissa = (words >> np.asarray(info.bits - info.nmant, words.dtype)) | one
        v = jax.lax.bitcast_convert_type(mantissa, dtype) - np.asarray(1, dtype)  # in [0, 1)
        low = np.nextafter(np.asarray(-1, dtype), np.asarray(0, dtype))
        v = jnp.maximum(low, v * (1 - low) + low)
        return jax.lax.erf_inv(v) * np.asarray(np.sqrt(2), dtype)


class _Sphere(_Gaussian):
    """Draws u uniformly from the sphere of radius sqrt(d): a Gaussian vector, rescaled."""

    __name__ = "sphere"

    def shared(self, probe: Redrawn) -> Array:
        source = jax.tree_util.Partial(gaussian.part, replace(probe, law=gaussian))
        square = _blocks.total(probe.like, source, lambda z: jnp.vdot(z, z))
        scale: Array = jnp.sqrt(float(probe.grid.size) / square)
        return scale

    def part(self, probe: Redrawn, block: Block) -> Array:
        scale: Array = probe.state
        return super().part(probe, block) * scale


class _Rademacher(_Filled):
    """Draws independent signs, +1 or -1 with probability 1/2: 32 of them from each random word."""

    __name__ = "rademacher"

    signs = True

    def words(self, key: Key, count: int, dtype: np.dtype) -> Array:
        del dtype
        return jax.random.bits(key, (-(-count // _WORD),), jnp.uint32)

    def numbers(self, words: Array, count: int, dtype: np.dtype) -> Array:
        shifts = jnp.arange(count, dtype=jnp.uint32) % _WORD
        sign = (jnp.repeat(words, _WORD)[:count] << shifts) & jnp.uint32(0x80000000)
        one = jnp.uint32(0x3F800000)  # the bits of 1.0 in float32, whose first is the sign
        return jax.lax.bitcast_convert_type(sign | one, jnp.float32).astype(dtype)


class _Coordinate(_Named):
    """Draws u = sqrt(d) e_i with i uniform on the d coordinates, with replacement."""

    __name__ = "coordinate"

    def words(self, key: Key, count: int, dtype: np.dtype) -> Array:
        del dtype
        if count >= 2**31:
            raise ValueError(
                f'law "coordinate" draws one of fewer than 2**31 coordinates, got {count}; use '
                '"rademacher", "gaussian" or "sphere"'
            )
        return jax.random.randint(key, (), 0, count)

    def shared(self, probe: Redrawn) -> Array:
        """Return i, in the order of the grid."""
        size = probe.grid.size
        return self.words(probe.key, size, probe.dtype) if probe.words is None else probe.words

    def part(self, probe: Redrawn, block: Block) -> Array:
        index = probe.state - block.start
        hit = (index >= 0) & (index < math.prod(block.whole))
        for axis in reversed(range(len(block.whole))):
            places = jax.lax.broadcasted_iota(index.dtype, block.shape, axis) + block.corner[axis]
            hit = hit & (places == index % block.whole[axis])
            index = index // block.whole[axis]
        return jnp.where(hit, jnp.asarray(probe.grid.size**0.5, probe.dtype), 0)


gaussian, sphere, rademacher, coordinate = _Gaussian(), _Sphere(), _Rademacher(), _Coordinate()


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
