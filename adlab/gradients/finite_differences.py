"""Gradients by finite differences along every coordinate, and by the complex step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks, trees
from adlab.core._programs import one_program
from adlab.core.calls import Bound
from adlab.core.cost import Cost
from adlab.core.nodes import register
from adlab.core.types import Argnums, Array, ChunkSize, Key, Objective, Params, PyTree, Rest
from adlab.gradients import _complex_step, _ladders
from adlab.gradients._chunks import chunk_length, over_coordinates
from adlab.gradients._step_checks import DIRECTIONS, require_accuracy
from adlab.gradients.gradient_fn import GradientFn, gradient_fn
from adlab.gradients.measured_steps import EVALUATIONS, measurable, measure
from adlab.gradients.method import Method
from adlab.gradients.stencils import STENCILS, SchemeName
from adlab.gradients.steps import (
    StepRule,
    difference,
    moved,
    relative_step,
    step_or_rule,
    usable_step,
    valid_step,
)

__all__ = ["finite_difference"]


@register("step")
@dataclass(frozen=True, eq=False)
class FiniteDifference(Method):
    """A stencil along every coordinate.

    Attributes:
      scheme: the name of the stencil.
      step: h > 0, or None where the rule tells it.
      rule: how it is found.
      chunk_size: how many coordinates are evaluated at a time.
    """

    scheme: SchemeName
    step: Any
    rule: StepRule
    chunk_size: ChunkSize

    def arguments(self) -> dict[str, Any]:
        step = self.rule if self.step is None else self.step
        return {"scheme": self.scheme, "step": step, "chunk_size": self.chunk_size}

    def estimate(
        self, fun: Bound, x: PyTree, key: Key | None, value: Array | None = None
    ) -> PyTree:
        del key
        if self.scheme == "forward" and value is None:
            value = fun(x)
        slope = self._slope(fun, x, value)
        return over_coordinates(slope, x, chunk_length(self.chunk_size, fun, x, trees.size(x)))

    def cost(self, x: PyTree, *, value: bool) -> Cost:
        dim, forward = trees.size(x), self.scheme == "forward"
        ends = dim + 1 if forward else 2 * len(STENCILS[self.scheme].quotients) * dim + int(value)
        return Cost(evaluations=ends + EVALUATIONS * self._measures(x))

    def check(self, fun: Bound, x: PyTree, key: Key) -> None:
        del key
        if self.step is not None and not self.step > 0:
            raise ValueError(f"{fun.name}: step must be > 0, got {self.step}")
        steps = self._steps(fun, x, fun(x))
        for ahead, behind, *_ in self._ends(x, steps):
            lost = np.asarray(ahead) == np.asarray(behind)
            if np.any(lost):
                ones = jax.tree.map(jnp.ones_like, x)
                raise ValueError(
                    f"{fun.name}: step must move every coordinate of x, got "
                    f"{float(steps[np.argmax(lost)]):.3g}, at which x + h e_i rounds to x; use at "
                    f'least {usable_step(x, ones, share=1):.2g}, or "auto"'
                )
        if self.step is not None:
            self._check_change(fun, x, steps)
        if measurable(x):
            self._check_error(fun, x, steps)

    def _measures(self, x: PyTree) -> bool:
        return self.rule == "auto" and self.step is None and measurable(x)

    def _slope(self, fun: Bound, x: PyTree, value: Array | None) -> Callable[[Array], Array]:
        """Return i -> the stencil's estimate along coordinate i."""
        flat, ends = trees.ravel(x), self._ends(x, self._steps(fun, x, value))

        def evaluate(moved: Array, offset: Any, index: Array) -> Any:
            if offset == 0:
                return value
            return fun(trees.unravel(flat.at[index].set(moved[index]), x))

        def slope(index: Array) -> Array:
            total: Any = 0
            for ahead, behind, a, b, weight in ends:
                rise = difference(evaluate(ahead, a, index), evaluate(behind, b, index))
                run = (ahead[index] - behind[index]).astype(rise.dtype)
                total += float(weight) * (rise / run)
            return jnp.asarray(total, flat.dtype)

        return slope

    def _ends(self, x: PyTree, steps: Array) -> list[tuple[Array, Array, Any, Any, Any]]:
        """Return (x + a h, x + b h, a, b, weight) per quotient, for all coordinates at once.

        Each is moved by its own step and rounded to what its leaf's dtype holds.
        """
        quotients = STENCILS[self.scheme].quotients
        ends = _displaced(x, steps, tuple((float(a), float(b)) for a, b, _ in quotients))
        return [(*pair, *quotient) for pair, quotient in zip(ends, quotients, strict=True)]

    def _steps(self, fun: Bound, x: PyTree, value: Array | None = None) -> Array:
        """Return the step of every coordinate; NaN where it isn't positive."""
        dtype = trees.common_dtype(x)
        if self.step is not None:
            return _repeated(valid_step(self.step, dtype), trees.size(x))
        stencil, value_dtype = STENCILS[self.scheme], jax.eval_shape(fun, x).dtype
        best = jnp.full((), jnp.nan, dtype)
        if self._measures(x):
            found = measure(fun, x, value, stencil, self.chunk_size, powers=True)
            best = found.step.astype(dtype)
        return _rounded_steps(x, best, value_dtype, stencil.order)

    def _check_error(self, fun: Bound, x: PyTree, steps: Array) -> None:
        """Raise ValueError when slopes along directions of all steps at once are seen to be wrong.

        A direction is +-h_i in every coordinate, so that each moves by its own step.
        """
        tried = []
        quotients = STENCILS[self.scheme].quotients
        offsets = tuple((float(a), float(b)) for a, b, _ in quotients)
        for d in _diagonals(x, steps, 1 if trees.size(x) == 1 else DIRECTIONS):
            total = 0.0
            for (behind, ahead), (*_, weight) in zip(_along(x, d, offsets), quotients, strict=True):
                rise = difference(fun(ahead), fun(behind))
                total += float(weight) * float(rise) / float(moved(behind, ahead, d))
            tried.append((d, total))
        given = f"step {float(np.asarray(steps)[0]):.3g}"
        automatic = self.step is None
        require_accuracy(fun.name, given, fun, x, tried, self.chunk_size, automatic=automatic)

    def _check_change(self, fun: Bound, x: PyTree, steps: Array) -> None:
        """Raise ValueError when fun doesn't see the step, but does see the automatic one."""

        def seen(steps: Array) -> bool:
            ((behind, ahead),) = _along(x, trees.unravel(steps, x), ((1.0, -1.0),))
            return float(fun(ahead)) != float(fun(behind))

        if not seen(steps) and seen(replace(self, step=None, rule="relative")._steps(fun, x)):
            raise ValueError(
                f"{fun.name}: step must change fun at x, got {float(np.asarray(steps)[0]):.3g}, "
                'under the round-off of its values; use "auto" or a larger one'
            )


