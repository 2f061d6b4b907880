"""Functions that are one program each where they are called outside of any trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax

__all__ = ["one_program"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


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
