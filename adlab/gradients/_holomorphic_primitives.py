"""Primitives that keep the complex step: those that JAX may apply to x moved along i.

A primitive is known here when it is holomorphic, maps real numbers to real ones, and its compiled
form keeps a tiny imaginary part apart from the real one: never is it the difference of two numbers
of the size of the real part. The first two are mathematics. The third is read off values by the
tests, on each backend that they run on and for each name. All the rest is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax.extend import core as jex

from adlab.core import jaxprs

__all__ = ["CALLS", "KNOWN", "REAL", "is_complex", "is_known"]

# Numbers are moved, chosen by other data, or added.
_MOVES = [
    "broadcast_in_dim",
    "concatenate",
    "copy",
    "device_put",
    "dynamic_slice",
    "dynamic_update_slice",
    "gather",
    "name",
    "optimization_barrier",
    "pad",
    "reshape",
    "rev",
    "scatter",
    "select_n",
    "sharding_constraint",
    "slice",
    "split",
    "squeeze",
    "stack",
    "stop_gradient",
    "tile",
    "transpose",
    "unstack",
]
_SUMS = [
    "add",
    "add_any",
    "cumsum",
    "neg",
    "reduce_sum",
    "reduce_window_sum",
    "scatter-add",
    "scatter-sub",
    "sub",
]
_PRODUCTS = [
    "cumprod",
    "div",
    "dot_general",
    "integer_pow",
    "mul",
    "polynomial",
    "reduce_prod",
    "scatter-mul",
    "square",
]
# Those with a branch cut on the real axis leave it there; fun then isn't real for real x.
_ELEMENTARY = [
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "cos",
    "cosh",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log1p",
    "log2",
    "logistic",
    "one_minus_square",
    "pow",
    "rsqrt",
    "sin",
    "sinh",
    "sqrt",
    "tan",
    "tanh",
]
# LU pivots by size, so that a small step leaves the order of rows as it is. Cholesky, QR, eigh and
# SVD conjugate in their complex form; eig rotates by complex numbers of size 1.
_LINEAR_ALGEBRA = ["lu", "triangular_solve", "tridiagonal_solve"]
_COLLECTIVES = [
    "all_gather",
    "all_to_all",
    "ppermute",
    "psum",
    "psum_invariant",
    "pvary",
    "reduce_scatter",
]
# By the function that they are given, which is read in its turn.
_BY_FUNCTION = ["reduce", "reduce_window"]

KNOWN = frozenset(
    [
        *_MOVES,
        *_SUMS,
        *_PRODUCTS,
        *_ELEMENTARY,
        *_LINEAR_ALGEBRA,
        *_COLLECTIVES,
        *_BY_FUNCTION,
        "conv_general_dilated",
        "convert_element_type",
    ]
)
# These, too, return real numbers where those that they are given are real. They are of use for data
# that don't depend on x.
REAL = frozenset(
    [
        "clamp",
        "conj",
        "cumlogsumexp",
        "cummax",
        "cummin",
        "iota",
        "max",
        "min",
        "reduce_max",
        "reduce_min",
        "sign",
        "sort",
        *KNOWN,
    ]
)
# What is read inside, on the same operands. A custom rule is of no matter: the complex step runs
# the function itself. A `shard_map` means more than its body to others, who count whole arrays.
CALLS = jaxprs.CALLS | jaxprs.CHECKPOINTS | jaxprs.CUSTOM_RULES | {"shard_map"}


def is_complex(atom: Any) -> bool:
    """Return whether a variable or literal of a jaxpr holds complex numbers."""
    dtype = getattr(atom.aval, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.complexfloating)


def is_known(eqn: jex.JaxprEqn, moving: Sequence[bool]) -> bool:
    """Return whether the equation keeps the complex step, where these operands depend on x."""
    name = eqn.primitive.name
    if name == "triangular_solve" and eqn.params["conjugate_a"] and moving[0]:
        return False
    # The pivots of LU are whole numbers, constant near x. All else real has lost what moves it.
    return name in KNOWN and (name == "lu" or all(map(is_complex, eqn.outvars)))
