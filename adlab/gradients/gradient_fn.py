"""The contract of every gradient: a `GradientFn`, called like the function it differentiates."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import Any, Generic, final, overload

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import _devices, calls, checks, trees
from adlab.core.calls import Bound, calling
from adlab.core.cost import Cost
from adlab.core.nodes import as_data, register
from adlab.core.types import Argnums, Array, Key, Objective, Params, PyTree, Rest, ScalarFn
from adlab.gradients.host import own_errors
from adlab.gradients.method import Method

__all__ = ["GradientFn", "gradient_fn"]


@final
@register("fun", "method")
@dataclass(frozen=True, eq=False, repr=False)
class GradientFn(Generic[Params, Rest]):
    """The gradient of `fun`, exact or estimated.

    Call it as `fun`, plus `key=` where it draws probes: it returns what `jax.grad(fun)` would, the
    same tree with the same dtypes. A frozen pytree: steps are data, so that sweeping them doesn't
    recompile; the rest is static. It doesn't jit: its caller does. Map it over points by
    `jax.vmap(lambda x: g(x, key=key))`, for `jax.vmap` itself maps keyword arguments.

    `key` belongs to the estimator. A `fun` with randomness of its own takes it as a positional
    argument, which is the same in every evaluation of one estimate.

    Type checkers know it as GradientFn[type of the first argument, parameters after it]. Calls are
    held to these; but with `key=`, which no type can add to the parameters of another function, to
    the first argument alone. The gradient has no type of its own: it is a tree like the argument,
    but its leaves are arrays of JAX where those were floats or NumPy's.

    Attributes:
      fun: returns a real scalar, or (scalar, aux) where `has_aux` is set.
      argnums: which positional argument is differentiated, or a tuple of several.
      has_aux: whether `fun` returns auxiliary data beside its value.
      method: how the gradient is obtained.
    """

    fun: ScalarFn
    argnums: Argnums
    has_aux: bool
    method: Method

    @overload
    def __call__(self, x: Params, /, *args: Rest.args, **kwargs: Rest.kwargs) -> PyTree: ...
    @overload
    def __call__(self, x: Params, /, *args: Any, key: Key | None, **kwargs: Any) -> PyTree: ...
    def __call__(  # type: ignore[misc]  # to mypy, `key` might be one of the parameters of `fun`
        self, *args: Any, key: Key | None = None, **kwargs: Any
    ) -> PyTree:
        """Return the gradient; with `has_aux`, (gradient, aux), where aux is that of `fun` at x."""
        if self.has_aux:
            (_, aux), gradient = self.value_and_grad(*args, key=key, **kwargs)
            return gradient, aux
        fun, x = self._bind(args, kwargs)
        _devices.require_one_derivative(fun.name, fun, x, reverse=self.method.reverse)
        with calling(fun.name, x):
            return own_errors(lambda: self.method.finished(self.method.estimate(fun, x, key), x))

    @overload
    def value_and_grad(
        self, x: Params, /, *args: Rest.args, **kwargs: Rest.kwargs
    ) -> tuple[Any, PyTree]: ...
    @overload
    def value_and_grad(
        self, x: Params, /, *args: Any, key: Key | None, **kwargs: Any
    ) -> tuple[Any, PyTree]: ...
    def value_and_grad(  # type: ignore[misc]  # as above
        self, *args: Any, key: Key | None = None, **kwargs: Any
    ) -> tuple[Any, PyTree]:
        """Return (value, gradient), or ((value, aux), gradient): the value is that of `fun` at x.

        Costs one evaluation more than the gradient, where that doesn't evaluate `fun` at x itself.
        """
        fun, x = self._bind(args, kwargs)
        _devices.require_one_derivative(fun.name, fun, x, reverse=self.method.reverse)
        with calling(fun.name, x):
            value, aux, gradient = own_errors(lambda: self.method.value_and_estimate(fun, x, key))
            return ((value, aux) if self.has_aux else value), self.method.finished(gradient, x)

    def on(self, shardings: PyTree) -> GradientFn[Params, Rest]:
        """Return the same gradient, which knows how x lies on devices.

        Under `jax.jit` a function can't see that of arrays on a mesh without explicit axes, and
        what is drawn block by block would be gathered. The estimates are the same with and without.
        Needed for none but estimates from probes of large trees, and not outside of `jax.jit`.

        Args:
          shardings: a tree like x of `NamedSharding`, or one that suits every leaf. Its mesh
            divides what it shares out. Of arrays: `jax.tree.map(lambda leaf: leaf.sharding, x)`.

        Raises:
          TypeError: a leaf isn't a NamedSharding.
          ValueError: it has another structure than x (when called).
        """
        return replace(self, method=self.method.on(shardings))

    def descend(
        self,
        *args: Any,
        step_size: float | Array,
        key: Key | None = None,
        in_place: bool = False,
        **kwargs: Any,
    ) -> PyTree:
        """Return x - step_size * gradient, in the dtypes of x.

        Of estimates from named laws other than "orthogonal" the gradient is never stored: it is
        added to x block by block. Where the caller gives the memory of x away (`donate_argnums` of
        `jax.jit`, or a loop's state) that is all which is needed besides a copy x + h u. With
        `in_place`, of `two_point`, no copy is needed either: x itself moves to x + h u, x - h u and
        on. (That goes for a smoothing that is a number or "relative"; measuring it, "auto", takes
        a copy and a direction.) Each move rounds again, so that x drifts: per probe by at most 1.5
        units in the last place of |x_i| + h |u_i|, in no direction, hence after k steps by about
        the root of k times a third of that.

        Args:
          *args: the arguments of `fun`.
          step_size: a positive number; may be traced.
          key: as for a call.
          in_place: whether x is moved there and back.
          **kwargs: the keyword arguments of `fun`.

        Raises:
          ValueError: `in_place` of another gradient than `two_point`, or of a law that isn't drawn
            block by block; a step size that isn't positive.
          TypeError: a step size that isn't one real number.
        """
        fun, x = self._bind(args, kwargs)
        _devices.require_one_derivative(fun.name, fun, x, reverse=self.method.reverse)
        with calling(fun.name, x):
            size = _step_size(step_size)
            return own_errors(lambda: self.method.descended(fun, x, key, size, in_place=in_place))

    def prepare(self, *args: Any, key: Key) -> Any:
        """Draw the random words of many calls at once: what they take as `key` instead.

        Drawing a few words takes a machine about as long as drawing many: in a loop of small
        problems it may take longer than all else. So draw those of some twenty calls beforehand:

        >>> from adlab.gradients import two_point
        >>> g = two_point(lambda x: jnp.sum(x**2), law="rademacher", smoothing=1e-2)
        >>> x, keys = jnp.ones(100), jax.random.split(jax.random.key(0), 20)
        >>> step = lambda x, drawn: (x - 1e-3 * g(x, key=drawn), None)
        >>> x, _ = jax.lax.scan(step, x, g.prepare(x, key=keys))

        The gradients are those of the keys themselves. `minimize` does this on its own.

        Args:
          *args: the arguments of a call; only the shapes of what is differentiated matter.
          key: keys along a first axis.

        Returns:
          A pytree with that first axis, for `jax.lax.scan`, or to be indexed by `jax.tree.map`. It
          is the keys themselves where nothing can be gained: of a gradient without probes, of
          probes of more than 65,536 numbers, "orthogonal" ones or those of a law of your own, and
          of keys other than Threefry's, whose words differ when they are drawn together.
        """
        x = calls.argument(self.method.name, args, self.argnums)
        return self.method.prepare(jax.tree.map(jnp.asarray, x), key)

    def cost(self, *args: Any, **kwargs: Any) -> Cost:
        """Return what one call costs: known before running, from shapes and dtypes alone."""
        return self.method.cost(self._bind(args, kwargs)[1], value=self.has_aux)

    def second_moment(self, *args: Any) -> float:
        """Return c in E|G|^2 = c |grad|^2 on a linear function: theory's step is 1/(c L)."""
        x = calls.argument(self.method.name, args, self.argnums)
        return self.method.second_moment(trees.size(x))

    def check(self, *args: Any, key: Key | None = None, **kwargs: Any) -> None:
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
        fun, x = self._bind(args, kwargs)
        if checks.in_trace((self, args, kwargs, key)):
            raise TypeError(f"{fun.name}.check reads values: call it outside jit, vmap and grad")
        for path, leaf in jax.tree_util.tree_leaves_with_path(x):
            if not np.all(np.isfinite(np.asarray(leaf, np.float64))):
                place = jax.tree_util.keystr(path) or "x"
                raise ValueError(f"{fun.name}: {place} must be finite, got NaN or infinity in it")
        some = jax.random.key(0) if key is None else key
        with calling(fun.name, x):
            value = float(fun(x))
            if not np.isfinite(value):
                raise ValueError(f"{fun.name}: fun must be finite at x, got {value}")
            own_errors(lambda: self.method.check(fun, x, some))

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Bound, PyTree]:
        name, argnums = self.method.name, self.argnums
        return calls.bind(name, self.fun, args, kwargs, argnums=argnums, has_aux=self.has_aux)

    def __repr__(self) -> str:
        """Show the call that makes it, without what is at its default."""
        given = self.method.arguments() | {"argnums": self.argnums, "has_aux": self.has_aux}
        _, *parameters = inspect.signature(self.method.factory).parameters.values()
        words = [_short(self.fun)]
        for parameter in parameters:
            value = _short(given[parameter.name])
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
                words.append(value)
            elif value != _short(parameter.default):
                words.append(f"{parameter.name}={value}")
        return f"{self.method.factory.__name__}({', '.join(words)})"


