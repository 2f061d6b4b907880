"""The contract of every gradient: a `GradientFn`, called like the function it differentiates."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import _devices, checks, trees
from adlab.core.calls import calling
from adlab.core.cost import Cost
from adlab.gradients.host import own_errors

__all__ = ["GradientFn"]

PyTree = Any


@dataclass(frozen=True, eq=False)
class GradientFn(abc.ABC):
    """The gradient of `fun`, exact or estimated.

    Call it as `fun`, plus `key=` where it draws probes: it returns what `jax.grad(fun)` would, the
    same tree with the same dtypes. A frozen pytree: steps are data, so that sweeping them doesn't
    recompile; the rest is static. It doesn't jit: its caller does. Map it over points by
    `jax.vmap(lambda x: g(x, key=key))`, for `jax.vmap` itself maps keyword arguments.

    `key` belongs to the estimator. A `fun` with randomness of its own takes it as a positional
    argument, which is the same in every evaluation of one estimate.
    """

    fun: Callable[..., Any]
    argnums: int | tuple[int, ...]
    has_aux: bool

    def __call__(self, *args: Any, key: jax.Array | None = None, **kwargs: Any) -> PyTree:
        """Return the gradient; with `has_aux`, (gradient, aux), where aux is that of `fun` at x."""
        if self.has_aux:
            (_, aux), gradient = self.value_and_grad(*args, key=key, **kwargs)
            return gradient, aux
        fun, x = self._bound(args, kwargs)
        self._check_devices(fun, x)
        with calling(self._name, x):
            return own_errors(lambda: trees.cast_like(self._gradient(_alone(fun), x, key, None), x))

    def value_and_grad(self, *args: Any, key: jax.Array | None = None, **kwargs: Any) -> Any:
        """Return (value, gradient), or ((value, aux), gradient): the value is that of `fun` at x.

        Costs one evaluation more than the gradient, where that doesn't evaluate `fun` at x itself.
        """
        fun, x = self._bound(args, kwargs)
        self._check_devices(fun, x)
        with calling(self._name, x):
            value, aux, gradient = own_errors(lambda: self._value_aux_gradient(fun, x, key))
            return ((value, aux) if self.has_aux else value), trees.cast_like(gradient, x)

    def cost(self, *args: Any, **kwargs: Any) -> Cost:
        """Return what one call costs: known before running, from shapes alone."""
        _, x = self._bind(args, kwargs)
        return self._cost(trees.size(x)) + Cost(evaluations=int(self.has_aux) * self._aux_cost)

    def second_moment(self, *args: Any) -> float:
        """Return c in E|G|^2 = c |grad|^2 on a linear function: theory's step is 1/(c L)."""
        return self._second_moment(trees.size(self._argument(args)))

    def check(self, *args: Any, key: jax.Array | None = None, **kwargs: Any) -> None:
        """Check on concrete input what a compiled call can't: values, and the step against them.

        Args:
          *args: the arguments of `fun`.
          key: draws the probe that is tried; any will do, and by default one is made.
          **kwargs: the keyword arguments of `fun`.

        Raises:
          ValueError: x or `fun` isn't finite there, or the step is under the noise floor: x + h u
            rounds to x in most coordinates. The message names a step that works. Or the slope that
            the step gives along a few directions, the same for all coordinates or probes, is seen
            to be off by more than 10 % of the slope of `fun`, or of what `fun` changes by per unit
            over longer displacements where that is more, as at a stationary point. Looking so far
            costs at most 200 evaluations. From automatic differentiation: a derivative isn't finite
            there; the message names the leaf.
          TypeError: `fun` doesn't return a real scalar, or x isn't real floating-point.
        """
        fun, x = self._bound(args, kwargs)
        if not checks.concrete((self, args, kwargs, key, jnp.add(0, 0))):
            raise TypeError(f"{self._name}.check reads values: call it outside jit, vmap and grad")
        for path, leaf in jax.tree_util.tree_leaves_with_path(x):
            if not np.all(np.isfinite(np.asarray(leaf, np.float64))):
                place = jax.tree_util.keystr(path) or "x"
                raise ValueError(f"{self._name}: {place} must be finite, got NaN or infinity in it")
        key = jax.random.key(0) if key is None else key
        with calling(self._name, x):
            value = float(fun(x)[0])
            if not np.isfinite(value):
                raise ValueError(f"{self._name}: fun must be finite at x, got {value}")
            own_errors(lambda: self._check_step(_alone(fun), x, key))

    def _bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Callable, PyTree]:
        """Return x -> (value, aux), and x; the arguments are data of it, where they are arrays.

        A program that is compiled for it eagerly then serves the next call, at other values, too.
        """
        fun, x = self._bind(args, kwargs)
        leaves = jax.tree.leaves((args, kwargs))
        if _hashable(self) and all(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves):
            fun = jax.tree_util.Partial(_value_and_aux, self, args, kwargs)
        return fun, x

    # What a kind of gradient defines: its estimate, its cost, and where they differ from these
    # defaults its second moment, its joint value and the check of its step.

    _aux_cost = 1

    @property
    def _name(self) -> str:
        words = type(self).__name__
        return "".join("_" + c.lower() if c.isupper() else c for c in words).lstrip("_")

    @abc.abstractmethod
    def _gradient(self, fun: Callable, x: PyTree, key: Any, value: Any) -> PyTree:
        """Estimate the gradient of x -> fun(x); `value` is fun(x) when that is known already."""

    @abc.abstractmethod
    def _cost(self, dim: int) -> Cost:
        """Return the cost of an estimate for x of `dim` numbers."""

    def _second_moment(self, dim: int) -> float:
        del dim
        return 1.0

    def _value_aux_gradient(self, fun: Callable, x: PyTree, key: Any) -> tuple[Any, Any, PyTree]:
        value, aux = fun(x)
        return value, aux, self._gradient(_alone(fun), x, key, value)

    def _check_step(self, fun: Callable, x: PyTree, key: jax.Array) -> None:
        del fun, x, key

    _reverse = False  # whether cotangents alone are passed through fun

    def _check_devices(self, fun: Callable, x: PyTree) -> None:
        _devices.require_one_derivative(self._name, lambda x: fun(x)[0], x, reverse=self._reverse)

    def _argument(self, args: tuple[Any, ...]) -> PyTree:
        numbers = self.argnums if isinstance(self.argnums, tuple) else (self.argnums,)
        for i in numbers:
            if not -len(args) <= i < len(args):
                raise TypeError(
                    f"{self._name}: argnums must name one of the {len(args)} positional "
                    f"arguments, got {i}"
                )
        if len({i % len(args) for i in numbers}) < len(numbers):
            raise ValueError(f"{self._name}: argnums must be distinct, got {self.argnums}")
        several = tuple(args[i] for i in numbers)
        return several if isinstance(self.argnums, tuple) else several[0]

    def _bind(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Callable[[PyTree], tuple[Any, Any]], PyTree]:
        """Return x -> (value, aux), and x."""
        x = self._argument(args)
        checks.require_inexact(self._name, x)
        if not any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(x)):
            x = jax.tree.map(jnp.asarray, x)

        def bound(x: PyTree) -> tuple[Any, Any]:
            out = self._traced(_replace(args, self.argnums, x), kwargs)
            if self.has_aux and not (isinstance(out, tuple | list) and len(out) == 2):
                raise TypeError(
                    f"{self._name}: with has_aux, fun must return a pair (value, aux), got {out!r}"
                )
            value, aux = out if self.has_aux else (out, None)
            return real_scalar(self._name, value, x), aux

        return bound, x

    def _traced(self, args: list[Any], kwargs: dict[str, Any]) -> Any:
        try:
            return self.fun(*args, **kwargs)
        except jax.errors.TracerArrayConversionError as error:
            raise TypeError(
                f"{self._name}: fun must be traceable by JAX, but it calls NumPy on x: write it "
                "with jax.numpy, or pass from_host(fun), of which finite_difference, two_point and "
                "one_sided estimate the gradient"
            ) from error


