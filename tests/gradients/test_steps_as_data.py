"""A gradient crosses jit and vmap as data: new steps and new arrays compile nothing new."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from adlab.gradients import (
    finite_difference,
    forward_gradient,
    forward_mode,
    one_sided,
    reverse_mode,
    two_point,
)

KEY = jax.random.key(0)
X = np.array([1.0, -2.0, 0.5], np.float32)
STEPPED = [(two_point, "smoothing"), (one_sided, "smoothing"), (finite_difference, "step")]


@jax.jit
def cube(x):
    return jnp.sum(x**3)


def _counted_driver():
    traces = []

    @jax.jit
    def driver(g, x):
        traces.append(None)
        return g(x, key=KEY)

    return driver, traces


@pytest.mark.parametrize(("factory", "name"), STEPPED)
def test_new_steps_don_t_retrace_a_function_of_the_gradient(factory, name):
    driver, traces = _counted_driver()
    for step in (0.5, 0.25, 0.125):
        g = factory(cube, **{name: step})
        # float32 rounding of 8 over a step of 1/8, in another order
        np.testing.assert_allclose(driver(g, X), g(X, key=KEY), rtol=1e-5, atol=1e-5)
    assert len(traces) == 1


@pytest.mark.parametrize(("factory", "name"), STEPPED)
def test_a_step_is_the_only_data_and_auto_is_none(factory, name):
    assert jax.tree.leaves(factory(cube, **{name: 0.5})) == [0.5]
    assert jax.tree.leaves(factory(cube)) == []


@pytest.mark.parametrize("factory", [reverse_mode, forward_mode, forward_gradient])
def test_kinds_without_steps_hold_no_data(factory):
    driver, traces = _counted_driver()
    assert jax.tree.leaves(factory(cube)) == []
    driver.eval_shape(factory(cube), X)
    driver.eval_shape(factory(cube), 2 * X)
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("changed", "value"),
    [("num_probes", 3), ("law", "gaussian"), ("chunk_size", 2), ("argnums", (0,))],
)
def test_what_isn_t_a_step_is_static(changed, value):
    driver, traces = _counted_driver()
    options = {"smoothing": 0.5, "num_probes": 2}
    driver.eval_shape(two_point(cube, **options), X)
    driver.eval_shape(two_point(cube, **options | {changed: value}), X)
    assert len(traces) == 2


@pytest.mark.parametrize(("factory", "name"), STEPPED)
def test_vmap_over_the_gradients_maps_the_step(factory, name):
    steps = np.array([0.5, 0.25, 0.125], np.float32)
    stacked = jax.tree.map(lambda _: steps, factory(cube, **{name: 1.0}))
    mapped = jax.jit(jax.vmap(lambda g: g(X, key=KEY)))(stacked)
    one_by_one = [factory(cube, **{name: float(h)})(X, key=KEY) for h in steps]
    # float32 rounding of 8 over a step of 1/8, in another order
    np.testing.assert_allclose(mapped, np.stack(one_by_one), rtol=1e-5, atol=1e-5)


def test_a_gradient_survives_flattening_with_its_fields():
    g = two_point(cube, smoothing=0.5, law="gaussian", num_probes=4, chunk_size=2, argnums=0)
    again = jax.tree.unflatten(*reversed(jax.tree.flatten(g)))
    assert repr(again) == repr(g)
    assert again.method.arguments() == g.method.arguments()
    assert (again.argnums, again.has_aux) == (g.argnums, g.has_aux)
    assert again.fun(X) == cube(X)


@jax.jit
def _scaled_sum(scale, x):
    return jnp.sum(scale * x**2)


def test_arrays_bound_to_the_function_are_data():
    driver, traces = _counted_driver()
    for scale in (1.0, 2.0, 3.0):
        g = two_point(
            Partial(_scaled_sum, np.full(3, scale, np.float32)), law="orthogonal", num_probes=3
        )
        # float32 rounding of 12 over a step of 5e-3
        np.testing.assert_allclose(driver(g, X), 2 * scale * X, atol=1e-2)
    assert len(traces) == 1


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Model:
    """A callable pytree, as model libraries make them."""

    weight: jax.Array

    def __call__(self, x):
        return jnp.sum(self.weight * x**2)


def test_a_callable_pytree_is_data():
    driver, traces = _counted_driver()
    for scale in (1.0, 2.0, 3.0):
        g = reverse_mode(Model(np.full(3, scale, np.float32)))
        np.testing.assert_array_equal(driver(g, X), 2 * scale * X)
    assert len(traces) == 1


def test_one_can_differentiate_through_the_function_s_arrays():
    def first_entry(scale):
        return two_point(Partial(_scaled_sum, scale), law="orthogonal", num_probes=3)(X, key=KEY)[0]

    # float32 rounding of 5 over a step of 5e-3
    np.testing.assert_allclose(
        jax.grad(first_entry)(np.ones(3, np.float32)), [2.0, 0, 0], atol=1e-2
    )


def test_a_new_lambda_retraces():
    driver, traces = _counted_driver()
    for _ in range(2):
        driver.eval_shape(two_point(lambda x: jnp.sum(x**2), smoothing=0.5), X)
    assert len(traces) == 2


def test_a_function_may_branch_on_numbers_of_python():
    def power(x, n):
        return jnp.sum(x) if n == 1 else jnp.sum(x**n)

    g = finite_difference(power)
    np.testing.assert_allclose(g(X, 2), 2 * X, atol=1e-2)  # float32: eps^(2/3), with room
    g.check(X, 2)
