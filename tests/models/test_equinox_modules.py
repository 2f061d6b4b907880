import copy
import functools
import pickle
import re
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adlab import curvature, models
from tests import oracles

X = np.random.default_rng(0).standard_normal((4, 2, 6, 6)).astype(np.float32)
Y = np.array([0, 2, 1, 1])
POOL = functools.partial(jnp.mean, axis=0)


class Network(eqx.Module):
    """Convolution, BatchNorm, dropout, LayerNorm and attention."""

    conv: eqx.nn.Conv2d
    norm: eqx.nn.BatchNorm
    layers: list
    head: eqx.nn.MLP
    dropout: eqx.nn.Dropout
    offset: jax.Array
    pool: object = eqx.field(static=True)

    def __init__(self, seed, width=4):
        keys = jax.random.split(jax.random.key(seed), 3)
        self.conv = eqx.nn.Conv2d(2, width, 3, 2, 1, key=keys[0])
        self.norm = eqx.nn.BatchNorm(width, "batch", mode="batch")
        attention = eqx.nn.MultiheadAttention(2, width, key=keys[1])
        self.layers = [eqx.nn.LayerNorm(width), attention]
        self.head = eqx.nn.MLP(width, 3, 5, 1, jnp.tanh, key=keys[2])
        self.dropout = eqx.nn.Dropout(0.5)
        self.offset = jnp.asarray(seed, jnp.int32)
        self.pool = POOL

    def __call__(self, x, key, *, state):
        v, state = self.norm(self.conv(x), state)
        v = self.dropout(v, key=key).reshape(len(v), -1).T
        v = jax.vmap(self.layers[0])(v)
        v = self.layers[1](v, v, v)
        return self.head(self.pool(v)) + self.offset.astype(x.dtype), state


def _network(seed=0, training=True, width=4):
    model, state = eqx.nn.make_with_state(Network)(seed, width)
    if not training:  # running averages other than those at the start
        index = model.norm.batch_state_index
        state = state.set(
            index, tuple(jax.device_put(np.full(width, v, np.float32)) for v in (0.2, 1.7))
        )
        state = state.set(model.norm.batch_counter, jnp.array(1))
    return eqx.nn.inference_mode(eqx.Partial(model, state=state), value=not training)


def _loss(model, x, y, key):
    images = jax.vmap(model, axis_name="batch", in_axes=(0, 0), out_axes=(0, None))
    with jax.numpy_dtype_promotion("standard"):  # the library mixes dtypes
        logits, _ = images(x, jax.random.split(key, len(x)))
    return models.cross_entropy(logits, y)


def _located(tree):
    return {jax.tree_util.keystr(p): a for p, a in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize("training", [False, True])
def test_value_and_gradient_are_those_of_equinox(training):
    model = _network(training=training)
    fun, params = models.from_equinox(model, _loss)
    batch = X, Y, jax.random.key(5)
    value, gradient = oracles.quickly_compiled(jax.value_and_grad(fun))(params, *batch)
    arrays, static = eqx.partition(model, eqx.is_array)
    expected, theirs = oracles.quickly_compiled(
        lambda arrays: eqx.filter_value_and_grad(_loss)(eqx.combine(arrays, static), *batch)
    )(arrays)
    assert value == pytest.approx(float(expected), rel=1e-6)  # float32
    ours, theirs = jax.device_get((_located(gradient["func"]), _located(theirs.func)))
    theirs = {re.sub(r"\.(\w+)", r"['\1']", path): leaf for path, leaf in theirs.items()}
    assert set(ours) == set(theirs)
    scale = max(np.abs(a).max() for a in theirs.values())
    for path, leaf in theirs.items():
        assert np.abs(ours[path] - leaf).max() <= 1e-6 * scale  # float32


def test_parameters_are_plain_dicts_and_the_rest_is_data():
    model = _network(training=False)
    fun, params = models.from_equinox(model, _loss)
    assert set(params) == {"func"}
    assert set(params["func"]) == {"conv", "norm", "layers", "head"}
    assert params["func"]["layers"][0]["weight"].shape == (4,)
    means = [a for a in jax.tree.leaves(fun.state) if a.shape == (4,)]
    assert len(means) == 2  # running averages of mean and variance
    assert any(a.dtype == np.int32 and a.shape == () for a in fun.state)
    again = fun.model(params)
    assert jax.tree.structure(again) == jax.tree.structure(model)
    for found, leaf in zip(jax.tree.leaves(again), jax.tree.leaves(model), strict=True):
        assert found is leaf


def test_fifty_losses_of_one_architecture_are_traced_once():
    traces = []

    @oracles.quickly_compiled
    def value(fun, params, *batch):
        traces.append(1)
        return fun(params, *batch)

    batch = X, Y, jax.random.key(5)
    networks = [_network(seed) for seed in range(5)]
    losses = [value(*models.from_equinox(networks[k % 5], _loss), *batch) for k in range(50)]
    assert len(traces) == 1
    assert len({float(loss) for loss in losses}) == 5
    value(*models.from_equinox(eqx.nn.inference_mode(networks[0]), _loss), *batch)
    assert len(traces) == 2


def test_a_loss_may_hold_arrays_as_data():
    traces = []

    @jax.jit
    def value(fun, params, x):
        traces.append(1)
        return fun(params, x)

    def loss(weight, model, x):
        return weight * jnp.sum(model(x))

    layer = eqx.nn.Linear(2, 1, key=jax.random.key(0))
    weighted = [jax.tree_util.Partial(loss, jnp.float32(w)) for w in (1.0, 3.0)]
    one, three = (value(*models.from_equinox(layer, w), jnp.ones(2)) for w in weighted)
    assert len(traces) == 1
    assert three == pytest.approx(3 * float(one), rel=1e-6)  # float32


def _square(model, x):
    return jnp.sum(model(x) ** 2)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda fun: pickle.loads(pickle.dumps(fun))], ids=["copy", "pickle"]
)
def test_copies_compute_the_same(copied):
    layer = eqx.nn.Linear(2, 1, key=jax.random.key(0))
    fun, params = models.from_equinox(layer, _square)
    again = copied(fun)
    assert again(params, jnp.ones(2)) == fun(params, jnp.ones(2))
    assert again.structure == fun.structure


