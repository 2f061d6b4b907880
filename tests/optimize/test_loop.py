import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from adlab import gradients, optimize, problems

PROBLEM = problems.quadratic(dim=5)
KEY = jax.random.key(3)
SGD = optax.sgd(0.1)


def _run(gradient=None, x0=PROBLEM.x0, *args, **options):
    if gradient is None:
        gradient = gradients.two_point(PROBLEM.fun, smoothing="relative")
    options = {"optimizer": SGD, "num_steps": 20, "key": KEY} | options
    return optimize.minimize(gradient, x0, *args, **options)


def _by_hand(gradient, optimizer, key, num_steps):
    @jax.jit
    def step(x, state, k):
        g = gradient(x, key=jax.random.fold_in(key, k))
        updates, state = optimizer.update(g, state, x)
        return optax.apply_updates(x, updates), state

    x = PROBLEM.x0
    state, path = optimizer.init(jax.device_put(x)), [x]
    for k in range(num_steps):
        x, state = step(x, state, k)
        path.append(np.asarray(x))
    return np.stack(path)


def _identity(x, *, key):
    del key
    return x


class Counted:
    """A quadratic that counts how often it is traced."""

    def __init__(self):
        self.traces = 0

    def __call__(self, x, *weights):
        self.traces += isinstance(x, jax.core.Tracer)
        scale = weights[0] if weights else 1.0
        return scale * jnp.sum(x * x) / 2


@pytest.mark.parametrize(
    ("optimizer", "loop", "law"),
    [
        (SGD, "fused", "sphere"),
        (SGD, "host", "rademacher"),
        (optax.adam(0.05), "fused", "rademacher"),
        (optax.adam(0.05), "host", "sphere"),
    ],
    ids=["sgd-fused", "sgd-host", "adam-fused", "adam-host"],
)
def test_it_is_the_loop_written_out(optimizer, loop, law):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):  # optax.adam needs it
        g = gradients.two_point(PROBLEM.fun, law=law, smoothing="relative")
        path = _by_hand(g, optimizer, KEY, 20)
        run = _run(g, optimizer=optimizer, loop=loop, record_at=range(21), average=("value",))
        values = np.asarray(jax.jit(jax.vmap(PROBLEM.fun))(path))
    # fused arithmetic rounds otherwise, and the difference quotient multiplies that by 1/smoothing
    np.testing.assert_allclose(run.values["value"], values, rtol=1e-8)
    np.testing.assert_allclose(run.x, path[-1], rtol=1e-8)
    means = np.cumsum(values) / np.arange(1, 22)
    np.testing.assert_allclose(run.averages["value"], means, rtol=1e-8)


def test_a_seed_is_the_single_run_on_its_key():
    runs = _run(num_seeds=3, record_at=[0, 10, 20])
    assert runs.values["value"].shape == (3, 3)
    assert runs.x.shape == (3, 5)
    for seed, key in enumerate(jax.random.split(KEY, 3)):
        alone = _run(key=key, record_at=[0, 10, 20])
        # float32 round-off times 1/smoothing
        np.testing.assert_allclose(runs.values["value"][seed], alone.values["value"], rtol=1e-4)
    assert len({float(x) for x in runs.values["value"][:, -1]}) == 3


def test_records_and_length_leave_the_path_as_it_is():
    short, long = _run(num_steps=7, record_at=[7]), _run(record_at=[0, 3, 7])
    np.testing.assert_array_equal(short.values["value"][0], long.values["value"][2])
    np.testing.assert_array_equal(long.x, _run().x)  # runs on to num_steps after the last record


def test_the_default_grid_has_both_ends_and_metrics_their_shapes():
    run = _run(num_steps=1000, metrics={"x": lambda x: x, "norm": jnp.linalg.norm})
    assert run.record_at[0] == 0
    assert run.record_at[-1] == 1000
    assert run.record_at.size <= 24
    assert run.values["x"].shape == (run.record_at.size, 5)
    np.testing.assert_array_equal(run.values["x"][0], PROBLEM.x0.astype("float32"))
    np.testing.assert_array_equal(run.values["x"][-1], run.x)


def test_the_account_counts_every_iteration():
    run = _run(
        gradients.two_point(PROBLEM.fun, num_probes=3, smoothing="relative"), record_at=[0, 5, 15]
    )
    assert run.cost == gradients.Cost(evaluations=120)
    np.testing.assert_array_equal(run.oracle_calls, [0, 30, 90])
    exact = _run(gradients.reverse_mode(PROBLEM.fun), key=None)
    assert exact.cost == gradients.Cost(vjps=20)
    with pytest.raises(ValueError, match="cost must be told"):
        _ = _run(_identity, metrics={"x": jnp.sum}).cost


def _compiled(caplog, run):
    """Return what `run` returns, and how many programs it compiled."""
    caplog.clear()
    with jax.log_compiles():
        result = run()
    return result, sum("Finished XLA" in message for message in caplog.messages)


