"""Automatic steps on functions that vary over very short scales: right wherever a step can be."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adlab.gradients import finite_difference, one_sided, two_point

SCHEMES = ["forward", "central", "richardson"]
# A function of x and its scale, and its slope. Periods of "alias" are powers of two, as steps are.
FUNCTIONS = {
    "ratio": (lambda x, s: x / (x + s / 14), lambda x, s: s / 14 / (x + s / 14) ** 2),
    "sine": (lambda x, s: jnp.sin(x / s), lambda x, s: np.cos(x / s) / s),
    "logarithm": (lambda x, s: jnp.log(x + 0 * s), lambda x, s: 1 / x),  # noqa: ARG005
    "decay": (lambda x, s: jnp.exp(-x / s), lambda x, s: -np.exp(-x / s) / s),
    "front": (lambda x, s: jnp.tanh(x / s), lambda x, s: (1 - np.tanh(x / s) ** 2) / s),
    "root": (lambda x, s: jnp.sqrt(x + 0 * s), lambda x, s: 0.5 / np.sqrt(x)),  # noqa: ARG005
    "pole": (lambda x, s: 1 / (x + 0 * s), lambda x, s: -1 / x**2),  # noqa: ARG005
    "ripple": (lambda x, s: 5 + x + jnp.sin(x / s) / 100, lambda x, s: 1 + np.cos(x / s) / s / 100),
    "alias": (
        lambda x, s: jnp.sin(2 * np.pi * x / _period(s)),
        lambda x, s: 2 * np.pi / _period(s) * np.cos(2 * np.pi * x / _period(s)),
    ),
}
MEMBERS = [fun for fun, _ in FUNCTIONS.values()]


def _period(s):
    return jnp.exp2(jnp.round(jnp.log2(2 * np.pi * s)))


@pytest.mark.parametrize(
    ("dtype", "scales"),
    # at points near 1 single precision has no digits left for the shortest ones
    [("float64", [1e-3, 1e-5, 1e-7, 1e-9, 1e-10]), ("float32", [1e-1, 1e-2, 1e-3, 1e-4, 1e-5])],
)
def test_scales_down_to_1e_10_and_in_single_precision_1e_5_are_seen(dtype, scales, x64):
    del x64
    cases = [(k, s, s) for k in range(len(MEMBERS)) for s in scales]
    cases += [(1, 1e-6, 1.3), (8, 1e-6, 1.3)] if dtype == "float64" else [(1, 1e-3, 1.3)]
    which, s, x = (np.array(column) for column in zip(*cases, strict=True))
    s, x = s.astype(dtype), x.astype(dtype)

    @oracles.quickly_compiled
    def estimates(which, s, x):
        def of(which, s, x):
            fun = lambda x: jax.lax.switch(which, MEMBERS, x, s)  # noqa: E731
            return jnp.stack([finite_difference(fun, scheme=scheme)(x) for scheme in SCHEMES])

        return jax.vmap(of)(which, s, x)

    found = np.asarray(estimates(which, s, x), np.float64)
    slopes = [slope for _, slope in FUNCTIONS.values()]
    wide = (s.astype(np.float64), x.astype(np.float64))
    exact = np.array([slopes[k](x, s) for k, s, x in zip(which, *wide, strict=True)])
    wrong = np.abs(found / exact[:, None] - 1) > 0.1  # the worst case by single precision is 3 %
    assert not np.any(wrong), [cases[i] for i in np.flatnonzero(wrong.any(axis=1))]


@jax.jit
def _ratio(x):
    return x / (x + 1.44e-9)


@jax.jit
def _sine(x):
    return jnp.sin(1e6 * x)


@pytest.mark.parametrize("make", [two_point, one_sided])
def test_measured_smoothings_see_the_same(make, x64):
    del x64
    for fun, x, slope in [
        (_ratio, 2e-8, 1.44e-9 / 2.144e-8**2),
        (_sine, 1e-6, 1e6 * np.cos(1.0)),
        (jnp.log, 1e-8, 1e8),
    ]:
        found = make(fun, law="rademacher")(np.float64(x), key=jax.random.key(0))
        # a one-sided quotient next to a pole: 2 sqrt(eps f f'') / f'
        np.testing.assert_allclose(found, slope, rtol=1e-5)
