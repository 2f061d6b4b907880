"""The two loops that an algorithm runs in, behind one interface: its mathematics is written once.

`HOST` takes the steps in Python, over arrays of NumPy, which are filled in place. It calls one
compiled product at a time and keeps its vectors in the host's memory: the only way for operators
over batches from the host, and the fast one on CPU, whose compiler makes the gradients of
convolutions many times slower inside loops. `FUSED` traces the same steps into one compiled
program, which may also stand inside of another trace.

An algorithm is a function of an engine. It computes with `engine.xp`, and leaves to the engine what
the two worlds do in different ways: loops, branches, writing into an array, and drawing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import probes, trees
from adlab.core.types import Array, DTypeLike, Key
from adlab.curvature.operators import Operator

__all__ = ["FUSED", "HOST", "Engine", "draw", "engine_of"]

_T = TypeVar("_T")
_S = TypeVar("_S")
_EXACT = (probes.rademacher, probes.coordinate)
_BLOCK = 16  # probes that the host draws at a time
_FILLING = 2**14  # numbers that are worth a program's call


class Engine:
    """The loop in Python; a subclass overrides what differs inside a program.

    Attributes:
      xp: the namespace of the arrays.
    """

    xp: Any = np

    def put(self, array: Any, index: Any, values: Any) -> Any:
        """Return `array` with `values` at `index`; that of the host is written in place."""
        array[index] = values
        return array

    def fill(self, array: Any, start: Any, values: Any) -> Any:
        """Return `array` (m,) with `values` from entry `start` on."""
        return self.put(array, slice(start, start + len(values)), values)

    def filled(self, rows: Any, count: Any) -> Any:
        """Return the first `count` rows (p, m, d), or all where those beyond are zeros."""
        return rows[:, :count]

    def repeat(
        self, start: Any, stop: Any, step: Callable[[Any, _S], _S], state: _S,
        until: Callable[[_S], bool] | None = None,
    ) -> _S:  # fmt: skip
        """Return the state after step(i, state) for i from `start` to `stop` - 1.

        `until` tells whether to stop early; a program takes all steps.
        """
        for index in range(start, stop):
            state = step(index, state)
            if until is not None and until(state):
                break
        return state

    def repeat_while(
        self, going_on: Callable[[_S], Any], step: Callable[[_S], _S], state: _S
    ) -> _S:
        """Return the first state for which `going_on` is false."""
        while going_on(state):
            state = step(state)
        return state

    def choose(
        self, condition: Any, one: Callable[..., _T], other: Callable[..., _T], *args: Any
    ) -> _T:
        """Return one(*args) or other(*args)."""
        return one(*args) if condition else other(*args)

    def each(self, function: Callable[..., Any], *rows: Any) -> Any:
        """Return function(*row) of every row, one at a time, stacked leaf by leaf."""
        found = [function(*row) for row in zip(*rows, strict=True)]
        return jax.tree.map(lambda *leaves: np.stack(leaves), *found)

    def constant(self, tree: _T) -> _T:
        """Return what has the same values, and no derivative."""
        return tree

    def held(self, function: Callable[..., _T], *example: Any) -> Callable[..., _T]:
        """Return the function without derivatives in what it closes over."""
        del example
        return function

    def wide(self, dtype: DTypeLike) -> np.dtype[Any]:
        """Return the dtype that sums over vectors have: on the host float64, to lose no digits."""
        del dtype
        return np.dtype(np.float64)

    def draw(self, law: Any, operator: Operator, key: Key, indices: Any) -> Any:
        """Return the probes of these indices as rows (k, d), see `draw`."""
        leaves, structure = jax.tree.flatten(operator.like)
        indices = np.asarray(indices)
        # Few are drawn in blocks of one length: another number of them needs no other program.
        # Laws with round-off keep theirs, whose last bits depend on how many are drawn together.
        few = law in _EXACT and len(indices) <= 4 * _BLOCK
        block = max(1, min(_BLOCK, _FILLING // operator.dim)) if few else len(indices)
        padded = np.pad(indices, (0, -len(indices) % block), mode="edge").reshape(-1, block)
        rows = [np.asarray(_draw(law, tuple(leaves), structure, key, each)) for each in padded]
        return np.concatenate(rows)[: len(indices)]

    def directions(self, key: Key, shape: tuple[int, ...], dtype: DTypeLike) -> Callable[..., Any]:
        """Return a function of an index that draws normal vectors of this shape."""

        @functools.cache
        def generator() -> np.random.Generator:  # most runs need none
            words = jax.random.bits(jax.random.fold_in(key, 1), (4,))
            return np.random.default_rng(np.asarray(words))

        return lambda _: generator().standard_normal(shape).astype(dtype)


class _Fused(Engine):
    """The loop inside a program: arrays don't change in place, and sizes don't depend on values."""

    xp = jnp

    def put(self, array: Any, index: Any, values: Any) -> Any:
        return array.at[index].set(values)

    def fill(self, array: Any, start: Any, values: Any) -> Any:
        return jax.lax.dynamic_update_slice(array, values, (start,))

    def filled(self, rows: Any, count: Any) -> Any:
        del count
        return rows

    def repeat(
        self, start: Any, stop: Any, step: Callable[[Any, _S], _S], state: _S,
        until: Callable[[_S], bool] | None = None,
    ) -> _S:  # fmt: skip
        del until
        found: _S = jax.lax.fori_loop(start, stop, step, state)
        return found

    def repeat_while(
        self, going_on: Callable[[_S], Any], step: Callable[[_S], _S], state: _S
    ) -> _S:
        return jax.lax.while_loop(going_on, step, state)

    def choose(
        self, condition: Any, one: Callable[..., _T], other: Callable[..., _T], *args: Any
    ) -> _T:
        found: _T = jax.lax.cond(condition, one, other, *args)
        return found

    def each(self, function: Callable[..., Any], *rows: Any) -> Any:
        return jax.lax.map(lambda row: function(*row), rows)

    def constant(self, tree: _T) -> _T:
        return jax.lax.stop_gradient(tree)

    def held(self, function: Callable[..., _T], *example: Any) -> Callable[..., _T]:
        converted, arrays = jax.closure_convert(function, *example)
        arrays = jax.lax.stop_gradient(arrays)
        return lambda *args: converted(*args, *arrays)

    def wide(self, dtype: DTypeLike) -> np.dtype[Any]:
        return np.dtype(dtype)

    def draw(self, law: Any, operator: Operator, key: Key, indices: Any) -> Any:
        return draw(law, operator.like, key, indices)

    def directions(self, key: Key, shape: tuple[int, ...], dtype: DTypeLike) -> Callable[..., Any]:
        return lambda index: jax.random.normal(jax.random.fold_in(key, index), shape, dtype)


HOST, FUSED = Engine(), _Fused()


def engine_of(array: Any) -> Engine:
    """Return the engine whose array this is."""
    return FUSED if isinstance(array, jax.Array) else HOST


def draw(law: Any, like: Any, key: Key, indices: Any) -> Array:
    """Return the probes of these indices as rows (k, d): probe i comes from fold_in(key, i)."""
    like = trees.probe_like(like)

    def one(index: Any) -> Array:
        return trees.ravel(law(like, key=jax.random.fold_in(key, index)))

    return jax.vmap(one)(indices)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _draw(law: Any, leaves: Any, structure: Any, key: Key, indices: Any) -> Array:
    return draw(law, jax.tree.unflatten(structure, leaves), key, indices)
