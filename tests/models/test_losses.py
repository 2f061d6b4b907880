import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adlab import models
from adlab.core import trees
from tests import oracles

LOGITS = np.array(
    [[1.0, 2.0, -1.0], [0.0, 0.5, 3.0], [2.0, -2.0, 1.0], [0.3, 0.2, 0.1]], np.float32
)
LABELS = np.array([1, 0, 2, 0])
cross_entropy, accuracy = jax.jit(models.cross_entropy), jax.jit(models.accuracy)
LINEAR = models.mlp(inputs=3, hidden=[], outputs=3, bias=False)


def _softmax():
    powers = np.exp(LOGITS.astype(np.float64))
    return powers / powers.sum(axis=1, keepdims=True)


def test_cross_entropy_and_its_gradient_are_those_of_the_formula():
    value, gradient = jax.jit(jax.value_and_grad(models.cross_entropy))(LOGITS, LABELS)
    chances = _softmax()
    expected = -np.log(chances[np.arange(4), LABELS]).mean()
    assert value == pytest.approx(expected, rel=1e-6)  # float32
    np.testing.assert_allclose(gradient, (chances - np.eye(3)[LABELS]) / 4, atol=1e-7)  # float32


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_labels_may_be_integers_of_any_width(dtype, x64):
    del x64
    value = cross_entropy(LOGITS, LABELS.astype(dtype))
    assert value == pytest.approx(float(cross_entropy(LOGITS, LABELS)), rel=1e-6)


def test_labels_and_logits_may_be_sequences():
    expected = cross_entropy(LOGITS, LABELS)
    cut = cross_entropy(LOGITS.reshape(2, 2, 3), LABELS.reshape(2, 2))
    assert cut == pytest.approx(float(expected), rel=1e-6)  # another order of summation


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_huge_logits_are_exact(dtype):
    logits = np.array([[3e4, 0.0], [0.0, 3e4]], dtype)
    value = cross_entropy(logits, np.array([0, 0]))
    assert value.dtype == np.float32
    assert value == float(logits[0, 0]) / 2


@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_makes_the_loss_nan(label):
    assert np.isnan(cross_entropy(LOGITS, np.array([0, 1, 2, label])))


def test_accuracy_counts_the_largest_logits():
    assert accuracy(LOGITS, LABELS) == 0.5
    assert accuracy(np.zeros((4, 3), np.float32), np.array([0, 0, 0, 1])) == 0.75


@pytest.mark.parametrize("function", [models.accuracy, models.cross_entropy])
def test_labels_of_another_kind_are_refused(function):
    with pytest.raises(TypeError, match="labels must be integers, got float32"):
        function(LOGITS, LABELS.astype(np.float32))
    with pytest.raises(ValueError, match=re.escape("got (4, 1)")):
        function(LOGITS, LABELS[:, None])


@pytest.mark.usefixtures("x64")
def test_weight_decay_adds_a_multiple_of_the_parameters_and_of_the_identity():
    params = LINEAR.init(jax.random.key(0), np.float64)
    x = np.random.default_rng(0).standard_normal((4, 3))
    plain, decayed = (models.classification_loss(LINEAR, wd) for wd in (0.0, 0.5))
    v = jax.tree.map(np.ones_like, params)

    @oracles.quickly_compiled
    def both(p, v):
        return [
            (f(p, x, LABELS), *jax.jvp(lambda p, f=f: jax.grad(f)(p, x, LABELS), (p,), (v,)))
            for f in (plain, decayed)
        ]

    (value, *rows), (more, *more_rows) = jax.device_get(both(params, v))
    expected = value + 0.25 * np.sum(np.asarray(params["layer1"]["kernel"]) ** 2)
    assert more == pytest.approx(float(expected), rel=1e-14)  # round-off
    difference = jax.tree.map(np.subtract, more_rows, rows)
    for found, multiple in zip(difference, (params, v), strict=True):
        np.testing.assert_allclose(
            found["layer1"]["kernel"], 0.5 * multiple["layer1"]["kernel"], rtol=1e-12, atol=1e-15
        )  # round-off


def test_another_loss_of_an_equal_model_does_not_retrace():
    traces = []

    @jax.jit
    def value(fun, params, x, y):
        traces.append(1)
        return fun(params, x, y)

    params = LINEAR.init(jax.random.key(0))
    values = []
    for wd in (0.1, 0.2, 0.3):
        model = models.mlp(inputs=3, hidden=[], outputs=3, bias=False)
        values.append(value(models.classification_loss(model, wd), params, LOGITS, LABELS))
    assert len(traces) == 1
    step = float(trees.vdot(params, params)) * 0.05
    np.testing.assert_allclose(np.diff(values), step, rtol=1e-5)  # float32


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((LINEAR.apply,), TypeError, "model must be an adlab.models.Model, got function"),
        ((LINEAR, -0.1), ValueError, "weight_decay must be finite and >= 0, got -0.1"),
        ((LINEAR, np.nan), ValueError, "weight_decay must be finite and >= 0, got nan"),
        ((LINEAR, [0.1]), TypeError, "weight_decay must be a real number, got [0.1]"),
    ],
)
def test_bad_arguments_of_the_loss_are_refused(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        models.classification_loss(*arguments)