def _step_size(size: Any) -> Array:
    """Return a step size in single precision at least; raise unless it is one positive number."""
    if size is None or isinstance(size, str) or np.shape(size) != ():
        raise TypeError(f"descend: step_size must be one real number, got {size!r}")
    checks.positive("descend: step_size", size)
    kind = jnp.result_type(size)
    if not jnp.issubdtype(kind, jnp.floating):
        kind = jnp.result_type(float)
    return jnp.asarray(size, np.promote_types(kind, np.float32))


def gradient_fn(
    fun: Objective[Params, Rest], argnums: Argnums, has_aux: bool, method: Method
) -> GradientFn[Params, Rest]:
    """Return the gradient of `fun` by a method, after a check of the arguments that all share."""
    calls.check_arguments(argnums, has_aux)
    return GradientFn(as_data(fun), argnums, has_aux, method)


def _short(value: Any) -> str:
    """Return a word for an argument: functions by name, arrays of several numbers by shape."""
    if isinstance(value, jax.tree_util.Partial):
        return _short(value.func)
    if callable(value):
        return str(getattr(value, "__name__", type(value).__name__))
    if not isinstance(value, jax.Array | np.ndarray | np.generic):
        return repr(value)
    if np.ndim(value) == 0 and checks.concrete(value):
        return f"{float(value):.6g}"
    return f"{jnp.result_type(value)}[{','.join(map(str, np.shape(value)))}]"
