"""Functions that JAX can't trace, made callable from JAX: NumPy code, a simulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks

__all__ = ["from_host"]


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

    Raises:
      TypeError: a float64 result while JAX runs in 32-bit mode; a float32 result where float64 was
        to be expected; another wrong kind or shape. When called: compiled code reports it inside
        JAX's own runtime error, as it does every exception that `fun` raises.
    """
    if not callable(fun):
        raise TypeError(f"from_host: fun must be callable, got {fun!r}")
    if dtype is not None:
        checks.one_of("dtype", dtype, ["float32", "float64"])
    call = _batched(fun) if vectorized else _single(fun)

    def from_jax(*args: Any, **kwargs: Any) -> jax.Array:
        leaves, structure = jax.tree.flatten((args, kwargs))
        leaves = [jnp.asarray(leaf) for leaf in leaves]
        ranks = [leaf.ndim for leaf in leaves]
        value_dtype = jax.dtypes.canonicalize_dtype(dtype or np.float64)

        def on_host(*values: Any) -> np.ndarray:
            return call(structure, ranks, [np.asarray(value) for value in values], value_dtype)

        @jax.custom_jvp
        def value(*leaves: jax.Array) -> jax.Array:
            return jax.pure_callback(
                on_host,
                jax.ShapeDtypeStruct((), value_dtype),
                *leaves,
                vmap_method="broadcast_all" if vectorized else "sequential",
            )

        value.defjvp(_refuse)
        return value(*leaves)

    return from_jax


def _refuse(*args: Any) -> Any:
    del args
    raise ValueError(
        "from_host: a function of the host must not be differentiated by JAX, which can't see into "
        "it; estimate its gradient by finite_difference, two_point or one_sided"
    )


def _single(fun: Callable) -> Callable:
    def call(structure: Any, ranks: list[int], values: list[np.ndarray], dtype: Any) -> np.ndarray:
        del ranks
        args, kwargs = jax.tree.unflatten(structure, values)
        return _result(fun(*args, **kwargs), (), dtype)

    return call


def _batched(fun: Callable) -> Callable:
    def call(structure: Any, ranks: list[int], values: list[np.ndarray], dtype: Any) -> np.ndarray:
        batch = values[0].shape[: values[0].ndim - ranks[0]]
        size = int(np.prod(batch))
        flat = [
            value.reshape(size, *value.shape[value.ndim - rank :])
            for value, rank in zip(values, ranks, strict=True)
        ]
        args, kwargs = jax.tree.unflatten(structure, flat)
        return _result(fun(*args, **kwargs), (size,), dtype).reshape(batch)

    return call


def _result(value: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    value = np.asarray(value)
    if value.shape != shape or not np.issubdtype(value.dtype, np.floating):
        raise TypeError(
            f"from_host: fun must return real floating-point numbers of shape {shape}, "
            f"got shape {value.shape} of {value.dtype}"
        )
    if value.dtype.itemsize > np.dtype(dtype).itemsize:
        raise TypeError(
            f"from_host: fun returned {value.dtype}, but JAX runs in 32-bit mode or dtype asks for "
            f"{np.dtype(dtype)}, which would ruin the difference of two values: start with `adlab "
            '--x64` or jax.config.update("jax_enable_x64", True) before the first array, or return '
            "np.float32 if single precision is meant"
        )
    if value.dtype.itemsize < np.dtype(dtype).itemsize:
        raise TypeError(
            f"from_host: fun must return {np.dtype(dtype)}, got {value.dtype}: pass "
            'dtype="float32" if single precision is meant, so that automatic steps suit it'
        )
    return value
