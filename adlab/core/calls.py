"""The user's function, called for a derivative: which arguments count, and what it must return.

One binder serves all transformations, so that `argnums`, `has_aux` and a wrong return value mean
the same, and are refused in the same words, everywhere.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import _shardings, checks, trees
from adlab.core.nodes import register
from adlab.core.types import Argnums, Array, PyTree, TreeFn

__all__ = ["Bound", "argument", "bind", "calling", "check_arguments", "real_scalar"]

_GONE = (
    "Array has been deleted",
    "Buffer has been deleted or donated",
    "donate the same buffer twice",
)


@register("fun", "args", "kwargs")
@dataclass(frozen=True, eq=False)
class Bound:
    """x -> fun(..., x, ...), where x are the differentiated arguments; the others are bound.

    A pytree, whose arrays are data: a program that was compiled for it serves the next call, too.

    Attributes:
      name: the transformation, which begins messages.
      fun: a function of all arguments.
      args: the positional arguments, those whose place x takes among them.
      kwargs: the keyword arguments.
      argnums: the place of x; for a tuple of places, x is a tuple too.
      has_aux: whether `fun` returns a pair (value, aux).
      scalar: whether the value must be one real number.
    """

    name: str
    fun: TreeFn
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    argnums: Argnums
    has_aux: bool
    scalar: bool

    def __call__(self, x: PyTree) -> Any:
        """Return the value alone."""
        return self.with_aux(x)[0]

    def with_aux(self, x: PyTree) -> tuple[Any, Any]:
        """Return (value, aux); aux is None where `fun` returns none."""
        args = list(self.args)
        if isinstance(self.argnums, tuple):
            for place, part in zip(self.argnums, x, strict=True):
                args[place] = part
        else:
            args[self.argnums] = x
        try:
            out = self.fun(*args, **self.kwargs)
        except jax.errors.TracerArrayConversionError as error:
            raise TypeError(
                f"{self.name}: fun must be traceable by JAX, but it calls NumPy on x: write it "
                "with jax.numpy, or pass from_host(fun), of which finite_difference, two_point and "
                "one_sided estimate the gradient"
            ) from error
        if self.has_aux and not (isinstance(out, tuple | list) and len(out) == 2):
            raise TypeError(
                f"{self.name}: fun must return a pair (value, aux) with has_aux=True, got a "
                f"{type(out).__name__}"
            )
        value, aux = out if self.has_aux else (out, None)
        return (real_scalar(self.name, value, x) if self.scalar else value), aux


def bind(
    name: str,
    fun: TreeFn,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    argnums: Argnums,
    has_aux: bool,
    scalar: bool = True,
) -> tuple[Bound, PyTree]:
    """Return `fun` of the differentiated arguments alone, and these, as arrays (or shapes).

    >>> fun, x = bind("f", lambda a, b: a - b, (1.0, 5.0), {}, argnums=1, has_aux=False)
    >>> float(fun(x)), float(fun(jnp.float32(2)))
    (-4.0, -1.0)

    Raises:
      ValueError: argnums out of range or twice; x holds no number.
      TypeError: x isn't real floating-point. When called: no pair comes where `has_aux` is set; the
        value isn't a real scalar where `scalar` is; `fun` can't be traced.
    """
    x = argument(name, args, argnums)
    checks.require_inexact(name, x)
    x = jax.tree.map(lambda v: v if isinstance(v, jax.ShapeDtypeStruct) else trees.as_array(v), x)
    return Bound(name, fun, tuple(args), dict(kwargs), argnums, has_aux, scalar), x


def argument(name: str, args: Sequence[Any], argnums: Argnums) -> PyTree:
    """Return the argument that `argnums` names, or a tuple of several."""
    several, count = argnums if isinstance(argnums, tuple) else (argnums,), len(args)
    if not set(several) <= set(range(-count, count)):
        raise ValueError(
            f"{name}: argnums must name one of the {count} positional arguments, got {argnums}; "
            "arguments passed by keyword aren't differentiated"
        )
    if len(several) > 1 and len({place % count for place in several}) < len(several):
        raise ValueError(f"{name}: argnums must name each argument once, got {argnums}")
    chosen = tuple(args[place] for place in several)
    return chosen if isinstance(argnums, tuple) else chosen[0]


def check_arguments(argnums: Any, has_aux: Any = False) -> None:
    """Raise TypeError unless `argnums` is an integer or a tuple of them, and `has_aux` a bool.

    ValueError where the tuple is empty.
    """
    several = argnums if isinstance(argnums, tuple) else (argnums,)
    integers = (int, np.integer)
    if any(isinstance(place, bool) or not isinstance(place, integers) for place in several):
        raise TypeError(f"argnums must be an integer or a tuple of integers, got {argnums!r}")
    if not several:
        raise ValueError("argnums must name at least one argument, got ()")
    if not isinstance(has_aux, bool):
        raise TypeError(f"has_aux must be True or False, got {has_aux!r}")


def real_scalar(name: str, value: Any, x: PyTree = ()) -> Array:
    """Return `value` as an array; raise TypeError unless it is one number, real where x is."""
    if not hasattr(value, "shape") and not np.isscalar(value):
        got = jax.tree.structure(value)
        raise TypeError(f"{name}: fun must return one real floating-point number, got {got}")
    shape, dtype = np.shape(value), jnp.result_type(value)
    real = jnp.issubdtype(dtype, jnp.floating)
    # The complex step calls `fun` at complex points.
    if not real and jnp.issubdtype(dtype, jnp.inexact):
        real = any(jnp.iscomplexobj(leaf) for leaf in jax.tree.leaves(x))
    if shape != () or not real:
        raise TypeError(
            f"{name}: fun must return one real floating-point number, got {dtype} of shape {shape}"
        )
    return jnp.asarray(value)


@contextlib.contextmanager
def calling(name: str, x: PyTree) -> Iterator[None]:
    """Let the explicit mesh of `x` be the current one; say which fault a donated buffer is.

    Raises:
      ValueError: an array was read after a jitted function had got it as its own.
    """
    try:
        with _shardings.on_mesh(x):
            yield
    except (RuntimeError, ValueError) as error:
        if not any(words in str(error) for words in _GONE):
            raise
        raise ValueError(
            f"{name}: fun must not donate an array that is needed again, got a call of a jitted "
            "function with donate_argnums (or an x that was donated before): its buffer is gone "
            "when the derivative reads it. Wrap the derivative in jax.jit, inside of which nothing "
            "is donated, or leave donate_argnums away in fun"
        ) from error
