"""The checkpoints in a program: where they are, and what it is without them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from jax.extend import core as jex

from adlab.core import flops, jaxprs

__all__ = ["has_checkpoints", "without_checkpoints", "wraps_all"]

_HERE = Path(__file__).parent  # where the rules of our own checkpoints are written
_ALL = 0.95  # share of the operations that is as good as all


def has_checkpoints(jaxpr: jex.Jaxpr) -> bool:
    """Tell whether a `jax.checkpoint` or a checkpoint of this package is anywhere in it."""
    return any(_wrapped(eqn) is not None for eqn in jaxprs.equations(jaxpr))


def wraps_all(jaxpr: jex.Jaxpr) -> bool:
    """Tell whether one `jax.checkpoint`, with none inside it, holds nearly all operations."""
    total = flops.count_jaxpr(jaxpr).flops
    for eqn in jaxpr.eqns:
        inner = _wrapped(eqn)
        if inner is not None and eqn.primitive.name in jaxprs.CHECKPOINTS:
            if flops.count_jaxpr(inner.jaxpr).flops >= _ALL * total:
                return not has_checkpoints(inner.jaxpr)
        elif eqn.primitive.name in jaxprs.CALLS:
            (inner_jaxpr,) = jaxprs.subjaxprs(eqn)
            if flops.count_jaxpr(inner_jaxpr).flops >= _ALL * total:
                return wraps_all(inner_jaxpr)
    return False


def _wrapped(eqn: jex.JaxprEqn) -> jex.ClosedJaxpr | None:
    """Return what a checkpoint wraps; None for an equation that isn't one."""
    name = eqn.primitive.name
    if name in jaxprs.CHECKPOINTS:
        return jaxprs.called(eqn)
    if name in jaxprs.CUSTOM_RULES and "call_jaxpr" in eqn.params:
        inner = jaxprs.called(eqn)
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
    return jax.make_jaxpr(lambda *args: jaxprs.walk(closed, args, _inlined_step))(*avals)


def _inlined_step(eqn: jex.JaxprEqn, given: Sequence[Any]) -> list[Any]:
    inner = _wrapped(eqn)
    if inner is not None:
        return jaxprs.walk(inner, given, _inlined_step)
    if eqn.primitive.name not in jaxprs.CUSTOM_RULES:
        eqn = eqn.replace(params={name: _inlined(value) for name, value in eqn.params.items()})
    return jaxprs.run_equation(eqn, given)


def _inlined(value: Any) -> Any:
    if isinstance(value, jex.ClosedJaxpr):
        return without_checkpoints(value)
    if isinstance(value, tuple) and any(isinstance(item, jex.ClosedJaxpr) for item in value):
        return tuple(_inlined(item) for item in value)
    return value
