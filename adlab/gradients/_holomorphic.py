"""Whether a function may be differentiated by the complex step: only if it is holomorphic.

Three conditions must hold of every operation that depends on x:

1. It is holomorphic: else its imaginary part isn't the derivative.
2. It maps real numbers to real ones: then the imaginary part is the tiny step alone.
3. The numbers that it is given beside x are real. exp(i x) + exp(-i x) is holomorphic and, for real
   x, real; but e^(h - i x) rounds to e^(-i x), and the complex step is 0.

Whether they hold is read off the jaxpr, by a list of what is known; the rest is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core as jex

from adlab.core import checks
from adlab.core.jaxprs import subjaxprs, walk
from adlab.gradients._complex_arithmetic import (
    ENTERED,
    REPLACED,
    body,
    keeping_the_step,
    scan_sizes,
)
from adlab.gradients._holomorphic_primitives import CALLS, REAL, is_complex, is_known

__all__ = ["holomorphic"]

_NOT_THE_USERS = (str(Path(jax.__file__).parent), str(Path(__file__).parent))

# What is known of a value: "moves" if it depends on x, and then it is real for real x. If it
# doesn't: the constants of the program, by id, that must be real for it to be real, none for a
# value that always is; or None where that isn't known.
State = Literal["moves"] | frozenset[int] | None
_REAL: State = frozenset()
Chain = tuple[jex.JaxprEqn, ...]  # an equation, then those that it is in, from the inside out


def holomorphic(function: str, fun: Callable[..., Any], x: Any) -> Callable[..., Any]:
    """Return `fun` for complex x, in a form whose imaginary part is the derivative.

    x gives the shapes. The result is `fun` itself, or `fun` with some operations done in real
    numbers, where those on complex ones would round the step away. It is NaN where `fun` closes
    over complex numbers that only a run can show not to be real.

    Raises:
      ValueError: `fun` applies to x what isn't known to be holomorphic, such as abs, max, a
        comparison, conj inside a norm or a factorisation, or a callback. These drop or mix up the
        imaginary part that carries the derivative, and so return zeros or nonsense without a word.
    """
    try:
        closed = jax.make_jaxpr(fun)(x)
    except (TypeError, ValueError, NotImplementedError) as error:
        if str(error).startswith(function):
            raise  # our own words about what fun returns
        raise ValueError(
            f'{function}: scheme="complex" needs a fun that accepts complex input, and this one '
            f'says: {str(error).splitlines()[0]}; use scheme="richardson"'
        ) from error
    reader = _Reader(function)
    reader.read(closed, ["moves" if is_complex(v) else _REAL for v in closed.jaxpr.invars], ())
    unseen = reader.unseen_constants()
    if not (unseen or reader.replaces):
        return fun
    run = keeping_the_step(closed)

    def checked(x: Any) -> Any:
        if reader.replaces:
            [value] = run(*jax.tree.leaves(x))
        else:
            value = fun(x)
        if not unseen:
            return value
        real = jnp.stack([jnp.all(jnp.imag(constant) == 0) for constant in unseen])
        # NaN in both parts: the step's is the imaginary one.
        nan = jnp.asarray(complex(np.nan, np.nan), value.dtype)
        return jnp.where(jnp.all(real), value, nan)

    return checked


class _Reader:
    """Reads the states of all values of a program off its jaxpr, and refuses what isn't known.

    Attributes:
      replaces: whether an operation occurs that is to be replaced by one that keeps the step.
    """

    def __init__(self, function: str) -> None:
        self._function = function
        self._constants: dict[int, Any] = {}
        self._met: dict[int, Chain] = {}  # the constants that x meets, and where
        self.replaces = False

    def read(self, jaxpr: Any, given: Sequence[State], around: Chain) -> list[State]:
        """Return the states of the results of a jaxpr, closed or not, from those of its inputs."""
        inner = getattr(jaxpr, "jaxpr", jaxpr)
        constants = getattr(jaxpr, "consts", [None] * len(inner.constvars))

        def step(eqn: jex.JaxprEqn, given: list[State]) -> list[State]:
            found = self._equation(eqn, given, (eqn, *around))
            # A real number that depended on x would have been refused.
            return [s if is_complex(v) else _REAL for v, s in zip(eqn.outvars, found, strict=True)]

        program = jex.ClosedJaxpr(inner, constants)
        return walk(program, given, step, literal=self._literal, constant=self._constant)

    def unseen_constants(self) -> list[Any]:
        """Return the constants that x meets and whose values only a run shows; check the others."""
        unseen = []
        for key, chain in self._met.items():
            constant = self._constants[key]
            if not checks.concrete(constant):
                unseen.append(constant)
            elif np.any(np.imag(np.asarray(constant))):
                self._refuse_mixing(chain)
        return unseen

    def _constant(self, value: Any) -> State:
        if value is None:  # of a function whose constants aren't at hand
            return None
        if not jnp.iscomplexobj(value):
            return _REAL
        self._constants[id(value)] = value
        return frozenset([id(value)])

    def _literal(self, value: Any) -> State:
        return None if np.any(np.imag(value)) else _REAL

    def _equation(self, eqn: jex.JaxprEqn, given: list[State], chain: Chain) -> list[State]:
        name = eqn.primitive.name
        if not eqn.outvars:  # it only prints, say
            return []
        if name in CALLS:
            return self.read(body(eqn), given, chain)
        if name in _STRUCTURES:
            return _STRUCTURES[name](self, eqn, given, chain)
        if "moves" not in given:
            fixed = self._join(given, chain) if name in REAL else None
            return [fixed] * len(eqn.outvars)
        if not is_known(eqn, [state == "moves" for state in given]):
            self._refuse(f"it uses {name!r} on complex numbers", chain)
        if name in REPLACED:
            self.replaces = True
            if not all(outer.primitive.name in ENTERED for outer in chain[1:]):
                self._refuse(f"it uses {name!r} inside {_inside(chain)!r}", chain)
        for inner in subjaxprs(eqn):  # the function of a reduction, or of a scatter
            self.read(inner, ["moves" if is_complex(v) else _REAL for v in inner.invars], chain)
        return [self._join(given, chain)] * len(eqn.outvars)

    def _join(self, states: Sequence[State], chain: Chain) -> State:
        """Return the state of what all of these enter; those beside a moving one must be real."""
        if "moves" in states:
            for state in states:
                if state is None:
                    self._refuse_mixing(chain)
                elif state != "moves":
                    self._met.update((key, chain) for key in state)
            return "moves"
        fixed = [state for state in states if isinstance(state, frozenset)]
        return frozenset().union(*fixed) if len(fixed) == len(states) else None

    def _joined(self, several: Sequence[Sequence[State]], chain: Chain) -> list[State]:
        return [self._join(states, chain) for states in zip(*several, strict=True)]

    def _cond(self, eqn: jex.JaxprEqn, given: list[State], chain: Chain) -> list[State]:
        ends = [self.read(branch, given[1:], chain) for branch in eqn.params["branches"]]
        return self._joined(ends, chain)

    def _scan(self, eqn: jex.JaxprEqn, given: list[State], chain: Chain) -> list[State]:
        first, carried = scan_sizes(eqn)
        constants, carry, xs = given[:first], given[first:][:carried], given[first + carried :]
        while True:  # a state changes twice at most, and the carry is finite
            out = self.read(eqn.params["jaxpr"], [*constants, *carry, *xs], chain)
            after = self._joined([carry, out[:carried]], chain)
            if after == carry:
                return [*carry, *out[carried:]]
            carry = after

    def _while(self, eqn: jex.JaxprEqn, given: list[State], chain: Chain) -> list[State]:
        tested, stepped = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
        for_test, for_step = given[:tested], given[tested:][:stepped]
        carry = given[tested + stepped :]
        while True:
            self.read(eqn.params["cond_jaxpr"], [*for_test, *carry], chain)
            out = self.read(eqn.params["body_jaxpr"], [*for_step, *carry], chain)
            after = self._joined([carry, out], chain)
            if after == carry:
                return carry
            carry = after

    def _linear_solve(self, eqn: jex.JaxprEqn, given: list[State], chain: Chain) -> list[State]:
        """Read only what runs: the solver, not the product or the transposes."""
        sizes = eqn.params["const_lengths"]
        first, total = sizes.matvec + sizes.vecmat, sum(sizes)
        used = [*given[first:][: sizes.solve], *given[total:]]
        return self.read(eqn.params["jaxprs"].solve, used, chain)

    def _refuse_mixing(self, chain: Chain) -> None:
        name = chain[0].primitive.name
        self._refuse(f"it combines x with numbers that aren't real in {name!r}", chain)

    def _refuse(self, what: str, chain: Chain) -> None:
        raise ValueError(
            f'{self._function}: scheme="complex" needs a holomorphic fun, but {what}'
            f'{_place(*chain)}; use scheme="richardson"'
        )


_STRUCTURES: dict[str, Callable[..., list[State]]] = {
    "cond": _Reader._cond,
    "scan": _Reader._scan,
    "while": _Reader._while,
    "custom_linear_solve": _Reader._linear_solve,
}


def _inside(chain: Chain) -> str:
    """Name the innermost equation around in which nothing can be replaced."""
    return next(eqn.primitive.name for eqn in chain[1:] if eqn.primitive.name not in ENTERED)


def _place(*chain: jex.JaxprEqn) -> str:
    """Name the innermost line of the user's own code; what is inside jit knows no line outside."""
    for eqn in chain:
        frames: Any = getattr(eqn.source_info.traceback, "frames", ())
        for frame in frames:
            if not frame.file_name.startswith(_NOT_THE_USERS):
                return f" at {frame.file_name}:{frame.line_num} ({frame.function_name})"
    return ""
