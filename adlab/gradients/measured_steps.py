"""Steps that are measured: from the noise of a function, and the derivative that truncates.

**What is to be balanced.** A difference quotient of order p with step h errs by

    a s / h + b D h^p,    least at h = [a s / (p b D)]^(1/(p + 1)), and there ~ (s^p D)^(1/(p + 1)),

where s is the standard deviation of the noise of `fun` (round-off, or what a simulator draws), D
the size of its derivative of order p + 1, and a and b belong to the stencil (`constants`): sqrt(2)
and 1/2 forward, 1/sqrt(2) and 1/6 central. The formula sets the derivative of the first expression
to 0. Forward it gives h = 8^(1/4) (s/D)^(1/2), the step of Moré & Wild (2012); for central
quotients the least mean square has (3 s/D)^(1/3), which is 12 % longer. So s and D are asked for.

**What is sampled.** f(t) = fun(x + t u) at t = +-w_1, ..., +-w_20, widths that grow about by
factors from 2 to 8 (`_ladders`), along one direction u in which every coordinate moves. Central
quotients are

    q(w) = [f(w) - f(-w)] / (2w) = f' + f''' w^2/6 + f^(5) w^4/120 + ...

so that the divided difference of q in w^2 over two neighbouring widths is f'''/6, and over three
f^(5)/120, up to higher terms. Times (p + 1)! it estimates D; times w_j^p it is an error of a slope:
e_j = |D_j| w_j^p is what `_errors` returns. (Forward quotients are treated so in w, on each side.)

**The model.** The weights of e_j on the 2 (p/2 + 1) values are known, so that independent noise of
size s shows in it as s g_j with a known gain g_j ~ 1/w_j. Hence in logarithms

    log e_j  is about  max(log s + log g_j, log D + p log w_j),

a V over log w: its left branch falls with slope -1 and tells s, its right one rises with slope p
and tells D. A split k says where the branches meet: s_k is read off the widths below, D_k off the
two next above. Where k is too large, truncation is taken for noise and s_k is too large; where it
is too small, noise is taken for a derivative and D_k is too large. Both err upwards, so that the
split counts which promises the least error: p log s_k + log D_k is the score in `_split`.

That differences of high order tell noise from a smooth function is due to Moré & Wild (2011),
doi:10.1137/100786125; the best steps for given s and D to the same (2012),
doi:10.1145/2168773.2168777. They read s off differences at one spacing, which has to suit `fun`,
and D off one or two more. To look at all widths at once, and the choice of the split, are ours.

**Where the model fails** a split is in doubt, and one in less doubt goes first. What varies over a
short scale looks like noise, but is quiet at shorter widths (`_QUIET`, `_HUSHED`); roundings may
cancel between both ends of a width (`_CANCELLED`); a kink shows at few widths (`_FLOOR`); where no
noise is seen at all, several widths have to agree on the derivative (`_AGREE`). These five numbers
and `_NEAR` are ours. The first two follow from the normal distribution; the others were found by
trial: with them the functions of tests/gradients/test_measured_steps.py, 11 kinds at a hundred
points each, get steps as good as the best one, within the bounds that stand there. None has to be
exact: a factor c in s or D changes the step by c^(1/(p + 1)), and the error of the slope by
c^(p/(p + 1)) at most.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import checks, trees
from adlab.core.types import Array, ChunkSize, PyTree, ValueFn
from adlab.gradients import _ladders
from adlab.gradients._ladders import measurable
from adlab.gradients.stencils import Stencil

__all__ = ["EVALUATIONS", "SAMPLES", "Balance", "constants", "measurable", "measure"]

EVALUATIONS = 2 * _ladders.RUNGS
"""Evaluations of one measurement."""

# Twenty samples of normal noise are at most about twice its size. One of them is 1000 times smaller
# than that with probability 0.0016, and two of twenty are with 0.0005: such noise isn't one.
_QUIET = math.log(1000.0)
# One is 100 times smaller with probability 0.016, and each of the three shortest with 4e-6.
_HUSHED = math.log(100.0)
# Noise next to the split may be quieter than at shorter widths by as much, but not more: roundings
# of fun(x + w u) and fun(x - w u) are often the same, and cancel.
_CANCELLED = math.log(1e6)
# So many widths next to a split tell the size of noise. The root mean square of four is known to
# 35 %, the step then to 11 % (p = 2); at many more widths noise may depend on the displacement.
_NEAR = 4
SAMPLES = 2 * _NEAR
"""Values that tell the noise."""
# Where no width shows noise, neighbouring estimates of the derivative differ by no more than this:
# a factor of 3 changes the step by 1.4 (p = 2).
_AGREE = math.log(3.0)
# What is expected of rounding belongs to one operation: a sum of n terms has up to sqrt(n) times
# that, 30 for a thousand. Noise above shows at half of the widths below the split at least.
_FLOOR = math.log(30.0)
# Doubts go before scores, which are sums of p + 1 logarithms of doubles, each under 1000.
_DOUBT = 1e4
# For `_hushed`: noise that was measured would have exceeded what is seen by this factor. By itself
# this happens with normal noise in one of four cases, so that two estimates must agree besides.
_SWAMPED = 3.0
_SAME = 0.1  # the share to which they agree
# A value is off by up to half of its spacing, by 0.29 of it in the mean square; the spacing is
# between 1/2 and 1 of the round-off relative to the value. So 0.14 to 0.29 of that:
_ROUNDING = 0.25
_LEAST = 2.0**-40  # size of x below which a step of a few roundings of it is no step at all


class Balance(NamedTuple):
    """What a measurement found.

    Attributes:
      step: the best one, over max(1, |x_i|); NaN where nothing can be told.
      noise: size s of the noise of `fun`.
      derivative: size D of the derivative of order p + 1 along a coordinate, in the same units.
    """

    step: Array
    noise: Array
    derivative: Array


class _Rule(NamedTuple):
    """What turns values over one ladder of widths into estimates of a derivative.

    Attributes:
      widths: those at which `fun` is sampled.
      weights: of neighbouring quotients; the weighted sum is an estimate times its width^p.
      gains: of noise in these sums.
      scales: logarithms of width^p, for the largest width of each sum.
      shares: of the rise over a width that rounding to steps makes, see `_grain`.
    """

    widths: Any
    weights: Any
    gains: Any
    scales: Any
    shares: Any


def measure(
    fun: ValueFn,
    x: PyTree,
    value: Any,
    stencil: Stencil,
    chunk_size: ChunkSize,
    *,
    powers: bool = False,
) -> Balance:
    """Return noise, derivative and best step of `fun` near x for a stencil.

    Leaves of less than 32 bits stay where they are, so that x must have others. Costs
    `EVALUATIONS` evaluations; `value` is fun(x), which stencils of order 1 need besides. `powers`
    tells that coordinates move by powers of two: see `_hushed`.
    """
    dim = sum(leaf.size for leaf in jax.tree.leaves(x) if measurable(leaf))
    ratio, largest = _ladders.along_ladder(dim, stencil.order), _ladders.largest(x)
    given = (*_ladders.sample(fun, x, chunk_size), value, largest, ratio)
    if checks.concrete(given):
        with np.errstate(all="ignore"):
            found = _balance(np, *jax.tree.map(np.asarray, given), stencil=stencil, powers=powers)
        return Balance(*map(jnp.asarray, found))
    found = _compiled(*given, stencil=stencil, powers=powers)
    return Balance(*jax.lax.stop_gradient(tuple(found)))


def _balance(
    xp: Any,
    ahead: Any,
    behind: Any,
    value: Any,
    largest: Any,
    ratio: Any,
    *,
    stencil: Stencil,
    powers: bool,
) -> Balance:
    """Return what the values at a ladder of widths tell, by NumPy or, in a trace, by jax.numpy.

    On the host nothing has to be compiled; in a trace one program serves all functions. The two
    round differently, which differences that cancel magnify: their steps need not be the same.
    """
    rounding = float(jnp.finfo(ahead.dtype).eps) * _ROUNDING
    ahead, behind = (side.astype(trees.wide_dtype(side)) for side in (ahead, behind))
    rule = _rule_at(xp, largest, stencil.order)
    rule = jax.tree.map(lambda part: part.astype(ahead.dtype), rule)
    value = None if value is None else value.astype(ahead.dtype)
    errors = _errors(xp, rule, stencil.order, ahead, behind, value)
    floor = rounding * xp.abs(ahead[0] + behind[0]) / 2
    floor = xp.maximum(floor, _grain(xp, rule, ahead, behind))
    ratio = xp.asarray(ratio, ahead.dtype)
    found = _split(xp, errors, rule, stencil, ratio, floor)
    found = _hushed(xp, found, errors, rule, stencil, ratio, floor) if powers else found
    # Where all cancels in odd parts and not in even ones, truncation along x_i remains unseen.
    odd, even = xp.abs(ahead - behind), xp.abs(ahead + behind - (ahead[0] + behind[0]))
    odd, even = (xp.where(xp.isfinite(part), part, 0) for part in (odd, even))
    blind = (xp.max(odd) <= 8 * floor) & (xp.max(even) > 8 * floor)
    seen = xp.any(odd > 0) & ~blind
    least = 4 * float(jnp.finfo(largest.dtype).eps) * xp.clip(largest, _LEAST, 1)
    least = least.astype(ahead.dtype)
    return found._replace(step=xp.where(seen, xp.clip(found.step, least, rule.widths[-1]), xp.nan))


@functools.partial(jax.jit, static_argnames=("stencil", "powers"))
def _compiled(*given: Any, stencil: Stencil, powers: bool) -> Balance:
    return _balance(jnp, *given, stencil=stencil, powers=powers)


def _rule_at(xp: Any, largest: Array, order: int) -> _Rule:
    """Return the weights for the ladder that suits the size of x."""
    dtype = largest.dtype
    rules = [_rule(widths, order) for widths in _ladders.rungs(dtype.name)]
    coarse, *finer = [_Rule(*(xp.asarray(part, dtype) for part in rule)) for rule in rules]
    if not finer:
        return coarse
    small = _ladders.small(largest)
    return _Rule(*(xp.where(small, b, a) for a, b in zip(coarse, finer[0], strict=True)))


def _rule(widths: np.ndarray, order: int) -> _Rule:
    nodes, weights = _weights(widths, widths if order == 1 else widths**2, order)
    parts = weights / nodes
    if order == 1:
        gains = np.sqrt(np.sum(parts**2, axis=1) + np.sum(parts, axis=1) ** 2)
    else:
        gains = np.sqrt(np.sum(parts**2, axis=1) / 2)
    shares = np.append(0, np.sqrt(widths[:-1] / widths[1:]))
    return _Rule(widths, weights.T, gains, order * np.log(widths[-len(gains) :]), shares)


def _errors(xp: Any, rule: _Rule, order: int, ahead: Any, behind: Any, value: Any) -> Any:
    """Return |D_j| w_j^p, where D_j estimates the derivative of order p + 1.

    Quotients [f(w) - f(-w)]/2w are f' + f''' w^2/6 + f^(5) w^4/120 + ..., and divided differences
    in w^2 single out f''' and f^(5). Those of [f(w) - f(0)]/w in w give f'', on either side: f(w) -
    2 f(0) + f(-w) wouldn't see what an odd function does to a forward difference.
    """
    if order == 1:
        sides = [_combined(rule.weights, (end - value) / rule.widths) for end in (ahead, behind)]
        return xp.hypot(*sides) / math.sqrt(2)
    return xp.abs(_combined(rule.weights, (ahead - behind) / (2 * rule.widths)))


def _weights(widths: np.ndarray, points: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Return neighbouring widths, and the weights of quotients over them in D_j w_j^p.

    They are divided differences in `points`, which are some power of the widths.
    """
    count = max(2, order // 2 + 1)
    near = np.lib.stride_tricks.sliding_window_view(points, count)
    gaps = near[:, :, None] - near[:, None, :] + np.eye(count)
    scales = math.factorial(order + 1) * widths[count - 1 :, None] ** order
    nodes = np.lib.stride_tricks.sliding_window_view(widths, count)
    return nodes, scales / np.prod(gaps, axis=2)


def _combined(weights: Array, quotients: Array) -> Array:
    """Return the weighted sums over neighbouring quotients."""
    nodes, count = weights.shape
    return sum(
        (weights[i] * quotients[i : i + count] for i in range(1, nodes)),
        weights[0] * quotients[:count],
    )


def _grain(xp: Any, rule: _Rule, ahead: Array, behind: Array) -> Array:
    """Return the noise of a function that is constant over short displacements.

    Its values are then rounded more coarsely than their dtype tells, to about what they change by
    between the longest such displacement and the next one.
    """
    rises = xp.abs(ahead - behind) / 2
    grains: Array = rises * rule.shares
    return grains[xp.argmax(rises > 0)]


def _split(
    xp: Any, errors: Array, rule: _Rule, stencil: Stencil, ratio: Array, floor: Array
) -> Balance:
    """Return the best of all splits of the widths into those of noise and those of the derivative.

    A split is in doubt when its noise is loud or shows at few widths, as a kink does, when noise
    was far louder at shorter widths, and when the errors above it fall again; one in less doubt
    goes first. The noise is its root mean square over the few widths next to the split. Where none
    shows any, it is taken for the floor, but then three widths should agree on the derivative.
    """
    count, order, dtype = len(errors), stencil.order, errors.dtype
    splits = np.arange(count + 1)
    lower = np.arange(count) < splits[:, None]  # (split, width): is that of noise
    log_gains, log_scales = xp.log(rule.gains), rule.scales
    usable = xp.all(xp.isfinite(errors) | ~lower[1:], axis=1)
    top = xp.sum(usable) - 1
    log_floor = xp.log(xp.maximum(floor, jnp.finfo(dtype).tiny))
    least = log_floor + log_gains
    logs = xp.log(xp.where(usable, errors, 0))
    shown, logs = logs > least, xp.maximum(logs, least)
    derivative = xp.where(usable, logs - log_scales, -xp.inf)

    seen = lower & shown
    noise = xp.where(seen, logs - log_gains, -xp.inf)
    near = np.arange(count) >= splits[:, None] - _NEAR
    below = xp.maximum(xp.max(xp.where(near, noise, -xp.inf), axis=1), log_floor)
    further = xp.append(derivative, xp.full(2, -xp.inf, dtype))
    hidden = xp.sum(xp.where(np.arange(count) == top, log_gains - log_scales, 0))
    above = xp.maximum(xp.maximum(further[:-1], further[1:]), below + hidden)

    loud = _loud(xp, noise, lower, shown, log_floor)
    falling = xp.append(xp.diff(logs) < 0, xp.zeros(2, bool)) & (splits < top)
    changes = xp.abs(xp.diff(further)) > _AGREE
    varies = changes[:count] & (splits[:-1] < top) | changes[1:] & (splits[:-1] < top - 1)
    varies = xp.append(varies, False) & ~xp.any(seen, axis=1)
    rare = (below > log_floor + _FLOOR) & (2 * xp.sum(seen, axis=1) < splits)
    louder = xp.max(noise, axis=1) > below + _CANCELLED
    doubts = xp.stack([loud, loud, falling, rare, rare, louder, louder, varies]).astype(dtype)
    doubts = xp.sum(doubts, axis=0) + xp.where(splits == 0, 3, 0).astype(dtype) * doubts[-1]
    scores = order * below + above + _DOUBT * doubts
    best = xp.argmin(xp.where(xp.append(True, usable), scores, xp.inf))

    number = xp.maximum(xp.sum(seen & near, axis=1), 1).astype(dtype)
    squares = xp.sum(xp.where(near, xp.exp(2 * (noise - below[:, None])), 0), axis=1)
    typical = below + xp.where(xp.any(seen & near, axis=1), xp.log(squares / number) / 2, 0)
    log_s, log_d = xp.stack([typical, above - xp.log(ratio)])[:, best]
    noise_gain, truncation = constants(stencil)
    log_step = math.log(noise_gain / (order * truncation)) + log_s - log_d
    step = xp.where(usable[0], xp.exp(log_step / (order + 1)), xp.nan)
    return Balance(step, xp.exp(log_s), xp.exp(log_d))


def _hushed(
    xp: Any,
    found: Balance,
    errors: Array,
    rule: _Rule,
    stencil: Stencil,
    ratio: Array,
    floor: Array,
) -> Balance:
    """Return the balance without noise that displacements of few digits, as steps are, don't have.

    c x is rounded anew at every x + w, but by the same amount at both ends where c w has no digits
    below those of c x. Where two neighbouring estimates tell the derivative although the noise
    would have swamped the first, it is at most what they differ by. Steps shorter than the widths
    of the first may meet the noise again.
    """
    estimates = errors / xp.exp(rule.scales)
    ahead = xp.append(estimates[1:], xp.full(1, xp.nan, estimates.dtype))
    differ = xp.abs(estimates - ahead)
    told = xp.abs(xp.log(estimates / (found.derivative * ratio))) < _AGREE
    swamped = found.noise * rule.gains > _SWAMPED * errors
    quiet = told & swamped & (differ <= _SAME * ahead)
    first = xp.argmax(quiet)
    noise = xp.maximum((differ * xp.exp(rule.scales) / rule.gains)[first], floor)
    step = found.step * (noise / found.noise) ** (1 / (stencil.order + 1))
    step = xp.clip(step, xp.minimum(rule.widths[first], found.step), found.step)
    use = xp.any(quiet)
    return Balance(
        xp.where(use, step, found.step), xp.where(use, noise, found.noise), found.derivative
    )


def _loud(xp: Any, noise: Any, lower: np.ndarray, shown: Any, log_floor: Any) -> Any:
    """Tell for which splits noise is much quieter before its loudest width than there.

    What varies over a short scale looks so: like noise, but only at displacements beyond it.
    """
    peak = xp.max(noise, axis=1, keepdims=True)
    before = lower & (np.arange(len(shown)) < xp.argmax(noise, axis=1)[:, None])
    quiet = before & (xp.maximum(noise, log_floor) < peak - _QUIET)
    hushed = before & shown & (xp.cumsum(shown) <= 3) & (noise < peak - _HUSHED)
    return (xp.sum(quiet, axis=1) > 1) | (xp.sum(hushed, axis=1) == 3)


def constants(stencil: Stencil) -> tuple[float, float]:
    """Return a and b: noise s and the derivative D give an error of a s / h + b D h^p."""
    weights: dict[Any, Any] = {}
    moment: Any = 0
    power = stencil.order + 1
    for ahead, behind, weight in stencil.quotients:
        share = weight / (ahead - behind)
        weights[ahead] = weights.get(ahead, 0) + share
        weights[behind] = weights.get(behind, 0) - share
        moment += share * (ahead**power - behind**power)
    noise = math.sqrt(sum(weight**2 for weight in weights.values()))
    return noise, abs(float(moment)) / math.factorial(power)
