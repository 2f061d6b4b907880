"""What is particular to estimators of the user's own; the common contract is tested elsewhere."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adlab.core import probes
from adlab.gradients import Cost, custom

KEY = jax.random.key(0)


def one_probe(fun, x, key):
    u = probes.gaussian(x, key=key)
    return (fun(x + 0.5 * u) - fun(x - 0.5 * u)) / (2 * 0.5) * u


def _make(fun, **options):
    return custom(fun, one_probe, cost=lambda d: Cost(evaluations=2, jvps=d), **options)


def test_a_random_estimator_gets_its_key_and_has_its_own_statistics(x64):
    del x64
    fun, x, gradient, *_ = oracles.quadratic(4)
    keys = jax.random.split(KEY, 20_000)
    g = _make(fun, second_moment=lambda d: d + 2)
    errors = oracles.quickly_compiled(jax.vmap(lambda key: g(x, key=key)))(keys) - gradient
    oracles.assert_mean_is(0.0, errors)
    oracles.assert_mean_is((g.second_moment(x) - 1) * gradient @ gradient, jnp.sum(errors**2, 1))


def test_cost_and_second_moment_are_asked_with_the_dimension():
    g = _make(jnp.sum, second_moment=lambda d: 3 * d)
    assert g.cost(jnp.ones(5)) == Cost(evaluations=2, jvps=5)
    assert g.second_moment(jnp.ones(5)) == 15.0


def test_the_estimator_sees_a_function_of_x_alone_with_all_else_bound():
    seen = []

    def estimate(fun, x, key):
        del key
        seen.append((x.shape, fun(x)))
        return jnp.zeros_like(x)

    def fun(a, x, *, weight):
        return weight * jnp.sum(a) * jnp.sum(x), "aux"

    g = custom(fun, estimate, cost=lambda d: Cost(evaluations=d), argnums=1, has_aux=True)
    g(jnp.ones(2), jnp.ones(3), weight=2.0)
    assert seen == [((3,), 12.0)]


def test_an_estimate_of_another_form_than_x_is_refused():
    x = {"w": jnp.ones(3)}
    for wrong in (jnp.ones(3), {"w": jnp.ones(2)}, {"v": jnp.ones(3)}):
        g = custom(
            lambda x: jnp.sum(x["w"]),
            lambda fun, x, key, wrong=wrong: wrong,  # noqa: ARG005
            cost=lambda d: Cost(evaluations=d),
        )
        with pytest.raises(TypeError, match=r"must return an estimate shaped as x"):
            g(x)


def test_an_estimate_of_another_dtype_is_rounded_to_that_of_x():
    g = custom(
        lambda x: jnp.sum(x).astype(jnp.float32),
        lambda fun, x, key: jnp.full(x.shape, 1.0078125, jnp.float32),  # noqa: ARG005
        cost=lambda d: Cost(evaluations=d),
    )
    assert g(jnp.ones(2, jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("bad", [None, 3])
def test_what_isn_t_callable_is_refused_by_name(bad):
    with pytest.raises(TypeError, match=rf"^estimate must be callable, got {bad}$"):
        custom(jnp.sum, bad, cost=lambda d: Cost(evaluations=d))
    with pytest.raises(TypeError, match=rf"^cost must be callable, got {bad}$"):
        custom(jnp.sum, one_probe, cost=bad)


def test_a_second_moment_that_isn_t_callable_is_refused():
    with pytest.raises(TypeError, match=r"^second_moment must be callable or None, got 3"):
        custom(jnp.sum, one_probe, cost=lambda d: Cost(evaluations=d), second_moment=3)


def test_errors_carry_the_name_of_the_users_estimator():
    with pytest.raises(TypeError, match=r"^one_probe: fun must return one real"):
        _make(lambda x: x)(jnp.ones(2), key=KEY)
    with pytest.raises(ValueError, match=r"second_moment of one_probe must be known"):
        _make(jnp.sum).second_moment(np.ones(3))
