"""Gradients from slopes along random probes: (1/m) sum_i s(u_i) u_i."""

from __future__ import annotations

import abc
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from adlab.core import _devices, _shardings, checks, probes, trees
from adlab.core._blocks import CAPACITY
from adlab.core._programs import one_program
from adlab.core._redrawn import BlockLaw, Held, Probe, Redrawn, added, redrawn, summed
from adlab.core.calls import Bound
from adlab.core.cost import Cost
from adlab.core.nodes import register
from adlab.core.probes import Law, LawName
from adlab.core.types import Argnums, Array, ChunkSize, Key, Objective, Params, PyTree, Rest
from adlab.gradients import _in_place
from adlab.gradients._chunks import chunk_length, in_chunks
from adlab.gradients.gradient_fn import GradientFn, gradient_fn
from adlab.gradients.method import Method

__all__ = ["Directional", "Probed", "Slope", "probed"]

Directional: TypeAlias = Callable[[Probe], Array]
"""u -> the slope of a function along u."""
_Along: TypeAlias = Callable[[PyTree], Array]
"""The same of a probe that is there."""


@register("key", "words")
@dataclass(frozen=True, eq=False)
class Prepared:
    """A key whose random words are drawn already.

    Attributes:
      key: the key.
      words: those of every probe, (m, ...).
      made: the law, the numbers m and d, and the dtype that they are for.
    """

    key: Key
    words: Array
    made: tuple[Any, ...]


class Slope(abc.ABC):
    """How the slope of a function along a probe is obtained; a pytree, as a `Method` is."""

    @abc.abstractmethod
    def arguments(self) -> dict[str, Any]:
        """Return those arguments of the factory that belong to the slope."""

    @abc.abstractmethod
    def along(
        self, fun: Bound, x: PyTree, value: Array | None, chunk_size: ChunkSize
    ) -> Directional:
        """Return u -> the slope of `fun` at x along u; `value` is fun(x) where it is known."""

    def there_and_back(self, fun: Bound, x: PyTree, chunk_size: ChunkSize) -> Directional:
        """Return u -> the smoothing, if x may be moved there and back for the slope."""
        del x, chunk_size
        raise ValueError(f"{fun.name}: in_place must be False, got True: only two_point moves x")

    @abc.abstractmethod
    def cost(self, x: PyTree, num_probes: int, *, value: bool) -> Cost:
        """Return the cost of the slopes along all probes, with fun(x) besides if `value`."""

    @abc.abstractmethod
    def check(
        self, fun: Bound, x: PyTree, draw: Callable[[int], PyTree], chunk_size: ChunkSize
    ) -> None:
        """Raise ValueError where slopes along the probes draw(0), draw(1), ... are worthless."""


