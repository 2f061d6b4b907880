"""How algorithms apply an operator: vectors laid out flat, products compiled once and counted.

There are two loops. The host's calls one compiled product at a time, keeps its vectors in the
host's memory and does its algebra in NumPy: the only way for operators over batches from the host,
and the fast one on CPU, whose compiler makes the gradients of convolutions many times slower inside
loops. The fused one is a single compiled program, which also runs inside a trace.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks, probes, trees
from adlab.curvature.operators import Operator, as_operator, products_and_sizes

__all__ = ["ChunkSize", "ClosedOver", "CountedMatvec", "Loop", "drive", "prepare"]

Loop = Literal["auto", "host", "fused"]
ChunkSize = int | Literal["auto"]
OnProgress = Callable[[int, int], None]
_FILLING = 2**14  # numbers that are worth a product
_VECTORS_LIMIT = 2**30  # bytes that blocks of probes may take


class ClosedOver(TypeError):
    """An operator depends on traced arrays that aren't among its data."""


class CountedMatvec:
    """Applies an operator to rows (k, d) from the host; counts; refuses what isn't finite."""

    def __init__(
        self, operator: Operator, total: int, on_progress: OnProgress | None = None
    ) -> None:
        self.operator, self.total, self.on_progress = operator, total, on_progress
        self.dim, self.dtype = operator.dim, trees.common_dtype(operator.like)
        self.done = 0

    def __call__(self, vectors: np.ndarray) -> np.ndarray:
        """Return the products with the rows of `vectors` as an array of NumPy.

        Raises:
          ValueError: one isn't finite.
          ClosedOver: they are traced.
        """
        return self.with_sizes(vectors)[0]

    def with_sizes(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the products, and how long the terms of each are that were added, (k,)."""
        rows = jnp.asarray(vectors, self.dtype)
        sums: Any = None
        for weight, part in self.operator.parts():
            sums = _accumulate(sums, weight, part, rows)
        if not checks.concrete(sums):
            raise ClosedOver(
                "operator must hold arrays that are traced (by grad, vmap or jit) as data to be "
                "driven from the host, got a function that closes over one; pass "
                'loop="fused" without options of the host\'s, or jax.tree_util.Partial(fun, array)'
            )
        out, sizes = map(np.asarray, sums)
        finite = np.isfinite(out.sum(axis=1))
        if not finite.all():
            step = self.done + int(np.argmin(finite)) + 1
            raise ValueError(
                f"matvec must return finite numbers, got NaN or infinity in product {step} of "
                f"{self.total}; check the loss and its parameters for NaN, and overflow in "
                f"{self.dtype.name}"
            )
        self.done += len(out)
        if self.on_progress is not None:
            self.on_progress(self.done, self.total)
        return out, sizes


@jax.jit
def _accumulate(sums: Any, weight: Any, part: Operator, vectors: jax.Array) -> Any:
    out, sizes = products_and_sizes(part, vectors)
    weight = jnp.asarray(weight, out.dtype)
    found = weight * out, abs(weight) * sizes
    return found if sums is None else jax.tree.map(jnp.add, sums, found)


def require_finite(results: Any) -> None:
    """Raise ValueError where a fused run, outside of a trace, met what isn't finite."""
    if not checks.concrete(results):
        return
    if not all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(results)):
        raise ValueError(
            "matvec must return finite numbers, got NaN or infinity; check the loss and its "
            'parameters for NaN, and overflow; loop="host" tells at which product'
        )


def prepare(operator: Any, loop: Loop, key: Any, **host_only: Any) -> tuple[Operator, bool]:
    """Return the operator, and whether the host drives it: not where it or the key is traced.

    An option among `host_only` that isn't None settles it.

    Raises:
      ValueError: an unknown loop; one that can't drive this operator here, or has no such option.
      TypeError: not an operator.
    """
    checks.one_of("loop", loop, get_args(Loop))
    operator = as_operator(operator)
    traced = checks.in_trace((key, operator if operator.traceable else ()))
    if not operator.traceable and (traced or loop == "fused"):
        raise ValueError(
            "an operator over batches from the host must be driven from the host, outside jit and "
            'with loop="auto" or "host"; or give over() the batches as curvature.stacked(...)'
        )
    if traced and loop == "host":
        raise ValueError('loop="host" must not be asked for inside jit, vmap or scan')
    given = {name: option for name, option in host_only.items() if option is not None}
    for name, option in given.items():
        if traced:
            raise ValueError(f"{name} must not be asked for inside jit, vmap or scan")
        if loop == "fused":
            raise ValueError(f'{name} must be left away unless loop="host", got {option!r}')
    if traced or not operator.traceable:
        return operator, not traced
    on_cpu = jax.default_backend() == "cpu"
    return operator, loop == "host" or (loop == "auto" and (bool(given) or on_cpu))


def drive(host: bool, loop: Loop, on_host: Callable[[], Any], fused: Callable[[], Any]) -> Any:
    """Run an algorithm from the host or fused.

    The host's loop can't know that a function closes over traced arrays before the first product;
    where nobody has asked for that loop, the fused one then takes over.
    """
    if not host:
        return fused()
    try:
        return on_host()
    except ClosedOver:
        if loop == "host":
            raise
    return fused()


def chunk_length(chunk_size: ChunkSize, dim: int, count: int, kept: int, dtype: Any) -> int:
    """Return how many probes share a product, `kept` vectors of memory each.

    Several vectors in one product pay for small operators alone: on a CPU the products of a
    convolutional network take longer together than one after the other.
    """
    if chunk_size != "auto":
        checks.at_least("chunk_size", chunk_size, 1)
        return min(chunk_size, count)
    fitting = _VECTORS_LIMIT // max(1, kept * dim * np.dtype(dtype).itemsize)
    return int(max(1, min(count, fitting, max(1, _FILLING // dim))))


def draw(law: Any, like: Any, key: jax.Array, indices: jax.Array) -> jax.Array:
    """Return the probes of these indices as rows (k, d): probe i comes from fold_in(key, i)."""
    like = trees.probe_like(like)

    def one(index: Any) -> jax.Array:
        return trees.ravel(law(like, key=jax.random.fold_in(key, index)))

    return jax.vmap(one)(indices)


def resolve_law(law: Any) -> Any:
    """Return the callable behind a law of independent probes.

    Raises:
      ValueError: unknown, or "orthogonal", whose probes aren't independent.
    """
    found = probes.resolve(law)
    if isinstance(found, str):
        raise ValueError(
            f"law must be one of independent probes, got {law!r}; Hutch++ and XTrace are the "
            "estimators that use orthogonality"
        )
    return found


def check_memory(what: str, num_bytes: int) -> None:
    """Raise ValueError where this machine's memory can't hold `num_bytes`."""
    try:
        present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return
    if num_bytes > present:
        raise ValueError(
            f"{what} must fit into memory, got {num_bytes / 2**30:.1f} GiB for "
            f"{present / 2**30:.1f} GiB; take fewer num_matvecs, or a block by where="
        )


def draw_on_host(law: Any, operator: Operator, key: jax.Array, indices: Any) -> np.ndarray:
    """Return the same probes as an array of NumPy."""
    leaves, structure = jax.tree.flatten(operator.like)
    return np.asarray(_draw(law, tuple(leaves), structure, key, jnp.asarray(indices)))


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _draw(law: Any, leaves: Any, structure: Any, key: Any, indices: Any) -> jax.Array:
    return draw(law, jax.tree.unflatten(structure, leaves), key, indices)