_Offsets: TypeAlias = tuple[tuple[float, float], ...]


@one_program(1)
def _repeated(step: Array, count: int) -> Array:
    return jnp.broadcast_to(step, (count,))


@one_program(2, 3)
def _rounded_steps(x: PyTree, best: Array, value_dtype: Any, order: int) -> Array:
    """Return the power of two next to the best step of every coordinate, or to the relative one."""

    def leaf_steps(leaf: Array) -> Array:
        step = jnp.asarray(relative_step([leaf.dtype, value_dtype], order), best.dtype)
        if measurable(leaf):
            step = jnp.where(jnp.isnan(best), step, best)
        return step * jnp.maximum(jnp.abs(jax.lax.stop_gradient(leaf)).astype(best.dtype), 1)

    h = trees.ravel(jax.tree.map(leaf_steps, x))
    return jnp.exp2(jnp.round(jnp.log2(h)))


@one_program(2)
def _displaced(x: PyTree, steps: Array, offsets: _Offsets) -> list[tuple[Array, Array]]:
    """Return all coordinates of x + a h and of x + b h, for pairs (a, b)."""
    flat = trees.ravel(x)

    def displaced(offset: float) -> Array:
        moved = trees.unravel(flat + jnp.asarray(offset, flat.dtype) * steps, x)
        return trees.ravel(moved)

    return [(displaced(a), displaced(b)) for a, b in offsets]


@one_program(2)
def _diagonals(x: PyTree, steps: Array, count: int) -> list[PyTree]:
    """Return directions +-h_i in every coordinate, with signs in no order."""
    lengths, found = trees.unravel(steps, trees.probe_like(x)), []
    for seed in range(count):
        signs = jax.tree.map(jnp.sign, _ladders.directions(x, seed))
        found.append(jax.tree.map(lambda s, h: s.astype(h.dtype) * h, signs, lengths))
    return found


@one_program(2)
def _along(x: PyTree, d: PyTree, offsets: _Offsets) -> list[tuple[PyTree, PyTree]]:
    """Return x + b d and x + a d, for pairs (a, b)."""
    return [(trees.add_scaled(x, b, d), trees.add_scaled(x, a, d)) for a, b in offsets]


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
        return {"scheme": "complex", "step": step, "chunk_size": self.chunk_size}

    def estimate(
        self, fun: Bound, x: PyTree, key: Key | None, value: Array | None = None
    ) -> PyTree:
        del key
        slope = _complex_step.slope(fun, x, value, self.step)
        point = _complex_step.complex_like(x)
        return over_coordinates(slope, x, chunk_length(self.chunk_size, fun, point, trees.size(x)))

    def cost(self, x: PyTree, *, value: bool) -> Cost:
        del value  # fun(x) is needed in any case: it must be finite
        return Cost(evaluations=trees.size(x) + 2)

    def check(self, fun: Bound, x: PyTree, key: Key) -> None:
        del key
        if self.step is not None and not self.step > 0:
            raise ValueError(f"{fun.name}: step must be > 0, got {self.step}")
        if not jnp.isfinite(_complex_step.slope(fun, x, None, self.step)(jnp.asarray(0))):
            raise ValueError(
                f'{fun.name}: scheme="complex" needs a fun that is real for real x and '
                "finite near it, and this one isn't at x (a branch of log, sqrt or a power?); "
                'use scheme="richardson"'
            )


