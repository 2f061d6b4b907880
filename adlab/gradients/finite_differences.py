"""Gradients by finite differences along every coordinate, and by the complex step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks, trees
from adlab.core._programs import one_program
from adlab.core.calls import Bound
from adlab.core.cost import Cost
from adlab.core.nodes import register
from adlab.core.types import (
    Argnums,
    Array,
    ChunkSize,
    Key,
    Objective,
    Params,
    PyTree,
    Rest,
    ValueFn,
)
from adlab.gradients import _bounds, _complex_step, _ladders
from adlab.gradients._chunks import chunk_length, over_coordinates
from adlab.gradients._expected_errors import GradientWithError, expected, stencil_sums, weighted
from adlab.gradients._step_checks import DIRECTIONS, require_accuracy
from adlab.gradients.gradient_fn import GradientFn, gradient_fn
from adlab.gradients.measured_steps import EVALUATIONS, Balance, measurable, measure
from adlab.gradients.method import Method
from adlab.gradients.stencils import STENCILS, SchemeName
from adlab.gradients.steps import (
    StepRule,
    difference,
    is_leaf,
    moved,
    per_coordinate,
    relative_step,
    require_positive,
    steps_or_rule,
    usable_step,
    valid_step,
)

__all__ = ["finite_difference"]


@register("step", "box")
@dataclass(frozen=True, eq=False)
class FiniteDifference(Method):
    """A stencil along every coordinate.

    Attributes:
      scheme: the name of the stencil.
      step: h > 0, or a tree of them like x; None where the rule tells it.
      rule: how it is found.
      chunk_size: how many coordinates are evaluated at a time.
      box: the bounds of x, or None.
      with_error: whether the expected error is estimated, too.
    """

    scheme: SchemeName
    step: Any
    rule: StepRule
    chunk_size: ChunkSize
    box: _bounds.Box | None
    with_error: bool

    @property
    def one_sided(self) -> bool:
        """Whether fun(x) is one of the values."""
        return self.scheme in ("forward", "backward")

    def arguments(self) -> dict[str, Any]:
        step = self.rule if self.step is None else self.step
        others = {"chunk_size": self.chunk_size, "bounds": self.box, "with_error": self.with_error}
        return {"scheme": self.scheme, "step": step, **others}

    def estimate(
        self, fun: Bound, x: PyTree, key: Key | None, value: Array | None = None
    ) -> PyTree:
        del key
        if value is None and (self.one_sided or self.box is not None):
            value = fun(x)
        found = self._measured(fun, x, value) if self.with_error or self._measures(x) else None
        steps_of = self._steps(fun, x, found if self._measures(x) else None)
        sides = None if self.box is None else _bounds.sides(fun.name, self.box, x)
        chunk = chunk_length(self.chunk_size, fun, x, trees.size(x))

        def stencil(widen: int = 1) -> _Slope:
            return self._slope(fun, x, value, widen * steps_of(), sides)

        gradient = over_coordinates(lambda: (stencil()[0], chunk), x)
        if not self.with_error:
            return gradient
        order, slopes = STENCILS[self.scheme].order, trees.ravel(gradient)
        errors = jnp.full_like(slopes, jnp.nan)
        if found is not None:
            doubled = trees.ravel(over_coordinates(lambda: (stencil(2)[0], chunk), x))
            sums, (_, moment) = (stencil_sums(order, *stencil(w)[1]()) for w in (1, 2))
            errors = expected(x, found, order, sums, slopes, (doubled, moment))
        return gradient, trees.unravel(errors, trees.probe_like(x))

    def finished(self, found: PyTree, x: PyTree) -> PyTree:
        if not self.with_error:
            return trees.cast_like(found, x)
        return GradientWithError(*(trees.cast_like(part, x) for part in found))

    def cost(self, x: PyTree, *, value: bool) -> Cost:
        looks = measurable(x) and (self.with_error or self._measures(x))
        measured = EVALUATIONS * looks
        dim = trees.size(x) * (2 if self.with_error and looks else 1)
        if self.box is not None:  # a measurement is made elsewhere, with a value of its own
            measured += int(looks and self.one_sided)
            return Cost(evaluations=_bounds.POINTS[self.scheme] * dim + 1 + measured)
        if self.one_sided:
            return Cost(evaluations=dim + 1 + measured)
        ends = 2 * len(STENCILS[self.scheme].quotients) * dim + int(value)
        return Cost(evaluations=ends + measured)

    def check(self, fun: Bound, x: PyTree, key: Key) -> None:
        del key
        if self.step is not None:
            require_positive(f"{fun.name}: step", self.step)
        found = self._measured(fun, x, fun(x)) if self._measures(x) else None
        steps = self._steps(fun, x, found)()
        if self.box is not None:
            _bounds.require_room(fun.name, self.scheme, self.box, x, steps)
            return
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

    def _slope(self, fun: Bound, x: PyTree, value: Any, steps: Array, sides: Any) -> _Slope:
        """Return i -> the stencil's estimate along coordinate i; and its displacements, weights."""
        flat = trees.ravel(x)
        if sides is not None:
            points, weights = _bounds.placed(self.scheme, x, sides[0], sides[1], steps)
            inside = _bounds.quotient_slope(fun, x, value, points, weights)
            return inside, lambda: (points - flat, weights)
        ends = self._ends(x, steps)

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

        pairs, shares = [end[:2] for end in ends], tuple(float(end[-1]) for end in ends)
        return slope, lambda: weighted(flat, pairs, shares)

    def _ends(self, x: PyTree, steps: Array) -> list[tuple[Array, Array, Any, Any, Any]]:
        """Return (x + a h, x + b h, a, b, weight) per quotient, for all coordinates at once.

        Each is moved by its own step and rounded to what its leaf's dtype holds.
        """
        quotients = STENCILS[self.scheme].quotients
        ends = _displaced(x, steps, tuple((float(a), float(b)) for a, b, _ in quotients))
        return [(*pair, *quotient) for pair, quotient in zip(ends, quotients, strict=True)]

    def _steps(self, fun: Bound, x: PyTree, found: Balance | None = None) -> Callable[[], Array]:
        """Return a function, of a program's, of the step of every coordinate.

        It is NaN where it isn't positive. `found` is what a measurement told, where one is made.
        """
        dtype = trees.common_dtype(x)
        if self.step is not None:
            given = per_coordinate(fun.name, "step", self.step, x)
            return lambda: valid_step(given, dtype)
        order, value_dtype = STENCILS[self.scheme].order, jax.eval_shape(fun, x).dtype
        best: Any = np.full((), np.nan, dtype) if found is None else found.step.astype(dtype)
        return lambda: _rounded_steps(x, best, value_dtype, order)

    def _measured(self, fun: Bound, x: PyTree, value: Array | None) -> Balance | None:
        """Measure noise and scale near x: within bounds where there is some room."""
        if not measurable(x):
            return None
        near: ValueFn = fun
        stencil, place = STENCILS[self.scheme], x
        if self.box is not None:
            low, high = _bounds.sides(fun.name, self.box, x)
            near, place = _bounds.guarded(fun, x, low, high), _bounds.centre(x, low, high)
            value = near(place) if self.one_sided else None
        return measure(near, place, value, stencil, self.chunk_size, powers=True)

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
        given = f"step {_told(steps)}"
        automatic = self.step is None
        require_accuracy(fun.name, given, fun, x, tried, self.chunk_size, automatic=automatic)

    def _check_change(self, fun: Bound, x: PyTree, steps: Array) -> None:
        """Raise ValueError when fun doesn't see the step, but does see the automatic one."""

        def seen(steps: Array) -> bool:
            ((behind, ahead),) = _along(x, trees.unravel(steps, x), ((1.0, -1.0),))
            return float(fun(ahead)) != float(fun(behind))

        if not seen(steps) and seen(replace(self, step=None, rule="relative")._steps(fun, x)()):
            raise ValueError(
                f"{fun.name}: step must change fun at x, got {_told(steps)}, "
                'under the round-off of its values; use "auto" or a larger one'
            )


