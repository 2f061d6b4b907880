"""Zero-order estimators: gradients from values of `fun` along random probes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from adlab.core import checks, trees
from adlab.core._programs import one_program
from adlab.core._redrawn import Held, Probe
from adlab.core.calls import Bound
from adlab.core.cost import Cost
from adlab.core.nodes import register
from adlab.core.probes import Law, LawName
from adlab.core.types import Argnums, Array, ChunkSize, Objective, Params, PyTree, Rest
from adlab.gradients import _ladders
from adlab.gradients._probed import Directional, Slope, probed
from adlab.gradients._step_checks import DIRECTIONS, require_accuracy
from adlab.gradients.gradient_fn import GradientFn
from adlab.gradients.measured_steps import EVALUATIONS, measurable, measure
from adlab.gradients.stencils import STENCILS
from adlab.gradients.steps import (
    ROUNDING,
    StepRule,
    check_leaf_scales,
    displacement,
    end_and_run,
    moved,
    quotient,
    step_or_rule,
    usable_step,
    valid_step,
)

__all__ = ["one_sided", "two_point"]


@register("smoothing")
@dataclass(frozen=True, eq=False)
class Quotient(Slope):
    """The difference of two values along a probe, over their distance.

    Attributes:
      scheme: the values at x + h u and x - h u, or at x + h u and x.
      smoothing: h > 0, or None where the rule tells it.
      rule: how it is found.
    """

    scheme: Literal["central", "forward"]
    smoothing: Any
    rule: StepRule = "auto"

    def arguments(self) -> dict[str, Any]:
        return {"smoothing": self.rule if self.smoothing is None else self.smoothing}

    def along(
        self, fun: Bound, x: PyTree, value: Array | None, chunk_size: ChunkSize
    ) -> Directional:
        if self.scheme == "forward" and value is None:
            value = fun(x)
        return self._quotients(fun, x, value, self._step(fun, x, value, chunk_size))

    def there_and_back(self, fun: Bound, x: PyTree, chunk_size: ChunkSize) -> Directional:
        if self.scheme != "central":
            return super().there_and_back(fun, x, chunk_size)
        return self._step(fun, x, None, chunk_size)

    def cost(self, x: PyTree, num_probes: int, *, value: bool) -> Cost:
        central = self.scheme == "central"
        values = 2 * num_probes + int(value) if central else num_probes + 1
        return Cost(evaluations=values + EVALUATIONS * self._measures(x))

    def check(
        self, fun: Bound, x: PyTree, draw: Callable[[int], PyTree], chunk_size: ChunkSize
    ) -> None:
        value = fun(x)
        step, u = self._step(fun, x, value, chunk_size), draw(0)
        h = step(Held(u))
        self._check_length(fun, x, h, u)
        if not measurable(x):
            return
        others = range(1, 1 if trees.size(x) == 1 else DIRECTIONS)
        probes = [u, *map(draw, others)]
        kept = [
            jax.tree.map(lambda v, leaf: v if measurable(leaf) else jnp.zeros_like(v), probe, x)
            for probe in probes
        ]
        slope = self._quotients(fun, x, value, step)
        tried = [(probe, float(slope(Held(probe)))) for probe in kept if _moves(probe)]
        if tried:
            given, automatic = f"smoothing {float(h):.3g}", self.smoothing is None
            require_accuracy(fun.name, given, fun, x, tried, chunk_size, automatic=automatic)

    def _quotients(
        self, fun: Bound, x: PyTree, value: Array | None, step: Directional
    ) -> Directional:
        """Return u -> the difference quotient along u, whose smoothing is step(u)."""

        def slope(probe: Probe) -> Array:
            h = step(probe)
            if not isinstance(probe, Held):
                return self._redrawn(fun, x, value, h, probe)
            behind, ahead = self._ends(x, h, probe.held)
            front = fun(ahead)
            back = value if value is not None and self.scheme == "forward" else fun(behind)
            return quotient(front, back, moved(behind, ahead, probe.held, probe.signs))

        return slope

    def _redrawn(self, fun: Bound, x: PyTree, value: Array | None, h: Array, probe: Probe) -> Array:
        """Return the quotient along a probe that isn't there: one point at a time, in one place."""
        central = self.scheme == "central"

        def end(scale: Array) -> tuple[Array, Array]:
            point, run = end_and_run(x, scale, probe, central)
            return fun(point), run

        if not central:
            front, run = end(h)
            return quotient(front, fun(x) if value is None else value, run)
        ends = jnp.stack([h, -h])
        if checks.in_trace((x, ends, probe)):
            (front, back), (run, _) = jax.lax.map(end, ends)
        else:  # the function may need numbers
            (front, run), (back, _) = map(end, ends)
        return quotient(front, back, run)

    def _ends(self, x: PyTree, h: Array, u: PyTree) -> tuple[PyTree, PyTree]:
        """Return the two points whose values are compared, the one behind first."""
        if self.scheme == "central":
            return _both_ends(x, h, u)
        return x, _one_end(x, h, u)

    def _measures(self, x: PyTree) -> bool:
        # Leaves of 16 bits wouldn't be moved by a step that suits the others.
        automatic = self.smoothing is None and self.rule == "auto"
        return automatic and all(measurable(leaf) for leaf in jax.tree.leaves(x))

    def _step(
        self, fun: Bound, x: PyTree, value: Array | None, chunk_size: ChunkSize
    ) -> Directional:
        """Return u -> the smoothing h for probe u; NaN where it isn't positive and finite.

        What is measured is measured once. It tells the step along one coordinate, over max(1,
        |x_i|); along u the derivative that truncates is larger.
        """
        if self.smoothing is not None:
            return lambda _: valid_step(self.smoothing, trees.common_dtype(x))
        stencil = STENCILS[self.scheme]
        relative = displacement(fun, x, stencil.order)
        if not self._measures(x):
            return lambda probe: _over_longest(relative, probe, trees.common_dtype(x))
        best = measure(fun, x, value, stencil, chunk_size).step
        return lambda probe: _measured_step(best, relative, x, probe, stencil.order)

    def _check_length(self, fun: Bound, x: PyTree, h: Array, u: PyTree) -> None:
        """Raise ValueError unless the smoothing is a number that moves x, and that `fun` sees."""
        if not float(h) > 0:
            given = self.smoothing
            if given is None:
                given = f"{self.rule}, which overflows at this x"
            raise ValueError(f"{fun.name}: smoothing must be positive and finite, got {given}")
        if not self._measures(x) and self.smoothing is None:
            check_leaf_scales(fun.name, x, h, u)
        behind, ahead = self._ends(x, h, u)
        asked = float(h) * (2 if self.scheme == "central" else 1)
        if not abs(float(moved(behind, ahead, u)) / asked - 1) < ROUNDING:
            raise ValueError(
                f"{fun.name}: smoothing must move most coordinates of x by what it says, got "
                f"{float(h):.3g}, at which x + h u is mostly rounding; use at least "
                f'{usable_step(x, u, 0.9):.2g}, or "auto"'
            )
        if self.smoothing is not None and float(fun(ahead)) == float(fun(behind)):
            relative = replace(self, smoothing=None, rule="relative")._step(fun, x, None, 1)
            behind, ahead = self._ends(x, relative(Held(u)), u)
            if float(fun(ahead)) != float(fun(behind)):
                raise ValueError(
                    f"{fun.name}: smoothing must change fun at x, got {float(h):.3g}, under "
                    'the round-off of its values; use "auto" or a larger one'
                )