def finite_difference(
    fun: Objective[Params, Rest],
    *,
    scheme: SchemeName = "central",
    step: float | StepRule | Array = "auto",
    chunk_size: ChunkSize = "auto",
    argnums: Argnums = 0,
    has_aux: bool = False,
) -> GradientFn[Params, Rest]:
    """Estimate the gradient of `fun` by a difference quotient along every coordinate.

    "forward"     [fun(x + h e_i) - fun(x)] / h                     error h f''/2
    "central"     D(h) = [fun(x + h e_i) - fun(x - h e_i)] / (2h)   error h^2 f'''/6
    "richardson"  [4 D(h/2) - D(h)] / 3                             error -h^4 f^(5)/480
    "complex"     Im fun(x + i h e_i) / h                           error -h^2 f'''/6, no round-off

    with f the slice of `fun` along coordinate i; the first three add round-off of about
    eps |fun| / h. Deterministic: `key` is ignored. For x of d numbers it costs d + 1, 2d, 4d and
    d + 2 evaluations; the complex ones are of `fun` at complex points. Memory O(chunk_size * d).
    Quotients divide by the displacement that x's own dtype can hold, not by the one asked for.

    step="auto" costs 40 evaluations more, whatever d: it samples `fun` at x + t u, where |u_i|
    is at most max(1, |x_i|) and |t| goes up to 1/2, reads off how noisy `fun` is and how fast it
    varies, and takes the step at which truncation and noise do the least harm. Where `fun` isn't
    finite along the way, or one `from_host` raises, only shorter displacements count. Kinks of
    `fun` nearer than the step, as of max or relu, spoil the quotient whatever the rule. Scales of
    `fun` down to 1e-10 max(1, |x_i|) were seen in float64, and 1e-5 in float32, wherever some step
    gave the slope to 3 %, at most; what is shorter may look like noise, which `check` refuses: then
    bring x to scale, or pass a step. One step serves all coordinates, times max(1, |x_i|), so that
    `fun` should vary on about the same scale along them. step="relative" knows neither noise nor
    scale, but costs nothing; see `Args`.

    >>> g = finite_difference(lambda x: jnp.sum(x**2))
    >>> g(jnp.array([1.0, 2.0])).round(2)
    Array([2., 4.], dtype=float32)

    Args:
      fun: returns a real scalar, or (scalar, aux); needn't be differentiable. For "complex" it
        must be holomorphic as coded: without abs, max, norms, conj, comparisons or Fourier
        transforms of x, and real all along: x meets real data only. What JAX applies to x must be
        on a list of what is known to keep the step; convolutions are done in real numbers.
      scheme: one of the four quotients above.
      step: h > 0 in units of x, the same for all coordinates, and may be traced; or a rule that
        gives every coordinate a power of two. "relative" is eps^(1/(p+1)) * max(1, |x_i|) for a
        truncation of order p, eps the round-off of x and `fun`: for a `fun` that varies on the
        scale of max(1, |x_i|) and isn't noisier than its rounding. "auto" is measured, but
        "relative" for leaves of 16 bits, and where the measurement tells nothing. For "complex"
        both are 1e-20, in float32 1e-9: there slopes under 1e-29 underflow, and scales of x below
        1e-9 aren't seen.
      chunk_size: how many coordinates are evaluated at a time.
      argnums: which positional argument to differentiate, or a tuple of several.
      has_aux: whether `fun` returns auxiliary data beside its value.

    Returns:
      A GradientFn with the signature of `fun`.

    Raises:
      ValueError: step <= 0; chunk_size < 1; an unknown scheme; with "complex", a `fun` that isn't
        known to be holomorphic (when called, naming the line). `check` also refuses a step at which
        x + h e_i rounds to x for some i or `fun` doesn't change, one whose error it sees to exceed
        10 % of the slope, and a `fun` that isn't real for real x; compiled code gives NaN for such
        an i and such a `fun`, and for "complex" also where `fun` isn't finite.
      TypeError: `fun` isn't scalar; a leaf isn't real floating-point (when called).

    Source: Squire & Trapp (1998), doi:10.1137/S003614459631241X, for the complex step; Moré & Wild
    (2012), doi:10.1145/2168773.2168777, for steps that suit the noise.
    """
    checks.one_of("scheme", scheme, ["forward", "central", "richardson", "complex"])
    checks.chunk_size(chunk_size)
    h, rule = step_or_rule("step", step)
    method: Method = FiniteDifference(finite_difference, scheme, h, rule, chunk_size)
    if scheme == "complex":
        method = ComplexStep(finite_difference, h, rule, chunk_size)
    return gradient_fn(fun, argnums, has_aux, method)
