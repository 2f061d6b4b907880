"""Values that are known when a function is traced, computed only where a pattern needs them.

An index, a mask or a matrix may be made of constants alone: then it says which entries of a
Jacobian are zero. It may also be known in part, as an index array whose rows count up while its
columns come from data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jex

from adlab.core import checks
from adlab.core.jaxprs import equations, run_equation, subjaxprs
from adlab.jacobians._moves import on_host

__all__ = [
    "ELEMENTWISE",
    "Known",
    "constant",
    "known_results",
    "known_value",
    "known_zero",
    "partly",
]

# Entry p of each result is made of entry p of the operands, and of operands that are scalars.
ELEMENTWISE = frozenset(
    [
        *("abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2"),
        *("atanh", "bessel_i0e", "bessel_i1e", "cbrt", "ceil", "clamp", "clz", "complex", "conj"),
        *("convert_element_type", "copy", "copy_p", "cos", "cosh", "digamma", "div", "eq", "erf"),
        *("erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "igamma", "igammac"),
        *("igamma_grad_a", "imag", "integer_pow", "is_finite", "le", "lgamma", "log", "log1p"),
        *("logistic", "lt", "max", "min", "mul", "name", "ne", "neg", "nextafter", "not", "or"),
        *("polygamma", "population_count", "pow", "real", "reduce_precision", "rem", "round"),
        *("regularized_incomplete_beta", "rsqrt", "select_n", "sharding_constraint"),
        *("shift_left", "shift_right_arithmetic", "shift_right_logical", "sign", "sin", "sinh"),
        *("sqrt", "square", "stop_gradient", "sub", "tan", "tanh", "xor", "zeta"),
    ]
)
_ELSEWHERE = ("ffi_call", "rng_uniform", "shard_map")  # or drawn once more at each call
# Which operands of what places entries are indices.
_INDICES = {
    **{"gather": slice(1, 2), "dynamic_slice": slice(1, None)},
    **{"dynamic_update_slice": slice(2, None), "scatter": slice(1, 2), "scatter-add": slice(1, 2)},
}


class Part(NamedTuple):
    """An array, and where it is known: True, or a boolean array."""

    value: Any
    mask: Any


@dataclass(eq=False)
class _Evaluation:
    equation: jex.JaxprEqn
    operands: tuple[Known | None, ...]
    results: list[Part | None] | None = None

    def run(self) -> None:
        parts = [_result(operand) for operand in self.operands]
        self.results = _evaluated(self.equation, parts)
        self.operands = ()


@dataclass(eq=False)
class Known:
    """One result of an evaluation that is done when its value is asked for."""

    source: _Evaluation
    place: int = 0


def _result(known: Known | None) -> Part | None:
    """Return what an evaluation that is done has found."""
    if known is None:
        return None
    assert known.source.results is not None
    return known.source.results[known.place]


def constant(value: Any) -> Known | None:
    """Return what is known of a constant: nothing if it is traced."""
    if not checks.concrete(value):
        return None
    return Known(_Evaluation(None, (), [Part(value, True)]))  # type: ignore[arg-type]


def partly(known: Known | None) -> Part | None:
    """Return a value with where it is known, or None where it is known nowhere."""
    if known is None:
        return None
    pending = [known.source]
    while pending:  # no recursion: a loop's counter depends on the one before
        source = pending[-1]
        if source.results is not None:
            pending.pop()
            continue
        missing = [op.source for op in source.operands if op and op.source.results is None]
        if missing:
            pending += missing
        else:
            source.run()
    return _result(known)


def known_zero(known: Known | None) -> Any:
    """Return where a value is known to be zero, or None where that is so nowhere."""
    part = partly(known)
    if part is None or not _plain(jax.typeof(part.value).dtype):
        return None
    zero = np.asarray(part.mask) & (np.asarray(part.value) == 0)
    return zero if zero.any() else None


def known_value(known: Known | None) -> Any:
    """Return a value that is known everywhere as an array of NumPy, else None."""
    part = partly(known)
    if part is None or part.mask is not True or not _plain(jax.typeof(part.value).dtype):
        return None
    return np.asarray(part.value)


def known_results(equation: jex.JaxprEqn, operands: Sequence[Known | None]) -> list[Known | None]:
    """Return what is known of an equation's results."""
    name, count = equation.primitive.name, len(equation.outvars)
    some = name in _IN_PART and any(op is not None for op in operands)
    if not (some or all(op is not None for op in operands)) or not _runs_here(equation):
        return [None] * count
    source = _Evaluation(equation, tuple(operands))
    return [Known(source, place) for place in range(count)]


def _runs_here(equation: jex.JaxprEqn) -> bool:
    """Tell whether JAX can compute an equation's results, which are the same on all devices."""
    inner = (one for jaxpr in subjaxprs(equation) for one in equations(jaxpr))
    return not (equation.effects or any(map(_varies, equation.outvars))) and not any(
        "callback" in one.primitive.name or one.primitive.name in _ELSEWHERE
        for one in (equation, *inner)
    )


