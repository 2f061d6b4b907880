"""Functions of one real variable by name, with divided differences in which nothing cancels.

Arguments are eigenvalues, and those that can't be told from 0 are exactly 0. Where a function is
undefined, the value is NaN or infinite.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp

from adlab.rules._divided_differences import Differences, complete, second_by_parts

__all__ = ["NAMES", "named"]


@functools.cache
def named(name: str, exponent: float | None) -> Differences:
    """Return the function of that name; `exponent` is that of "power", else None."""
    if exponent is None:
        return _BUILDERS[name]()
    whole = float(exponent).is_integer()
    return _whole_power(int(exponent)) if whole else _real_power(float(exponent))


def _sqrt() -> Differences:
    """With a, b, c the roots of x, y, z: f[x, y] = 1/(a + b)."""

    def second(x: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
        a, b, c = map(jnp.sqrt, (x, y, z))
        return -1 / ((a + b) * (b + c) * (a + c))

    return Differences(jnp.sqrt, lambda x, y: 1 / (jnp.sqrt(x) + jnp.sqrt(y)), second)


def _inv_sqrt() -> Differences:
    """With a, b, c the roots of x, y, z: f[x, y] = -1/(a b (a + b))."""

    def first(x: jax.Array, y: jax.Array) -> jax.Array:
        a, b = jnp.sqrt(x), jnp.sqrt(y)
        return -1 / (a * b * (a + b))

    def second(x: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
        a, b, c = map(jnp.sqrt, (x, y, z))
        return (a + b + c) / (a * b * c) / ((a + b) * (b + c) * (a + c))

    return Differences(lambda x: 1 / jnp.sqrt(x), first, second)


def _log() -> Differences:
    """With g = (y - x)/x, x <= y: f[x, y] = log(1 + g)/(x g)."""

    def first(x: jax.Array, y: jax.Array) -> jax.Array:
        low, high = jnp.minimum(x, y), jnp.maximum(x, y)
        gap = (high - low) / low
        near = gap == 0
        return jnp.where(near, 1, jnp.log1p(gap) / jnp.where(near, 1, gap)) / low

    def short(low: jax.Array, high: jax.Array) -> jax.Array:
        return high <= 1.5 * low

    return Differences(jnp.log, first, second_by_parts(lambda x: -1 / x**2, first, short))


def _exp() -> Differences:
    """With g = y - x >= 0: f[x, y] = exp(y) (1 - exp(-g))/g, which doesn't overflow before exp."""

    def first(x: jax.Array, y: jax.Array) -> jax.Array:
        gap = jnp.abs(x - y)
        near = gap == 0
        share = jnp.where(near, 1, -jnp.expm1(-gap) / jnp.where(near, 1, gap))
        return jnp.exp(jnp.maximum(x, y)) * share

    def short(low: jax.Array, high: jax.Array) -> jax.Array:
        return high - low <= 1

    return Differences(jnp.exp, first, second_by_parts(jnp.exp, first, short))


def _abs() -> Differences:
    """f[x, y] = (x + y)/(|x| + |y|), and f[x, y, z] vanishes unless one sign differs from two.

    Where 0/0 is left, f'(0) counts as 0, the middle of its slopes, and f''(0) as 0.
    """

    def first(x: jax.Array, y: jax.Array) -> jax.Array:
        size = jnp.abs(x) + jnp.abs(y)
        return (x + y) / jnp.where(size > 0, size, 1)

    def second(x: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
        terms = (_alone(x, y, z), _alone(y, z, x), _alone(z, x, y))
        return sum(terms[1:], terms[0])

    return Differences(jnp.abs, first, second)


def _alone(x: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
    """Return 2 |x| / ((|x| + |y|) (|x| + |z|)) where the sign of x is against those of y and z.

    A 0 is half against each; two of them against x make up for f'(0) = 0 together.
    """
    against = (1 - jnp.sign(x) * jnp.sign(y)) * (1 - jnp.sign(x) * jnp.sign(z)) / 4
    against = jnp.where((y == 0) & (z == 0), 0.5, against)
    size = jnp.abs(x)
    product = (size + jnp.abs(y)) * (size + jnp.abs(z))
    return against * 2 * size / jnp.where(size > 0, product, 1)


def _positive_part() -> Differences:
    """(x + |x|)/2; f'(0) counts as 1/2."""
    size = _abs()
    return Differences(
        lambda x: jnp.maximum(x, 0),
        lambda x, y: (1 + size.first(x, y)) / 2,
        lambda x, y, z: size.second(x, y, z) / 2,
    )


def _whole_power(p: int) -> Differences:
    """Sums of monomials: of x, y, z, or of their inverses."""
    if p >= 0:
        return Differences(
            lambda x: x**p,
            lambda x, y: complete(p - 1, (x, y)),
            lambda x, y, z: complete(p - 2, (x, y, z)),
        )

    def first(x: jax.Array, y: jax.Array) -> jax.Array:
        return -complete(-p - 1, (1 / x, 1 / y)) / (x * y)

    def second(x: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
        return complete(-p - 1, (1 / x, 1 / y, 1 / z)) / (x * y * z)

    return Differences(lambda x: x**p, first, second)


def _real_power(p: float) -> Differences:
    """With 0 <= x <= y and u = log(y/x): f[x, y] = y^p (1 - exp(-p u))/(y - x).

    Where x^p and y^p differ by a factor of e, their difference is as good.
    """

    def first(x: jax.Array, y: jax.Array) -> jax.Array:
        low, high = jnp.minimum(x, y), jnp.maximum(x, y)
        high = jnp.where(low < 0, jnp.nan, high)
        same = high == low
        gap = jnp.where(same, 1, high - low)
        # of an argument above 0: XLA's log1p is off by 100 units of round-off near -0.4
        log = jnp.log1p((high - low) / jnp.where(low > 0, low, 1))
        near = (low > 0) & (jnp.abs(p * log) < 1)
        numerator = jnp.where(near, -(high**p) * jnp.expm1(-p * log), high**p - low**p)
        return jnp.where(same, p * high ** (p - 1), numerator / gap)

    def curvature(x: jax.Array) -> jax.Array:
        return p * (p - 1) * x ** (p - 2)

    ratio = 1 + 0.5 / max(1.0, math.fabs(p))

    def short(low: jax.Array, high: jax.Array) -> jax.Array:
        return high <= ratio * low

    return Differences(lambda x: x**p, first, second_by_parts(curvature, first, short))


_BUILDERS = {
    "sqrt": _sqrt,
    "inv_sqrt": _inv_sqrt,
    "log": _log,
    "exp": _exp,
    "positive_part": _positive_part,
    "abs": _abs,
}
NAMES = (*_BUILDERS, "power")