def _hashable(tree: PyTree) -> bool:
    try:
        hash(jax.tree.structure(tree))
    except TypeError:
        return False
    return True


def _value_and_aux(
    gradient: GradientFn, args: tuple[Any, ...], kwargs: dict[str, Any], x: PyTree
) -> tuple[Any, Any]:
    fun, _ = gradient._bind(args, kwargs)
    return fun(x)


def _alone(fun: Callable[[PyTree], tuple[Any, Any]]) -> Callable[[PyTree], Any]:
    """Return x -> value."""
    if isinstance(fun, jax.tree_util.Partial):
        return jax.tree_util.Partial(_first, fun)
    return lambda x: fun(x)[0]


def _first(fun: Callable[[PyTree], tuple[Any, Any]], x: PyTree) -> Any:
    return fun(x)[0]


def _replace(args: tuple[Any, ...], argnums: int | tuple[int, ...], x: PyTree) -> list[Any]:
    changed = list(args)
    if isinstance(argnums, tuple):
        for place, part in zip(argnums, x, strict=True):
            changed[place] = part
    else:
        changed[argnums] = x
    return changed


def real_scalar(name: str, value: Any, x: PyTree) -> jax.Array:
    """Return `value` as an array; raise TypeError unless it is one number, real where x is."""
    if not hasattr(value, "shape") and not np.isscalar(value):
        raise TypeError(f"{name}: fun must return a scalar, got {jax.tree.structure(value)}")
    shape, dtype = np.shape(value), jnp.result_type(value)
    complex_x = any(jnp.iscomplexobj(leaf) for leaf in jax.tree.leaves(x))
    if shape != () or not jnp.issubdtype(dtype, jnp.inexact if complex_x else jnp.floating):
        raise TypeError(
            f"{name}: fun must return a real floating-point scalar, got shape {shape} of {dtype}"
        )
    return jnp.asarray(value)


