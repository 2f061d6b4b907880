"""How an algorithm gets its products: flat vectors, products compiled once and counted.

`prepare` settles which engine drives an operator, `drive` runs an algorithm under it, and `call`
runs one part of an algorithm: in Python, or as one compiled program.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar, get_args

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks, probes
from adlab.core.types import ChunkSize, DTypeLike, Loop, OnProgress
from adlab.curvature._engine import FUSED, HOST, Engine
from adlab.curvature.matrices import as_operator
from adlab.curvature.operators import Operator

__all__ = ["ClosedOver", "CountedMatvec", "FlatMatvec", "call", "drive", "over_probes", "prepare"]

_T = TypeVar("_T")
_S = TypeVar("_S")
_FILLING = 2**14  # numbers that are worth a product
_VECTORS_LIMIT = 2**30  # bytes that blocks of probes may take


class ClosedOver(TypeError):
    """An operator depends on traced arrays that aren't among its data."""


class FlatMatvec:
    """Applies an operator to rows (k, d) inside a trace.

    Attributes:
      operator: what is applied.
      dim: d, the length of a row.
      dtype: of the rows.
    """

    def __init__(self, operator: Operator) -> None:
        self.operator, self.dim, self.dtype = operator, operator.dim, operator.dtype

    def __call__(self, vectors: Any) -> tuple[Any, Any]:
        """Return the products with the rows, and how long the terms of each are, (k,)."""
        return self.operator.flat_products(vectors)


class CountedMatvec(FlatMatvec):
    """Applies an operator to rows from the host; counts; refuses what isn't finite.

    Attributes:
      total: products in all, as `on_progress` hears.
      done: products so far.
    """

    def __init__(
        self, operator: Operator, total: int, on_progress: OnProgress | None = None
    ) -> None:
        super().__init__(operator)
        self.total, self.on_progress, self.done = total, on_progress, 0

    def __call__(self, vectors: Any) -> tuple[Any, Any]:
        """Return the products with the rows, and how long the terms of each are, (k,).

        Both are arrays of NumPy.

        Raises:
          ValueError: a product isn't finite.
          ClosedOver: the products are traced.
        """
        rows = vectors.astype(self.dtype, copy=False)
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
                f"{np.dtype(self.dtype).name}"
            )
        self.done += len(out)
        if self.on_progress is not None:
            self.on_progress(self.done, self.total)
        return out, sizes


@jax.jit
def _accumulate(sums: Any, weight: Any, part: Operator, vectors: jax.Array) -> Any:
    out, sizes = part.flat_products(vectors)
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


def drive(host: bool, loop: Loop, algorithm: Callable[[Engine], _T]) -> _T:
    """Run an algorithm from the host or fused.

    The host's loop can't know that a function closes over traced arrays before the first product;
    where nobody has asked for that loop, the fused one then takes over.
    """
    if not host:
        return algorithm(FUSED)
    try:
        return algorithm(HOST)
    except ClosedOver:
        if loop == "host":
            raise
    return algorithm(FUSED)


def call(
    engine: Engine, part: Callable[..., _T], matvec: CountedMatvec, *data: Any, **static: Any
) -> _T:
    """Return part(engine, matvec, *data, **static).

    The fused engine compiles it once for all `data` and operators of the same shapes; `part` has to
    be a function of a module then, and `static` hashable.
    """
    if engine is HOST:
        return part(engine, matvec, *data, **static)
    found: _T = _compiled(part, tuple(static.items()), matvec.operator, data)
    return found


@functools.partial(jax.jit, static_argnums=(0, 1))
def _compiled(part: Callable[..., Any], static: Any, operator: Operator, data: Any) -> Any:
    return part(FUSED, FlatMatvec(operator), *data, **dict(static))


def over_probes(
    engine: Engine,
    matvec: FlatMatvec,
    key: Any,
    law: Any,
    sizes: tuple[int, int],
    step: Callable[[Any, _S, Any, Any], _S],
    state: _S,
    enough: Callable[[int, _S], bool] | None = None,
) -> tuple[Any, _S]:
    """Take a step per chunk of probes; return how many probes there were, and the last state.

    A step gets the number of probes before, the state, the probes (k, d) and their products.
    sizes: the number of all probes, and that of a chunk. `enough` tells the host's loop to stop.
    """
    count, chunk = sizes

    def take(size: int) -> Callable[[Any, tuple[Any, _S]], tuple[Any, _S]]:
        def taken(_: Any, before: tuple[Any, _S]) -> tuple[Any, _S]:
            done, state = before
            vectors = engine.draw(law, matvec.operator, key, done + engine.xp.arange(size))
            return done + size, step(done, state, vectors, matvec(vectors)[0])

        return taken

    until = None if enough is None else lambda found: enough(*found)
    found = engine.repeat(0, count // chunk, take(chunk), (0, state), until)
    if count % chunk and not (until is not None and count >= chunk and until(found)):
        found = take(count % chunk)(0, found)
    return found


def chunk_length(chunk_size: ChunkSize, dim: int, count: int, kept: int, dtype: DTypeLike) -> int:
    """Return how many probes share a product, `kept` vectors of memory each.

    Several vectors in one product pay for small operators alone: on a CPU the products of a
    convolutional network take longer together than one after the other.
    """
    if chunk_size != "auto":
        checks.at_least("chunk_size", chunk_size, 1)
        return min(chunk_size, count)
    fitting = _VECTORS_LIMIT // max(1, kept * dim * np.dtype(dtype).itemsize)
    return int(max(1, min(count, fitting, max(1, _FILLING // dim))))


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