def test_a_module_with_a_function_among_its_arrays_is_refused_as_a_loss():
    mlp = eqx.nn.MLP(2, 1, 2, 1, key=jax.random.key(0))
    with pytest.raises(TypeError, match=r"among arrays; .*models\.from_equinox, or .*partition"):
        curvature.Hessian(mlp, jnp.ones(2))
    layer = eqx.nn.Linear(2, "scalar", key=jax.random.key(0))
    np.testing.assert_array_equal(curvature.Hessian(layer, jnp.ones(2)).matvec(jnp.ones(2)), 0)


class Empty(eqx.Module):
    count: jax.Array


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((jnp.tanh, _loss), TypeError, "model must be an equinox.Module, got"),
        ((Network, _loss), TypeError, "model must be an equinox.Module, got the class Network"),
        ((Empty(np.zeros(3, np.int32)), _loss), ValueError, "got none in Empty"),
        ((Empty(np.zeros(3, np.int32)), 3), TypeError, "loss must be callable, got 3"),
    ],
)
def test_bad_arguments_of_from_equinox_are_refused(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        models.from_equinox(*arguments)


def test_a_loss_that_is_no_scalar_is_refused_when_called():
    layer = eqx.nn.Linear(2, 3, key=jax.random.key(0))
    fun, params = models.from_equinox(layer, lambda model, x: model(x))
    with pytest.raises(TypeError, match=re.escape("got float32 of shape (3,); reduce it")):
        jax.grad(fun)(params, jnp.ones(2))


def test_without_equinox_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "equinox", None)
    with pytest.raises(
        ImportError, match=re.escape("pip install -e '.[equinox]' in adlab's folder")
    ):
        models.from_equinox(None, _loss)


def test_importing_the_models_imports_no_other_library():
    program = "import sys, adlab.models; print({'flax', 'equinox'} & set(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout == "set()\n"


@pytest.mark.parametrize(("one", "other"), [(1, True), (1, 1.0), (0.0, -0.0)])
def test_leaves_that_differ_in_kind_or_sign_alone_are_not_taken_for_each_other(one, other):
    def structure(leaf):
        model = eqx.Partial(eqx.nn.Linear(1, 1, key=jax.random.key(0)), leaf)
        return models.from_equinox(model, _square)[0].structure

    assert structure(one) == structure(one)
    assert hash(structure(one)) == hash(structure(one))
    assert structure(one) != structure(other)


def test_functions_of_a_model_count_by_identity_as_documented():
    def structure(activation):
        model = eqx.nn.MLP(1, 1, 2, 1, activation, key=jax.random.key(0))
        return models.from_equinox(model, _square)[0].structure

    assert structure(jnp.tanh) == structure(jnp.tanh)
    assert structure(lambda x: jnp.tanh(x)) != structure(lambda x: jnp.tanh(x))
