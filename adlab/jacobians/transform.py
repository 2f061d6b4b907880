"""`jacobian`: one signature for all modes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, ParamSpec, get_args

import jax

from adlab.core import _devices, _shardings, checks
from adlab.core.calls import calling, check_arguments
from adlab.core.types import Argnums, PyTree
from adlab.jacobians import sweeps
from adlab.jacobians.costs import ChunkSize, cost_table, sweep_chunk
from adlab.jacobians.given import check_pattern
from adlab.jacobians.mixed import mixed
from adlab.jacobians.selection import Selection, call_key, select
from adlab.jacobians.sparse import sparse

__all__ = ["check_devices", "jacobian"]

_P = ParamSpec("_P")
Mode = Literal["auto", "forward", "reverse", "mixed", "sparse"]


def jacobian(
    fun: Callable[_P, Any],
    *,
    mode: Mode = "auto",
    chunk_size: ChunkSize = "auto",
    argnums: Argnums = 0,
    has_aux: bool = False,
    pattern: Any = None,
) -> Callable[_P, Any]:
    """Return the Jacobian of `fun`, of m numbers, in arguments of n numbers.

    * "forward": n Jacobian-vector products, J e_j. Stores no intermediates: memory
      O(chunk_size) times the widest intermediate, besides the result.
    * "reverse": m vector-Jacobian products, e_i^T J. Stores the intermediates of one evaluation.
    * "mixed": elimination of the vertices of the computational graph, in the cheapest order found
      (`adlab.graphs`). Wins where the function narrows between wide ends.
    * "sparse": columns or rows that share no entry are swept together, as many sweeps as colours;
      the pattern is that of `sparsity`, found at each call (under `jax.jit`, at each trace), since
      it may depend on the other arguments and on what `fun` closes over; the last eight that were
      coloured are kept. Of arguments that are traced no values are used.
    * "auto": by `jacobian_costs`, from shapes alone. Elimination is considered under `jax.jit` and
      with chunk_size="auto" only: it takes the function apart at every trace, and isn't chunked.

    Exact to rounding in every mode. Nothing is compiled here: wrap the result in `jax.jit`.

    >>> jacobian(lambda x: jnp.stack([x[0] * x[1], x[1] ** 2]))(jnp.array([2.0, 3.0]))
    Array([[3., 2.],
           [0., 6.]], dtype=float32)

    Args:
      fun: differentiable by JAX; arguments and results are pytrees.
      mode: one of the above. On a mesh with explicit axes "mixed" and "sparse" gather the arguments
        on all devices first, and inside of `jax.shard_map` with checked axes they are refused.
      chunk_size: how many products are taken at a time in forward, reverse and sparse mode; "auto":
        all, or as many as keep the widest intermediate within 64 MiB.
      argnums: which positional argument to differentiate, or a tuple of several.
      has_aux: whether `fun` returns a pair (value, auxiliary data).
      pattern: for mode="sparse", the entries that can differ from zero: a matrix (m, n) of
        `scipy.sparse` or a BCOO, with the rows and columns of `sparsity`; stored entries count,
        whatever their values. None: found. At each call six more products, taken at once with
        random numbers, verify it: an entry that is missing is refused or, under a trace, makes its
        row NaN (its column, where rows are swept), unless it is smaller than the rest of its row by
        the square root of machine epsilon, or within rounding of what cancels there. A row that
        isn't finite goes unverified.

    Returns:
      A function with the signature of `fun`. It returns what `jax.jacfwd` does: the tree of the
      value, each leaf of it a tree of the arguments (a tuple of them for several argnums), with
      leaves of the value's shape followed by the argument's and the value's dtype; with
      mode="sparse" these are `jax.experimental.sparse.BCOO`. With has_aux, a pair of that and the
      auxiliary data.

    Raises:
      ValueError: an unknown mode; chunk_size < 1; argnums out of range or twice, no numbers in or
        out (when called); a pattern that has another shape or misses entries (when called), or is
        given for another mode.
      TypeError: an argument to differentiate or the value isn't real floating-point (when called);
        a pattern that isn't sparse, or is traced.

    Source: Griewank & Walther (2008), Evaluating Derivatives, chapters 3, 8 and 9,
    doi:10.1137/1.9780898717761.
    """
    if not callable(fun):
        raise TypeError(f"fun must be callable, got {fun!r}")
    checks.one_of("mode", mode, get_args(Mode))
    checks.chunk_size(chunk_size)
    check_arguments(argnums, has_aux)
    check_pattern(pattern, mode)
    plans: dict[Any, Any] = {}

    @functools.wraps(fun, updated=())
    def jacobian_of_fun(*given: _P.args, **kwargs: _P.kwargs) -> Any:
        args: tuple[Any, ...] = given
        with calling("jacobian", args):
            if mode in ("mixed", "sparse"):
                args, kwargs = _shardings.all_gathered((args, kwargs))
            chosen = select(fun, argnums, has_aux, args, kwargs)
            check_devices(chosen, mode)
            if mode == "sparse":
                chunk = None if chunk_size == "auto" else chunk_size
                matrix, aux = sparse(chosen, chunk, plans, pattern)
            else:
                key = call_key(argnums, args, kwargs)
                way, chunk = _remembered(plans, chosen, mode, chunk_size, key)
                matrix, aux = _dense(chosen, way, chunk)
        return (matrix, aux) if has_aux else matrix

    return jacobian_of_fun


def check_devices(chosen: Selection, mode: str) -> None:
    """Raise unless the mode gives one derivative where x is spread over devices."""
    _devices.require_one_derivative("jacobian", chosen.fun, chosen.x, reverse=mode == "reverse")
    if mode in ("mixed", "sparse") and (axes := _devices.checked_axes()):
        raise ValueError(
            'jacobian: mode must be "forward", "reverse" or "auto" inside jax.shard_map, along '
            f"the axes {sorted(axes)}, got {mode!r}"
        )


def _dense(chosen: Selection, mode: str, chunk: int) -> tuple[PyTree, Any]:
    if mode == "mixed":
        return mixed(chosen)
    return sweeps.forward(chosen, chunk) if mode == "forward" else sweeps.reverse(chosen, chunk)


def _remembered(
    plans: dict[Any, Any], chosen: Selection, mode: str, chunk_size: ChunkSize, key: Any
) -> tuple[str, int]:
    """Return the mode and the chunk, which depend on shapes alone, found once for given shapes."""
    if key is None:
        return _plan(chosen, mode, chunk_size)
    key = (key, checks.concrete(chosen.x))
    if key not in plans:
        plans[key] = _plan(chosen, mode, chunk_size)
    found: tuple[str, int] = plans[key]
    return found


def _on_devices(x: PyTree) -> bool:
    """Tell whether types say where x is, which graphs of a function don't keep."""
    leaves = jax.tree.leaves(x)
    return bool(_devices.checked_axes()) or any(map(_shardings.explicit, leaves))


def _plan(chosen: Selection, mode: Any, chunk_size: ChunkSize) -> tuple[str, int]:
    if mode == "auto":
        whole = chunk_size == "auto" and not checks.concrete(chosen.x)
        costs = cost_table(chosen, elimination=whole and not _on_devices(chosen.x))
        mode = costs.best
        if chunk_size == "auto":
            return mode, costs[mode].chunk
    return mode, 1 if mode == "mixed" else sweep_chunk(chosen, mode, chunk_size)
