import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from adlab import models
from tests import oracles

X = np.random.default_rng(0).standard_normal((4, 6, 6, 2)).astype(np.float32)
Y = np.array([0, 2, 1, 1])
KERNELS = nnx.initializers.he_normal()
BIASES = nnx.with_metadata(nnx.initializers.zeros_init(), shown="biases")


class Network(nnx.Module):
    """Convolution, BatchNorm, dropout, LayerNorm and attention."""

    def __init__(self, seed=0, width=4):
        rngs = nnx.Rngs(params=seed, dropout=100 + seed)
        self.conv = nnx.Conv(2, width, (3, 3), 2, kernel_init=KERNELS, rngs=rngs)
        self.norm = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.layers = nnx.List([nnx.LayerNorm(width, rngs=rngs)])
        self.attention = nnx.MultiHeadAttention(2, width, rngs=rngs, decode=False)
        self.head = nnx.Linear(width, 3, bias_init=BIASES, rngs=rngs)
        self.act = jax.nn.relu
        self.calls = nnx.Variable(jnp.zeros((), jnp.int32))
        self.rngs = rngs

    def __call__(self, x):
        self.calls[...] += 1
        v = self.dropout(self.act(self.norm(self.conv(x)))).reshape(len(x), 9, -1)
        for layer in self.layers:
            v = layer(v)
        return self.head(self.attention(v).mean(axis=1))


def _loss(model, x, y):
    with jax.numpy_dtype_promotion("standard"):  # the library mixes dtypes
        return models.cross_entropy(model(x), y)


def _assert_close(found, expected, rtol=1e-6):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    found, expected = jax.device_get((found, expected))
    scale = max(np.abs(a).max() for a in jax.tree.leaves(expected))
    same = jax.tree.map(lambda a, b: np.abs(a - b).max() <= rtol * scale, found, expected)
    assert all(jax.tree.leaves(same)), same


def _mode(model, training):
    (model.train if training else model.eval)()
    return model


@pytest.mark.parametrize("training", [False, True])
def test_value_and_gradient_are_those_of_flax(training):
    model = _mode(Network(), training)
    fun, params = models.from_nnx(model, _loss)
    value, gradient = oracles.quickly_compiled(jax.value_and_grad(fun))(params, X, Y)
    theirs = nnx.jit(nnx.value_and_grad(_loss))
    expected, state = theirs(model, X, Y)
    assert value == pytest.approx(float(expected), rel=1e-6)  # float32
    _assert_close(gradient, nnx.to_pure_dict(state))
    if training:  # theirs moved the model on; ours is where it was
        assert int(model.calls[...]) == 1
        moved, _ = theirs(model, X, Y)
        assert abs(float(moved) - float(expected)) > 1e-3  # another mask


def test_the_model_and_its_state_stay_as_they_were():
    model = _mode(Network(), True)
    before = jax.tree.map(_numbers, nnx.to_pure_dict(nnx.state(model)))
    fun, params = models.from_nnx(model, _loss)
    value = oracles.quickly_compiled(lambda: (fun(params, X, Y), fun(params, X, Y)))
    first, second = value()
    assert first == second
    after = jax.tree.map(_numbers, nnx.to_pure_dict(nnx.state(model)))
    jax.tree.map(np.testing.assert_array_equal, after, before)
    again = jax.tree.map(_numbers, nnx.to_pure_dict(nnx.state(fun.model(params))))
    jax.tree.map(np.testing.assert_array_equal, again, before)


def _numbers(leaf):
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def test_parameters_are_plain_dicts_and_the_rest_is_data():
    fun, params = models.from_nnx(Network(), _loss)
    assert set(params) == {"conv", "norm", "layers", "attention", "head"}
    assert params["layers"][0]["scale"].shape == (4,)
    state = {jax.tree_util.keystr(p): a for p, a in jax.tree_util.tree_leaves_with_path(fun.state)}
    assert {"['norm']['mean']", "['calls']", "['dropout']['rngs']['key']"} <= set(state)
    assert not {id(a) for a in jax.tree.leaves(params)} & {id(a) for a in state.values()}
    integers = nnx.Linear(2, 2, rngs=nnx.Rngs(0))
    integers.bias = nnx.Param(jnp.zeros(2, jnp.int32))
    assert set(models.from_nnx(integers, _loss)[1]) == {"kernel"}