@register("slope")
@dataclass(frozen=True, eq=False)
class Probed(Method):
    """The mean of s(u_i) u_i over probes u_1..u_m.

    Attributes:
      slope: s, which holds its step as data.
      law: distribution of the probes.
      num_probes: their number m.
      chunk_size: how many are evaluated at a time.
      layout: shardings of x, as leaves and structure, where they were told.
    """

    slope: Slope
    law: LawName | Law
    num_probes: int
    chunk_size: ChunkSize
    layout: tuple[tuple[NamedSharding, ...], Any] | None = None

    def arguments(self) -> dict[str, Any]:
        own = {"law": self.law, "num_probes": self.num_probes, "chunk_size": self.chunk_size}
        return self.slope.arguments() | own

    def estimate(
        self, fun: Bound, x: PyTree, key: Key | None, value: Array | None = None
    ) -> PyTree:
        key, words = self._required(fun.name, key, x)
        slope, like = self.slope.along(fun, x, value, self.chunk_size), trees.probe_like(x)
        law = probes.resolve(self.law)
        if isinstance(law, BlockLaw) and trees.size(x) > CAPACITY:
            weights, stack = self._redrawn(law, slope, fun, x, key)
            return summed(stack, weights, x)

        def along(u: PyTree) -> Array:
            return slope(Held(u, self._signs))

        if self.num_probes == 1:
            return _scaled(along, self._draw(like, key, None if words is None else words[0]))
        chunk = chunk_length(self.chunk_size, fun, x, self.num_probes)
        if self.law == "orthogonal":
            total = self._sum_over_blocks(along, like, key, chunk)
        else:

            def probe(i: Any) -> PyTree:
                drawn = None if words is None else words[i]
                return self._draw(like, jax.random.fold_in(key, i), drawn)

            total = _sum_over_probes(along, probe, self.num_probes, chunk)
        return _over(total, self.num_probes)

    def on(self, shardings: PyTree) -> Probed:
        leaves, structure = jax.tree.flatten(shardings)
        for leaf in leaves:
            if not isinstance(leaf, NamedSharding):
                raise TypeError(f"{self.name}: shardings must be NamedShardings, got {leaf!r}")
        return replace(self, layout=(tuple(leaves), structure))

    def _like(self, name: str, x: PyTree) -> PyTree:
        """Return shapes of a probe, with the layout of x where it is known."""
        if self.layout is None:
            return trees.probe_like(x)
        (leaves, told), (parts, own) = self.layout, jax.tree.flatten(x)
        if len(leaves) == 1 and jax.tree_util.treedef_is_leaf(told):
            leaves = leaves * len(parts)
        elif told != own:
            raise ValueError(f"{name}: shardings must be a tree like x, {own}, got {told}")
        return jax.tree.unflatten(own, map(_shardings.laid, parts, leaves))

    def _required(self, name: str, key: Any, x: PyTree) -> tuple[Key, Any]:
        """Return the key, and the words of its probes if they were drawn beforehand."""
        words: Any = None
        if isinstance(key, Prepared):
            if key.made != self._made(x):
                raise ValueError(
                    f"{name}: key must be prepared for this law, number of probes, and size of x, "
                    f"{_told(self._made(x))}, got one for {_told(key.made)}"
                )
            key, words = key.key, key.words
            typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
            if key.ndim != (0 if typed else 1):
                raise ValueError(
                    f"{name}: key must be one of those that were prepared, got {len(key)} of them: "
                    "scan over them, or take one by jax.tree.map(lambda leaf: leaf[i], prepared)"
                )
        key = checks.require_key(name, key)
        _devices.require_shared(name, key, x)
        return key, words

    @property
    def _signs(self) -> bool:
        return bool(getattr(probes.resolve(self.law), "signs", False))

    def words(self, x: PyTree, keys: Key) -> int:
        law, size = probes.resolve(self.law), trees.size(x)
        if not _threefry(keys) or not isinstance(law, BlockLaw) or not 0 < size <= CAPACITY:
            return 0
        dtype = trees.common_dtype(x)
        drawn = jax.eval_shape(lambda: law.words(jax.random.key(0), size, dtype))
        return self.num_probes * math.prod(drawn.shape)

    def prepare(self, x: PyTree, keys: Key) -> Any:
        law, size, dtype = probes.resolve(self.law), trees.size(x), trees.common_dtype(x)
        if not self.words(x, keys) or not isinstance(law, BlockLaw):
            return keys

        def one(key: Key) -> Array:
            if self.num_probes == 1:
                return law.words(key, size, dtype)[None]
            own = jax.vmap(jax.random.fold_in, (None, 0))(key, np.arange(self.num_probes))
            return jax.vmap(lambda key: law.words(key, size, dtype))(own)

        return Prepared(keys, jax.vmap(one)(keys), self._made(x))

    def _made(self, x: PyTree) -> tuple[Any, ...]:
        law = getattr(probes.resolve(self.law), "__name__", self.law)
        return law, self.num_probes, trees.size(x), trees.common_dtype(x).name

    def _redrawn(
        self, law: BlockLaw, slope: Directional, fun: Bound, x: PyTree, key: Key
    ) -> tuple[Array, Redrawn]:
        """Return slopes over m, and the probes, of which none is held.

        Besides `fun`'s own memory that takes x + h u, whose place the gradient then has.
        """
        like = self._like(fun.name, x)

        def along(key: Key) -> tuple[Array, Redrawn]:
            probe = redrawn(law, like, key)
            return slope(probe), probe

        count, keys = self.num_probes, self._keys(key)
        if count == 1:
            slopes, stack = jax.tree.map(lambda leaf: leaf[None], along(keys[0]))
        else:
            # Other generators draw other words together than alone, as the second pass does.
            alone = not _threefry(key)
            chunk = 1 if alone else chunk_length(self.chunk_size, fun, x, count)
            slopes, stack = in_chunks(along, keys, chunk)
        return slopes / count, stack

    def _keys(self, key: Key) -> Key:
        """Return the keys of all probes."""
        if self.num_probes == 1:
            return key[None]
        return jax.vmap(jax.random.fold_in, (None, 0))(key, np.arange(self.num_probes))

    def descended(
        self, fun: Bound, x: PyTree, key: Key | None, size: Array, *, in_place: bool
    ) -> PyTree:
        law = probes.resolve(self.law)
        by_blocks = isinstance(law, BlockLaw)
        if in_place and not by_blocks:
            raise ValueError(
                f"{fun.name}: law must be one that is drawn block by block to move x in place, "
                f'got {self.law!r}; use "rademacher", "sphere", "gaussian" or "coordinate"'
            )
        if not in_place and not (by_blocks and trees.size(x) > CAPACITY):
            return super().descended(fun, x, key, size, in_place=False)
        assert isinstance(law, BlockLaw)
        key = self._required(fun.name, key, x)[0]
        if in_place:
            like = self._like(fun.name, x)
            step = self.slope.there_and_back(fun, x, self.chunk_size)
            return _in_place.descended(
                fun, x, step, lambda key: redrawn(law, like, key), self._keys(key), size
            )
        slope = self.slope.along(fun, x, None, self.chunk_size)
        weights, stack = self._redrawn(law, slope, fun, x, key)
        return added(stack, -size * weights, x)

    def cost(self, x: PyTree, *, value: bool) -> Cost:
        return self.slope.cost(x, self.num_probes, value=value)

    def second_moment(self, dim: int) -> float:
        return probes.second_moment(self.law, dim, self.num_probes)

    def check(self, fun: Bound, x: PyTree, key: Key) -> None:
        like = trees.probe_like(x)

        def draw(index: int) -> PyTree:
            return self._draw(like, jax.random.fold_in(key, index) if index else key)

        self.slope.check(fun, x, draw, self.chunk_size)

    def _draw(self, like: PyTree, key: Key, words: Any = None) -> PyTree:
        """Draw one probe by itself, in the dtypes of `like`, whatever the law."""
        law = probes.resolve(self.law)
        if words is not None and isinstance(law, BlockLaw):
            return redrawn(law, like, key, words).tree(like)
        if law == "orthogonal":
            return trees.unravel(probes.orthogonal_block(like, key=key, count=1)[0], like)
        u = law(like, key=key)
        if isinstance(self.law, str):
            return u
        if not trees.same_shapes(u, like):
            drawn = jax.tree.map(np.shape, u)
            raise TypeError(
                f"law {getattr(law, '__name__', law)} must draw a probe shaped as x, got {drawn}"
            )
        return trees.cast_like(u, like)

    def _sum_over_blocks(self, slope: _Along, like: PyTree, key: Key, chunk: int) -> PyTree:
        """Sum over blocks of mutually orthogonal probes, each of which is drawn whole."""
        size = min(self.num_probes, trees.size(like))
        blocks, rest = divmod(self.num_probes, size)

        def block(index: Any, count: int) -> PyTree:
            rows = probes.orthogonal_block(like, key=jax.random.fold_in(key, index), count=count)
            return _sum_over_probes(
                slope, lambda i: trees.unravel(_row(rows, i), like), count, min(chunk, count)
            )

        total = _sum_over(lambda j: block(j, size), blocks)
        if not rest:
            return total
        # XLA:CPU of jax 0.10 deadlocks on two batched QR factorisations side by side: the last
        # block is made to wait for the others, through an index that depends on their sum.
        done = jnp.sum(jax.tree.leaves(total)[0])
        return _add(total, block(jnp.where(jnp.isnan(done), 0, blocks), rest))