@pytest.mark.parametrize("loop", ["fused", "host"])
def test_new_values_compile_nothing(loop, caplog):
    fun = Counted()
    optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)

    def descend(rate, smoothing, start, weight, steps):
        x0 = np.full(5, start, np.float32)
        state = optimizer.init(x0)
        state.hyperparams["learning_rate"] = np.float32(rate)
        g = gradients.two_point(fun, smoothing=smoothing)
        return _run(
            g, x0, np.float32(weight), optimizer=optimizer, opt_state=state, num_steps=steps,
            key=jax.random.key(steps), loop=loop,
        )  # fmt: skip

    first, before = _compiled(caplog, lambda: descend(0.1, 0.01, 1.0, 1.0, 20))
    traces = fun.traces
    second, after = _compiled(caplog, lambda: descend(0.2, 0.02, 2.0, 3.0, 50))
    # shapes may be asked for without compiling; the compiled code isn't made again
    assert fun.traces - traces <= 2
    assert before > 0  # else the compilations aren't seen
    assert after == 0
    assert second.values["value"][0] == pytest.approx(4 * 3 * first.values["value"][0], rel=1e-6)


def test_problems_of_one_kind_and_size_share_what_was_compiled(caplog):
    def descend(power):
        problem = problems.nonconvex_tail(dim=5, power=power)
        return _run(gradients.two_point(problem.fun), np.ones(5))

    first, before = _compiled(caplog, lambda: descend(0.2))
    second, after = _compiled(caplog, lambda: descend(0.4))
    assert before > 0  # else the compilations aren't seen
    assert after == 0
    assert first.values["value"][0] != second.values["value"][0]


def test_under_jit_and_vmap_it_is_the_same():
    def end(x0, key):
        return _run(None, x0, key=key, average=("value",), num_seeds=2)

    plain = end(PROBLEM.x0, KEY)
    jitted = jax.jit(end)(PROBLEM.x0, KEY)
    assert jitted.compile_seconds is None
    assert jitted.step_cost == plain.step_cost
    for name in ("values", "averages"):
        a, b = (getattr(run, name)["value"] for run in (plain, jitted))
        np.testing.assert_allclose(a, b, rtol=1e-4)  # float32 round-off times 1/smoothing
    starts = np.float32([[1] * 5, [2] * 5])
    mapped = jax.vmap(end, in_axes=(0, None))(starts, KEY)
    # the same
    np.testing.assert_allclose(mapped.values["value"][0], plain.values["value"], rtol=1e-4)


def test_inside_a_trace_of_constants_only():
    traced = jax.jit(lambda: _run(gradients.reverse_mode(PROBLEM.fun), record_at=[5]).x)()
    plain = _run(gradients.reverse_mode(PROBLEM.fun), record_at=[5]).x
    np.testing.assert_allclose(traced, plain, rtol=1e-6)  # float32 round-off


def test_trees_and_auxiliary_outputs():
    def fun(params, target):
        rest = jnp.sum((params["a"] - target) ** 2) + params["b"] ** 2
        return rest, {"target": target}

    x0 = {"a": np.zeros((2, 2), np.float32), "b": 1.0}
    g = gradients.reverse_mode(fun, has_aux=True)
    run = _run(g, x0, np.full((2, 2), np.float32(3)), num_steps=200, optimizer=optax.sgd(0.1))
    np.testing.assert_allclose(run.x["a"], 3, rtol=1e-5)  # 0.8^200, float32 round-off
    assert run.values["value"][0] == 37


def test_host_functions_descend_too():
    def simulator(x):
        assert isinstance(x, np.ndarray)
        return np.sum(x**2) / 2

    with jax.enable_x64(True):
        g = gradients.two_point(gradients.from_host(simulator), smoothing=1e-3)
        run = _run(g, np.ones(5), num_steps=30, num_seeds=2, record_at=[0, 30])
        traced = _run(gradients.two_point(lambda x: jnp.sum(x**2) / 2, smoothing=1e-3), np.ones(5),
                      num_steps=30, num_seeds=2, record_at=[0, 30])  # fmt: skip
    # float64 round-off times 1/smoothing
    np.testing.assert_allclose(run.values["value"], traced.values["value"], rtol=1e-9)


def _conv_loss(kernel, image):
    out = jax.lax.conv(image, kernel, (1, 1), "SAME")
    return jnp.mean(out**2)


