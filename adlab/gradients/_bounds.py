"""Difference quotients inside of a box: no value is asked for outside of it.

Each coordinate has its own quotient. Where the box leaves room on both sides it is that of the
scheme, whose step shrinks to the room; where less than half of it is left on one side, a one-sided
one of the same order, of nodes x + k h within the room on the other side. All are sums

    sum_k w_k [f(x + a_k h) - f(x)],

whose weights for nodes 0, h, 2h, ... follow from the polynomial through the values: of order 2
[4 f(h) - 3 f(0) - f(2h)] / 2h with an error -h^2 f'''/3; of order 4, with nodes h/2 apart, an
error -h^4 f^(5)/80. At half a step of room a central quotient of that shorter step still errs less
than the one-sided one: its truncation is 1/8 of that, and its noise 0.55 times.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks, trees
from adlab.core._programs import one_program
from adlab.core.nodes import register
from adlab.core.types import Array, PyTree, ValueFn
from adlab.gradients.steps import difference, per_coordinate

__all__ = [
    "POINTS",
    "Box",
    "box",
    "centre",
    "guarded",
    "placed",
    "quotient_slope",
    "require_room",
    "sides",
]

POINTS = {"forward": 1, "backward": 1, "central": 2, "richardson": 4}
"""Values per coordinate, beside fun(x)."""

_EDGES = {
    "central": ((1.0, 2.0), (2, -1)),
    "richardson": ((0.5, 1.0, 1.5, 2.0), (4, -6, 4, -1)),
}
"""Nodes of one-sided quotients in steps, and weights of the quotients [f(a) - f(0)] / a."""
_REACH = 2.0  # steps that these go
_ROOM = 2.0**-4  # of max(1, |x_i|): what a measurement of noise and scale likes on both sides


@register("lower", "upper")
@dataclass(frozen=True, eq=False)
class Box:
    """Bounds of x, data: numbers, or trees like x."""

    lower: PyTree
    upper: PyTree

    def __repr__(self) -> str:
        return repr((self.lower, self.upper))


def box(bounds: Any) -> Box | None:
    """Return the box of a pair (lower, upper), where None leaves a side open; None for no pair.

    Raises:
      TypeError: not a pair, or not of real numbers.
      ValueError: a bound is NaN.
    """
    if bounds is None or isinstance(bounds, Box):
        return bounds
    if not (isinstance(bounds, tuple | list) and len(bounds) == 2):
        raise TypeError(
            f"bounds must be a pair (lower, upper) of numbers or of trees like x, got {bounds!r}"
        )
    lower, upper = (
        jax.tree.map(lambda leaf, i=infinite: i if leaf is None else leaf, side, is_leaf=_is_none)
        for side, infinite in zip(bounds, (-np.inf, np.inf), strict=True)
    )
    for name, side in (("lower", lower), ("upper", upper)):
        for leaf in jax.tree.leaves(side):
            _require_numbers(name, leaf)
    return Box(lower, upper)


def _is_none(leaf: Any) -> bool:
    return leaf is None


def _require_numbers(name: str, leaf: Any) -> None:
    """Raise where a bound isn't a real number, or is NaN."""
    known = checks.concrete(leaf)
    dtype = np.asarray(leaf).dtype if known else leaf.dtype
    real = jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)
    if not real:
        raise TypeError(f"bounds must be real numbers, got {leaf!r} among the {name} ones")
    if known and np.any(np.isnan(np.asarray(leaf, np.float64))):
        raise ValueError(f"bounds must be numbers, got NaN in the {name} ones")


def sides(name: str, within: Box, x: PyTree) -> tuple[Array, Array]:
    """Return the bounds of every coordinate, (d,) each, as x's own dtypes hold them.

    Raises:
      ValueError: a bound isn't shaped as x; x is outside (where that can be read).
    """
    low = per_coordinate(name, "bounds", within.lower, x)
    high = per_coordinate(name, "bounds", within.upper, x)
    if checks.concrete((low, high, x)):
        flat, low_, high_ = (np.asarray(part) for part in (trees.ravel(x), low, high))
        if np.any(low_ > high_):
            i = int(np.argmax(low_ > high_))
            raise ValueError(
                f"{name}: lower bounds must be at most the upper ones, got [{low_[i]:.6g}, "
                f"{high_[i]:.6g}] at coordinate {i}"
            )
        outside = np.flatnonzero(~((low_ <= flat) & (flat <= high_)))
        if outside.size:
            i = int(outside[0])
            raise ValueError(
                f"{name}: x must be within bounds, got {flat[i]:.6g} outside of "
                f"[{low_[i]:.6g}, {high_[i]:.6g}] at coordinate {i}"
                + (f" and {outside.size - 1} more" if outside.size > 1 else "")
            )
    return low, high


