"""Sparse Jacobians: columns or rows that share no entry are found, coloured, and swept together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from adlab.jacobians.selection import Argnums, shapes_key

__all__ = ["import_asdex", "sparse"]

PyTree = Any


def import_asdex() -> Any:
    """Return the module asdex.

    Raises:
      ImportError: it isn't installed, or doesn't work beside the installed jax.
    """
    try:
        import asdex
    except ModuleNotFoundError as error:
        if error.name != "asdex":
            raise _unusable(error) from error
        raise ImportError("mode=\"sparse\" needs asdex: pip install 'adlab[sparse]'") from error
    except ImportError as error:
        raise _unusable(error) from error
    return asdex


def _unusable(error: ImportError) -> ImportError:
    return ImportError(
        f'mode="sparse" needs asdex, and the installed one fails beside jax {jax.__version__} '
        f"({error}); try pip install --upgrade 'adlab[sparse]', or an environment with Python "
        "3.11, where jax is older"
    )


def sparse(
    fun: Callable[..., Any],
    argnums: Argnums,
    has_aux: bool,
    chunk: int | None,
    patterns: dict[Any, Any],
    args: Sequence[PyTree],
    kwargs: Mapping[str, Any],
) -> tuple[PyTree, Any]:
    """Return the Jacobian as BCOO matrices, and what is auxiliary.

    patterns: the coloured patterns found so far, by the shapes of the arguments; one that is new is
    added. chunk: how many colours are swept at a time, or None for all.
    """
    asdex = import_asdex()
    key = shapes_key(args, kwargs)
    if key is None or key not in patterns:
        coloring = asdex.jacobian_coloring(fun, *args, argnums=argnums, has_aux=has_aux, **kwargs)
        if key is not None:
            patterns[key] = coloring
    else:
        coloring = patterns[key]
    found = asdex.jacobian_from_coloring(fun, coloring, has_aux=has_aux, chunk_size=chunk)(
        *args, **kwargs
    )
    return found if has_aux else (found, None)
