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
from adlab.core.jaxprs import run_equation

__all__ = ["ELEMENTWISE", "Known", "constant", "known_results", "known_value", "partly"]

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
# These place entries of their operands; from the place in the tuple on operands are indices.
_PLACING = {
    **dict.fromkeys(("broadcast_in_dim", "concatenate", "expand_dims", "pad", "reshape"), None),
    **dict.fromkeys(("rev", "slice", "squeeze", "transpose"), None),
    **{"gather": slice(1, 2), "dynamic_slice": slice(1, None)},
    **{"dynamic_update_slice": slice(2, None), "scatter": slice(1, 2)},
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


def known_value(known: Known | None) -> Any:
    """Return a value that is known everywhere as an array of NumPy, else None."""
    part = partly(known)
    if part is None or part.mask is not True or not _plain(jax.typeof(part.value).dtype):
        return None
    return np.asarray(part.value)


def known_results(equation: jex.JaxprEqn, operands: Sequence[Known | None]) -> list[Known | None]:
    """Return what is known of an equation's results."""
    name, count = equation.primitive.name, len(equation.outvars)
    some = name in _PLACING and any(op is not None for op in operands)
    pure = not equation.effects and "callback" not in name and name != "ffi_call"
    if not pure or not (some or all(op is not None for op in operands)):
        return [None] * count
    source = _Evaluation(equation, tuple(operands))
    return [Known(source, place) for place in range(count)]


def _evaluated(equation: jex.JaxprEqn, parts: Sequence[Part | None]) -> list[Part | None]:
    name, count = equation.primitive.name, len(equation.outvars)
    with jax.ensure_compile_time_eval():
        if all(part is not None and part.mask is True for part in parts):
            values = run_equation(equation, [part.value for part in parts])  # type: ignore[union-attr]
            return [Part(value, True) for value in values]
        if name in ELEMENTWISE and all(part is not None for part in parts):
            values = run_equation(equation, [part.value for part in parts])  # type: ignore[union-attr]
            shape = np.shape(values[0])
            masks = [np.broadcast_to(part.mask, shape) for part in parts]  # type: ignore[union-attr]
            return [Part(values[0], np.logical_and.reduce(masks))]
        return [_placed(equation, parts)] if name in _PLACING else [None] * count


def _placed(equation: jex.JaxprEqn, parts: Sequence[Part | None]) -> Part | None:
    """Place values, and the masks in the same way."""
    places = _PLACING[equation.primitive.name]
    indices = range(len(parts))[places] if places else range(0)
    if any(parts[k] is None or parts[k].mask is not True for k in indices):  # type: ignore[union-attr]
        return None
    values, masks = [], []
    for k, (atom, part) in enumerate(zip(equation.invars, parts, strict=True)):
        aval: Any = atom.aval
        if not _plain(aval.dtype):
            return None
        value = np.zeros(aval.shape, aval.dtype) if part is None else part.value
        mask = np.broadcast_to(part is not None and part.mask, aval.shape).astype(np.int32)
        values.append(value)
        masks.append(value if k in indices else mask)
    params = dict(equation.params)
    if "fill_value" in params:
        params["fill_value"] = 0
    known = equation.primitive.bind(*masks, **params)
    return Part(run_equation(equation, values)[0], np.asarray(known) == 1)


def _plain(dtype: Any) -> bool:
    """Tell whether numbers are of a dtype that NumPy has: keys aren't."""
    return not jnp.issubdtype(dtype, jax.dtypes.extended)