@one_program(0)
def placed(scheme: str, x: PyTree, low: Array, high: Array, steps: Array) -> tuple[Array, Array]:
    """Return what each coordinate is moved to, (points, d), and the weights of the values there.

    NaN are the weights of a coordinate that has no room, or whose step doesn't move it; all are
    where x is outside.
    """
    at = trees.ravel(x)
    flat = jax.lax.stop_gradient(at)
    low, high, steps = jax.lax.stop_gradient((low, high, steps))
    down, up = flat - low, high - flat
    known = jnp.where(jnp.all((down >= 0) & (up >= 0)), 1, jnp.nan).astype(flat.dtype)

    def moved(offsets: Array) -> Array:
        rounded = trees.ravel(trees.unravel(flat + offsets, x))
        return jnp.clip(rounded, low, high)

    points, weights = _stencils(scheme, flat, moved, down, up, steps)
    # Points move with x, and their distances from it don't: 0 is added, whose derivative is 1.
    return points + (at - flat), known * weights


def _stencils(
    scheme: str, flat: Array, moved: Callable[[Array], Array], down: Array, up: Array, steps: Array
) -> tuple[Array, Array]:
    """Return points and weights, where there is so much room below and above."""
    if scheme in ("forward", "backward"):
        sign = 1.0 if scheme == "forward" else -1.0
        first, other = (up, down) if scheme == "forward" else (down, up)
        ahead = (first >= steps) | (first >= other)
        offsets = jnp.where(ahead, sign, -sign) * jnp.minimum(steps, jnp.where(ahead, first, other))
        points = moved(offsets)[None]
        return points, 1 / (points - flat)
    near, far = jnp.minimum(down, up), jnp.maximum(down, up)
    inside = near >= jnp.minimum(steps, far / _REACH) / 2
    both = _both_sides(scheme, flat, moved, jnp.minimum(steps, near))
    reaches, shares = _EDGES[scheme]
    toward = jnp.where(up >= down, 1.0, -1.0) * jnp.minimum(steps, far / _REACH)
    edge = jnp.stack([moved(reach * toward) for reach in reaches])
    weights = jnp.asarray(shares, flat.dtype)[:, None] / (edge - flat)
    return jnp.where(inside, both[0], edge), jnp.where(inside, both[1], weights)


def require_room(name: str, scheme: str, within: Box, x: PyTree, steps: Array) -> None:
    """Raise ValueError where steps and bounds leave a coordinate where it is."""
    low, high = sides(name, within, x)
    weights = np.asarray(placed(scheme, x, low, high, steps)[1])
    still = np.flatnonzero(~np.isfinite(weights).all(axis=0))
    if still.size:
        i = int(still[0])
        raise ValueError(
            f"{name}: step and bounds must let every coordinate of x move, got a step of "
            f"{float(steps[i]):.3g} within [{float(low[i]):.6g}, {float(high[i]):.6g}] at "
            f"coordinate {i}; widen the bounds, or leave that coordinate out of x"
        )


def _both_sides(
    scheme: str, flat: Array, moved: Callable[[Array], Array], steps: Array
) -> tuple[Array, Array]:
    """Return points and weights of central quotients, of one step or of two."""
    pairs = [(1.0, 1.0)] if scheme == "central" else [(0.5, 4 / 3), (1.0, -1 / 3)]
    points, weights = [], []
    for share, weight in pairs:
        ahead, behind = moved(share * steps), moved(-share * steps)
        points += [ahead, behind]
        weights += [weight / (ahead - behind), -weight / (ahead - behind)]
    return jnp.stack(points).astype(flat.dtype), jnp.stack(weights).astype(flat.dtype)


def quotient_slope(
    fun: ValueFn, x: PyTree, value: Any, points: Array, weights: Array
) -> Callable[[Array], Array]:
    """Return i -> the estimate along coordinate i."""
    flat = trees.ravel(x)

    def slope(index: Array) -> Array:
        total: Any = 0
        for point, weight in zip(points, weights, strict=True):
            there = fun(trees.unravel(flat.at[index].set(point[index]), x))
            rise = difference(there, value)
            total += weight[index].astype(rise.dtype) * rise
        return jnp.asarray(total, flat.dtype)

    return slope


@one_program()
def centre(x: PyTree, low: Array, high: Array) -> PyTree:
    """Return the point next to x that has some room within the bounds, for a measurement there."""
    flat = trees.ravel(x)
    room = jnp.minimum((high - low) / 2, _ROOM * jnp.maximum(jnp.abs(flat), 1))
    return trees.unravel(jnp.clip(flat, low + room, high - room), x)


def guarded(fun: ValueFn, x: PyTree, low: Array, high: Array) -> ValueFn:
    """Return `fun`, but NaN outside of the bounds, where `fun` itself is never evaluated."""

    def inside(z: PyTree) -> Array:
        flat = trees.ravel(z)
        held = trees.unravel(jnp.clip(flat, low, high), x)
        value = fun(held)
        within = functools.reduce(
            jnp.logical_and,
            [jnp.all(a == b) for a, b in zip(*map(jax.tree.leaves, (held, z)), strict=True)],
        )
        return jnp.where(within, value, jnp.nan)

    return inside
