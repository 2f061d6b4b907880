"""The user's function called for a derivative: on the mesh of its argument, with faults named."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from adlab.core import _layout

__all__ = ["calling"]

_GONE = (
    "Array has been deleted",
    "Buffer has been deleted or donated",
    "donate the same buffer twice",
)


@contextlib.contextmanager
def calling(name: str, x: Any) -> Iterator[None]:
    """Let the explicit mesh of `x` be the current one; say which fault a donated buffer is.

    Raises:
      ValueError: an array was read after a jitted function had got it as its own.
    """
    try:
        with _layout.on_mesh(x):
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
