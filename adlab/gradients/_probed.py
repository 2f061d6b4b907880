"""Gradients from directional derivatives along random probes: (1/m) sum_i s_i u_i."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import _devices, checks, probes, trees
from adlab.core.probes import Law, LawName
from adlab.gradients._chunks import check_chunk_size, chunk_length
from adlab.gradients.gradient_fn import ChunkSize, GradientFn, PyTree

__all__ = ["ProbedGradient", "check_probing"]

Directional = Callable[[PyTree], jax.Array]


def check_probing(law: Any, num_probes: Any, chunk_size: Any) -> None:
    """Raise unless law, number of probes and chunk size can be used."""
    probes.resolve(law)
    checks.at_least("num_probes", num_probes, 1)
    check_chunk_size(chunk_size)


@dataclass(frozen=True, eq=False)
class ProbedGradient(GradientFn):
    """The mean of s(u_i) u_i over probes u_1..u_m, where s(u) is about the slope along u."""

    law: LawName | Law
    num_probes: int
    chunk_size: ChunkSize

    @abc.abstractmethod
    def _directional(self, fun: Callable, x: PyTree, value: Any) -> Directional:
        """Return u -> the slope of `fun` at x along u."""

    def _second_moment(self, dim: int) -> float:
        return probes.second_moment(self.law, dim, self.num_probes)

    def _gradient(self, fun: Callable, x: PyTree, key: Any, value: Any) -> PyTree:
        checks.require_key(self._name, key)
        directional, like = self._directional(fun, x, value), trees.probe_like(x)
        _devices.require_shared(self._name, jax.tree.map(lambda _: key, x), x)
        if self.num_probes == 1:
            return _scaled(directional, self._probe(x, key))
        law = probes.resolve(self.law)
        chunk = chunk_length(self.chunk_size, fun, x, self.num_probes)
        if law == "orthogonal":
            total = self._sum_over_blocks(directional, like, key, chunk)
        else:
            total = _sum_over_probes(
                directional,
                lambda i: _draw(law, like, jax.random.fold_in(key, i)),
                self.num_probes,
                chunk,
            )
        return jax.tree.map(lambda leaf: leaf / self.num_probes, total)

    def _probe(self, x: PyTree, key: jax.Array) -> PyTree:
        """Draw one probe by itself, whatever the law."""
        like, law = trees.probe_like(x), probes.resolve(self.law)
        if law == "orthogonal":
            return trees.unravel(probes.orthogonal_block(like, key=key, count=1)[0], like)
        return _draw(law, like, key)

    def _sum_over_blocks(
        self, directional: Directional, like: PyTree, key: jax.Array, chunk: int
    ) -> PyTree:
        """Sum over blocks of mutually orthogonal probes, each of which is drawn whole."""
        size = min(self.num_probes, trees.size(like))
        blocks, rest = divmod(self.num_probes, size)

        def block(index: Any, count: int) -> PyTree:
            rows = probes.orthogonal_block(like, key=jax.random.fold_in(key, index), count=count)
            return _sum_over_probes(
                directional, lambda i: trees.unravel(rows[i], like), count, min(chunk, count)
            )

        total = _sum_over(lambda j: block(j, size), blocks)
        if not rest:
            return total
        # XLA:CPU of jax 0.10 deadlocks on two batched QR factorisations side by side: the last
        # block is made to wait for the others, through an index that depends on their sum.
        done = jnp.sum(jax.tree.leaves(total)[0])
        return _add(total, block(jnp.where(jnp.isnan(done), 0, blocks), rest))


def _draw(law: Law, like: PyTree, key: jax.Array) -> PyTree:
    """Draw a probe in the dtypes of `like`; raise TypeError unless it is shaped as `like`."""
    u = law(like, key=key)
    if not trees.same_shapes(u, like):
        drawn = jax.tree.map(np.shape, u)
        raise TypeError(
            f"law {getattr(law, '__name__', law)} must draw a probe shaped as x, got {drawn}"
        )
    return trees.cast_like(u, like)


def _sum_over_probes(
    directional: Directional, probe: Callable[[Any], PyTree], count: int, chunk: int
) -> PyTree:
    """Return sum of s(u_i) u_i, i < count, holding no more than `chunk` probes at a time."""

    def several(start: Any, length: int) -> PyTree:
        if length == 1:
            return _scaled(directional, probe(start))
        u = jax.vmap(probe)(start + jnp.arange(length))
        slopes = jax.vmap(directional)(u)
        return jax.tree.map(lambda leaf: jnp.tensordot(slopes.astype(leaf.dtype), leaf, 1), u)

    chunks, rest = divmod(count, chunk)
    total = _sum_over(lambda i: several(i * chunk, chunk), chunks)
    return _add(total, several(chunks * chunk, rest)) if rest else total


def _scaled(directional: Directional, u: PyTree) -> PyTree:
    slope = directional(u)
    return jax.tree.map(lambda leaf: slope.astype(leaf.dtype) * leaf, u)


def _sum_over(term: Callable[[Any], PyTree], count: int) -> PyTree:
    """Return sum of term(i), i < count, added up in the carry of a scan."""
    if count == 1:
        return term(0)

    def step(carry: tuple[jax.Array, PyTree], _: None) -> tuple[tuple[jax.Array, PyTree], None]:
        index, total = carry
        return (index + 1, _add(total, term(index))), None

    shapes = jax.eval_shape(term, jnp.asarray(0))
    start = (jnp.asarray(0), trees.zeros_like(shapes))
    (_, total), _ = jax.lax.scan(step, start, length=count)
    return total


def _add(a: PyTree, b: PyTree) -> PyTree:
    return jax.tree.map(jnp.add, a, b)
