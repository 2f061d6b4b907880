import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adlab.core import probes
from adlab.gradients import finite_difference, forward_gradient, forward_mode, one_sided, two_point

PROBED = [two_point, one_sided, forward_gradient]
SMOOTHED = [two_point, one_sided]
CHUNKED = [*PROBED, forward_mode, finite_difference]
STEPPED = [(two_point, "smoothing"), (one_sided, "smoothing"), (finite_difference, "step")]
KEY = jax.random.key(0)


@pytest.mark.parametrize("value", [0, -1, -0.1, 0.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("factory", "name"), STEPPED)
def test_steps_that_aren_t_positive_and_finite_are_refused(factory, name, value):
    with pytest.raises(ValueError, match=rf"^{name} must be positive and finite, got {value!r}$"):
        factory(jnp.sum, **{name: value})


@pytest.mark.parametrize(
    ("factory", "name", "value"),
    [
        (factory, name, value)
        for factory, name in STEPPED
        for value in (None, True, 1j, [0.1], np.ones(2), jnp.ones(1))
        # a difference takes a step for each coordinate, as long as they are shaped as x
        if factory is not finite_difference or value is None or np.ndim(value) == 0
    ],
)
def test_steps_that_are_no_real_numbers_are_refused(factory, name, value):
    with pytest.raises(TypeError, match=rf"^{name} must be a positive real number, got "):
        factory(jnp.sum, **{name: value})


@pytest.mark.parametrize(("factory", "name"), STEPPED)
def test_words_that_name_no_rule_are_refused_as_steps(factory, name):
    message = rf"^{name} must be a positive number or \"auto\" or \"relative\", got 'aut'$"
    with pytest.raises(ValueError, match=message):
        factory(jnp.sum, **{name: "aut"})


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("factory", PROBED)
def test_fewer_than_one_probe_are_refused(factory, value):
    with pytest.raises(ValueError, match=rf"^num_probes must be >= 1, got {value}$"):
        factory(jnp.sum, num_probes=value)


@pytest.mark.parametrize("value", [1.5, 2.0, True, "3", None])
@pytest.mark.parametrize("factory", PROBED)
def test_numbers_of_probes_that_aren_t_integers_are_refused(factory, value):
    with pytest.raises(TypeError, match=r"^num_probes must be an integer >= 1, got "):
        factory(jnp.sum, num_probes=value)


@pytest.mark.parametrize("factory", CHUNKED)
def test_chunk_sizes_are_auto_or_integers_of_one_or_more(factory):
    for value in (0, -3):
        with pytest.raises(ValueError, match=rf"^chunk_size must be >= 1, got {value}$"):
            factory(jnp.sum, chunk_size=value)
    for value in (1.5, True, None):
        with pytest.raises(TypeError, match=r"^chunk_size must be an integer >= 1, got "):
            factory(jnp.sum, chunk_size=value)
    with pytest.raises(ValueError, match=r"^chunk_size must be one of 'auto', got 'all'$"):
        factory(jnp.sum, chunk_size="all")


@pytest.mark.parametrize(
    ("law", "nearest"),
    [("spere", "sphere"), ("Gaussian", "gaussian"), ("radmacher", "rademacher")],
)
@pytest.mark.parametrize("factory", PROBED)
def test_a_misspelt_law_is_refused_with_the_nearest(factory, law, nearest):
    message = rf"^law must be one of 'sphere', .*, got '{law}'; did you mean '{nearest}'\?$"
    with pytest.raises(ValueError, match=message):
        factory(jnp.sum, law=law)


@pytest.mark.parametrize("law", [None, 1, ("sphere",)])
def test_what_is_neither_name_nor_callable_is_no_law(law):
    with pytest.raises(TypeError, match=r"^law must be a name or a callable \(like, \*, key\)"):
        two_point(jnp.sum, law=law)


@pytest.mark.parametrize("scheme", ["centre", "centrall", 2, None])
def test_an_unknown_scheme_is_refused(scheme):
    message = (
        r"^scheme must be one of 'forward', 'backward', 'central', 'richardson', 'complex', got "
    )
    with pytest.raises(ValueError, match=message):
        finite_difference(jnp.sum, scheme=scheme)


def test_a_misspelt_scheme_gets_the_nearest():
    with pytest.raises(ValueError, match=r"got 'richardsen'; did you mean 'richardson'\?$"):
        finite_difference(jnp.sum, scheme="richardsen")


@pytest.mark.parametrize("option", ["num_samples", "smothing", "seed"])
def test_unknown_options_are_refused(option):
    with pytest.raises(TypeError, match=option):
        two_point(jnp.sum, **{option: 1})


def test_hyperparameters_are_keyword_only():
    with pytest.raises(TypeError, match="positional argument"):
        two_point(jnp.sum, 0.1)


def _scalar_probe(like, *, key):
    del like
    return jax.random.normal(key, ())


def _nested_probe(like, *, key):
    return {"u": probes.gaussian(like, key=key)}


@pytest.mark.parametrize("law", [_scalar_probe, _nested_probe])
@pytest.mark.parametrize("factory", PROBED)
def test_a_law_that_draws_another_shape_is_refused_when_called(factory, law):
    with pytest.raises(TypeError, match=rf"law {law.__name__} must draw a probe shaped as x"):
        factory(jnp.sum, law=law)(jnp.ones(3), key=KEY)


def test_a_law_of_the_users_own_that_draws_float32_doesn_t_round_x(x64):
    del x64

    def single(like, *, key):
        wide = probes.rademacher(like, key=key)
        return wide.astype(jnp.float32)

    x = jnp.array([1.0 + 1e-9, 2.0 + 1e-9, 3.0])
    seen = []

    def fun(x):
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), x)
        return jnp.sum(x)

    two_point(fun, law=single, smoothing=0.5)(x, key=KEY)
    jax.effects_barrier()
    # one rounding of float64 either way
    np.testing.assert_allclose((seen[0] + seen[1]) / 2, x, rtol=1e-15)


@pytest.mark.parametrize("argnums", [(0, 0), (0, -2)])
def test_arguments_named_twice_are_refused(argnums):
    with pytest.raises(ValueError, match="argnums must name each argument once"):
        two_point(lambda x, y: jnp.sum(x * y), argnums=argnums)(jnp.ones(2), jnp.ones(2), key=KEY)
