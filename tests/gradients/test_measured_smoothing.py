"""smoothing="auto": measured by the code that measures steps of finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adlab.core.cost import Cost
from adlab.gradients import finite_difference, from_host, one_sided, two_point
from adlab.gradients.measured_steps import EVALUATIONS

KEY = jax.random.key(0)
MAKERS = [two_point, one_sided]
LEVEL, DIM = 0.01, 5
X = np.random.default_rng(1).normal(size=DIM)


RNG = [np.random.default_rng(0)]


@from_host
def _noisy(x):
    return float(np.sum((x - 1) ** 2)) + LEVEL * RNG[0].standard_normal()


@pytest.mark.parametrize("make", [*MAKERS, finite_difference])
@pytest.mark.usefixtures("x64_in_every_thread")
def test_errors_on_a_noisy_function_are_what_the_noise_permits(make):
    exact = 2 * (X - 1)
    options = {} if make is finite_difference else {"law": "orthogonal", "num_probes": 60}
    g, errors = make(_noisy, **options), []
    estimate = oracles.quickly_compiled(lambda key: g(X, key=key))
    for seed in range(6):
        RNG[:] = [np.random.default_rng(seed)]
        errors.append(np.linalg.norm(estimate(jax.random.key(seed)) - exact))
    # On m orthogonal probes of length sqrt(d), m a multiple of d, symmetric quotients of step h are
    # off by s / (h sqrt(2)), the mean of them by s sqrt(d/2m)/h; one-sided ones also by the
    # curvature, h d: at best by 2 sqrt(s d sqrt(d/m)) together. Steps along one coordinate: m = d.
    probes = DIM if make is finite_difference else 60
    symmetric = LEVEL * np.sqrt(DIM * DIM / (2 * probes)) / 0.2
    one_side = 2 * np.sqrt(LEVEL * DIM * np.sqrt(DIM / probes))
    best = one_side if make is one_sided else symmetric
    assert np.sqrt(np.mean(np.square(errors))) <= 3 * best
    RNG[:] = [np.random.default_rng(9)]
    g.check(X)
    name = "step" if make is finite_difference else "smoothing"
    with pytest.raises(ValueError, match="to 10 %"):
        make(_noisy, **options, **{name: "relative"}).check(X)


@pytest.mark.parametrize(("make", "plain"), [(two_point, 6), (one_sided, 4)])
def test_measuring_is_counted_once_per_estimate_and_relative_smoothing_is_free(make, plain):
    x = jax.ShapeDtypeStruct((7,), jnp.float32)
    assert make(jnp.sum, num_probes=3).cost(x) == Cost(evaluations=plain + EVALUATIONS)
    for free in ("relative", 0.5):
        assert make(jnp.sum, num_probes=3, smoothing=free).cost(x) == Cost(evaluations=plain)
    short = jax.ShapeDtypeStruct((7,), jnp.bfloat16)
    assert make(jnp.sum, num_probes=3).cost(short) == Cost(evaluations=plain)


@pytest.mark.parametrize("law", ["coordinate", "gaussian"])
def test_one_measurement_serves_the_probes_of_every_law(law, x64):
    del x64
    x = np.linspace(0.5, 1.5, 30)
    fun = lambda x: jnp.sum(jnp.exp(x))  # noqa: E731
    tried = 2.0 ** -np.arange(2.0, 32.0, 2.0)

    def of(make, step):
        keys = jax.random.split(KEY, 8)

        def error(key):
            exact = make(lambda x: x @ slope, law=law, smoothing=0.5)(x, key=key)
            return make(fun, law=law, smoothing=step)(x, key=key) - exact

        return jnp.sqrt(jnp.mean(jax.vmap(error)(keys) ** 2))

    slope = np.exp(x)
    for make in MAKERS:
        both = lambda make=make: (  # noqa: E731
            of(make, "auto"), jax.lax.map(lambda h: of(make, h), tried)
        )  # fmt: skip
        measured, best = oracles.quickly_compiled(both)()
        assert measured <= 30 * np.nanmin(best)


@pytest.mark.parametrize("make", MAKERS)
def test_single_precision_next_to_the_end_of_the_domain(make):
    x = np.float32(1e-3)
    g = make(jnp.log, law="rademacher")
    np.testing.assert_allclose(g(x, key=KEY), 1e3, rtol=1e-2)  # 2 sqrt(eps f f'')/f' is 1e-3
    g.check(x)


@pytest.mark.parametrize("make", MAKERS)
def test_coordinates_of_very_different_size_get_a_step_that_suits_the_smaller(make, x64):
    del x64
    x = np.array([1e6, -3e5, 1.0, 0.5])
    fun = jax.jit(lambda x: jnp.sum(jnp.sin(x[2:])) + jnp.sum(x[:2]))
    g = make(fun, law="orthogonal", num_probes=4)
    exact = [1, 1, np.cos(1.0), np.cos(0.5)]
    # one-sided: round-off of 1e6 and a curvature of 1, 2 sqrt(1e-10)
    np.testing.assert_allclose(g(x, key=KEY), exact, atol=1e-3)
    g.check(x)


@pytest.mark.parametrize("make", MAKERS)
def test_a_second_call_at_other_values_compiles_nothing(make, caplog):
    g = make(lambda x, scale: scale * jnp.sum(jnp.sin(x) ** 2))
    for i in range(3):
        caplog.clear()
        with jax.log_compiles():
            x = np.full(4, i + 1, np.float32)
            g(x, jnp.asarray(x[0]), key=jax.random.key(i))
        compiled = sum("Finished XLA" in message for message in caplog.messages)
        assert (compiled > 0) == (i == 0)  # the first ones are seen


@pytest.mark.parametrize("make", MAKERS)
def test_the_step_along_a_probe_suits_as_many_coordinates_as_it_moves(make):
    """Truncation along a probe is that of thousands of coordinates, not of the one measured."""
    x = np.linspace(0.3, 1.5, 4096, dtype=np.float32)
    slopes = np.cos(np.asarray(x, np.float64))

    @jax.jit
    def estimates(g):  # a number is data, so that all of them share a program
        return jax.vmap(lambda key: g(x, key=key))(jax.random.split(KEY, 64))

    waves = lambda x: jnp.sum(jnp.sin(x))  # noqa: E731

    def error(smoothing):
        """Root mean square of s - u . grad over 64 probes u of signs, each estimate being s u."""
        g = make(waves, law="rademacher", smoothing=smoothing)
        found = np.asarray(estimates(g), np.float64)
        return np.sqrt(np.mean((np.abs(found).mean(axis=1) - np.sign(found) @ slopes) ** 2))

    # 0.7 and 0.9 were seen; by the step for one coordinate it would be 10 and 24
    assert error("auto") <= 3 * min(error(np.float32(2.0**-k)) for k in range(14))
