"""Divided differences of functions of one real variable, at any distance of their arguments.

    f[x, y] = (f(x) - f(y)) / (x - y),        f[x, y, z] = (f[x, y] - f[y, z]) / (x - z),

and f'(x) and f''(x)/2 where all arguments meet. These quotients lose eps |f| / |x - y| to
cancellation. Integrals lose nothing; on a short segment Gauss-Legendre nodes exhaust them:

    f[x, y] = int_0^1 f'(x + s (y - x)) ds,
    f[x, y, z] = int_0^1 s [c f''(x + s (y - x)) + (1 - c) f''(z - s (z - y))] ds,   x <= y <= z,

with c = (y - x) / (z - x). The second is Peano's: the kernel is a hat over x and z with its top at
y. Where a function is known, so is the length up to which its integral is good. Where it isn't, 5,
10 and 20 nodes tell how the integral converges.

Source: de Boor (2005), Divided differences, Surveys in Approximation Theory 1, 46-69.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

__all__ = ["Differences", "by_quadrature", "complete", "second_by_parts"]

Scalar = Callable[[jax.Array], jax.Array]
Pair = Callable[[jax.Array, jax.Array], jax.Array]
Triple = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]

SIZES = (5, 10, 20)  # nodes; each rule's error is about the square of the one before
# How far quotient and integral may be apart, in units of the errors that they expect. Those of f'
# are less sure than those of f: 1 - tanh^2 is off by eps, however small it is.
_SLACK, _SLACK_OF_SLOPES = 2**8, 2**14


class Differences(NamedTuple):
    """A function with its divided differences, elementwise on arrays that broadcast."""

    value: Scalar
    first: Pair
    second: Triple


def second_by_parts(curvature: Scalar, first: Pair, short: Pair) -> Triple:
    """Return f[x, y, z] of a function whose f[x, y] is accurate at any distance.

    Args:
      curvature: f''.
      first: f[x, y].
      short: whether the segment from the first to the second argument, the larger one, is so short
        that ten nodes exhaust the integral; beyond it the quotient must not cancel.
    """

    def second(x: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
        low, middle, high = _ascending(x, y, z)
        far = _quotient(first(low, middle), first(middle, high), low, high)
        (near,) = _integrals(_hat(curvature, low, middle, high), high, SIZES[1:2])
        return jnp.where(short(low, high), near, far)

    return second


def by_quadrature(fun: Scalar) -> Differences:
    """Return the divided differences of any function with two derivatives in JAX.

    Of quotient and integral the one with the smaller estimated error counts. The quotient's is that
    of rounding, of f and of its argument; the integral's is what its convergence promises. An
    integral that contradicts the quotient has missed something between its nodes, such as a step.
    So f may have kinks and steps between eigenvalues.
    """

    def value(x: jax.Array) -> jax.Array:
        found = jax.vmap(fun)(jnp.ravel(x))
        return jnp.reshape(found, jnp.shape(x)).astype(x.dtype)

    slope = _derivative(value)
    curvature = _derivative(slope)

    def judged(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        at_x, at_y, eps = value(x), value(y), float(jnp.finfo(x.dtype).eps)
        noise = jnp.abs(at_x) + jnp.abs(at_y) + jnp.abs(x * slope(x)) + jnp.abs(y * slope(y))
        found = _integrals(lambda s: slope(x + s * (y - x)), at_x + at_y, SIZES)
        return _better(_quotient(at_x, at_y, x, y), eps * noise, jnp.abs(x - y), found, _SLACK)

    def second(x: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
        low, middle, high = _ascending(x, y, z)
        (left, left_off), (right, right_off) = judged(low, middle), judged(middle, high)
        found = _integrals(_hat(curvature, low, middle, high), left + right, SIZES)
        off = jnp.broadcast_to(left_off + right_off, found[0].shape)
        quotient = _quotient(left, right, low, high)
        return _better(quotient, off, high - low, found, _SLACK_OF_SLOPES)[0]

    return Differences(value, lambda x, y: judged(x, y)[0], second)


def complete(degree: int, points: Sequence[jax.Array]) -> jax.Array:
    """Return the sum of all monomials of that degree in the points: x^(n + k)[x_0, ..., x_k].

    Nothing cancels where the points have one sign.
    """
    shape = jnp.broadcast_shapes(*map(jnp.shape, points))
    points = [jnp.broadcast_to(x, shape) for x in points]
    if degree < 0:
        return jnp.zeros_like(points[0])

    def raised(_: jax.Array, sums: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        """Take the sums of one degree over the first 1, 2, ... points to the next degree."""
        grown = [points[0] * sums[0]]
        for x, before in zip(points[1:], sums[1:], strict=True):
            grown.append(x * before + grown[-1])
        return tuple(grown)

    start = tuple(jnp.ones_like(x) for x in points)
    sums: tuple[jax.Array, ...] = jax.lax.fori_loop(0, degree, raised, start)
    return sums[-1]


def _ascending(x: jax.Array, y: jax.Array, z: jax.Array) -> tuple[jax.Array, ...]:
    below, above = jnp.minimum(x, y), jnp.maximum(x, y)
    return jnp.minimum(below, z), jnp.maximum(below, jnp.minimum(above, z)), jnp.maximum(above, z)


def _quotient(f: jax.Array, g: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    """Return (f - g) / (x - y), 0 where x is y."""
    same = x == y
    return jnp.where(same, 0, (f - g) / jnp.where(same, 1, x - y))


def _derivative(fun: Scalar) -> Scalar:
    return lambda x: jax.jvp(fun, (x,), (jnp.ones_like(x),))[1]


def _hat(curvature: Scalar, low: jax.Array, middle: jax.Array, high: jax.Array) -> Scalar:
    """Return the integrand of Peano's formula."""
    share = jnp.where(high == low, 0, (middle - low) / jnp.where(high == low, 1, high - low))

    def integrand(s: jax.Array) -> jax.Array:
        left, right = curvature(low + s * (middle - low)), curvature(high - s * (high - middle))
        return s * (share * left + (1 - share) * right)

    return integrand