# Ends come out of a program of their own: `moved` compares them as they are stored.
_one_end = one_program()(trees.add_scaled)


@one_program()
def _both_ends(x: PyTree, h: Array, u: PyTree) -> tuple[PyTree, PyTree]:
    return trees.add_scaled(x, -h, u), trees.add_scaled(x, h, u)


@one_program(2)
def _over_longest(relative: Array, probe: Probe, dtype: Any) -> Array:
    return valid_step(relative, dtype) / _longest(probe, dtype)


@one_program(4)
def _measured_step(best: Array, relative: Array, x: PyTree, probe: Probe, order: int) -> Array:
    """Return the step along u that is as good as `best` is along one coordinate."""
    dtype = trees.common_dtype(x)

    def scaled(u: Array, at: Array) -> Array:
        return _over(u, _ladders.unit(at))

    _, (longest,) = probe.visit(
        lambda u, at: (None, (_size(scaled(u, at)).astype(dtype),)), x, join=jnp.maximum
    )

    def powers(longest: Array, u: Array, at: Array) -> tuple[None, tuple[Array]]:
        return None, (_ladders.powers_of(scaled(u, at) / longest.astype(u.dtype), order),)

    _, (total,) = probe.visit(Partial(powers, longest), x)
    wider = _ladders.spread(total, order).astype(dtype) ** (1 / (order + 1))
    along = best.astype(dtype) / (longest.astype(dtype) * wider)
    otherwise = valid_step(relative, dtype) / _longest(probe, dtype)
    return jnp.where(jnp.isnan(along), otherwise, valid_step(along, dtype))


