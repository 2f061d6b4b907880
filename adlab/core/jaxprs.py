"""Programs as JAX writes them down, jaxprs: their equations, and how to run them or parts of them.

A jaxpr is a list of equations. An equation applies a primitive, under parameters, to variables of
the program and to literals, and may hold jaxprs of its own: the body of a loop, what is compiled.
A closed jaxpr holds the values of its constants, too. All is public JAX: `jax.extend.core`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from jax.extend import core as jex

__all__ = [
    "CALLS",
    "CHECKPOINTS",
    "CUSTOM_RULES",
    "called",
    "closed",
    "equations",
    "hoisted",
    "num_bytes",
    "peak_bytes",
    "run_equation",
    "step_function",
    "subjaxprs",
    "walk",
]

CALLS = frozenset(["call", "closed_call", "core_call", "eval_jaxpr", "jit", "pjit"])
"""Primitives that call one function of their own operands, and mean no more than it does."""
CHECKPOINTS = frozenset(["checkpoint", "remat", "remat2"])
"""Names that `jax.checkpoint` has had; it, too, calls one function."""
CUSTOM_RULES = frozenset(["custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"])
"""Functions that bring a derivative of their own."""

_Value = TypeVar("_Value")


def equations(jaxpr: jex.Jaxpr) -> Iterator[jex.JaxprEqn]:
    """Yield the equations of a jaxpr and of all jaxprs inside it.

    >>> program = jax.make_jaxpr(jax.jit(lambda x: jnp.sin(x) + 1))(0.0)
    >>> [equation.primitive.name for equation in equations(program.jaxpr)]
    ['jit', 'sin', 'add']
    """
    for equation in jaxpr.eqns:
        yield equation
        for inner in subjaxprs(equation):
            yield from equations(inner)


def subjaxprs(equation: jex.JaxprEqn) -> Iterator[jex.Jaxpr]:
    """Yield the jaxprs that an equation holds among its parameters."""
    for value in equation.params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, jex.ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, jex.Jaxpr):
                yield item


def called(equation: jex.JaxprEqn) -> jex.ClosedJaxpr:
    """Return what an equation calls with its own operands: a call, a checkpoint, a custom rule."""
    names = ("jaxpr", "call_jaxpr", "fun_jaxpr")
    inner = next(equation.params[name] for name in names if name in equation.params)
    return closed(inner)


def closed(jaxpr: jex.Jaxpr | jex.ClosedJaxpr) -> jex.ClosedJaxpr:
    """Return a jaxpr that has no constants, or whose constants are known, as a closed one."""
    return jaxpr if isinstance(jaxpr, jex.ClosedJaxpr) else jex.ClosedJaxpr(jaxpr, ())


def num_bytes(aval: Any) -> int:
    """Return the bytes of a value of this type; 0 for what is no array, such as a token."""
    itemsize = getattr(getattr(aval, "dtype", None), "itemsize", 0)
    return math.prod(getattr(aval, "shape", ())) * int(itemsize)


def walk(
    program: jex.ClosedJaxpr,
    inputs: Sequence[_Value],
    step: Callable[[jex.JaxprEqn, list[_Value]], Sequence[_Value]],
    *,
    literal: Callable[[Any], _Value] = lambda value: value,
    constant: Callable[[Any], _Value] = lambda value: value,
) -> list[_Value]:
    """Go through a program, equation by equation, and return what stands for its outputs.

    What stands for a value is anything: the value itself where the program is run, or what is known
    of it.

    Args:
      program: a closed jaxpr.
      inputs: what stands for its inputs.
      step: from an equation, and what stands for its operands, to what stands for its results.
      literal: from a literal to what stands for it.
      constant: from a constant to what stands for it.
    """
    jaxpr = program.jaxpr
    found: dict[Any, _Value] = dict(zip(jaxpr.invars, inputs, strict=True))
    found.update(zip(jaxpr.constvars, map(constant, program.consts), strict=True))

    def operand(atom: Any) -> _Value:
        return literal(atom.val) if isinstance(atom, jex.Literal) else found[atom]

    for equation in jaxpr.eqns:
        results = step(equation, [operand(atom) for atom in equation.invars])
        found.update(zip(equation.outvars, results, strict=True))
    return [operand(atom) for atom in jaxpr.outvars]


def step_function(
    equation: jex.JaxprEqn, literals: Mapping[int, Any] | None = None
) -> Callable[..., list[Any]]:
    """Return one equation as a function of its operands that aren't literals, in order.

    A variable that stands in two places is two operands: x * x has two partial derivatives.

    Args:
      equation: of any program.
      literals: values of more operands, by their places, that become literals.
    """
    literals = literals or {}
    atoms: list[Any] = []
    variables: list[Any] = []
    atom: Any
    for place, atom in enumerate(equation.invars):
        if place in literals:
            value = np.asarray(literals[place], atom.aval.dtype)
            atom = jex.Literal(value, atom.aval)
        elif not isinstance(atom, jex.Literal):
            atom = jex.Var(atom.aval)
            variables.append(atom)
        atoms.append(atom)
    results = [jex.Var(var.aval) for var in equation.outvars]
    own = equation.replace(invars=atoms, outvars=results)
    return _function(variables, results, [own], own.effects, equation.primitive.name)


def peak_bytes(jaxpr: jex.Jaxpr) -> int:
    """Return the most bytes alive at once beside the inputs, equation after equation.

    A result lives from its equation to its last use; inside a loop, beside the loop's own results,
    as much is alive as inside one run of its body.
    """
    last: dict[Any, int] = {}
    for place, equation in enumerate(jaxpr.eqns):
        last |= dict.fromkeys(_variables(equation.invars), place)
    last |= dict.fromkeys(_variables(jaxpr.outvars), len(jaxpr.eqns))
    dying: dict[int, list[Any]] = {}
    alive = peak = 0
    for place, equation in enumerate(jaxpr.eqns):
        made = sum(num_bytes(v.aval) for v in equation.outvars)
        inner = max(map(peak_bytes, subjaxprs(equation)), default=0)
        during = made + inner if equation.primitive.name in ("scan", "while") else max(made, inner)
        peak = max(peak, alive + during)
        for v in equation.outvars:
            if last.get(v, place) > place:
                alive += num_bytes(v.aval)
                dying.setdefault(last[v], []).append(v)
        alive -= sum(num_bytes(v.aval) for v in dying.pop(place, []))
    return peak


def _variables(atoms: Iterable[Any]) -> list[Any]:
    return [atom for atom in atoms if not isinstance(atom, jex.Literal)]


def run_equation(equation: jex.JaxprEqn, operands: Sequence[Any]) -> list[Any]:
    """Return the results of one equation from the values of all its operands."""
    pairs = zip(equation.invars, operands, strict=True)
    return step_function(equation)(*(x for atom, x in pairs if not isinstance(atom, jex.Literal)))


def hoisted(program: jex.ClosedJaxpr, name: str) -> Callable[..., list[Any]]:
    """Return a program as a function of its constants, then its inputs.

    Constants may be traced: as arguments they get derivatives, and belong to no outer program.

    Args:
      program: a closed jaxpr.
      name: what it is called in messages.
    """
    jaxpr = program.jaxpr
    inputs = [*jaxpr.constvars, *jaxpr.invars]
    return _function(inputs, jaxpr.outvars, jaxpr.eqns, jaxpr.effects, name)


def _function(
    inputs: Sequence[Any], outputs: Sequence[Any], body: Sequence[Any], effects: Any, name: str
) -> Callable[..., list[Any]]:
    about = jex.DebugInfo("adlab", name, None, None)
    jaxpr = jex.Jaxpr((), inputs, outputs, body, effects, about)
    run: Callable[..., list[Any]] = jex.jaxpr_as_fun(jex.ClosedJaxpr(jaxpr, ()))
    return run
