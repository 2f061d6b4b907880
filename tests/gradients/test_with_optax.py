"""Estimators drive optimisers that know nothing of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest

from adlab.gradients import reverse_mode, two_point

PARAMS = {
    "w": np.array([[1.0, -2.0], [0.5, 1.5]], np.float32),
    "b": np.array([0.5, -0.5], np.float32),
}
NUM_STEPS = 40


def loss(params, target):
    out = params["w"] @ jnp.array([1.0, -0.5]) + params["b"]
    return jnp.sum((out - target) ** 2) + 0.1 * jnp.sum(params["w"] ** 2)


def _train(g, optimizer):
    """Take NUM_STEPS steps and return the parameters and the values before each."""

    @oracles.quickly_compiled
    def run(params, key):
        def step(carry, key):
            params, state = carry
            value, gradient = g.value_and_grad(params, jnp.array([1.0, 2.0]), key=key)
            updates, state = optimizer.update(gradient, state, params)
            return (optax.apply_updates(params, updates), state), value

        carry = (params, optimizer.init(params))
        (params, _), values = jax.lax.scan(step, carry, jax.random.split(key, NUM_STEPS))
        return params, values

    with jax.numpy_dtype_promotion("standard"):  # which optax itself needs
        return run(PARAMS, jax.random.key(0))


OPTIMIZERS = {"adam": optax.adam(0.05), "sgd": optax.sgd(0.05)}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_with_a_full_orthogonal_block_optax_takes_the_steps_of_the_exact_gradient(optimizer):
    exact, values = _train(reverse_mode(loss), OPTIMIZERS[optimizer])
    g = two_point(loss, law="orthogonal", num_probes=6, smoothing="relative")
    estimated, estimated_values = _train(g, OPTIMIZERS[optimizer])
    # float32 round-off of values about 10 over a step of 5e-3, in each of 40 steps
    np.testing.assert_allclose(estimated_values, values, atol=2e-3)
    for leaf in PARAMS:
        assert estimated[leaf].dtype == PARAMS[leaf].dtype
        np.testing.assert_allclose(estimated[leaf], exact[leaf], atol=2e-3)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_two_probes_of_two_points_are_enough_to_descend(optimizer):
    _, values = _train(two_point(loss, num_probes=2), OPTIMIZERS[optimizer])
    assert values[-1] < 0.5 * values[0]
