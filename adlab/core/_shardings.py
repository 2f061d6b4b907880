"""Where arrays lie: their shardings over explicit meshes, and axes of `jax.shard_map`.

On a mesh with explicit axes the sharding of an array is a part of its type, and inside of
`jax.shard_map` so are the mesh axes along which its values vary from device to device. What is made
beside an array, such as a probe, a tangent, or the start of a sum, has to be of its type.
"""

from __future__ import annotations

import contextlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from adlab.core import checks
from adlab.core.types import Array, PyTree

__all__ = [
    "all_gathered",
    "divided",
    "explicit",
    "gathered",
    "laid",
    "like_type",
    "on_mesh",
    "struct",
    "varying",
]


def explicit(leaf: Any) -> NamedSharding | None:
    """Return the sharding of an array or a shape on a mesh with explicit axes; None elsewhere."""
    sharding: NamedSharding | None = getattr(jax.typeof(leaf), "sharding", None)
    if sharding is None or AxisType.Explicit not in sharding.mesh.axis_types:
        return None
    return sharding


def divided(leaf: Any) -> tuple[Any, PartitionSpec, tuple[tuple[str, ...], ...]] | None:
    """Return mesh, spec, and the mesh's axes along each axis of a leaf that devices share out.

    None where all its numbers lie together, or where it isn't said how they lie.
    """
    sharding = getattr(leaf, "sharding", None)
    if not isinstance(sharding, NamedSharding):
        return None
    entries = [*sharding.spec, *[None] * (len(leaf.shape) - len(sharding.spec))]
    names = tuple(
        () if entry is None else entry if isinstance(entry, tuple) else (entry,)
        for entry in entries
    )
    if not any(names):
        return None
    return sharding.mesh, sharding.spec, names


def varying(leaf: Any) -> frozenset[str]:
    """Return the axes of `jax.shard_map` along which the type of a leaf says that it varies."""
    kind = getattr(jax.typeof(leaf), "manual_axis_type", None)
    return frozenset() if kind is None else frozenset(kind.varying)


def struct(leaf: Any, dtype: Any) -> jax.ShapeDtypeStruct:
    """Return the shape of `leaf` with another dtype, on the same devices."""
    kind: Any = jax.typeof(leaf)
    apart = isinstance(leaf, Array | jax.ShapeDtypeStruct) and checks.concrete(leaf)
    if apart and divided(leaf) and not _manual():
        return jax.ShapeDtypeStruct(np.shape(leaf), dtype, sharding=leaf.sharding)
    if kind.sharding is None or (kind.sharding.mesh.empty and not varying(leaf)):
        return jax.ShapeDtypeStruct(np.shape(leaf), dtype)
    return jax.ShapeDtypeStruct(
        np.shape(leaf), dtype, sharding=kind.sharding, manual_axis_type=kind.manual_axis_type
    )


def _manual() -> bool:
    """Tell whether this is inside of `jax.shard_map`."""
    return bool(getattr(jax.sharding.get_abstract_mesh(), "manual_axes", ()))


def laid(leaf: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    """Return the shape of `leaf`, in at least single precision, with the given layout.

    Inside of a program the devices of a mesh with explicit axes are a part of its type already.
    """
    dtype = np.promote_types(jnp.result_type(leaf), np.float32)
    if explicit(leaf) is not None or varying(leaf) or _manual():
        return struct(leaf, dtype)
    return jax.ShapeDtypeStruct(np.shape(leaf), dtype, sharding=sharding)


def like_type(leaf: Array, other: Any) -> Array:
    """Lay `leaf` out as `other`, which has its shape, and let it vary along the same axes at least.

    A leaf that varies along more axes keeps them: whether it may is for the caller to say.
    """
    own: Any = jax.typeof(leaf)
    wanted: Any = jax.typeof(other)
    if own.sharding == wanted.sharding and own.manual_axis_type == wanted.manual_axis_type:
        return leaf
    more = varying(other) - varying(leaf)
    if more:
        leaf = jax.lax.pcast(leaf, tuple(sorted(more)), to="varying")
    sharding = explicit(other)
    if sharding is None or jax.typeof(leaf).sharding == sharding:
        return leaf
    return _moved(leaf, NamedSharding(_mesh(other, sharding), sharding.spec))


def gathered(leaf: Array) -> Array:
    """Return `leaf` with all its numbers on every device of its explicit mesh."""
    sharding = explicit(leaf)
    if sharding is None or not any(sharding.spec):
        return leaf
    return _moved(leaf, NamedSharding(_mesh(leaf, sharding), PartitionSpec()))


def _moved(leaf: Array, sharding: NamedSharding) -> Array:
    moved: Array = jax.sharding.reshard(leaf, sharding)
    return moved


def _mesh(leaf: Any, sharding: NamedSharding) -> Any:
    """Return the mesh of a leaf: with its devices where the leaf is an array, not a type."""
    array = isinstance(leaf, Array) and checks.concrete(leaf)
    return leaf.sharding.mesh if array else sharding.mesh


def all_gathered(tree: PyTree) -> PyTree:
    """Return `tree` with every array on all devices of its explicit mesh."""
    return jax.tree.map(lambda leaf: gathered(leaf) if isinstance(leaf, Array) else leaf, tree)


def on_mesh(tree: PyTree) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which the explicit mesh of a leaf is the current one, if none is.

    Outside of any trace, and without one, JAX makes the cotangent of a value on one device, and
    then refuses to combine it with what is on all.
    """
    leaves: list[Any] = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, Array)]
    leaves = list(filter(explicit, leaves))
    current = jax.sharding.get_abstract_mesh()
    if not leaves or not current.empty or checks.in_trace(leaves):
        return contextlib.nullcontext()
    return jax.set_mesh(leaves[0].sharding.mesh)
