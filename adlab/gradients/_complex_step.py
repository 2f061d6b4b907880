"""Slopes by the complex step: Im fun(x + i h e_i) / h, whose error is h^2 f'''/6.

No difference is taken, so that no digits cancel, and h may be as short as floating point allows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from adlab.core import _shardings, trees
from adlab.core._programs import one_program
from adlab.core.calls import Bound
from adlab.core.cost import Cost
from adlab.core.nodes import register
from adlab.core.types import Array, ChunkSize, Key, PyTree
from adlab.gradients._chunks import chunk_length, over_coordinates
from adlab.gradients._holomorphic import holomorphic
from adlab.gradients.method import Method
from adlab.gradients.steps import StepRule, valid_step

__all__ = ["ComplexStep", "complex_like", "slope"]

# Far below the round-off of the value, which it never meets, and far above underflow; and the share
# of a small x that it is at most: functions such as log vary on the scale of x, and err by its
# square.
_STEPS = {"float32": (1e-9, 1e-4), "float64": (1e-20, 1e-9)}


@register("step")
@dataclass(frozen=True, eq=False)
class ComplexStep(Method):
    """The imaginary part of a value at a point moved along i, over every coordinate.

    Attributes:
      step: h > 0, or None for the shortest that is of use.
      rule: the name by which that was asked for.
      chunk_size: how many coordinates are evaluated at a time.
    """

    step: Any
    rule: StepRule
    chunk_size: ChunkSize

    def arguments(self) -> dict[str, Any]:
        step = self.rule if self.step is None else self.step
        others = {"chunk_size": self.chunk_size, "bounds": None, "with_error": False}
        return {"scheme": "complex", "step": step, **others}

    def estimate(
        self, fun: Bound, x: PyTree, key: Key | None, value: Array | None = None
    ) -> PyTree:
        del key
        step = None if self.step is None else jnp.asarray(self.step, trees.common_dtype(x))

        def prepare() -> tuple[Callable[[Array], Array], int]:
            along = slope(fun, x, value, step)
            return along, chunk_length(self.chunk_size, fun, complex_like(x), trees.size(x))

        return over_coordinates(prepare, x)

    def cost(self, x: PyTree, *, value: bool) -> Cost:
        del value  # fun(x) is needed in any case: it must be finite
        return Cost(evaluations=trees.size(x) + 2)

    def check(self, fun: Bound, x: PyTree, key: Key) -> None:
        del key
        if self.step is not None and not self.step > 0:
            raise ValueError(f"{fun.name}: step must be > 0, got {self.step}")
        if not jnp.isfinite(slope(fun, x, None, self.step)(jnp.asarray(0))):
            raise ValueError(
                f'{fun.name}: scheme="complex" needs a fun that is real for real x and '
                "finite near it, and this one isn't at x (a branch of log, sqrt or a power?); "
                'use scheme="richardson"'
            )


def slope(fun: Bound, x: PyTree, value: Array | None, step: Any) -> Callable[[Array], Array]:
    """Return i -> Im fun(x + i h e_i) / h; `step` None is the shortest that is of use."""
    flat = trees.ravel(x)
    like = complex_like(x)
    extended = holomorphic(fun.name, fun, like)
    value = _value_if_any(fun, x) if value is None else value
    h = _steps(flat, step)
    on_axis = extended(trees.unravel(_complex(flat, 0.0), like))
    h = _checked(h, on_axis, value)

    def along(index: Array) -> Array:
        imaginary = jnp.where(jnp.arange(flat.size) == index, h, 0)
        moved = extended(trees.unravel(jax.lax.complex(flat, imaginary), like))
        return (jnp.imag(moved) / jnp.sum(imaginary)).astype(flat.dtype)

    return along


@one_program(1)
def _complex(flat: Array, imaginary: float) -> Array:
    return jax.lax.complex(flat, jnp.full_like(flat, imaginary))


@one_program()
def _checked(h: Array, on_axis: Array, value: Any) -> Array:
    """Return h, or NaN where the value on the real axis isn't real and finite.

    There `fun` isn't real for real x, or only because imaginary parts of its steps cancel.
    """
    return jnp.where((jnp.imag(on_axis) == 0) & jnp.isfinite(value), h, jnp.nan)


def _steps(flat: Array, step: Any) -> Array:
    """Return the step of every coordinate: short beside x_i too, but for x_i = 0."""
    if step is not None:
        return jnp.broadcast_to(valid_step(step, flat.dtype), flat.shape)
    return _short_steps(flat)


@one_program()
def _short_steps(flat: Array) -> Array:
    longest, share = _STEPS[flat.dtype.name]
    beside = jnp.maximum(share * jnp.abs(jax.lax.stop_gradient(flat)), jnp.finfo(flat.dtype).tiny)
    return jnp.where(flat == 0, longest, jnp.minimum(longest, beside)).astype(flat.dtype)


def _value_if_any(fun: Bound, x: PyTree) -> Any:
    """Return fun(x), or 0 where `fun` accepts complex numbers only, or makes real ones complex."""
    try:
        return fun(x)
    except TypeError:
        return 0.0


def complex_like(x: PyTree) -> PyTree:
    """Return the shapes of x with complex dtypes."""

    def leaf_like(leaf: Array) -> jax.ShapeDtypeStruct:
        wide = leaf.dtype == jnp.float64
        return _shardings.struct(leaf, jnp.complex128 if wide else jnp.complex64)

    return jax.tree.map(leaf_like, x)
