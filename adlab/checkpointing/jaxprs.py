"""Jaxprs as seen by a memory account: their checkpoints, what they are without, what is alive."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
from jax.extend import core as jex

from adlab.core import flops

__all__ = ["evaluate", "has_checkpoints", "peak_bytes", "without_checkpoints", "wraps_all"]

_REMAT = ("checkpoint", "remat", "remat2")
_CUSTOM = ("custom_vjp_call", "custom_vjp_call_jaxpr", "custom_jvp_call")
_HERE = Path(__file__).parent  # where the rules of our own checkpoints are written
_ALL = 0.95  # share of the operations that is as good as all


def has_checkpoints(jaxpr: jex.Jaxpr) -> bool:
    """Tell whether a `jax.checkpoint` or a checkpoint of this package is anywhere in it."""
    return any(_wrapped(eqn) is not None for eqn in flops.equations(jaxpr))


def wraps_all(jaxpr: jex.Jaxpr) -> bool:
    """Tell whether one `jax.checkpoint`, with none inside it, holds nearly all operations."""
    total = flops.count_jaxpr(jaxpr).flops
    for eqn in jaxpr.eqns:
        inner = _wrapped(eqn)
        if inner is not None and eqn.primitive.name in _REMAT:
            if flops.count_jaxpr(inner.jaxpr).flops >= _ALL * total:
                return not has_checkpoints(inner.jaxpr)
        elif eqn.primitive.name in ("jit", "pjit"):
            (inner_jaxpr,) = flops.subjaxprs(eqn)
            if flops.count_jaxpr(inner_jaxpr).flops >= _ALL * total:
                return wraps_all(inner_jaxpr)
    return False


def _wrapped(eqn: jex.JaxprEqn) -> jex.ClosedJaxpr | None:
    """Return what a checkpoint wraps; None for an equation that isn't one."""
    name = eqn.primitive.name
    if name in _REMAT:
        return jex.ClosedJaxpr(eqn.params["jaxpr"], ())
    if name in _CUSTOM and "call_jaxpr" in eqn.params:
        inner: jex.ClosedJaxpr = eqn.params["call_jaxpr"]
        about = getattr(inner.jaxpr.debug_info, "func_src_info", None) or ""
        if f"{_HERE}" in about:
            return inner
    return None


def without_checkpoints(closed: jex.ClosedJaxpr) -> jex.ClosedJaxpr:
    """Return the jaxpr with every checkpoint replaced by what it wraps, in loops and branches too.

    Functions with derivatives of their own are left as they are.
    """
    if not has_checkpoints(closed.jaxpr):
        return closed
    avals = [v.aval for v in closed.jaxpr.invars]
    return jax.make_jaxpr(lambda *args: evaluate(closed, args, inline=True))(*avals)


def evaluate(closed: jex.ClosedJaxpr, args: Sequence[Any], inline: bool = False) -> list[Any]:
    """Run the equations one by one; with `inline`, without their checkpoints."""
    jaxpr = closed.jaxpr
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    values |= dict(zip(jaxpr.invars, args, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, jex.Literal) else values[atom]

    for eqn in jaxpr.eqns:
        inner = _wrapped(eqn) if inline else None
        if inner is not None:
            out = evaluate(inner, [read(atom) for atom in eqn.invars], inline)
        else:
            own = list(dict.fromkeys(_variables(eqn.invars)))
            out = _single(eqn, own, inline)(*map(read, own))
        values |= dict(zip(eqn.outvars, out, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _single(eqn: jex.JaxprEqn, variables: list[Any], inline: bool) -> Callable[..., list[Any]]:
    """Return the equation as a function of its variables."""
    if inline and eqn.primitive.name not in _CUSTOM:
        eqn = eqn.replace(params={name: _inlined(value) for name, value in eqn.params.items()})
    about = jex.DebugInfo("evaluate", eqn.primitive.name, None, None)
    jaxpr = jex.Jaxpr((), variables, eqn.outvars, [eqn], eqn.effects, about)
    return jex.jaxpr_as_fun(jex.ClosedJaxpr(jaxpr, ()))


def _inlined(value: Any) -> Any:
    if isinstance(value, jex.ClosedJaxpr):
        return without_checkpoints(value)
    if isinstance(value, tuple) and any(isinstance(item, jex.ClosedJaxpr) for item in value):
        return tuple(_inlined(item) for item in value)
    return value


def peak_bytes(jaxpr: jex.Jaxpr) -> int:
    """Return the most bytes alive at once beside the inputs, equation after equation.

    A result lives from its equation to its last use; inside a loop, beside the loop's own results,
    as much is alive as inside one run of its body.
    """
    last: dict[Any, int] = {}
    for place, eqn in enumerate(jaxpr.eqns):
        last |= dict.fromkeys(_variables(eqn.invars), place)
    last |= dict.fromkeys(_variables(jaxpr.outvars), len(jaxpr.eqns))
    dying: dict[int, list[Any]] = {}
    alive = peak = 0
    for place, eqn in enumerate(jaxpr.eqns):
        made = sum(map(_bytes, eqn.outvars))
        inner = max(map(peak_bytes, flops.subjaxprs(eqn)), default=0)
        during = made + inner if eqn.primitive.name in ("scan", "while") else max(made, inner)
        peak = max(peak, alive + during)
        for v in eqn.outvars:
            if last.get(v, place) > place:
                alive += _bytes(v)
                dying.setdefault(last[v], []).append(v)
        alive -= sum(map(_bytes, dying.pop(place, [])))
    return peak


def _variables(atoms: Iterable[Any]) -> list[Any]:
    return [atom for atom in atoms if not isinstance(atom, jex.Literal)]


def _bytes(variable: Any) -> int:
    aval = variable.aval
    return math.prod(aval.shape) * aval.dtype.itemsize if hasattr(aval, "shape") else 0
