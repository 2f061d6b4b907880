"""Hessian-vector products v -> H v, without H, in every composition of the two modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, Literal, ParamSpec, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import _devices, checks, trees
from adlab.core.calls import bind, calling, check_arguments, real_scalar
from adlab.core.types import Argnums, Array, Matvec, PyTree, ScalarFn

__all__ = ["Mode", "hvp", "linearize_hvp"]

Mode: TypeAlias = Literal["forward_over_reverse", "reverse_over_forward", "reverse_over_reverse"]
_P = ParamSpec("_P")
_WithAux: TypeAlias = Callable[[PyTree], tuple[Array, Any]]


def hvp(
    fun: Callable[_P, Any],
    *,
    mode: Mode = "forward_over_reverse",
    argnums: Argnums = 0,
    has_aux: bool = False,
) -> Callable[Concatenate[PyTree, _P], PyTree]:
    """Return the function (v, *args) -> H v, where H is the Hessian of `fun` at `args`.

    Exact to rounding, whatever the composition; they differ in time, memory and in what they can
    differentiate:

    * "forward_over_reverse" differentiates the gradient along v (Pearlmutter). The default.
    * "reverse_over_forward" takes the gradient of the directional derivative along v.
    * "reverse_over_reverse" takes the gradient of <grad fun(x), v>: the lecture's form.

    Functions with a reverse rule alone (`jax.custom_vjp`) go through the first and the last; where
    that rule in turn calls such a function, through the last alone.

    Costs about as much as two to three gradients, and at most some ten evaluations of `fun`; H is
    never formed.

    >>> hvp(lambda x: jnp.sum(x**3))(jnp.array([1.0, 0.0]), jnp.array([2.0, 5.0]))
    Array([12.,  0.], dtype=float32)

    Args:
      fun: twice differentiable; returns a real scalar, or (scalar, aux).
      mode: the composition.
      argnums: the positional argument of `fun` in which H is taken, or a tuple of several; then v
        is a tuple too, and H holds the blocks between them.
      has_aux: whether `fun` returns auxiliary data beside its value; it then comes back beside the
        product.

    Returns:
      A function of v and of the arguments of `fun`. v has the structure and shapes of the argument;
      the product has those of v, with its dtypes. v is rounded to the dtypes of the argument.

    Raises:
      ValueError: an unknown mode; `argnums` out of range, repeated or empty; v isn't shaped as the
        argument.
      TypeError: `fun` isn't scalar; an argument or v isn't real floating-point.

    Source: Pearlmutter (1994), doi:10.1162/neco.1994.6.1.147.
    """
    checks.one_of("mode", mode, get_args(Mode))
    check_arguments(argnums, has_aux)

    def product(v: PyTree, /, *args: _P.args, **kwargs: _P.kwargs) -> Any:
        bound, x = bind("hvp", fun, args, kwargs, argnums=argnums, has_aux=has_aux)
        v = vector(v, x, "the argument")
        _devices.require_one_derivative("hvp", bound, x, reverse=True)
        with calling("hvp", x):
            result, aux = _COMPOSITIONS[mode](bound.with_aux, x, trees.cast_like(v, x))
        result = _cast(result, v)
        return (result, aux) if has_aux else result

    return product


def linearize_hvp(
    fun: ScalarFn,
    *args: Any,
    argnums: Argnums = 0,
    has_aux: bool = False,
) -> tuple[Any, ...]:
    """Return the gradient of `fun` at `args`, and the function v -> H v at that point.

    The gradient is linearised once: products skip all that doesn't depend on v, and cost little
    more than a gradient. What they share is held in memory: the intermediates of the gradient.
    Every linearisation is a program of its own, compiled again where `matvec` is compiled: it pays
    for many products at one point. `hvp` under `jit` is compiled once for all points.

    >>> gradient, matvec = linearize_hvp(lambda x: jnp.sum(x**3), jnp.array([2.0, 5.0]))
    >>> matvec(jnp.array([1.0, 0.0]))
    Array([12.,  0.], dtype=float32)

    Args:
      fun: twice differentiable; returns a real scalar, or (scalar, aux).
      *args: where; all of `fun`'s arguments.
      argnums: the positional argument in which H is taken, or a tuple of several.
      has_aux: whether `fun` returns auxiliary data beside its value.

    Returns:
      (gradient, matvec), or (gradient, matvec, aux). `matvec` is a pytree: pass it through `jit` as
      an argument, and what it holds is data.

    Raises:
      ValueError: `argnums` out of range, repeated or empty; v isn't shaped as the argument (when
        called).
      TypeError: `fun` isn't scalar; an argument or v isn't real floating-point.
    """
    name = "linearize_hvp"
    check_arguments(argnums, has_aux)
    bound, x = bind(name, fun, args, {}, argnums=argnums, has_aux=has_aux)
    _devices.require_one_derivative(name, bound, x, reverse=True)
    with calling(name, x):
        slope = jax.grad(bound.with_aux, has_aux=True)
        gradient, product, aux = jax.linearize(slope, x, has_aux=True)
    matvec = jax.tree_util.Partial(_linear, product, x)
    return (gradient, matvec, aux) if has_aux else (gradient, matvec)


def scalar(value: Any) -> Array:
    """Return the value of a loss as an array; raise TypeError unless it is one real number."""
    return real_scalar("curvature", value)


def vector(v: PyTree, like: PyTree, meant: str, *, name: str = "v") -> PyTree:
    """Return v as a tree of arrays, after a check that it is real and shaped as `like`."""
    if not trees.same_shapes(v, like):
        raise ValueError(f"{name} must be shaped as {meant}, {_shapes(like)}, got {_shapes(v)}")
    v = jax.tree.map(trees.as_array, v)
    for leaf in jax.tree.leaves(v):
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise TypeError(
                f"{name} must be real floating-point, got {leaf.dtype}; convert it"
                f"{': the product has the dtype of v' if name == 'v' else ''}"
            )
    return v


def _forward_over_reverse(fun: _WithAux, x: PyTree, v: PyTree) -> tuple[PyTree, Any]:
    _, product, aux = jax.jvp(jax.grad(fun, has_aux=True), (x,), (v,), has_aux=True)
    return product, aux


def _reverse_over_forward(fun: _WithAux, x: PyTree, v: PyTree) -> tuple[PyTree, Any]:
    def slope(x: PyTree) -> tuple[Array, Any]:
        _, derivative, aux = jax.jvp(fun, (x,), (v,), has_aux=True)
        return derivative, aux

    product, aux = jax.grad(slope, has_aux=True)(x)
    return product, aux


def _reverse_over_reverse(fun: _WithAux, x: PyTree, v: PyTree) -> tuple[PyTree, Any]:
    def slope(x: PyTree) -> tuple[Array, Any]:
        gradient, aux = jax.grad(fun, has_aux=True)(x)
        return trees.vdot(gradient, v), aux

    product, aux = jax.grad(slope, has_aux=True)(x)
    return product, aux


_COMPOSITIONS: dict[str, Callable[[_WithAux, PyTree, PyTree], tuple[PyTree, Any]]] = {
    "forward_over_reverse": _forward_over_reverse,
    "reverse_over_forward": _reverse_over_forward,
    "reverse_over_reverse": _reverse_over_reverse,
}


def _linear(product: Matvec, x: PyTree, v: PyTree) -> PyTree:
    v = vector(v, x, "the argument")
    with calling("linearize_hvp", x):
        return _cast(product(trees.cast_like(v, x)), v)


def _shapes(tree: PyTree) -> PyTree:
    return jax.tree.map(np.shape, tree)


def _cast(tree: PyTree, like: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf, other: jnp.asarray(leaf, other.dtype), tree, like)
