"""Sparse Jacobians: columns or rows that share no entry are found, coloured, and swept together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from adlab.core import checks
from adlab.core.types import Argnums, PyTree
from adlab.jacobians.selection import Selection, call_key

__all__ = ["import_asdex", "sparse"]

_KEPT = 8  # coloured patterns, each with the values that it was found at


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
        raise ImportError(
            "mode=\"sparse\" needs asdex: pip install -e '.[sparse]' in adlab's folder"
        ) from error
    except ImportError as error:
        raise _unusable(error) from error
    return asdex


def _unusable(error: ImportError) -> ImportError:
    return ImportError(
        f'mode="sparse" needs asdex, and the installed one fails beside jax {jax.__version__} '
        f"({error}); try pip install --upgrade -e '.[sparse]' in adlab's folder, or an environment "
        "with Python 3.11, where jax is older"
    )


def sparse(
    fun: Callable[..., Any],
    chosen: Selection,
    call: tuple[Argnums, tuple[PyTree, ...], Mapping[str, Any]],
    chunk: int | None,
    patterns: dict[Any, Any],
) -> tuple[PyTree, Any]:
    """Return the Jacobian as BCOO matrices, and what is auxiliary.

    call: argnums, arguments and keywords. patterns: the coloured patterns found so far, by the keys
    of calls; one that is new is added. chunk: how many colours are swept at a time, None for all.
    """
    asdex = import_asdex()
    argnums, args, kwargs = call
    if any(map(_is_key, jax.tree.leaves((args, kwargs)))):
        raise TypeError(
            "mode=\"sparse\" can't take random keys, which asdex doesn't follow: draw before, and "
            "pass the numbers"
        )
    key = call_key(argnums, args, kwargs, values=True)
    x: tuple[PyTree, ...] = (jax.tree.map(jnp.asarray, chosen.x),)
    options: dict[str, Any] = {"has_aux": chosen.has_aux}
    if key is None and not checks.concrete((args, kwargs)):
        # A pattern can't be read off a function that holds traced arrays: they are arguments.
        where = {**options, "argnums": argnums}
        coloring = asdex.jacobian_coloring(fun, *args, **where, **kwargs)
        sweep = asdex.jacobian_from_coloring(fun, coloring, chunk_size=chunk, **options)
        found = sweep(*args, **kwargs)
    else:
        coloring = patterns.get(key) if key is not None else None
        if coloring is None:
            coloring = asdex.jacobian_coloring(chosen.full, *x, **options)
            if key is not None:
                patterns[key] = coloring
                if len(patterns) > _KEPT:
                    del patterns[next(iter(patterns))]  # the oldest
        found = asdex.jacobian_from_coloring(chosen.full, coloring, chunk_size=chunk, **options)(*x)
    return found if chosen.has_aux else (found, None)


def _is_key(leaf: Any) -> bool:
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
