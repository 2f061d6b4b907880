"""Steps of differences: how long, and whether they move x at all."""

from __future__ import annotations

import functools
from typing import Any, Literal, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from adlab.core import checks, trees
from adlab.core._programs import one_program
from adlab.core._redrawn import Probe
from adlab.core.types import Array, PyTree, ValueFn

__all__ = [
    "StepRule",
    "difference",
    "displacement",
    "end_and_run",
    "is_leaf",
    "moved",
    "per_coordinate",
    "quotient",
    "relative_step",
    "require_positive",
    "step_or_rule",
    "steps_or_rule",
    "usable_step",
    "valid_step",
]


StepRule = Literal["auto", "relative"]


def step_or_rule(name: str, step: Any) -> tuple[Any, StepRule]:
    """Return a step and "auto", or None and a rule; raise unless the step is positive."""
    if isinstance(step, str):
        if step not in get_args(StepRule):
            names = " or ".join(f'"{rule}"' for rule in get_args(StepRule))
            raise ValueError(f"{name} must be a positive number or {names}, got {step!r}")
        return None, cast(StepRule, step)
    checks.positive(name, step)
    if not checks.concrete(step):
        dtype = jnp.result_type(step)
        number = jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
        if np.shape(step) != () or not number:
            raise TypeError(
                f"{name} must be a positive real number, got shape {np.shape(step)} of {dtype}"
            )
    return step, "auto"


def steps_or_rule(name: str, step: Any) -> tuple[Any, StepRule]:
    """Return what `step_or_rule` does; a tree of steps is one for each leaf or coordinate."""
    if not jax.tree.leaves(step) or (is_leaf(step) and not np.ndim(step)):
        return step_or_rule(name, step)
    require_positive(name, step)
    return step, "auto"


def is_leaf(tree: PyTree) -> bool:
    """Tell whether a tree is a number or an array alone."""
    return jax.tree_util.all_leaves([tree])


def require_positive(name: str, step: Any) -> None:
    """Raise ValueError unless a step, or every one in a tree, is positive, where that can be read.

    Raises:
      TypeError: it isn't a real number.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(step):
        where = f"{name}{jax.tree_util.keystr(path)}"
        dtype = jnp.result_type(leaf)
        if not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
            raise TypeError(f"{where} must be positive real numbers, got {dtype}")
        if checks.concrete(leaf) and not np.all(np.asarray(leaf, np.float64) > 0):
            raise ValueError(f"{where} must be > 0, got {np.min(np.asarray(leaf, np.float64)):.6g}")


def valid_step(step: Any, dtype: Any) -> Array:
    """Return the step in `dtype`; NaN where it isn't positive and finite."""
    return _or_nan(jnp.asarray(step, dtype))


@one_program()
def _or_nan(h: Array) -> Array:
    return jnp.where((h > 0) & jnp.isfinite(h), h, jnp.nan)


def per_coordinate(function: str, name: str, given: Any, x: PyTree) -> Array:
    """Return numbers for all coordinates of x, (d,), from one, or from a tree like x.

    They are rounded to what x's leaves hold. Leaves are broadcast to those of x.

    Raises:
      ValueError: it has another structure, or a leaf doesn't broadcast.
      TypeError: a leaf isn't a real number.
    """
    leaves, structure = jax.tree.flatten(x)
    parts = jax.tree.leaves(given)
    found: Any = jax.tree.structure(given)
    if is_leaf(given) and np.ndim(given) == 0:
        parts = parts * len(leaves)
    elif found != structure:
        raise ValueError(
            f"{function}: {name} must be one number, or a tree like x, {structure}, got {found}"
        )
    # Numbers that are known are spread in NumPy, where that compiles nothing.
    spread, xp = [], np if _in_numpy(parts) and checks.concrete(x) else jnp
    for part, leaf in zip(parts, leaves, strict=True):
        if not jnp.issubdtype(jnp.result_type(part), jnp.number) or jnp.iscomplexobj(part):
            raise TypeError(f"{function}: {name} must be real numbers, got {part!r}")
        try:
            wide = xp.broadcast_to(xp.asarray(part, leaf.dtype), leaf.shape)
        except ValueError:
            raise ValueError(
                f"{function}: {name} must be one number, or shaped as x, got shape "
                f"{np.shape(part)} for {leaf.shape}"
            ) from None
        spread.append(wide)
    if xp is np:
        dtype = trees.common_dtype(x)
        return trees.as_array(np.concatenate([part.astype(dtype).reshape(-1) for part in spread]))
    return trees.ravel(jax.tree.unflatten(structure, spread))