def _moves(u: PyTree) -> bool:
    return any(np.any(np.asarray(leaf) != 0) for leaf in jax.tree.leaves(u))


def _longest(probe: Probe, dtype: Any) -> Array:
    _, (longest,) = probe.visit(lambda u: (None, (_size(u).astype(dtype),)), join=jnp.maximum)
    return longest


def _size(u: Array) -> Array:
    return jnp.max(jnp.abs(u), initial=0)


def _over(u: Array, size: Array) -> Array:
    """Return u over the unit of its coordinate; 0 where nothing is measured."""
    return jnp.where(size > 0, u / jnp.maximum(size, 1).astype(u.dtype), 0)


def two_point(
    fun: Objective[Params, Rest],
    *,
    smoothing: float | StepRule | Array = "auto",
    law: LawName | Law = "sphere",
    num_probes: int = 1,
    chunk_size: ChunkSize = "auto",
    argnums: Argnums = 0,
    has_aux: bool = False,
) -> GradientFn[Params, Rest]:
    """Estimate the gradient of `fun` from symmetric differences along random probes.

    g = (1/m) sum_i [fun(x + h u_i) - fun(x - h u_i)] / (2h) * u_i,   m = num_probes, h = smoothing.

    Unbiased on quadratics; in general E g = grad fun(x) + O(h^2). On a quadratic the mean squared
    error is (d - 1)/m * |grad|^2 for sphere, Rademacher and coordinate probes, (d + 1)/m for
    Gaussian ones, d/m - 1 for orthogonal ones (m <= d). Costs 2m evaluations,
    and 40 more for smoothing="auto", once per estimate. Memory: of more than 65,536 numbers,
    with chunk_size = 1, one point in the place of the gradient, whatever m, and about two for each
    of several probes at a time; "auto" holds a direction as well; below, or with a
    law of your own, the probes of a chunk as well; with "orthogonal" O(min(m, d) * d), for a block
    is drawn whole. In a loop `descend` doesn't store the gradient either.

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
        orthogonal ones; a single probe from the key itself. It depends on the key and on the
        shapes of x, not on how many devices x lies on.
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
    return probed(
        two_point,
        Quotient("central", *step_or_rule("smoothing", smoothing)),
        fun,
        law=law,
        num_probes=num_probes,
        chunk_size=chunk_size,
        argnums=argnums,
        has_aux=has_aux,
    )


def one_sided(
    fun: Objective[Params, Rest],
    *,
    smoothing: float | StepRule | Array = "auto",
    law: LawName | Law = "sphere",
    num_probes: int = 1,
    chunk_size: ChunkSize = "auto",
    argnums: Argnums = 0,
    has_aux: bool = False,
) -> GradientFn[Params, Rest]:
    """Estimate the gradient of `fun` from forward differences along random probes.

    g = (1/m) sum_i [fun(x + h u_i) - fun(x)] / h * u_i,   m = num_probes, h = smoothing.

    E g = grad fun(x) + O(h^2) for laws that are symmetric about 0, and + O(h) for "coordinate"
    (h sqrt(d)/2 times the Hessian's diagonal on a quadratic). Its mean squared error is that of
    `two_point` plus a term O(h^2) that doesn't vanish with the gradient: on a quadratic with
    Hessian H and one probe, h^2/4 times (tr^2 H + 2 |H|_F^2) multiplied by d^2/(d + 2) on the
    sphere and by d + 4 for Gaussian probes, and h^2/4 * d * (tr^2 H + 2 (|H|_F^2 - sum H_ii^2))
    for Rademacher probes. Costs m + 1 evaluations, and 40 more for smoothing="auto", once per
    estimate. Memory as for `two_point`.

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
    return probed(
        one_sided,
        Quotient("forward", *step_or_rule("smoothing", smoothing)),
        fun,
        law=law,
        num_probes=num_probes,
        chunk_size=chunk_size,
        argnums=argnums,
        has_aux=has_aux,
    )
