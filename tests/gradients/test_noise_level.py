"""noise_level: its estimate, and how often its interval holds what it is to hold."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adlab.gradients import from_host, noise_level
from adlab.gradients.noise_levels import _level

SAMPLES, POINTS = 4000, 40


@pytest.mark.parametrize(
    ("law", "least", "most"),
    # the standard error of a share of 95 % is 0.34 %; uniform noise varies less than normal noise
    [("normal", 0.935, 0.97), ("uniform", 0.95, 0.995)],
)
def test_the_interval_covers_the_level(law, least, most):
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((SAMPLES, POINTS))
    if law == "uniform":
        draws = math.sqrt(12) * (rng.random((SAMPLES, POINTS)) - 0.5)
    found = [_level(3 + 1e-3 * np.arange(POINTS) + draw) for draw in draws]
    levels, low, high = np.array(found).T
    assert least <= np.mean((low <= 1) & (high >= 1)) <= most
    assert np.mean(levels**2) == pytest.approx(1, abs=0.03)  # 5 standard errors: sqrt(2/12/4000)


def test_it_finds_the_noise_of_a_simulator(x64):
    del x64
    rng = np.random.default_rng(0)
    fun = from_host(lambda x: float(np.sum((x - 1) ** 2)) + 0.01 * rng.standard_normal())
    found = [noise_level(fun, jnp.arange(5.0)) for _ in range(10)]
    # 12 degrees of freedom each
    assert np.mean([n.level for n in found]) == pytest.approx(0.01, rel=0.3)
    assert sum(n.low <= 0.01 <= n.high for n in found) >= 7  # of 10 at 95 %: fewer, once in 1e4
    assert {n.evaluations for n in found} == {POINTS}


@pytest.mark.parametrize(
    ("fun", "x", "size"),
    [
        (lambda x: jnp.sum(jnp.exp(x)), np.ones(3), 8.2),
        (lambda x: jnp.sin(1e6 * x), np.array(1e-6), 0.8),
        (lambda x: jnp.log(x), np.array(1e-6), 14.0),
    ],
)
def test_round_off_is_noise_of_about_a_unit_of_the_last_digit(fun, x, size, x64):
    del x64
    found = noise_level(fun, jnp.asarray(x))
    eps = np.finfo(np.float64).eps
    assert 0.02 * eps * size <= found.low <= found.level <= found.high <= 3 * eps * size


def test_a_function_in_single_precision_has_the_noise_of_the_single(x64):
    del x64
    found = noise_level(lambda x: jnp.sin(x.astype(jnp.float32)), jnp.asarray(1.0))
    assert 3e-9 <= found.level <= 1e-7  # 2^-24 times 0.8, over sqrt(12)


def test_a_constant_has_none():
    found = noise_level(lambda x: 0 * x + 3, jnp.float32(1.0))
    assert (found.level, found.low, found.high) == (0, 0, 0)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="num_evaluations must be >= 16, got 3"):
        noise_level(jnp.sum, jnp.ones(3), num_evaluations=3)
    with pytest.raises(TypeError, match="outside jit"):
        jax.jit(lambda x: noise_level(jnp.sum, x).level)(jnp.ones(3))
    with pytest.raises(TypeError, match="16 bits only"):
        noise_level(jnp.sum, jnp.ones(3, jnp.bfloat16))
    with pytest.raises(ValueError, match="fun must be finite near x"):
        noise_level(lambda x: jnp.sum(x) * jnp.nan, jnp.ones(3))


def test_a_function_that_is_not_scalar_is_named():
    with pytest.raises(
        TypeError, match="noise_level: fun must return one real floating-point number"
    ):
        noise_level(lambda x: x, jnp.ones(3))