def _in_numpy(parts: list[Any]) -> bool:
    return all(isinstance(part, float | int | np.ndarray | np.generic) for part in parts)


def difference(a: Array, b: Array) -> Array:
    """Return a - b for two values of one function, in at least float32."""
    dtype = trees.wide_dtype(a)
    return a.astype(dtype) - b.astype(dtype)


def relative_step(dtypes: list[Any], order: int) -> float:
    """Return eps^(1/(order + 1)): it balances a truncation of O(h^order) against round-off eps/h.

    eps is the unit round-off of the coarsest dtype among those of x and of the value.
    """
    coarsest = max(float(jnp.finfo(dtype).eps) for dtype in dtypes)
    found: float = coarsest ** (1 / (order + 1))
    return found


def displacement(fun: ValueFn, x: PyTree, order: int) -> Array:
    """Return the largest displacement |h u|_inf of an automatic step.

    It is eps^(1/(order + 1)) * max(1, root mean square of x), and a constant to differentiation:
    the root has no derivative at 0.
    """
    dtypes = [leaf.dtype for leaf in jax.tree.leaves(x)] + [jax.eval_shape(fun, x).dtype]
    return _root_mean_square(x, relative_step(dtypes, order))


@one_program(1)
def _root_mean_square(x: PyTree, factor: float) -> Array:
    """Return that of x, but at least 1, times a factor."""
    dtype = trees.common_dtype(x)
    parts = [leaf.astype(dtype) for leaf in jax.tree.leaves(x)]
    squares = [trees.vdot(a, a) if a.ndim == 1 else jnp.sum(a * a) for a in parts]
    scale = jnp.sqrt(functools.reduce(jnp.add, squares) / float(trees.size(x)))
    return jax.lax.stop_gradient(factor * jnp.maximum(scale, 1))


@one_program(3)
def moved(start: PyTree, end: PyTree, u: PyTree, signs: bool = False) -> Array:
    """Return t such that end - start is about t u: how far a step really went.

    t = <end - start, u> / <u, u>, which leaves rounding in the dtypes of x out of the quotient.
    NaN when most coordinates along which u points are the same at both ends. `signs` tells that
    all coordinates of u are 1 or -1, so that two of the three sums are known.
    """
    dtype = trees.common_dtype(u)
    sums = [
        _run(a, b, c, dtype, signs)
        for a, b, c in zip(*map(jax.tree.leaves, (start, end, u)), strict=True)
    ]
    return _length(*functools.reduce(_added, sums))


def _run(a: Array, b: Array, u: Array, dtype: Any, signs: bool) -> tuple[Array, ...]:
    """Return sums over a leaf: coordinates that stay less those that move, <b - a, u>, <u, u>."""
    stays: Any = jnp.where(a == b, 1.0, -1.0)
    balance = jnp.sum(stays if signs else jnp.where(u != 0, stays, 0.0), dtype=jnp.float32)
    wide = u.astype(dtype)
    along = jnp.sum((b.astype(dtype) - a.astype(dtype)) * wide)
    square = jnp.asarray(u.size, dtype) if signs else jnp.sum(wide * wide)
    return balance, along, square


def _added(a: tuple[Array, ...], b: tuple[Array, ...]) -> tuple[Array, ...]:
    return tuple(map(jnp.add, a, b))


def _length(balance: Array, along: Array, square: Array) -> Array:
    return jnp.where(balance > 0, jnp.nan, along / square)