def test_fifty_losses_of_one_architecture_are_traced_once():
    traces = []

    @oracles.quickly_compiled
    def value(fun, params, x, y):
        traces.append(1)
        return fun(params, x, y)

    networks = [_mode(Network(seed), True) for seed in range(5)]
    losses = [value(*models.from_nnx(networks[k % 5], _loss), X, Y) for k in range(50)]
    assert len(traces) == 1
    assert len({float(loss) for loss in losses}) == 5
    value(*models.from_nnx(_mode(networks[0], False), _loss), X, Y)
    assert len(traces) == 2


def test_hessian_products_and_vmap_work_through_it():
    """Of tanh(w x)^2 summed: the gradient is 2 t (1 - t^2) x, the second derivative by hand."""
    layer = nnx.Linear(1, 1, use_bias=False, rngs=nnx.Rngs(0))
    fun, _ = models.from_nnx(layer, lambda model, x: jnp.sum(jnp.tanh(model(x)) ** 2))
    x = np.float32([[0.5], [-1.0], [2.0]])
    w = np.float32([[[0.3]], [[-0.7]]])

    @jax.jit
    @jax.vmap
    def product(w):
        along = {"kernel": jnp.ones((1, 1))}
        return jax.jvp(lambda p: jax.grad(fun)(p, x), ({"kernel": w},), (along,))

    gradient, second = (np.ravel(out["kernel"]) for out in product(w))
    inputs, t = np.asarray(x).ravel(), np.tanh(np.outer(np.ravel(w), x))
    slope = 1 - t**2
    np.testing.assert_allclose(gradient, (2 * t * slope * inputs).sum(1), rtol=1e-5)  # float32
    expected = ((2 * slope**2 - 4 * t**2 * slope) * inputs**2).sum(1)
    np.testing.assert_allclose(second, expected, rtol=1e-5)  # float32


def test_shared_parameters_stay_shared():
    layer = nnx.Linear(2, 2, use_bias=False, rngs=nnx.Rngs(0))
    fun, params = models.from_nnx(nnx.Sequential(layer, layer), lambda model, x: jnp.sum(model(x)))
    assert len(jax.tree.leaves(params)) == 1
    doubled = jax.tree.map(lambda p: 2 * p, params)
    ratio = fun(doubled, jnp.ones((1, 2))) / fun(params, jnp.ones((1, 2)))
    assert ratio == pytest.approx(4, rel=1e-6)  # float32


class Empty(nnx.Module):
    pass


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((3, _loss), TypeError, "model must be a flax.nnx.Module, got int"),
        ((Network, _loss), TypeError, "model must be a flax.nnx.Module, got the class Network"),
        ((Empty(), _loss), ValueError, "model must have trainable parameters"),
        ((Empty(), 3), TypeError, "loss must be callable, got 3"),
    ],
)
def test_bad_arguments_of_from_nnx_are_refused(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        models.from_nnx(*arguments)


@pytest.mark.parametrize(
    ("loss", "got"),
    [
        (lambda model, x: model(x), "float32 of shape (1, 2)"),
        (lambda model, x: (model(x).sum(), None), "tuple"),
        (lambda model, x: model(x).argmax(), "int32 of shape ()"),
        (lambda *_: None, "NoneType"),
    ],
)
def test_a_loss_that_is_no_scalar_is_refused_when_called(loss, got):
    fun, params = models.from_nnx(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), loss)
    with pytest.raises(TypeError, match=re.escape(f"got {got}; reduce it")):
        jax.jit(fun)(params, jnp.ones((1, 2)))


def test_without_flax_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "flax", None)
    with pytest.raises(ImportError, match=re.escape("pip install -e '.[flax]' in adlab's folder")):
        models.from_nnx(None, _loss)
