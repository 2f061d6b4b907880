"""Functions that JAX can't trace, made callable from JAX: NumPy code, a simulator."""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any, Literal, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.xla_metadata import set_xla_metadata

from adlab.core import checks

__all__ = ["from_host", "own_errors", "searching"]

Result = TypeVar("Result")

_trace = threading.local()  # has `tolerant` while points are tried that fun may not allow
# Exceptions of functions of the host on their way through the runtime, which hands on text alone.
# Those that nobody collects, out of code that the user compiled, make room for later ones.
_raised: dict[int, Exception] = {}
_numbers = itertools.count()
_KEPT = 8
_wrapped: list[bool] = []  # not empty once there is a function of the host


class HostError(Exception):
    """What a function of the host raised, on its way through the runtime."""


@contextlib.contextmanager
def searching() -> Iterator[None]:
    """Let functions of the host that are traced now return NaN where they raise.

    The metadata, which does nothing else, keep programs that JAX has traced apart: a jitted
    function that was met elsewhere is traced again here, and the other way round.
    """
    before = getattr(_trace, "tolerant", False)
    _trace.tolerant = True
    try:
        with set_xla_metadata(adlab="search"):
            yield
    finally:
        _trace.tolerant = before


def own_errors(call: Callable[[], Result]) -> Result:
    """Return call(); raise what a function of the host raised in it, instead of JAX's own error.

    Eagerly only, for inside a trace nothing has run yet. Waits for the result, but only in
    processes that have functions of the host.
    """
    if not _wrapped:
        return call()
    try:
        result = call()
        return jax.block_until_ready(result) if checks.concrete(result) else result
    except jax.errors.JaxRuntimeError as error:
        found = re.search(r"\(from_host: exception (\d+)\)", str(error))
        own = _raised.pop(int(found[1]), None) if found else None
        if own is None:
            raise
    raise own  # here, where JAX's error isn't its context


def _sent(error: Exception) -> HostError:
    number = next(_numbers)
    _raised[number] = error
    for old in sorted(_raised)[:-_KEPT]:
        _raised.pop(old, None)
    # The runtime writes the name of the type: the user's own, though none is built of it.
    sent: type[HostError] = type(type(error).__name__, (HostError,), {})
    return sent(f"{error} (from_host: exception {number})")


def from_host(
    fun: Callable[..., Any],
    *,
    vectorized: bool = False,
    dtype: Literal["float32", "float64"] | None = None,
) -> Callable[..., jax.Array]:
    """Make a scalar function of NumPy arrays callable under jit, vmap and scan.

    The zero-order and finite-difference estimators then take its gradient; there is nothing to
    differentiate automatically. `fun` is called on the host, once per evaluation, with the leaves
    of its arguments as NumPy arrays. Its values keep their dtype: a float64 result needs JAX in
    64-bit mode, for rounding it to float32 would ruin the difference of two values.

    >>> g = two_point(from_host(lambda x: np.float32(np.sum(x**2))), num_probes=2, law="orthogonal")
    >>> g(jnp.array([1.0, 2.0]), key=jax.random.key(0)).round(2)
    Array([2., 4.], dtype=float32)

    Args:
      fun: takes arrays, or pytrees of them, and returns one real number.
      vectorized: whether `fun` evaluates a batch at once: then every leaf comes with one more
        leading axis of the same length B, and `fun` returns B numbers. The estimators' chunk_size
        is the longest batch. Otherwise a batch is evaluated one point after the other.
      dtype: precision of what `fun` returns, by which automatic steps go; None is the widest float
        that JAX has enabled.

    Returns:
      A function of the same arguments that returns a scalar of that dtype.

    What `fun` raises reaches the caller as it is, with its traceback and a note of the call; out of
    code that the caller compiled by `jax.jit`, as the last line of JAX's own runtime error. Only
    points that are tried in search of a step, further from x than a step, may fail: they count as
    if `fun` weren't finite there.

    Raises:
      TypeError: a float64 result while JAX runs in 32-bit mode; a float32 result where float64 was
        to be expected; another wrong kind or shape. When called.
    """
    if not callable(fun):
        raise TypeError(f"from_host: fun must be callable, got {fun!r}")
    if dtype is not None:
        checks.one_of("dtype", dtype, ["float32", "float64"])
    calls = {tolerant: _calling(fun, vectorized, tolerant) for tolerant in (False, True)}
    _wrapped[:] = [True]

    def from_jax(*args: Any, **kwargs: Any) -> jax.Array:
        leaves, structure = jax.tree.flatten((args, kwargs))
        leaves = [jnp.asarray(leaf) for leaf in leaves]
        ranks = [leaf.ndim for leaf in leaves]
        value_dtype = jax.dtypes.canonicalize_dtype(dtype or np.float64)
        call = calls[getattr(_trace, "tolerant", False)]

        def now(*values: Any) -> np.ndarray:
            return call(structure, ranks, [np.asarray(value) for value in values], value_dtype)

        def on_host(*values: Any) -> np.ndarray:
            try:
                return now(*values)
            except Exception as error:
                raise _sent(error) from error

        if not checks.in_trace(leaves):
            return jnp.asarray(now(*leaves))

        @jax.custom_jvp
        def value(*leaves: jax.Array) -> jax.Array:
            shape, method = jax.ShapeDtypeStruct((), value_dtype), "sequential"
            found: jax.Array = jax.pure_callback(
                on_host, shape, *leaves, vmap_method="broadcast_all" if vectorized else method
            )
            return found

        value.defjvp(_refuse)
        return own_errors(lambda: value(*leaves))  # vmap outside of jit runs it here and now

    return from_jax