@one_program(3)
def end_and_run(x: PyTree, h: Array, probe: Probe, both: bool) -> tuple[PyTree, Array]:
    """Return x + h u, and what `moved` says of it and of x or, if `both`, of x - h u.

    In one walk over the blocks of u, which is drawn for that; of the ends, only the one is held.
    """
    body = Partial(functools.partial(_end_part, trees.common_dtype(x), both, probe.signs), h)
    point, sums = probe.visit(body, into=x, update=True)
    return point, _length(*sums)


def _end_part(
    dtype: Any, both: bool, signs: bool, h: Array, u: Array, at: Array
) -> tuple[Array, tuple[Array, ...]]:
    end, other = _rounded(at, h, u), _rounded(at, -h, u) if both else at.astype(u.dtype)
    sums = _run(other, end, u, dtype, signs)
    # A count is never that large, and where the run is NaN, so is the slope. But so both sums are
    # taken before the part is overwritten; else XLA copies the whole leaf for every part.
    lost = (sums[0] > 2.0 * u.size) | jnp.isnan(sums[1])
    return jnp.where(lost, jnp.nan, end), sums


def _rounded(at: Array, h: Array, u: Array) -> Array:
    """Return at + h u, of the digits that `at` holds, in the dtype of u.

    Of bfloat16 it is said in so many words, since compilers leave out conversions to it and back;
    float16 has numbers below its normal ones, which would be lost so.
    """
    info = jnp.finfo(at.dtype)
    moved = at.astype(u.dtype) + h.astype(u.dtype) * u
    if at.dtype.itemsize >= u.dtype.itemsize:
        return moved
    if at.dtype != jnp.bfloat16:
        return moved.astype(at.dtype).astype(u.dtype)
    return jax.lax.reduce_precision(moved, info.nexp, info.nmant)


@one_program()
def quotient(ahead: Array, behind: Array, run: Array) -> Array:
    """Return (ahead - behind) / run for two values of one function, in the widest of the dtypes."""
    rise = difference(ahead, behind)
    dtype = np.promote_types(rise.dtype, run.dtype)
    return rise.astype(dtype) / run.astype(dtype)


ROUNDING = 0.1
"""How far a step may be from the one asked for, relatively, before `check` refuses it."""


def check_leaf_scales(name: str, x: PyTree, h: Array, u: PyTree) -> None:
    """Raise ValueError when an automatic step is long for one leaf because another is large."""
    for (path, leaf), part in zip(
        jax.tree_util.tree_leaves_with_path(x), jax.tree.leaves(u), strict=True
    ):
        length, scale = float(h) * _typical(part), _typical(leaf)
        if length > 0.5 * max(scale, 1.0):
            raise ValueError(
                f"{name}: an automatic smoothing must suit every leaf of x, but its step of "
                f"{length:.2g} is long for {jax.tree_util.keystr(path) or 'x'}, of size "
                f"{scale:.2g}: bring the leaves to one scale, or pass a smoothing"
            )


def _typical(leaf: Array) -> float:
    """Return the root mean square of a leaf, whose squares may be too large for its dtype."""
    sizes = np.abs(np.asarray(leaf, np.float64))
    largest = float(np.max(sizes, initial=0.0))
    return largest * float(np.sqrt(np.mean((sizes / largest) ** 2))) if largest > 0 else 0.0


def usable_step(x: PyTree, u: PyTree, share: float = 0.5) -> float:
    """Return a step h at which x + h u differs from x in that share of the coordinates.

    Reads values: for concrete input only.
    """
    ratios = []
    for leaf, direction in zip(*map(jax.tree.leaves, (x, u)), strict=True):
        length = np.abs(np.asarray(direction, np.float64)).ravel()
        spacing = float(jnp.finfo(leaf.dtype).eps) * np.abs(np.asarray(leaf, np.float64)).ravel()
        ratios.append(spacing[length > 0] / length[length > 0])
    return 4 * float(np.quantile(np.concatenate(ratios), share))
