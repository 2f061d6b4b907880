"""Functions that run as one program each where they are called outside of any trace."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar, cast

import jax
import numpy as np
from jax.extend import core as jex

from adlab.core import calls, checks, jaxprs
from adlab.core.types import PyTree

__all__ = ["as_program", "one_program", "signature"]

_Function = TypeVar("_Function", bound=Callable[..., Any])
_KEPT: OrderedDict[Hashable, Callable[..., list[Any]]] = OrderedDict()
_MOST = 64  # programs that are kept
_READING = (TypeError, ValueError, LookupError, AttributeError)
"""What Python's operations raise of a traced value, JAX's own errors among them."""
_FEW = 1024  # bytes of a constant that a program may be kept with


def one_program(*static: int) -> Callable[[_Function], _Function]:
    """Compile a function as a whole, instead of operation by operation; traces see through it.

    What was traced before is traced as if nothing had been said. For functions of arrays alone,
    which call none of the user's.

    Args:
      *static: the places of arguments that are no arrays.
    """

    def decorate(fun: _Function) -> _Function:
        return cast(_Function, jax.jit(fun, static_argnums=static, inline=True))

    return decorate


def as_program(compute: Callable[[Any], PyTree], fun: Any, x: PyTree) -> PyTree:
    """Return compute(fun); outside of a trace, as one program.

    `compute` is called each time, since the user's function may read what has changed. What it
    computes is compiled once: a program of the same operations, on arrays of the same shapes,
    serves again. Nothing of the user's is kept with it.

    Args:
      compute: what it closes over may be traced.
      fun: a `Bound` function, whose arrays and constants are data of the program; or any other.
      x: what is differentiated, in whose trace `compute` may be.
    """
    if checks.in_trace(x):
        return compute(fun)
    data, rebuilt = _data(fun)
    traced = None
    # A function may read its constants: branch on them, index by them, look them up, write them
    # into text. A traced one raises then, and the second try, with the constants themselves, tells
    # whether that was all.
    if data:
        with contextlib.suppress(*_READING):
            traced = jax.make_jaxpr(lambda data: compute(rebuilt(data)), return_shape=True)(data)
    if traced is None:
        data = []
        traced = jax.make_jaxpr(lambda _: compute(fun), return_shape=True)(data)
    program, shapes = traced
    run, key = None, signature(program.jaxpr)
    if key is not None and (run := _KEPT.pop(key, None)):
        _KEPT[key] = run  # used last
    if run is None:
        run = jax.jit(jaxprs.hoisted(program, "compute"))
        if key is not None:
            _KEPT[key] = run
            if len(_KEPT) > _MOST:
                _KEPT.popitem(last=False)
    return jax.tree.unflatten(jax.tree.structure(shapes), run(*program.consts, *data))


def _data(fun: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    """Return the arrays of a function's arguments, its constants, and how to put them back.

    Python's numbers among its arguments stay: a function may well branch on those.
    """
    if not isinstance(fun, calls.Bound):
        return [], lambda _: fun
    leaves, tree = jax.tree.flatten(((fun.args, fun.kwargs), fun.fun))
    given = len(jax.tree.leaves((fun.args, fun.kwargs)))
    arrays = jax.Array | np.ndarray | np.generic
    places = [
        k
        for k, leaf in enumerate(leaves)
        if isinstance(leaf, arrays) or (k >= given and type(leaf) is float)
    ]

    def rebuilt(data: list[Any]) -> calls.Bound:
        filled = list(leaves)
        for place, value in zip(places, data, strict=True):
            filled[place] = value
        (args, kwargs), function = jax.tree.unflatten(tree, filled)
        return dataclasses.replace(fun, fun=function, args=args, kwargs=kwargs)

    return [leaves[place] for place in places], rebuilt


class _Own(Exception):
    """A program holds functions, effects or arrays of its own."""


def signature(jaxpr: jex.Jaxpr) -> Hashable | None:
    """Return what two programs have in common if and only if they compute the same of arguments.

    None where that can't be told, or where the program would keep what is the user's: functions
    among its parameters (callbacks, rules for derivatives), constants inside its calls.
    """
    try:
        found = _program(jaxpr)
        hash(found)
    except (_Own, TypeError):
        return None
    return found


def _program(jaxpr: jex.Jaxpr) -> Hashable:
    if jaxpr.effects or any("custom_" in e.primitive.name for e in jaxpr.eqns):
        raise _Own  # rules for derivatives hide in parameters that aren't callable
    names: dict[Any, int] = {}

    def written(atom: Any) -> Hashable:
        if isinstance(atom, jex.Literal):
            value = np.asarray(atom.val)
            return (value.dtype.str, value.tobytes(), atom.aval)
        return (names.setdefault(atom, len(names)), atom.aval)

    inputs = tuple(written(var) for var in (*jaxpr.constvars, *jaxpr.invars))
    body = tuple(
        (
            equation.primitive,
            tuple(written(atom) for atom in equation.invars),
            tuple(written(var) for var in equation.outvars),
            tuple((name, _parameter(equation.params[name])) for name in sorted(equation.params)),
            str(equation.ctx),
        )
        for equation in jaxpr.eqns
    )
    return (inputs, body, tuple(written(atom) for atom in jaxpr.outvars))


def _constant(value: Any) -> Hashable:
    """Return what a constant of an inner program is: a few numbers of NumPy's, or the user's."""
    if isinstance(value, jax.Array):  # or what stands for one in a trace
        raise _Own
    numbers = np.asarray(value)
    if numbers.nbytes > _FEW or numbers.dtype.hasobject:
        raise _Own
    return (numbers.dtype.str, numbers.shape, numbers.tobytes())


def _parameter(value: Any) -> Hashable:
    if isinstance(value, jex.ClosedJaxpr):
        return (_program(value.jaxpr), *map(_constant, value.consts))
    if isinstance(value, jex.Jaxpr):
        return _program(value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return (type(value), *map(_parameter, value))
    if isinstance(value, dict):
        return tuple((name, _parameter(value[name])) for name in sorted(value))
    if callable(value) and not isinstance(value, type | jax.sharding.Mesh):  # a mesh can decorate
        raise _Own
    return cast(Hashable, (type(value), value))