def test_on_a_cpu_convolutions_are_driven_from_the_host(monkeypatch):
    from adlab.optimize import loop

    steps = []
    step = loop._Calls.step
    monkeypatch.setattr(
        loop._Calls, "step", lambda calls, state, k: steps.append(k) or step(calls, state, k)
    )
    kernel, image = np.ones((1, 1, 3, 3), np.float32), np.ones((1, 1, 6, 6), np.float32)
    hosted = _run(gradients.reverse_mode(_conv_loss), kernel, image, num_steps=4)
    assert steps == [0, 1, 2, 3]
    fused = _run(gradients.reverse_mode(_conv_loss), kernel, image, num_steps=4, loop="fused")
    assert len(steps) == 4
    np.testing.assert_allclose(hosted.x, fused.x, rtol=1e-5)  # float32 round-off
    _run(num_steps=4)
    assert len(steps) == 4


def test_progress_is_told_at_every_record_and_may_interrupt():
    seen = []
    run = _run(record_at=[0, 4, 20], on_progress=lambda k, values: seen.append((k, values)))
    assert [k for k, _ in seen] == [0, 4, 20]
    assert [values["value"] for _, values in seen] == list(run.values["value"])

    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _run(on_progress=interrupt)


def test_divergence_is_recorded():
    run = _run(gradients.reverse_mode(PROBLEM.fun), optimizer=optax.sgd(1e6), num_steps=50)
    assert np.isfinite(run.values["value"][0])
    assert not np.isfinite(run.values["value"][-1])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_steps": 0}, ValueError, "num_steps must be >= 1"),
        ({"num_steps": 2.5}, TypeError, "num_steps must be an integer"),
        ({"num_seeds": 0}, ValueError, "num_seeds must be >= 1"),
        ({"num_seeds": 2, "key": None}, TypeError, "minimize with num_seeds"),
        ({"key": None}, TypeError, "two_point"),
        ({"record_at": [0, 21]}, ValueError, "record_at must increase strictly within"),
        ({"record_at": [3, 3]}, ValueError, "record_at must increase strictly within"),
        ({"record_at": [0.5]}, TypeError, "record_at must be a list of integers"),
        ({"loop": "hots"}, ValueError, "did you mean 'host'"),
        ({"average": ("valu",)}, ValueError, "did you mean 'value'"),
        ({"metrics": {"value": 3}}, TypeError, "must be callable"),
        ({"optimizer": 0.1}, TypeError, "optimizer must be an optax"),
        ({"x0": np.array([np.nan] * 5)}, ValueError, "x must be finite"),
        ({"gradient": gradients.two_point(lambda x: x)}, TypeError, "fun must return"),
        ({"gradient": gradients.two_point(PROBLEM.fun, smoothing=1e-12)}, ValueError, "smoothing"),
        ({"gradient": _identity}, ValueError, "metrics must be given"),
        ({"gradient": gradients.reverse_mode(PROBLEM.fun, argnums=1)}, ValueError, "argnums must"),
        ({"gradient": 3}, TypeError, "gradient must be callable"),
    ],
)
def test_bad_arguments_are_named(options, error, message):
    with pytest.raises(error, match=message):
        _run(**options)


@pytest.mark.parametrize("option", [{"loop": "host"}, {"on_progress": print}])
def test_what_needs_python_is_refused_inside_a_trace(option):
    with pytest.raises(ValueError, match="outside of the trace"):
        jax.jit(functools.partial(_run, None, **option))(PROBLEM.x0)


@pytest.mark.parametrize(
    ("gradient", "expected"),
    [
        (gradients.reverse_mode(PROBLEM.fun), 1),
        (gradients.two_point(PROBLEM.fun), 5),
        (gradients.two_point(PROBLEM.fun, law="gaussian"), 7),
        (gradients.two_point(PROBLEM.fun, num_probes=4), 2),
    ],
)
def test_the_prescribed_step_divides_by_the_second_moment(gradient, expected):
    step = optimize.prescribed_step(problems.quadratic(dim=5, spectrum=[4.0] * 5), gradient)
    assert step == pytest.approx(1 / (4 * expected), rel=1e-14)  # round-off


def test_no_step_is_prescribed_without_a_lipschitz_gradient():
    with pytest.raises(ValueError, match=r"problem\.L must be finite"):
        optimize.prescribed_step(problems.norm(dim=2), gradients.two_point(PROBLEM.fun))


def test_an_optimiser_that_asks_for_more_than_gradients_is_refused_by_name():
    with pytest.raises(TypeError, match=r"optimizer must ask for nothing but gradients.*value"):
        _run(gradients.reverse_mode(PROBLEM.fun), optimizer=optax.lbfgs())


def test_running_means_of_bfloat16_metrics_do_not_stall():
    run = _run(
        gradients.reverse_mode(lambda x: jnp.sum((x - 1) ** 2)),
        np.full(1, 2, jnp.bfloat16),
        optimizer=optax.sgd(0.5),  # from 2 to 1 in one step
        num_steps=5000,
        metrics={"first": lambda x: x[0]},
        average=("first",),
        record_at=[5000],
    )
    mean = run.averages["first"][-1]
    assert mean == pytest.approx(1 + 1 / 5001, abs=1e-4)  # float32; bfloat16 stalls 0.06 away
