import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adlab import models
from adlab.core import trees
from tests import oracles

SLOPES = {  # sigma and its slope, by hand
    "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2),
    "sigmoid": (
        lambda z: 1 / (1 + np.exp(-z)),
        lambda z: np.exp(-z) / (1 + np.exp(-z)) ** 2,
    ),
    "relu": (lambda z: np.maximum(z, 0), lambda z: 1.0 * (z > 0)),
    "leaky": (lambda z: np.where(z > 0, z, 0.1 * z), lambda z: np.where(z > 0, 1.0, 0.1)),
    "softplus": (lambda z: np.log1p(np.exp(z)), lambda z: 1 / (1 + np.exp(-z))),
}


def _by_hand(params, x, target, sigma, slope):
    """|output - target|^2 / 2 and its gradient, swept backwards through the layers."""
    names = sorted(params)
    values, sums = [x], []
    for name in names:
        sums.append(values[-1] @ params[name]["kernel"] + params[name]["bias"])
        values.append(sums[-1] if name == names[-1] else sigma(sums[-1]))
    residual = values[-1] - target
    gradient, delta = {}, residual
    for k in range(len(names) - 1, -1, -1):
        gradient[names[k]] = {"kernel": values[k].T @ delta, "bias": delta.sum(axis=0)}
        if k:
            delta = (delta @ params[names[k]]["kernel"].T) * slope(sums[k - 1])
    return 0.5 * np.sum(residual**2), gradient


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("activation", list(SLOPES))
def test_value_and_gradient_are_those_of_the_sweep_by_hand(activation):
    model = models.mlp(inputs=3, hidden=[5, 4], outputs=2, activation=activation)
    params = model.init(jax.random.key(0), np.float64)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda p: np.asarray(p) + 0.1 * rng.standard_normal(p.shape), params)
    x, target = rng.standard_normal((7, 3)), rng.standard_normal((7, 2))

    def fun(params):
        return 0.5 * jnp.sum((model.apply(params, x) - target) ** 2)

    value, gradient = oracles.quickly_compiled(jax.value_and_grad(fun))(params)
    held = jax.tree.map(np.asarray, params)
    expected, by_hand = _by_hand(held, x, target, *SLOPES[activation])
    assert value == pytest.approx(expected, rel=1e-13)  # round-off
    assert jax.tree.structure(gradient) == jax.tree.structure(by_hand)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13), gradient, by_hand
    )


def test_parameters_have_their_names_shapes_and_variances():
    model = models.mlp(inputs=200, hidden=[300], outputs=100, activation="relu")
    params = model.init(jax.random.key(1))
    shapes = {
        jax.tree_util.keystr(p): a.shape for p, a in jax.tree_util.tree_leaves_with_path(params)
    }
    assert shapes == {
        "['layer1']['bias']": (300,),
        "['layer1']['kernel']": (200, 300),
        "['layer2']['bias']": (100,),
        "['layer2']['kernel']": (300, 100),
    }
    for name, variance in (("layer1", 2 / 200), ("layer2", 1 / 300)):
        kernel = np.asarray(params[name]["kernel"], np.float64)
        oracles.assert_mean_is(0.0, kernel.ravel())
        oracles.assert_mean_is(variance, kernel.ravel() ** 2)
        np.testing.assert_array_equal(params[name]["bias"], 0)


def test_without_hidden_layers_and_bias_it_is_a_matrix():
    model = models.mlp(inputs=2, hidden=[], outputs=3, bias=False)
    params = model.init(jax.random.key(0))
    assert trees.size(params) == 6
    np.testing.assert_array_equal(model.apply(params, jnp.eye(2)), params["layer1"]["kernel"])


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_the_dtype_is_that_of_the_parameters(dtype):
    model = models.mlp(inputs=3, hidden=[4], outputs=2)
    params = model.init(jax.random.key(0), dtype)
    assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    narrow = model.apply(params, np.arange(6, dtype=np.uint8).reshape(2, 3))
    wide = model.apply(
        jax.tree.map(lambda p: p.astype(np.float32), params), jnp.arange(6.0).reshape(2, 3)
    )
    assert narrow.dtype == dtype
    error = np.abs(narrow.astype(np.float32) - wide).max()
    assert error <= 8 * jnp.finfo(dtype).eps * np.abs(wide).max()  # a few roundings


def test_equal_arguments_give_the_same_model():
    first = models.mlp(inputs=3, hidden=[4], outputs=2)
    assert models.mlp(inputs=3, hidden=(4,), outputs=2, activation="tanh") == first
    assert hash(models.mlp(inputs=3, hidden=(4,), outputs=2)) == hash(first)
    assert models.mlp(inputs=3, hidden=[4], outputs=2, bias=False) != first


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"inputs": 0}, ValueError, "inputs must be >= 1, got 0"),
        ({"hidden": [4, 0]}, ValueError, "hidden[1] must be >= 1, got 0"),
        ({"hidden": [2.0]}, TypeError, "hidden[0] must be an integer >= 1, got 2.0"),
        ({"outputs": -1}, ValueError, "outputs must be >= 1, got -1"),
        ({"activation": "tan"}, ValueError, "; did you mean 'tanh'?"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        models.mlp(**({"inputs": 3, "hidden": [4], "outputs": 2} | arguments))


def test_examples_of_another_length_are_refused():
    model = models.mlp(inputs=3, hidden=[4], outputs=2)
    with pytest.raises(ValueError, match=re.escape("x must have shape (..., 3), got (5, 4)")):
        model.apply(model.init(jax.random.key(0)), jnp.ones((5, 4)))
