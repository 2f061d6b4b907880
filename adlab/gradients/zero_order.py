"""Zero-order estimators: gradients from values of `fun` along random probes.

Beside them stands the forward gradient, their limit of a vanishing smoothing.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from adlab.core import trees
from adlab.core.cost import Cost
from adlab.core.nodes import as_data, register
from adlab.core.probes import Law, LawName
from adlab.gradients import _ladders
from adlab.gradients._probed import Directional, ProbedGradient, check_probing
from adlab.gradients._step_checks import DIRECTIONS, require_accuracy
from adlab.gradients.gradient_fn import (
    ChunkSize,
    GradientFn,
    PyTree,
    check_arguments,
    check_derivatives,
    leaf_slopes,
)
from adlab.gradients.noise import EVALUATIONS, measurable, measure, spread
from adlab.gradients.stencils import STENCILS
from adlab.gradients.steps import (
    ROUNDING,
    StepRule,
    check_leaf_scales,
    difference,
    displacement,
    moved,
    quotient,
    step_or_rule,
    usable_step,
    valid_step,
)

__all__ = ["forward_gradient", "one_sided", "two_point"]


@dataclass(frozen=True, eq=False)
class _Smoothed(ProbedGradient):
    """A probed gradient whose slopes are differences of values; `smoothing` None means `rule`."""

    smoothing: Any
    rule: StepRule = "auto"

    _scheme = ""  # along a probe: a stencil, whose error is O(h^order)

    @property
    def _order(self) -> int:
        return STENCILS[self._scheme].order

    def cost(self, *args: Any, **kwargs: Any) -> Cost:
        """Return what one call costs: known before running, from shapes and dtypes alone."""
        _, x = self._bind(args, kwargs)
        return super().cost(*args, **kwargs) + Cost(evaluations=EVALUATIONS * self._measures(x))

    def _measures(self, x: PyTree) -> bool:
        # Leaves of 16 bits wouldn't be moved by a step that suits the others.
        automatic = self.smoothing is None and self.rule == "auto"
        return automatic and all(measurable(leaf) for leaf in jax.tree.leaves(x))

    def _step(self, fun: Callable, x: PyTree, value: Any) -> Callable[[PyTree], jax.Array]:
        """Return u -> the smoothing h for probe u; NaN where it isn't positive and finite.

        What is measured is measured once. It tells the step along one coordinate, over max(1,
        |x_i|); along u the derivative that truncates is larger.
        """
        if self.smoothing is not None:
            return lambda u: valid_step(self.smoothing, trees.common_dtype(u))
        relative = displacement(fun, x, self._order)
        if not self._measures(x):
            return lambda u: valid_step(relative, trees.common_dtype(u)) / _longest(u)
        best = measure(fun, x, value, STENCILS[self._scheme], self.chunk_size).step
        units = _ladders.unit(x)

        def step(u: PyTree) -> jax.Array:
            dtype = trees.common_dtype(u)
            scaled = jax.tree.map(_over, u, units)
            longest = _longest(scaled)
            shape = jax.tree.map(lambda v: v / longest.astype(v.dtype), scaled)
            wider = spread(shape, self._order).astype(dtype) ** (1 / (self._order + 1))
            along = best.astype(dtype) / (longest.astype(dtype) * wider)
            blind = valid_step(relative, dtype) / _longest(u)
            return jnp.where(jnp.isnan(along), blind, valid_step(along, dtype))

        return step

    def _ends(self, x: PyTree, h: jax.Array, u: PyTree) -> tuple[PyTree, PyTree]:
        """Return the two points whose values are compared, the one behind first."""
        return x, trees.add_scaled(x, h, u)

    def _directional(self, fun: Callable, x: PyTree, value: Any) -> Directional:
        return self._quotients(fun, x, value, self._step(fun, x, value))

    @abc.abstractmethod
    def _quotients(self, fun: Callable, x: PyTree, value: Any, step: Callable) -> Directional:
        """Return u -> the difference quotient along u, whose smoothing is step(u)."""

    def _check_step(self, fun: Callable, x: PyTree, key: jax.Array) -> None:
        value = fun(x)
        step = self._step(fun, x, value)
        u = self._probe(x, key)
        h = step(u)
        if not h > 0:
            given = self.smoothing
            if given is None:
                given = f"{self.rule}, which overflows at this x"
            raise ValueError(f"{self._name}: smoothing must be positive and finite, got {given}")
        if not self._measures(x) and self.smoothing is None:
            check_leaf_scales(self._name, x, h, u)
        behind, ahead = self._ends(x, h, u)
        asked = h * (2 if self._order == 2 else 1)
        if not abs(moved(behind, ahead, u) / asked - 1) < ROUNDING:
            raise ValueError(
                f"{self._name}: smoothing must move most coordinates of x by what it says, got "
                f"{float(h):.3g}, at which x + h u is mostly rounding; use at least "
                f'{usable_step(x, u, 0.9):.2g}, or "auto"'
            )
        if self.smoothing is not None and fun(ahead) == fun(behind):
            relative = replace(self, smoothing=None, rule="relative")._step(fun, x, None)
            behind, ahead = self._ends(x, relative(u), u)
            if fun(ahead) != fun(behind):
                raise ValueError(
                    f"{self._name}: smoothing must change fun at x, got {float(h):.3g}, under "
                    'the round-off of its values; use "auto" or a larger one'
                )
        if measurable(x):
            self._check_error(fun, x, self._quotients(fun, x, value, step), u, h, key)

    def _check_error(
        self, fun: Callable, x: PyTree, slope: Directional, u: PyTree, h: Any, key: jax.Array
    ) -> None:
        """Raise ValueError when slopes along a few probes are seen to be wrong."""
        count = 1 if trees.size(x) == 1 else DIRECTIONS
        probes = [u, *(self._probe(x, jax.random.fold_in(key, i)) for i in range(1, count))]
        kept = [
            jax.tree.map(lambda v, leaf: v if measurable(leaf) else jnp.zeros_like(v), probe, x)
            for probe in probes
        ]
        tried = [(probe, float(slope(probe))) for probe in kept if float(_longest(probe)) > 0]
        if tried:
            given = f"smoothing {float(h):.3g}"
            automatic = self.smoothing is None
            require_accuracy(self._name, given, fun, x, tried, self.chunk_size, automatic=automatic)


def _longest(u: PyTree) -> jax.Array:
    dtype = trees.common_dtype(u)
    return jnp.max(jnp.stack([jnp.max(jnp.abs(v), initial=0) for v in _as(u, dtype)]))


def _as(tree: PyTree, dtype: Any) -> list[jax.Array]:
    return [leaf.astype(dtype) for leaf in jax.tree.leaves(tree)]


def _over(u: jax.Array, size: jax.Array) -> jax.Array:
    """Return u over the unit of its coordinate; 0 where nothing is measured."""
    return jnp.where(size > 0, u / jnp.maximum(size, 1).astype(u.dtype), 0)


@register("fun", "smoothing")
@dataclass(frozen=True, eq=False)
class TwoPoint(_Smoothed):
    """See `two_point`."""

    _scheme = "central"

    def _ends(self, x: PyTree, h: jax.Array, u: PyTree) -> tuple[PyTree, PyTree]:
        return trees.add_scaled(x, -h, u), trees.add_scaled(x, h, u)

    def _cost(self, dim: int) -> Cost:
        del dim
        return Cost(evaluations=2 * self.num_probes)

    def _quotients(self, fun: Callable, x: PyTree, value: Any, step: Callable) -> Directional:
        del value

        def slope(u: PyTree) -> jax.Array:
            behind, ahead = self._ends(x, step(u), u)
            return quotient(difference(fun(ahead), fun(behind)), moved(behind, ahead, u))

        return slope


@register("fun", "smoothing")
@dataclass(frozen=True, eq=False)
class OneSided(_Smoothed):
    """See `one_sided`."""

    _scheme = "forward"
    _aux_cost = 0

    def _cost(self, dim: int) -> Cost:
        del dim
        return Cost(evaluations=self.num_probes + 1)

    def _directional(self, fun: Callable, x: PyTree, value: Any) -> Directional:
        return super()._directional(fun, x, fun(x) if value is None else value)

    def _quotients(self, fun: Callable, x: PyTree, value: Any, step: Callable) -> Directional:
        def slope(u: PyTree) -> jax.Array:
            behind, ahead = self._ends(x, step(u), u)
            return quotient(difference(fun(ahead), value), moved(behind, ahead, u))

        return slope


@register("fun")
@dataclass(frozen=True, eq=False)
class ForwardGradient(ProbedGradient):
    """See `forward_gradient`."""

    def _cost(self, dim: int) -> Cost:
        del dim
        return Cost(jvps=self.num_probes)

    def _directional(self, fun: Callable, x: PyTree, value: Any) -> Directional:
        del value

        def slope(u: PyTree) -> jax.Array:
            return jax.jvp(fun, (x,), (trees.cast_like(u, x),))[1]

        return slope

    def _check_step(self, fun: Callable, x: PyTree, key: jax.Array) -> None:
        del key
        check_derivatives(self._name, leaf_slopes(fun, x))


def two_point(
    fun: Callable[..., Any],
    *,
    smoothing: float | StepRule | jax.Array = "auto",
    law: LawName | Law = "sphere",
    num_probes: int = 1,
    chunk_size: ChunkSize = "auto",
    argnums: int | tuple[int, ...] = 0,
    has_aux: bool = False,
) -> GradientFn:
    """Estimate the gradient of `fun` from symmetric differences along random probes.

    g = (1/m) sum_i [fun(x + h u_i) - fun(x - h u_i)] / (2h) * u_i,   m = num_probes, h = smoothing.

    Unbiased on quadratics; in general E g = grad fun(x) + O(h^2). On a quadratic the mean squared
    error is (d - 1)/m * |grad|^2 for sphere, Rademacher and coordinate probes, (d + 1)/m for
    Gaussian ones, d/m - 1 for orthogonal ones (m <= d). Costs 2m evaluations,
    and 40 more for smoothing="auto", once per estimate. Memory O(chunk_size * d); with law
    "orthogonal" O(min(m, d) * d), for a block is drawn whole.

    >>> g = two_point(lambda x: jnp.sum(x**2), num_probes=2, law="orthogonal")
    >>> g(jnp.array([1.0, 2.0]), key=jax.random.key(0)).round(2)
    Array([2., 4.], dtype=float32)

    Args:
      fun: returns a real scalar, or (scalar, aux); needn't be differentiable.
      smoothing: step h > 0 in units of x; may be traced. On the sphere |h u| = h sqrt(d), so a
        formula with unit directions and radius r has h = r / sqrt(d). Or a rule, which gives every
        probe its own. "auto" is measured from the noise of `fun` and from how fast it varies, as
        for `finite_difference(step="auto")`, with the same limits: of the step for one coordinate
        it is the part at which the derivatives that truncate along all coordinates of u together do
        as little harm. "relative" is free: eps^(1/3) * max(1, rms x) over the largest coordinate of
        u, eps the round-off of x and `fun`; an x with leaves of 16 bits always goes by it.
      law: distribution of the probes, with E[u u^T] = I: a name, or (like, *, key) -> probe.
      num_probes: number m of probes. Probe i is drawn from fold_in(key, i), as is block i of
        orthogonal ones; a single probe from the key itself.
      chunk_size: how many probes are evaluated at a time; doesn't change them.
      argnums: which positional argument to differentiate, or a tuple of several.
      has_aux: whether `fun` returns auxiliary data beside its value.

    Returns:
      A GradientFn with the signature of `fun` plus `key`. Inside of `jax.shard_map` the key is the
      same on all devices that share x, and may be each device's own where x is.

    Raises:
      ValueError: num_probes < 1; chunk_size < 1; smoothing <= 0; an unknown law. `check` also
        refuses a smoothing under the noise floor at x, which in compiled code gives NaN, and one
        whose error it sees to exceed 10 % of the slope.
      TypeError: no key (when called); `fun` isn't scalar; a leaf isn't real floating-point.

    Source: Nesterov & Spokoiny (2017), doi:10.1007/s10208-015-9296-2.
    """
    check_arguments(argnums, has_aux)
    check_probing(law, num_probes, chunk_size)
    h, rule = step_or_rule("smoothing", smoothing)
    return TwoPoint(as_data(fun), argnums, has_aux, law, num_probes, chunk_size, h, rule)


def one_sided(
    fun: Callable[..., Any],
    *,
    smoothing: float | StepRule | jax.Array = "auto",
    law: LawName | Law = "sphere",
    num_probes: int = 1,
    chunk_size: ChunkSize = "auto",
    argnums: int | tuple[int, ...] = 0,
    has_aux: bool = False,
) -> GradientFn:
    """Estimate the gradient of `fun` from forward differences along random probes.

    g = (1/m) sum_i [fun(x + h u_i) - fun(x)] / h * u_i,   m = num_probes, h = smoothing.

    E g = grad fun(x) + O(h^2) for laws that are symmetric about 0, and + O(h) for "coordinate"
    (h sqrt(d)/2 times the Hessian's diagonal on a quadratic). Its mean squared error is that of
    `two_point` plus a term O(h^2) that doesn't vanish with the gradient: on a quadratic with
    Hessian H and one probe, h^2/4 times (tr^2 H + 2 |H|_F^2) multiplied by d^2/(d + 2) on the
    sphere and by d + 4 for Gaussian probes, and h^2/4 * d * (tr^2 H + 2 (|H|_F^2 - sum H_ii^2))
    for Rademacher probes. Costs m + 1 evaluations, and 40 more for smoothing="auto", once per
    estimate. Memory O(chunk_size * d); with law "orthogonal" O(min(m, d) * d).

    >>> g = one_sided(lambda x: jnp.sum(x**2), num_probes=2, law="orthogonal")
    >>> g(jnp.array([1.0, 2.0]), key=jax.random.key(0)).round(1)
    Array([2., 4.], dtype=float32)

    Args:
      fun: returns a real scalar, or (scalar, aux); needn't be differentiable.
      smoothing: step h > 0 in units of x; may be traced. Or a rule, as for `two_point`: "auto" is
        measured, "relative" is eps^(1/2) * max(1, rms x) over the largest coordinate of u.
      law: distribution of the probes, with E[u u^T] = I: a name, or (like, *, key) -> probe.
      num_probes: number m of probes. Probe i is drawn from fold_in(key, i), as is block i of
        orthogonal ones; a single probe from the key itself.
      chunk_size: how many probes are evaluated at a time; doesn't change them.
      argnums: which positional argument to differentiate, or a tuple of several.
      has_aux: whether `fun` returns auxiliary data beside its value.

    Returns:
      A GradientFn with the signature of `fun` plus `key`. Inside of `jax.shard_map` the key is the
      same on all devices that share x, and may be each device's own where x is.

    Raises:
      ValueError: num_probes < 1; chunk_size < 1; smoothing <= 0; an unknown law. `check` also
        refuses a smoothing under the noise floor at x, which in compiled code gives NaN, and one
        whose error it sees to exceed 10 % of the slope.
      TypeError: no key (when called); `fun` isn't scalar; a leaf isn't real floating-point.

    Source: Nesterov & Spokoiny (2017), doi:10.1007/s10208-015-9296-2.
    """
    check_arguments(argnums, has_aux)
    check_probing(law, num_probes, chunk_size)
    h, rule = step_or_rule("smoothing", smoothing)
    return OneSided(as_data(fun), argnums, has_aux, law, num_probes, chunk_size, h, rule)


def forward_gradient(
    fun: Callable[..., Any],
    *,
    law: LawName | Law = "rademacher",
    num_probes: int = 1,
    chunk_size: ChunkSize = "auto",
    argnums: int | tuple[int, ...] = 0,
    has_aux: bool = False,
) -> GradientFn:
    """Estimate the gradient of `fun` from exact directional derivatives along random probes.

    g = (1/m) sum_i (grad fun(x) . u_i) u_i,   m = num_probes: `two_point` in the limit h -> 0.

    Unbiased for every differentiable `fun`. The mean squared error is (d - 1)/m * |grad|^2 for
    sphere, Rademacher and coordinate probes, (d + 1)/m for Gaussian ones, d/m - 1 for orthogonal
    ones (m <= d). Costs m Jacobian-vector products, stores no intermediates. Memory
    O(chunk_size * d); with law "orthogonal" O(min(m, d) * d).

    >>> g = forward_gradient(lambda x: jnp.sum(x**2), num_probes=2, law="orthogonal")
    >>> g(jnp.array([1.0, 2.0]), key=jax.random.key(0)).round(2)
    Array([2., 4.], dtype=float32)

    Args:
      fun: differentiable by JAX in forward mode; returns a real scalar, or (scalar, aux).
      law: distribution of the probes, with E[u u^T] = I: a name, or (like, *, key) -> probe.
      num_probes: number m of probes. Probe i is drawn from fold_in(key, i), as is block i of
        orthogonal ones; a single probe from the key itself.
      chunk_size: how many probes are evaluated at a time; doesn't change them.
      argnums: which positional argument to differentiate, or a tuple of several.
      has_aux: whether `fun` returns auxiliary data beside its value.

    Returns:
      A GradientFn with the signature of `fun` plus `key`. Inside of `jax.shard_map` the key is the
      same on all devices that share x, and may be each device's own where x is.

    Raises:
      ValueError: num_probes < 1; chunk_size < 1; an unknown law.
      TypeError: no key (when called); `fun` isn't scalar; a leaf isn't real floating-point.

    Source: Baydin et al. (2022), doi:10.48550/arXiv.2202.08587.
    """
    check_arguments(argnums, has_aux)
    check_probing(law, num_probes, chunk_size)
    return ForwardGradient(as_data(fun), argnums, has_aux, law, num_probes, chunk_size)
