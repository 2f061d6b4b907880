"""New losses, parameters and batches of the same shapes run the programs that are compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adlab import models
from adlab.curvature import (
    Fisher,
    GaussNewton,
    Hessian,
    diagonal,
    eigenpairs,
    spectral_density,
    stacked,
    trace,
)

DIM = 6


class Counted:
    """Counts the traces of the model it is."""

    def __init__(self):
        self.traces = 0

    def __call__(self, w, x):
        self.traces += 1
        return jnp.tanh(x @ w)


def _loss(model, scale, w, x, y):
    return scale * jnp.mean((model(w, x) - y) ** 2)


def _outputs_loss(scale, outputs, y):
    return scale * jnp.mean((outputs - y) ** 2)


def _numbers(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _batches(seed):
    return [(_numbers((seed, size), size, DIM), _numbers((seed, size, 1), size)) for size in (4, 2)]


def _hessian(model, seed, *data):
    """A new loss whose array is data, at new parameters."""
    loss = jax.tree_util.Partial(_loss, jax.tree_util.Partial(model), np.float32(1 + seed))
    return Hessian(loss, jax.device_put(_numbers(seed, DIM)), *data)


def _gauss_newton(model, seed, *data):
    loss = jax.tree_util.Partial(_outputs_loss, np.float32(1 + seed))
    return GaussNewton(model, loss, jax.device_put(_numbers(seed, DIM)), *data)


def _fisher(model, seed, *data):
    options = {"kind": "monte_carlo", "key": jax.random.key(seed)}
    return Fisher(model, "gaussian", jax.device_put(_numbers(seed, DIM)), *data, **options)


BUILDERS = {"hessian": _hessian, "gauss-newton": _gauss_newton, "fisher": _fisher}


@pytest.mark.parametrize("kind", BUILDERS)
def test_fifty_operators_of_new_losses_parameters_and_data_compile_once(kind):
    model, programs = Counted(), []

    @jax.jit
    def product(operator, v):
        programs.append(1)
        return operator.matvec(v)

    v, found, traces = np.ones(DIM, np.float32), [], []
    for seed in range(50):
        x, y = _numbers((seed, 0), 3, DIM), _numbers((seed, 1), 3)
        found.append(np.asarray(product(BUILDERS[kind](model, seed, x, y), v)))
        traces.append(model.traces)
    assert len(programs) == 1
    assert set(traces) == {traces[0]}
    assert 1 <= traces[0] <= 4
    assert len({row.tobytes() for row in found}) == 50  # nothing was baked into the program
    alone = BUILDERS[kind](model, 49, x, y).matvec(v)
    np.testing.assert_allclose(found[-1], alone, rtol=2e-4, atol=1e-4)  # float32, entries to 100


def _from_nnx(seed, loss):
    nnx = pytest.importorskip("flax.nnx")
    return models.from_nnx(nnx.Linear(2, 3, rngs=nnx.Rngs(seed)), loss)


def _from_equinox(seed, loss):
    eqx = pytest.importorskip("equinox")
    return models.from_equinox(eqx.nn.Linear(2, 3, key=jax.random.key(seed)), loss)


@pytest.mark.parametrize("build", [_from_nnx, _from_equinox])
def test_fifty_models_of_other_libraries_compile_once(build):
    traces, counts, products = [], set(), set()

    def loss(model, x):
        traces.append(1)
        return jnp.mean(jnp.tanh(jax.vmap(model)(x)) ** 2)

    @jax.jit
    def product(operator):
        return operator.matvec(jax.tree.map(lambda leaf: jnp.ones(leaf.shape), operator.like))

    for seed in range(50):
        fun, params = build(seed, loss)
        found = product(Hessian(fun, params, _numbers(seed, 4, 2)))
        products.add(np.asarray(jax.tree.leaves(found)[0]).tobytes())
        counts.add(len(traces))
    assert len(counts) == 1
    assert len(products) == 50


def test_a_new_plain_function_traces_anew_as_documented():
    programs = []

    @jax.jit
    def product(operator, v):
        programs.append(1)
        return operator.matvec(v)

    x = jax.device_put(np.ones(2, np.float32))
    for factor in (1.0, 2.0):
        product(Hessian(lambda x, factor=factor: factor * jnp.sum(x**2), x), x)
    assert len(programs) == 2


ALGORITHMS = {
    "spectral_density": lambda operator, **options: (
        spectral_density(operator, num_matvecs=3, num_probes=2, **options).nodes
    ),
    "trace": lambda operator, **options: trace(operator, num_matvecs=4, **options).samples,
    "hutch++": lambda operator, **options: (
        trace(operator, num_matvecs=6, estimator="hutch++", **options).samples
    ),
    "xtrace": lambda operator, **options: (
        trace(operator, num_matvecs=6, estimator="xtrace", **options).samples
    ),
    "diagonal": lambda operator, **options: diagonal(operator, num_matvecs=4, **options).value,
    "eigenpairs": lambda operator, **options: eigenpairs(operator, **options).values,
}


@pytest.mark.parametrize(
    ("name", "loop"),
    [(name, loop) for name in ALGORITHMS for loop in ("host", "fused")],
)
def test_algorithms_called_again_run_compiled_programs(name, loop, caplog):
    model, traces, compilations, found = Counted(), [], [], []
    for seed in range(2):
        key, batches = jax.random.key(seed), _batches(seed)
        if loop == "host":
            operator = _hessian(model, seed).over(batches)
        else:
            operator = _hessian(model, seed).over(stacked(*batches[0], batch_size=2))
        caplog.clear()
        with jax.log_compiles():
            result = ALGORITHMS[name](operator, key=key, loop=loop)
            found.append(np.asarray(result).tobytes())
        traces.append(model.traces)
        compilations.append(sum("Finished XLA" in message for message in caplog.messages))
    assert traces[0] > 0
    assert compilations[0] > 0  # else the compilations aren't seen
    assert compilations[1] == 0, "new parameters and batches of the same shapes recompiled"
    assert traces[1] == traces[0], "new parameters and batches of the same shapes retraced"
    assert found[0] != found[1]