@functools.cache
def _rules(sizes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return all nodes on [0, 1] and the weights of each rule in a column, 0 at other nodes."""
    rules = [np.polynomial.legendre.leggauss(size) for size in sizes]
    weights = np.zeros((sum(sizes), len(sizes)))
    for column, (_, own) in enumerate(rules):
        start = sum(sizes[:column])
        weights[start : start + len(own), column] = own / 2
    return np.concatenate([(1 + nodes) / 2 for nodes, _ in rules]), weights


def _integrals(integrand: Scalar, like: jax.Array, sizes: tuple[int, ...]) -> list[jax.Array]:
    """Return int_0^1 of the integrand, of the shape of `like`, by rules of these sizes."""
    nodes, weights = (jnp.asarray(part, like.dtype) for part in _rules(sizes))

    def added(totals: list[jax.Array], rule: tuple[jax.Array, ...]) -> tuple[Any, None]:
        node, shares = rule
        here = integrand(node)
        # 0 * inf, where another rule's node meets a pole, would be NaN
        news = [jnp.where(share == 0, 0, share * here) for share in shares]
        return [total + new for total, new in zip(totals, news, strict=True)], None

    start = [jnp.zeros_like(like)] * len(sizes)
    totals: list[jax.Array] = jax.lax.scan(added, start, (nodes, weights))[0]
    return totals


def _better(
    quotient: jax.Array,
    noise: jax.Array,
    distance: jax.Array,
    found: list[jax.Array],
    slack: float,
) -> tuple[jax.Array, jax.Array]:
    """Return the better of a quotient and an integral, and about how far it is off.

    Args:
      quotient: the difference of values over that of arguments.
      noise: how far the difference of values is off.
      distance: the difference of arguments, 0 or more.
      found: the integral by 5, 10 and 20 nodes.
      slack: how far both may be apart, in units of their errors.
    """
    coarse, middle, fine = found
    eps = float(jnp.finfo(fine.dtype).eps)
    apart, change = jnp.abs(middle - coarse), jnp.abs(fine - middle)
    ratio = jnp.minimum(1, change / jnp.where(apart > 0, apart, 1))
    missing = change * jnp.where(apart > 0, ratio, 1) + eps * jnp.abs(fine)
    rounded = jnp.where(distance > 0, noise / jnp.where(distance > 0, distance, 1), jnp.inf)
    agreed = jnp.abs(fine - quotient) <= slack * (missing + rounded)
    # False where the integral isn't a number, unless there is no other answer
    integral = (agreed & (missing <= rounded)) | (distance == 0)
    best = jnp.where(integral, fine, quotient)
    return best, jnp.where(integral, missing, rounded) + eps * jnp.abs(best)