def _refuse(*args: Any) -> Any:
    del args
    raise ValueError(
        "from_host: a function of the host must not be differentiated by JAX, which can't see into "
        "it; estimate its gradient by finite_difference, two_point or one_sided"
    )


def _calling(
    fun: Callable[..., Any], vectorized: bool, tolerant: bool
) -> Callable[..., np.ndarray]:
    """Return (structure, ranks, leaves, dtype) -> values; tolerant: NaN where `fun` raises."""

    def values(
        structure: Any, flat: list[np.ndarray], shape: tuple[int, ...], dtype: Any
    ) -> np.ndarray:
        args, kwargs = jax.tree.unflatten(structure, flat)
        try:
            value = fun(*args, **kwargs)
        except Exception as error:
            if not tolerant:
                shapes = ", ".join(str(leaf.shape) for leaf in flat)
                name = getattr(fun, "__name__", type(fun).__name__)
                error.add_note(f"from_host: {name} raised this, called with arrays of {shapes}")
                raise
            if sum(shape) <= 1:
                return np.full(shape, np.nan, dtype)
            rows = [[leaf[i : i + 1] for leaf in flat] for i in range(shape[0])]
            return np.concatenate([values(structure, row, (1,), dtype) for row in rows])
        return _result(value, shape, dtype)

    def call(structure: Any, ranks: list[int], leaves: list[np.ndarray], dtype: Any) -> np.ndarray:
        if not vectorized:
            return values(structure, leaves, (), dtype)
        batch = leaves[0].shape[: leaves[0].ndim - ranks[0]]
        size = int(np.prod(batch))
        flat = [
            leaf.reshape(size, *leaf.shape[leaf.ndim - rank :])
            for leaf, rank in zip(leaves, ranks, strict=True)
        ]
        found: np.ndarray = values(structure, flat, (size,), dtype)
        return found.reshape(batch)

    return call


def _result(returned: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    value: np.ndarray = np.asarray(returned)
    if value.shape != shape or not np.issubdtype(value.dtype, np.floating):
        raise TypeError(
            f"from_host: fun must return real floating-point numbers of shape {shape}, "
            f"got shape {value.shape} of {value.dtype}"
        )
    if value.dtype.itemsize > np.dtype(dtype).itemsize:
        raise TypeError(
            f"from_host: fun returned {value.dtype}, but JAX runs in 32-bit mode or dtype asks for "
            f"{np.dtype(dtype)}, which would ruin the difference of two values: call "
            'jax.config.update("jax_enable_x64", True) before the first array, or adlab run '
            "--x64, or return np.float32 if single precision is meant"
        )
    if value.dtype.itemsize < np.dtype(dtype).itemsize:
        raise TypeError(
            f"from_host: fun must return {np.dtype(dtype)}, got {value.dtype}: pass "
            'dtype="float32" if single precision is meant, so that automatic steps suit it'
        )
    return value
