"""Estimates for trees of more than one block: the probes aren't held, nor is anything ravelled."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from adlab.core import jaxprs, probes
from adlab.core._blocks import CAPACITY
from adlab.gradients import forward_gradient, one_sided, two_point
from adlab.optimize import minimize, zero_order_step

KEY = jax.random.key(5)
X = {"b": np.linspace(-1, 1, 30, dtype=np.float32),
     "w": np.sin(np.arange(300 * 301, dtype=np.float32)).reshape(300, 301)}  # fmt: skip
SLOPES = jax.tree.map(lambda leaf: np.cos(3 * leaf), X)
LAWS = ("sphere", "gaussian", "rademacher", "coordinate")


def linear(x):
    return sum(jnp.sum(x[name] * SLOPES[name]) for name in x)


def expected(law, num_probes, key):
    """The mean of (c . u) u over the probes that the law draws as a whole, in float64."""
    keys = [key] if num_probes == 1 else [jax.random.fold_in(key, i) for i in range(num_probes)]
    draw = oracles.quickly_compiled(lambda key: probes.resolve(law)(X, key=key))
    total = jax.tree.map(np.zeros_like, X)
    for each in keys:
        u = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), draw(each))
        slope = sum(np.sum(u[name] * SLOPES[name]) for name in u)
        total = jax.tree.map(lambda a, b, s=slope: a + s * b / num_probes, total, u)
    return total


@pytest.mark.parametrize("num_probes", [1, 3])
@pytest.mark.parametrize("law", LAWS)
def test_the_estimate_is_the_mean_of_slopes_times_probes(law, num_probes):
    g = two_point(linear, law=law, num_probes=num_probes, smoothing=0.25)
    found = oracles.quickly_compiled(lambda x, key: g(x, key=key))(X, KEY)
    exact = expected(law, num_probes, KEY)
    # A sum of 90,000 float32 numbers of size 1, over a step of 1/4; a coordinate is 300 long.
    scale = 300 if law == "coordinate" else 1
    for name in X:
        np.testing.assert_allclose(found[name], exact[name], atol=0.02 * scale, rtol=1e-3)


@pytest.mark.parametrize("chunk_size", [1, 2, 3])
def test_chunks_and_eager_calls_make_no_difference(chunk_size):
    g = two_point(linear, num_probes=3, smoothing=0.25, chunk_size=chunk_size, law="rademacher")
    found = oracles.quickly_compiled(lambda x, key: g(x, key=key))(X, KEY)
    np.testing.assert_allclose(found["w"], expected("rademacher", 3, KEY)["w"], atol=0.02)


def test_an_eager_call_evaluates_numbers():
    seen = []

    def fun(x):
        seen.append(float(jnp.sum(x["b"])))  # no trace could tell
        return linear(x)

    found = two_point(fun, law="rademacher", smoothing=0.25)(X, key=KEY)
    np.testing.assert_allclose(found["w"], expected("rademacher", 1, KEY)["w"], atol=0.02)
    assert len(seen) == 2
    assert seen[0] != seen[1]


@pytest.mark.parametrize(
    "g",
    [
        one_sided(linear, law="rademacher", smoothing=0.25),
        two_point(linear, law="rademacher", smoothing="relative"),
        two_point(linear, law="rademacher"),
        forward_gradient(linear, law="rademacher"),
    ],
    ids=["one_sided", "relative", "auto", "forward_gradient"],
)
def test_other_slopes_and_rules_agree(g):
    found = oracles.quickly_compiled(lambda x, key: g(x, key=key))(X, KEY)
    exact = expected("rademacher", 1, KEY)
    np.testing.assert_allclose(found["w"], exact["w"], rtol=0.02, atol=0.5)  # steps of 0.006


def test_half_of_the_digits_take_steps_that_are_rounded_and_accounted_for():
    x = {"w": X["w"].astype(jnp.bfloat16)}

    def fun(x):
        return jnp.sum(x["w"].astype(jnp.float32) * SLOPES["w"])

    g = two_point(fun, law="rademacher", smoothing=0.05)
    found = oracles.quickly_compiled(lambda x, key: g(x, key=key))(x, KEY)["w"]
    assert found.dtype == jnp.bfloat16
    u = np.asarray(probes.rademacher(x, key=KEY)["w"], np.float64)
    ends = [np.asarray(jnp.asarray(x["w"].astype(np.float32) + s * 0.05 * u, jnp.bfloat16), float)
            for s in (1, -1)]  # fmt: skip
    rise = np.sum((ends[0] - ends[1]) * SLOPES["w"])
    slope = rise / (np.sum((ends[0] - ends[1]) * u) / u.size)
    np.testing.assert_allclose(np.asarray(found, float), slope * u, rtol=0.02)


def test_no_large_leaf_is_ravelled_or_concatenated():
    for law in LAWS:
        for g in (
            two_point(linear, law=law, smoothing=0.25, num_probes=2),
            one_sided(linear, law=law),
        ):
            program = jax.make_jaxpr(lambda x, key, g=g: g(x, key=key))(X, KEY)
            for eqn in jaxprs.equations(program.jaxpr):
                if eqn.primitive.name not in ("concatenate", "reshape", "ravel"):
                    continue
                sizes = [np.prod(getattr(v.aval, "shape", ())) for v in eqn.invars]
                floats = all(jnp.issubdtype(v.aval.dtype, jnp.floating) for v in eqn.invars)
                assert not floats or max(sizes) <= CAPACITY, eqn


WEIGHTS = jax.ShapeDtypeStruct((8, 512, 512), jnp.float32)
INPUTS = jax.ShapeDtypeStruct((8, 512), jnp.float32)


def network(weights, inputs):
    def layer(h, w):
        return jnp.tanh(h @ w), None

    return jnp.mean(jax.lax.scan(layer, inputs, weights)[0].astype(jnp.float32) ** 2)


def beyond(lowered, dtype):
    """Temporaries beyond those of inference, over the bytes of the parameters."""
    weights, inputs = (jax.ShapeDtypeStruct(a.shape, dtype) for a in (WEIGHTS, INPUTS))
    own = jax.jit(network).lower(weights, inputs).compile().memory_analysis().temp_size_in_bytes
    taken = lowered(weights, inputs).compile().memory_analysis().temp_size_in_bytes
    return (taken - own) / (WEIGHTS.size * dtype.itemsize)


@pytest.mark.parametrize(
    ("law", "num_probes", "dtype"),
    [("rademacher", 4, "float32"), ("sphere", 1, "bfloat16"), ("gaussian", 4, "float32"),
     ("coordinate", 1, "float32")],
)  # fmt: skip
def test_an_estimate_takes_the_memory_of_its_own_result(law, num_probes, dtype):
    g = two_point(network, law=law, num_probes=num_probes, smoothing=1e-3)
    program = jax.jit(lambda w, x, key: g(w, x, key=key))
    # The point lies where the gradient will be; the rest are blocks, of 65,536 of 2 M numbers.
    assert beyond(lambda w, x: program.lower(w, x, KEY), jnp.dtype(dtype)) <= 0.3


@pytest.mark.parametrize(
    ("optimizer", "in_place", "most"),
    [(1e-3, False, 1.3), (optax.sgd(1e-3), False, 1.3), (1e-3, True, 0.3)],
)
def test_a_step_takes_one_copy_or_none(optimizer, in_place, most):
    g = two_point(network, law="rademacher", smoothing=1e-3)
    step = zero_order_step(g, optimizer, in_place=in_place)
    state = optimizer.init(WEIGHTS) if hasattr(optimizer, "init") else None
    found = beyond(lambda w, x: step.lower(w, state, x, key=KEY), jnp.dtype("float32"))
    assert found <= most


@pytest.mark.parametrize("num_probes", [1, 2])
@pytest.mark.parametrize("in_place", [False, True])
def test_descent_goes_to_x_less_the_step_times_the_estimate(in_place, num_probes):
    g = two_point(linear, law="sphere", num_probes=num_probes, smoothing=0.25)

    @oracles.quickly_compiled
    def moved(x, key):
        return g.descend(x, step_size=1e-3, key=key, in_place=in_place), g(x, key=key)

    there, gradient = moved(X, KEY)
    for name in X:  # a rounding of x, and of x + h u, per move
        exact = X[name] - 1e-3 * np.asarray(gradient[name])
        np.testing.assert_allclose(there[name], exact, atol=3e-6)


def test_x_that_is_moved_there_and_back_drifts_within_its_bound():
    g = two_point(lambda x: 0.0 * jnp.sum(x["b"]), law="gaussian", smoothing=0.01)
    steps = 100

    @oracles.quickly_compiled
    def wandered(x):
        def one(k, x):
            return g.descend(x, step_size=1.0, key=jax.random.fold_in(KEY, k), in_place=True)

        return jax.lax.fori_loop(0, steps, one, x)

    end = wandered(X)
    for name in X:
        drift = np.abs(np.asarray(end[name], np.float64) - X[name])
        unit = np.spacing(np.abs(X[name]) + np.float32(0.06)).astype(np.float64)  # 6 h
        assert np.all(drift <= 1.5 * steps * unit)
        assert 0 < np.mean(drift) <= 3 * np.sqrt(steps) * np.mean(unit)


@pytest.mark.parametrize(
    ("g", "error", "words"),
    [
        (one_sided(linear, smoothing=0.1), ValueError, "only two_point moves x"),
        (two_point(linear, smoothing=0.1, law="orthogonal"), ValueError, "drawn block by block"),
        (two_point(linear, smoothing=0.1), TypeError, "draws random probes"),
    ],
)
def test_what_cannot_be_moved_in_place_is_told(g, error, words):
    key = None if error is TypeError else KEY
    with pytest.raises(error, match=words):
        g.descend(X, step_size=0.1, key=key, in_place=True)


@pytest.mark.parametrize(
    ("optimizer", "options", "error", "words"),
    [
        (optax.sgd(0.1), {"in_place": True}, ValueError, "in_place must be False with an opt"),
        ("sgd", {}, TypeError, "must be a number or an optax optimiser, got 'sgd'"),
        (-0.1, {}, ValueError, "optimizer must be"),
    ],
)
def test_a_step_takes_a_number_or_an_optimiser(optimizer, options, error, words):
    with pytest.raises(error, match=words):
        zero_order_step(two_point(linear), optimizer, **options)


def test_steps_in_a_row_are_the_descent_of_minimize():
    def fun(x):
        return jnp.sum(x**2)

    g, x0 = two_point(fun, smoothing=0.1, law="rademacher"), np.ones(5, np.float32)
    run = minimize(g, x0, optimizer=optax.sgd(0.01), num_steps=25, key=KEY, record_at=[0, 25])
    for optimizer in (0.01, optax.sgd(0.01)):
        step = zero_order_step(g, optimizer)
        x, state = jnp.array(x0), optax.sgd(0.01).init(x0)
        for k in range(25):
            x, state = step(x, state, key=jax.random.fold_in(KEY, k))
        np.testing.assert_allclose(x, run.x, rtol=1e-5)  # float32 round-off


@pytest.mark.parametrize("num_probes", [1, 3])
@pytest.mark.parametrize("law", LAWS)
def test_words_drawn_beforehand_give_the_gradients_of_their_keys(law, num_probes):
    def fun(x):
        return jnp.sum(jnp.sin(x))

    x, keys = np.linspace(0, 1, 40, dtype=np.float32), jax.random.split(KEY, 3)
    g = two_point(fun, law=law, num_probes=num_probes, smoothing=0.1)

    @oracles.quickly_compiled
    def both(x, keys):
        prepared = jax.vmap(lambda p: g(x, key=p))(g.prepare(x, key=keys))
        return prepared, jax.vmap(lambda key: g(x, key=key))(keys)

    prepared, plain = both(x, keys)
    np.testing.assert_allclose(prepared, plain, rtol=1e-5, atol=1e-6)  # roundings of one program


def test_what_gains_nothing_is_the_keys_and_words_for_another_estimate_are_refused():
    g = two_point(lambda x: jnp.sum(x**2), smoothing=0.1, law="rademacher")
    keys, other = jax.random.split(KEY, 4), jax.random.split(jax.random.key(0, impl="rbg"), 4)
    assert g.prepare(X, key=keys) is keys  # more than a block
    small = np.ones(5, np.float32)
    assert g.prepare(small, key=other) is other
    words = jax.tree.map(lambda leaf: leaf[0], g.prepare(small, key=keys))
    with pytest.raises(ValueError, match=r"key must be prepared for this law.*6 numbers.*got one"):
        g(np.ones(6, np.float32), key=words)


def test_devices_that_share_out_x_give_the_estimate_of_one():
    x = np.sin(np.arange(512 * 512, dtype=np.float32)).reshape(512, 512)

    def fun(x):
        return jnp.sum(jnp.sin(x))

    g = two_point(fun, law="rademacher", smoothing=0.25)
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    shared = g(jax.device_put(x, NamedSharding(mesh, P("a", "b"))), key=KEY)
    assert shared.sharding.spec == P("a", "b")
    np.testing.assert_allclose(shared, g(x, key=KEY), rtol=2e-3)  # sums in another order


def test_a_layout_that_is_told_needs_no_parameter_of_another_device():
    x = np.sin(np.arange(512 * 512, dtype=np.float32)).reshape(512, 512)
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    sharding = NamedSharding(mesh, P("a", "b"))
    placed = jax.device_put(x, sharding)
    g = two_point(lambda x: jnp.sum(jnp.sin(x)), law="rademacher", smoothing=0.25)
    known = g.on(sharding)

    def program(g):
        return oracles.quickly_compiled(lambda x, key: g(x, key=key)).lower(placed, KEY).compile()

    plain, told = program(g), program(known)
    assert " all-gather" in plain.as_text()
    assert " all-gather" not in told.as_text()
    assert told(placed, KEY).sharding.spec == P("a", "b")
    np.testing.assert_allclose(told(placed, KEY), plain(placed, KEY), rtol=2e-3)
    descent = oracles.quickly_compiled(
        lambda x, key: known.descend(x, step_size=0.1, key=key, in_place=True)
    )
    assert " all-gather" not in descent.lower(placed, KEY).compile().as_text()


def test_a_layout_has_the_structure_of_x_and_is_a_named_one():
    mesh = jax.make_mesh((8,), ("a",), axis_types=(AxisType.Auto,))
    whole = NamedSharding(mesh, P())
    g = two_point(linear, law="rademacher", smoothing=0.25)
    with pytest.raises(TypeError, match="shardings must be NamedShardings, got 'data'"):
        g.on({"w": "data"})
    with pytest.raises(ValueError, match="shardings must be a tree like x"):
        g.on({"w": whole})(X, key=KEY)


@pytest.mark.parametrize("factory", [two_point, forward_gradient])
def test_generators_that_draw_otherwise_together_draw_one_probe_at_a_time(factory):
    options = {} if factory is forward_gradient else {"smoothing": 0.25}
    g = factory(linear, law="rademacher", num_probes=3, chunk_size=3, **options)
    found = oracles.quickly_compiled(lambda x, key: g(x, key=key))(X, jax.random.key(1, impl="rbg"))
    size, square = 300 * 301 + 30, sum(np.sum(leaf**2) for leaf in SLOPES.values())
    # Of slopes s_i the mean of s_i u_i has the product mean s_i^2 with the gradient: positive, and
    # its own square is at most that times the dimension.
    along = sum(np.sum(np.asarray(found[name]) * SLOPES[name]) for name in X)
    own = sum(np.sum(np.asarray(leaf, np.float64) ** 2) for leaf in found.values())
    assert along > 0
    np.testing.assert_allclose(own, along * size / 3, rtol=0.05)  # three nearly orthogonal probes
    assert along < 20 * square


def test_numbers_below_the_normal_ones_of_half_precision_stay():
    x = np.full(70_000, 5e-5, np.float16)
    g = two_point(lambda x: 0.0 * jnp.sum(x.astype(jnp.float32)), law="coordinate", smoothing=1e-4)
    end = oracles.quickly_compiled(
        lambda x: g.descend(x, step_size=1e-6, key=KEY, in_place=True)
    )(x)  # fmt: skip
    assert np.sum(np.asarray(end) != x) <= 1


@pytest.mark.parametrize(
    ("size", "error"),
    [(np.array([0.1, 0.2]), TypeError), ("a", TypeError), (None, TypeError), (-1.0, ValueError),
     (float("nan"), ValueError)],
)  # fmt: skip
def test_a_step_size_is_one_positive_number(size, error):
    with pytest.raises(error, match="step_size must be"):
        two_point(linear, smoothing=0.1).descend(X, step_size=size, key=KEY)


def test_a_step_size_that_is_traced_is_one_number_too():
    g = two_point(linear, smoothing=0.1)
    with pytest.raises(TypeError, match="step_size must be one real number"):
        jax.eval_shape(lambda size: g.descend(X, step_size=size, key=KEY), np.ones(2, np.float32))


def test_step_sizes_are_numbers_of_any_kind():
    g, x = two_point(lambda x: jnp.sum(x), smoothing=0.5), np.zeros(3, np.float32)
    by_integer, by_float = (g.descend(x, step_size=s, key=KEY) for s in (np.uint8(1), 1.0))
    np.testing.assert_array_equal(by_integer, by_float)


def test_several_prepared_keys_are_no_key():
    g, x = two_point(lambda x: jnp.sum(x), smoothing=0.5), np.zeros(3, np.float32)
    with pytest.raises(ValueError, match="one of those that were prepared, got 4 of them"):
        g(x, key=g.prepare(x, key=jax.random.split(KEY, 4)))


def test_a_step_is_that_of_a_gradient_of_ours():
    with pytest.raises(TypeError, match="gradient must be a GradientFn"):
        zero_order_step(linear, 0.1)


def test_trees_of_billions_of_numbers_are_traced():
    x = [jax.ShapeDtypeStruct((1500, 1000, 1000), jnp.float32)] * 2

    def fun(x):
        return jnp.sum(x[0][0]) + jnp.sum(x[1][0])

    for options in ({"smoothing": 0.1}, {"smoothing": "relative", "law": "rademacher"}):
        found = jax.eval_shape(lambda x, o=options: two_point(fun, **o)(x, key=KEY), x)
        assert found[1].shape == x[1].shape
    with pytest.raises(ValueError, match="fewer than"):
        jax.eval_shape(lambda x: two_point(fun, smoothing=0.1, law="coordinate")(x, key=KEY), x)


def test_parts_of_devices_that_no_tile_divides_are_left_to_the_compiler():
    mesh = jax.make_mesh((8,), ("a",), axis_types=(AxisType.Auto,))
    x = np.sin(np.arange(80_000, dtype=np.float32))
    g = two_point(lambda x: jnp.sum(jnp.sin(x)), law="rademacher", smoothing=0.25)
    shared = g(jax.device_put(x, NamedSharding(mesh, P("a"))), key=KEY)
    np.testing.assert_allclose(shared, g(x, key=KEY), rtol=2e-3)
