"""Whether a function may be differentiated by the complex step: only if it is holomorphic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core as jex

from adlab.core.flops import subjaxprs

__all__ = ["require_holomorphic"]

_BREAKS = frozenset(
    [
        "abs",
        "arg_max",
        "arg_min",
        "argmax",
        "argmin",
        "clamp",
        "conj",
        "cummax",
        "cummin",
        "eq",
        "ge",
        "gt",
        "imag",
        "is_finite",
        "le",
        "lt",
        "max",
        "min",
        "ne",
        "real",
        "reduce_max",
        "reduce_min",
        "reduce_precision",
        "round",
        "sign",
        "sort",
        "top_k",
    ]
)


def require_holomorphic(function: str, fun: Callable[..., Any], x: Any) -> None:
    """Raise ValueError when the jaxpr of `fun` at complex x holds an operation without derivative.

    Such an operation (abs, max, a comparison, conj inside a norm, ...) drops the imaginary part
    that carries the derivative, and so returns zeros without a word.
    """
    try:
        jaxpr = jax.make_jaxpr(fun)(x).jaxpr
    except TypeError as error:
        raise ValueError(
            f'{function}: scheme="complex" needs a fun that accepts complex input, and this one '
            f'says: {str(error).splitlines()[0]}; use scheme="richardson"'
        ) from error
    for eqn in _equations(jaxpr):
        if _breaks(eqn):
            raise ValueError(
                f'{function}: scheme="complex" needs a holomorphic fun, but it uses '
                f'{eqn.primitive.name!r} on complex numbers{_place(eqn)}; use scheme="richardson"'
            )


def _equations(jaxpr: jex.Jaxpr) -> Iterator[jex.JaxprEqn]:
    for eqn in jaxpr.eqns:
        yield eqn
        for inner in subjaxprs(eqn):
            yield from _equations(inner)


def _is_complex(atom: Any) -> bool:
    dtype = getattr(atom.aval, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.complexfloating)


def _breaks(eqn: jex.JaxprEqn) -> bool:
    if not any(map(_is_complex, eqn.invars)):
        return False
    if eqn.primitive.name == "convert_element_type":
        return not _is_complex(eqn.outvars[0])
    return eqn.primitive.name in _BREAKS


def _place(eqn: jex.JaxprEqn) -> str:
    """Name the line of the user's code behind an equation: the innermost frame outside JAX."""
    frames: Any = getattr(eqn.source_info.traceback, "frames", ())
    for frame in frames:
        if "/jax/" not in frame.file_name and "/adlab/gradients/" not in frame.file_name:
            return f" at {frame.file_name}:{frame.line_num} ({frame.function_name})"
    return ""
