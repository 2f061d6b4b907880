"""What a derivative means inside `jax.shard_map`, where each device runs a copy of the program.

With x the same on all devices and a value of their own on each, two derivatives may be meant: that
of each device's value, which forward mode and differences give, and that of the sum of all, which
reverse mode gives. A derivative is defined here where both are one: where the value varies along
the same mesh axes as x. Types tell it where the axes are checked (check_vma=True, the default).
Unchecked, a collective operation in the function is enough to make them differ, and reverse mode
counts a value that was summed over devices once for each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
from jax.extend import core as jex

from adlab.core import jaxprs
from adlab.core._shardings import varying
from adlab.core.types import Key, PyTree

__all__ = ["checked_axes", "require_one_derivative", "require_shared"]

_LOCAL = ("axis_index", "pvary", "pcast")  # name an axis, but move no number along it


def require_one_derivative(
    name: str, fun: Callable[[PyTree], Any], x: PyTree, *, reverse: bool = False
) -> None:
    """Raise ValueError where the derivative of `fun` at x depends on how it is taken.

    Does nothing outside of `jax.shard_map`; inside, it traces `fun` once.

    Args:
      name: whose words these are.
      fun: a function of x alone.
      x: where, a tree of arrays.
      reverse: whether cotangents alone are passed through `fun`: then x may be sharded, and each
        device gets its part of the derivative of a value that all share.
    """
    axes = getattr(jax.sharding.get_abstract_mesh(), "manual_axes", ())
    if not axes:
        return
    closed, shapes = jax.make_jaxpr(fun, return_shape=True)(x)
    used = {axis for eqn in jaxprs.equations(closed.jaxpr) for axis in _axes(eqn)}
    if unchecked := used & (set(axes) - checked_axes()):
        raise ValueError(
            f"{name}: fun must not combine numbers of devices along mesh axes that aren't checked, "
            f"got {_names(unchecked)}: pass check_vma=True to jax.shard_map"
        )
    values = frozenset().union(*map(varying, jax.tree.leaves(shapes)))
    for path, leaf in jax.tree_util.tree_leaves_with_path(x):
        place = jax.tree_util.keystr(path) or "x"
        _compare(name, place, varying(leaf), values, used, reverse=reverse)


def checked_axes() -> set[str]:
    """Return the axes of `jax.shard_map` around this code along which types tell what varies."""
    axes = getattr(jax.sharding.get_abstract_mesh(), "manual_axes", ())
    return {axis for axis in axes if varying(jax.lax.axis_index(axis))}


def _compare(
    name: str,
    place: str,
    own: frozenset[str],
    values: frozenset[str],
    used: set[str],
    *,
    reverse: bool,
) -> None:
    """Raise ValueError unless a leaf of x and the value vary along the same axes."""
    if more := values - own:
        raise ValueError(
            f"{name}: fun must return the same on all devices along mesh axis {_names(more)}, "
            f"along which {place} is the same, got a value that varies: for the derivative of the "
            "sum return jax.lax.psum of it (of the mean, pmean); for that of each device's own "
            f"value make {place} vary, by jax.lax.pcast(..., to='varying')"
        )
    if (fewer := own - values) and not reverse:
        raise ValueError(
            f"{name}: {place} must be the same on all devices along mesh axis {_names(fewer)}, "
            "along which the value of fun is the same, got numbers that vary: each device would "
            "move its own ones at the same time; use reverse mode, or shard them outside of "
            "jax.shard_map"
        )
    if both := used & own & values:
        raise ValueError(
            f"{name}: fun must not combine numbers of devices along mesh axis {_names(both)}, "
            f"along which {place} and the value vary: return jax.lax.psum of the value, and take "
            "reverse mode"
        )


def require_shared(name: str, key: Key, x: PyTree) -> None:
    """Raise ValueError where the key differs between devices that share x."""
    own = varying(key)
    if not own:
        return
    for path, leaf in jax.tree_util.tree_leaves_with_path(x):
        if more := own - varying(leaf):
            raise ValueError(
                f"{name}: key must be the same on all devices along mesh axis {_names(more)}, "
                f"along which {jax.tree_util.keystr(path) or 'x'} is the same, got one that varies"
            )


def _axes(eqn: jex.JaxprEqn) -> Iterable[str]:
    """Yield the mesh axes along which an equation moves numbers."""
    if eqn.primitive.name in _LOCAL:
        return
    for parameter in ("axes", "axis_name"):
        axes = eqn.params.get(parameter, ())
        yield from (a for a in (axes if isinstance(axes, tuple) else (axes,)) if isinstance(a, str))


def _names(axes: Iterable[str]) -> str:
    return ", ".join(map(repr, sorted(axes)))