def _threefry(key: Key) -> bool:
    """Tell whether a key draws the same words alone and together with others."""
    return str(jax.random.key_impl(key)) == "threefry2x32"


def _told(made: tuple[Any, ...]) -> str:
    law, count, size, dtype = made
    return f"({law}, {count}, {size} numbers of {dtype})"


def probed(
    factory: Callable[..., Any],
    slope: Slope,
    fun: Objective[Params, Rest],
    *,
    law: LawName | Law,
    num_probes: int,
    chunk_size: ChunkSize,
    argnums: Argnums,
    has_aux: bool,
) -> GradientFn[Params, Rest]:
    """Return the gradient of `fun` from a kind of slope, after a check of what all kinds share."""
    probes.resolve(law)
    checks.at_least("num_probes", num_probes, 1)
    checks.chunk_size(chunk_size)
    return gradient_fn(fun, argnums, has_aux, Probed(factory, slope, law, num_probes, chunk_size))


def _sum_over_probes(
    slope: _Along, probe: Callable[[Any], PyTree], count: int, chunk: int
) -> PyTree:
    """Return sum of s(u_i) u_i, i < count, holding no more than `chunk` probes at a time."""

    def several(start: Any, length: int) -> PyTree:
        if length == 1:
            return _scaled(slope, probe(start))
        own = np if isinstance(start, int) else jnp
        u = jax.vmap(probe)(start + own.arange(length))
        return _weighted(jax.vmap(slope)(u), u)

    chunks, rest = divmod(count, chunk)
    total = _sum_over(lambda i: several(i * chunk, chunk), chunks)
    return _add(total, several(chunks * chunk, rest)) if rest else total


def _scaled(slope: _Along, u: PyTree) -> PyTree:
    return _times(slope(u), u)


@one_program()
def _row(rows: Array, index: Any) -> Array:
    return rows[index]


@one_program()
def _times(along: Array, u: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: along.astype(leaf.dtype) * leaf, u)


@one_program()
def _weighted(slopes: Array, probes: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: jnp.tensordot(slopes.astype(leaf.dtype), leaf, 1), probes)


@one_program(1)
def _over(total: PyTree, count: int) -> PyTree:
    return jax.tree.map(lambda leaf: leaf / count, total)


def _sum_over(term: Callable[[Any], PyTree], count: int) -> PyTree:
    """Return sum of term(i), i < count, added up in the carry of a scan."""
    if count == 1:
        return term(0)

    def step(carry: tuple[Array, PyTree], _: None) -> tuple[tuple[Array, PyTree], None]:
        index, total = carry
        return (index + 1, _add(total, term(index))), None

    shapes = jax.eval_shape(term, jnp.asarray(0))
    start = (jnp.asarray(0), trees.zeros_like(shapes))
    (_, total), _ = jax.lax.scan(step, start, length=count)
    return total


@one_program()
def _add(a: PyTree, b: PyTree) -> PyTree:
    return jax.tree.map(jnp.add, a, b)
