"""Whether a function may be differentiated by the complex step: only if it is holomorphic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
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
        "cholesky",
        "clamp",
        "conj",
        "cummax",
        "cummin",
        "eigh",
        "eq",
        "ge",
        "geqp3",
        "geqrf",
        "gt",
        "householder_product",
        "imag",
        "is_finite",
        "le",
        "lt",
        "max",
        "min",
        "ne",
        "qr",
        "real",
        "reduce_max",
        "reduce_min",
        "reduce_precision",
        "round",
        "schur",
        "sign",
        "sort",
        "svd",
        "top_k",
    ]
)
_NOT_THE_USERS = (str(Path(jax.__file__).parent), str(Path(__file__).parent))


def require_holomorphic(function: str, fun: Callable[..., Any], x: Any) -> None:
    """Raise ValueError when the jaxpr of `fun` at complex x holds an operation without derivative.

    Such an operation (abs, max, a comparison, conj inside a norm or a factorisation, a callback
    that returns real numbers, ...) drops or mixes up the imaginary part that carries the
    derivative, and so returns zeros or nonsense without a word.
    """
    try:
        jaxpr = jax.make_jaxpr(fun)(x).jaxpr
    except (TypeError, ValueError) as error:
        if str(error).startswith(function):
            raise  # our own words about what fun returns
        raise ValueError(
            f'{function}: scheme="complex" needs a fun that accepts complex input, and this one '
            f'says: {str(error).splitlines()[0]}; use scheme="richardson"'
        ) from error
    for eqn, *around in _equations(jaxpr):
        if _breaks(eqn):
            raise ValueError(
                f'{function}: scheme="complex" needs a holomorphic fun, but it uses '
                f"{eqn.primitive.name!r} on complex numbers{_place(eqn, *around)}; "
                'use scheme="richardson"'
            )


def _equations(jaxpr: jex.Jaxpr) -> Iterator[tuple[jex.JaxprEqn, ...]]:
    """Yield every equation, followed by those whose jaxprs it is in, from the inside out."""
    for eqn in jaxpr.eqns:
        yield (eqn,)
        for inner in subjaxprs(eqn):
            yield from ((*chain, eqn) for chain in _equations(inner))


def _is_complex(atom: Any) -> bool:
    dtype = getattr(atom.aval, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.complexfloating)


def _breaks(eqn: jex.JaxprEqn) -> bool:
    if not any(map(_is_complex, eqn.invars)):
        return False
    made_real = bool(eqn.outvars) and not any(map(_is_complex, eqn.outvars))
    return eqn.primitive.name in _BREAKS or (made_real and not any(subjaxprs(eqn)))


def _place(*chain: jex.JaxprEqn) -> str:
    """Name the innermost line of the user's own code; what is inside jit knows no line outside."""
    for eqn in chain:
        frames: Any = getattr(eqn.source_info.traceback, "frames", ())
        for frame in frames:
            if not frame.file_name.startswith(_NOT_THE_USERS):
                return f" at {frame.file_name}:{frame.line_num} ({frame.function_name})"
    return ""
