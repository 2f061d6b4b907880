"""Whether a Hessian is symmetric: all derivatives that make it up are known to be right.

A function may bring a derivative of its own that isn't its derivative, such as that of a step which
is said to have slope 1. What such a rule is taken for a gradient need have no symmetric Jacobian.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core as jex

from adlab.core.jaxprs import CALLS, CHECKPOINTS, CUSTOM_RULES, equations
from adlab.jacobians import _indexed, _loops, _structure, _windows

__all__ = ["rules_are_known"]

_RULES = {*_structure.RULES, *_indexed.RULES, *_windows.RULES, *_loops.RULES}
_RIGHT = CALLS | CHECKPOINTS | _RULES
_JAX = Path(jax.__file__).parent
_RULE = ("jvp_jaxpr_fun", "bwd")
# Where JAX has functions with rules of their own, and where it has what takes a rule from a user.
_FUNCTIONS, _TAKING = {"lax", "nn", "numpy", "scipy"}, {"control_flow"}


def rules_are_known(program: jex.ClosedJaxpr) -> bool:
    """Tell whether no derivative in a program is brought by somebody else than JAX."""
    return all(map(_known, equations(program.jaxpr)))


def _known(equation: jex.JaxprEqn) -> bool:
    if equation.primitive.name in CUSTOM_RULES:
        return _of_jax(equation)
    moving = _inexact(equation.invars) and _inexact(equation.outvars)
    return not moving or equation.primitive.name in _RIGHT


def _inexact(atoms: Any) -> bool:
    dtypes = [atom.aval.dtype for atom in atoms if hasattr(atom.aval, "dtype")]
    return any(jnp.issubdtype(dtype, jnp.inexact) for dtype in dtypes)


def _of_jax(equation: jex.JaxprEqn) -> bool:
    """Tell whether a function's rule was written down in one of JAX's files of functions.

    A rule stands among the parameters as a function that says where it is from; one that doesn't is
    taken to be a user's.
    """
    rule = next((equation.params[name] for name in _RULE if name in equation.params), None)
    file = Path(getattr(getattr(rule, "debug_info", None), "func_filename", None) or "")
    if not file.is_relative_to(_JAX):
        return False
    folders = set(file.relative_to(_JAX).parts[:-1])
    return bool(folders & _FUNCTIONS) and not folders & _TAKING