def _varies(atom: Any) -> bool:
    """Tell whether a type says that a value may differ between the devices of `jax.shard_map`."""
    return bool(getattr(getattr(atom.aval, "manual_axis_type", None), "varying", ()))


def _evaluated(equation: jex.JaxprEqn, parts: Sequence[Part | None]) -> list[Part | None]:
    name, count = equation.primitive.name, len(equation.outvars)
    with jax.ensure_compile_time_eval():
        if all(part is not None and part.mask is True for part in parts):
            values = _computed(equation, [part.value for part in parts])  # type: ignore[union-attr]
            return [Part(value, True) for value in values]
        if name in _IN_PART and all(map(_numeric, equation.invars)):
            return [_IN_PART[name](equation, parts)]
        if name in ELEMENTWISE and all(part is not None for part in parts):
            values = _computed(equation, [part.value for part in parts])  # type: ignore[union-attr]
            shape = np.shape(values[0])
            masks = [np.broadcast_to(part.mask, shape) for part in parts]  # type: ignore[union-attr]
            return [Part(values[0], np.logical_and.reduce(masks))]
    return [None] * count


def _placed(equation: jex.JaxprEqn, parts: Sequence[Part | None]) -> Part | None:
    """Place values, and where they aren't known in the same way; added up, those count."""
    places = _INDICES.get(equation.primitive.name)
    indices = range(len(parts))[places] if places else range(0)
    if any(parts[k] is None or parts[k].mask is not True for k in indices):  # type: ignore[union-attr]
        return None
    if "scatter" in equation.primitive.name and _wraps(equation):
        return None
    values, unknown = [], []
    for k, (atom, part) in enumerate(zip(equation.invars, parts, strict=True)):
        aval: Any = atom.aval
        value = np.zeros(aval.shape, aval.dtype) if part is None else part.value
        mask = np.broadcast_to(part is not None and part.mask, aval.shape)
        values.append(value)
        unknown.append(value if k in indices else (~mask).astype(_counting(equation)))
    params = dict(equation.params)
    if "fill_value" in params:
        params["fill_value"] = 0  # what is filled in is known
    (found,) = on_host(equation, unknown) or [equation.primitive.bind(*unknown, **params)]
    return Part(_computed(equation, values)[0], np.asarray(found) == 0)


def _computed(equation: jex.JaxprEqn, values: Sequence[Any]) -> list[Any]:
    found = on_host(equation, values)
    return run_equation(equation, values) if found is None else found


def _wraps(equation: jex.JaxprEqn) -> bool:
    """Tell whether a count of unknown numbers, in the equation's own dtype, may come to 0 again."""
    aval: Any = equation.outvars[0].aval
    return bool(jnp.issubdtype(aval.dtype, jnp.integer)) and jnp.iinfo(aval.dtype).bits < 32


def _counting(equation: jex.JaxprEqn) -> Any:
    """Return a dtype to count in: where an equation adds, by a program for its own, that one."""
    aval: Any = equation.outvars[0].aval
    return aval.dtype if "scatter" in equation.primitive.name else np.int32


def _product(equation: jex.JaxprEqn, parts: Sequence[Part | None]) -> Part | None:
    """Zeros of one factor are zeros of the product; the rest is known where both factors are."""
    aval: Any = equation.outvars[0].aval
    both, zero = np.ones(aval.shape, bool), np.zeros(aval.shape, bool)
    for part in parts:
        mask = np.broadcast_to(part is not None and part.mask, aval.shape)
        both &= mask
        if part is not None:
            zero |= mask & np.broadcast_to(np.asarray(part.value) == 0, aval.shape)
    if not (both.any() or zero.any()):
        return None
    values = [
        np.zeros((), aval.dtype) if part is None else np.asarray(part.value) for part in parts
    ]
    return Part(np.where(zero, 0, values[0] * values[1]).astype(aval.dtype), both | zero)


def _chosen(equation: jex.JaxprEqn, parts: Sequence[Part | None]) -> Part | None:
    """Select where it is known among which cases, and the case that is taken is known."""
    which, *cases = parts
    if which is None:
        return None
    aval: Any = equation.outvars[0].aval
    value, known = np.zeros(aval.shape, aval.dtype), np.zeros(aval.shape, bool)
    for number, part in enumerate(cases):
        if part is not None:
            taken = which.mask & (np.asarray(which.value).astype(int) == number)
            taken = np.broadcast_to(taken & np.asarray(part.mask), aval.shape)
            value, known = np.where(taken, np.asarray(part.value), value), known | taken
    return Part(value.astype(aval.dtype), known) if known.any() else None


_PLACING = (
    *("broadcast_in_dim", "concatenate", "expand_dims", "pad", "reshape", "rev", "slice"),
    *("squeeze", "transpose", *_INDICES),
)
_IN_PART = {**dict.fromkeys(_PLACING, _placed), "mul": _product, "select_n": _chosen}


def _numeric(atom: Any) -> bool:
    return _plain(atom.aval.dtype)


def _plain(dtype: Any) -> bool:
    """Tell whether numbers are of a dtype that NumPy has: keys aren't."""
    return not jnp.issubdtype(dtype, jax.dtypes.extended)