def _told(steps: Array) -> str:
    """Return a step in words, or the range of several."""
    least, most = (f"{float(each):.3g}" for each in (jnp.min(steps), jnp.max(steps)))
    return least if least == most else f"{least} to {most}"


_Slope: TypeAlias = tuple[Callable[[Array], Array], Callable[[], tuple[Array, Array]]]
_Offsets: TypeAlias = tuple[tuple[float, float], ...]


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


def finite_difference(
    fun: Objective[Params, Rest],
    *,
    scheme: SchemeName = "central",
    step: float | StepRule | Array | PyTree = "auto",
    chunk_size: ChunkSize = "auto",
    argnums: Argnums = 0,
    has_aux: bool = False,
    bounds: tuple[PyTree, PyTree] | None = None,
    with_error: bool = False,
) -> GradientFn[Params, Rest]:
    """Estimate the gradient of `fun` by a difference quotient along every coordinate.

    "forward"     [fun(x + h e_i) - fun(x)] / h                     error h f''/2
    "backward"    [fun(x) - fun(x - h e_i)] / h                     error -h f''/2
    "central"     D(h) = [fun(x + h e_i) - fun(x - h e_i)] / (2h)   error h^2 f'''/6
    "richardson"  [4 D(h/2) - D(h)] / 3                             error -h^4 f^(5)/480
    "complex"     Im fun(x + i h e_i) / h                           error -h^2 f'''/6, no round-off

    with f the slice of `fun` along coordinate i; all but the last add round-off of about
    eps |fun| / h. Deterministic: `key` is ignored. For x of d numbers it costs d + 1, d + 1, 2d, 4d
    and d + 2 evaluations; the complex ones are of `fun` at complex points. Memory is
    O(chunk_size * d). Quotients divide by the displacement that x's own dtype can hold, not by the
    one asked for.

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
      scheme: one of the quotients above.
      step: h > 0 in units of x, which may be traced: one for all coordinates, or a tree like x, of
        one for each leaf or each coordinate; or a rule that
        gives every coordinate a power of two. "relative" is eps^(1/(p+1)) * max(1, |x_i|) for a
        truncation of order p, eps the round-off of x and `fun`: for a `fun` that varies on the
        scale of max(1, |x_i|) and isn't noisier than its rounding. "auto" is measured, but
        "relative" for leaves of 16 bits, and where the measurement tells nothing. For "complex"
        both are 1e-20, in float32 1e-9: there slopes under 1e-29 underflow, and scales of x below
        1e-9 aren't seen.
      chunk_size: how many coordinates are evaluated at a time.
      argnums: which positional argument to differentiate, or a tuple of several.
      has_aux: whether `fun` returns auxiliary data beside its value.
      bounds: (lower, upper), each one number, a tree like x, or None for none, and rounded to x's
        own dtype: `fun` is never evaluated outside of them, not by measurements either. Where there
        is less than half a step of room on one side, the quotient is one-sided: forward and
        backward change places, of order 2 it is [4 f(h) - 3 f(0) - f(2h)] / 2h with an error
        -h^2 f'''/3, of order 4 one of nodes h/2 apart with an error -h^4 f^(5)/80; steps shrink to
        the room there is, and a coordinate that has none, as between equal bounds, is NaN. It takes
        d + 1, 2d + 1 and 4d + 1 evaluations. step="auto" is measured at the nearest point that has
        some room. Not for "complex", which moves x along the imaginary axis alone.
      with_error: whether to return GradientWithError(gradient, error), where the true derivatives
        are within `error` of the estimates in about 95 of 100 cases: by the noise of `fun` and its
        derivative of order p + 1, which the 40 evaluations of step="auto" tell, whatever the step,
        and by estimates of twice the step, which tell that derivative along each coordinate, for
        as many evaluations again. NaN where nothing can be told, as of x of 16 bits.

    Returns:
      A GradientFn with the signature of `fun`.

    Raises:
      ValueError: step <= 0, or not shaped as x (when called); bounds that don't hold x (when
        called; compiled code gives NaN); chunk_size < 1; an unknown scheme; with "complex", a `fun`
        that isn't known to be holomorphic (when called, naming the line). `check` also refuses a
        step at which x + h e_i rounds to x for some i or `fun` doesn't change, one whose error it
        sees to exceed 10 % of the slope (not within bounds), and a `fun` that isn't real for real
        x; compiled code gives NaN for such an i and such a `fun`, and for "complex" also where
        `fun` isn't finite.
      TypeError: `fun` isn't scalar; a leaf isn't real floating-point (when called).

    Source: Squire & Trapp (1998), doi:10.1137/S003614459631241X, for the complex step; Moré & Wild
    (2012), doi:10.1145/2168773.2168777, for steps that suit the noise.
    """
    checks.one_of("scheme", scheme, get_args(SchemeName))
    checks.chunk_size(chunk_size)
    h, rule = steps_or_rule("step", step)
    within = _bounds.box(bounds)
    method: Method = FiniteDifference(
        finite_difference, scheme, h, rule, chunk_size, within, with_error
    )
    if scheme == "complex":
        if with_error or within is not None or not (h is None or (is_leaf(h) and not np.ndim(h))):
            raise ValueError(
                'scheme="complex" must go without bounds or errors, and with one step: it moves x '
                "along the imaginary axis alone, where a step of any length is exact to rounding"
            )
        method = _complex_step.ComplexStep(finite_difference, h, rule, chunk_size)
    return gradient_fn(fun, argnums, has_aux, method)