def check_arguments(argnums: Any, has_aux: Any) -> None:
    """Raise TypeError unless `argnums` is an integer or a tuple of them, and `has_aux` a bool."""
    numbers = argnums if isinstance(argnums, tuple) and argnums else (argnums,)
    if any(isinstance(i, bool) or not isinstance(i, int) for i in numbers):
        raise TypeError(f"argnums must be an integer or a tuple of integers, got {argnums!r}")
    if not isinstance(has_aux, bool):
        raise TypeError(f"has_aux must be True or False, got {has_aux!r}")


def leaf_slopes(fun: Callable[[PyTree], Any], x: PyTree) -> PyTree:
    """Return the derivative of `fun` along ones in each leaf: not finite where a partial isn't."""
    leaves, structure = jax.tree.flatten(x)

    def along(k: int) -> jax.Array:
        def of_leaf(leaf: jax.Array) -> Any:
            return fun(jax.tree.unflatten(structure, [*leaves[:k], leaf, *leaves[k + 1 :]]))

        return jax.jvp(of_leaf, (leaves[k],), (jnp.ones_like(leaves[k]),))[1]

    return jax.tree.unflatten(structure, [along(k) for k in range(len(leaves))])


def check_derivatives(name: str, derivatives: PyTree) -> None:
    """Raise ValueError unless all derivatives are finite; name the leaf that they are taken in."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(derivatives):
        bad = ~np.isfinite(np.asarray(leaf, np.float64))
        if np.any(bad):
            place = jax.tree_util.keystr(path) or "x"
            raise ValueError(
                f"{name}: the derivative of fun must be finite at x, got "
                f"{np.asarray(leaf, np.float64)[bad][0]} in {place}: an operation has none there, "
                "or its rule gives none, though the value is finite (a power or a root at 0?); "
                "move x, choose the argument of that operation by jnp.where, or take "
                "finite_difference, which needs values alone"
            )


ChunkSize = int | Literal["auto"]
