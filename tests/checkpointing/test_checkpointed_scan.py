"""Gradients, memory and recomputation of `checkpointed_scan`, beside the plain scan."""

import collections
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from adlab.checkpointing import (
    Advance,
    Backward,
    Restore,
    Store,
    binomial,
    checkpointed_chain,
    checkpointed_scan,
    every,
    optimal,
    sqrt,
    store_all,
)
from adlab.curvature import hvp

SCHEDULES = {
    "binomial(1)": binomial(1),
    "binomial(3)": binomial(3),
    "sqrt": sqrt(),
    "every(2)": every(2),
    "store_all": store_all(),
    "optimal": optimal([1] * 7, [1] * 7, 2),
}
LENGTH = 7
ROUNDING = 2e-6  # float32, a few sums of 7 steps in another order
EVERY = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


def with_schedule(schedule):
    return lambda body, init, xs=None, length=None: checkpointed_scan(
        body, init, xs, schedule=schedule, length=length
    )


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def close(got, expected, rtol=ROUNDING, name=""):
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        scale = np.max(np.abs(np.asarray(b, np.float64)), initial=1e-30)
        np.testing.assert_allclose(
            np.asarray(a, np.float64) / scale, np.asarray(b, np.float64) / scale, atol=rtol, rtol=0,
            err_msg=name,
        )  # fmt: skip


def mlp(scan):
    """A residual network; the derivatives are of all weights, which are xs, and of the input."""

    def loss(weights, x):
        def step(h, w):
            return h + jnp.tanh(h @ w["kernel"] + w["bias"]), None

        return jnp.sum(scan(step, x, weights)[0] ** 2)

    weights = {
        "kernel": np.float32(0.3) * numbers(LENGTH, 4, 4),
        "bias": numbers(LENGTH, 4, seed=1),
    }
    return loss, (weights, numbers(2, 4, seed=2))


def ode(scan):
    """Runge-Kutta steps of a pendulum: a pytree as the carry, a closed-over traced constant."""

    def loss(start, stiffness):
        def field(state):
            return {"angle": state["speed"], "speed": -stiffness * jnp.sin(state["angle"])}

        def step(state, _):
            middle = jax.tree.map(lambda s, f: s + 0.05 * f, state, field(state))
            after = jax.tree.map(lambda s, f: s + 0.1 * f, state, field(middle))
            return after, after["angle"] ** 2

        end, angles = scan(step, start, length=LENGTH)
        return jnp.sum(angles * jnp.arange(1.0, LENGTH + 1)) + end["speed"]

    return loss, ({"angle": jnp.float32(1.0), "speed": jnp.float32(-0.3)}, jnp.float32(2.0))


def embedding(scan):
    """Integers among the xs, some of them unused in places; integer and float ys."""

    def loss(table, x):
        def step(h, item):
            token, (gate,) = item
            h = h * gate + table[token]
            return h, (token + 1, jnp.sum(h**3))

        end, (after, cubes) = scan(step, x, (tokens, (gates,)))
        return jnp.sum(end * x) + jnp.sum(cubes * after.astype(cubes.dtype))

    tokens = np.array([0, 2, 1, 1, 0, 2, 2], np.int32)
    gates = 1 / (2 + np.arange(7, dtype=np.float32))
    return loss, (numbers(3, 4), numbers(4, seed=1))


MODELS = {"mlp": mlp, "ode": ode, "embedding": embedding}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS.keys())
def test_values_and_gradients_are_those_of_the_plain_scan(model):
    scans = {"plain": lax.scan} | {name: with_schedule(one) for name, one in SCHEDULES.items()}
    built = {name: model(scan) for name, scan in scans.items()}
    _, args = built["plain"]

    @jax.jit
    def all_at_once(*args):
        return {
            name: jax.value_and_grad(loss, argnums=(0, 1))(*args)
            for name, (loss, _) in built.items()
        }

    found = all_at_once(*args)
    for name in SCHEDULES:
        close(found[name], found["plain"], name=name)


def test_gradients_of_a_linear_chain_are_exact():
    # Small integers, so that nothing is rounded: the products on either side of each matrix.
    weights = np.random.default_rng(0).integers(-1, 2, (LENGTH, 4, 4))
    left, right = [np.ones((1, 4), int)], [np.ones((4, 1), int)]
    for k in range(LENGTH):
        left.append(left[-1] @ weights[k])
        right.append(weights[-1 - k] @ right[-1])
    expected = np.stack([left[k].T @ right[-2 - k].T for k in range(LENGTH)])

    def loss(weights, schedule):
        def step(h, w):
            return h @ w, None

        return jnp.sum(checkpointed_scan(step, jnp.ones((1, 4)), weights, schedule=schedule)[0])

    @jax.jit
    def gradients(weights):
        return {name: jax.grad(loss)(weights, one) for name, one in SCHEDULES.items()}

    for name, found in gradients(weights.astype(np.float32)).items():
        np.testing.assert_array_equal(found, expected, err_msg=name)


def test_gradients_against_the_product_rule():
    # d/dx of x prod sin(t) is prod sin(t), for any x.
    def loss(x):
        def step(c, t):
            return c * jnp.sin(t), None

        return checkpointed_scan(step, x, times, schedule=binomial(2))[0]

    times = np.arange(1, 9, dtype=np.float32)
    expected = np.prod(np.sin(np.arange(1.0, 9.0)))
    assert float(jax.grad(loss)(jnp.float32(3.0))) == pytest.approx(expected, rel=1e-6)  # float32


@settings(max_examples=8)
@given(st.integers(1, 14), st.integers(1, 6))
def test_any_length_and_any_slots(length, slots):
    def gradients(scan, x, xs):
        def loss(x, xs):
            end, ys = scan(lambda c, t: (jnp.sin(c * t), c[0] * t[1]), x, xs)
            return jnp.sum(end) + jnp.sum(ys**2)

        return jax.grad(loss, argnums=(0, 1))(x, xs)

    scans = (with_schedule(binomial(slots)), lax.scan)
    both = oracles.quickly_compiled(lambda *args: [gradients(scan, *args) for scan in scans])
    close(*both(numbers(2), 1 + np.float32(0.1) * numbers(length, 2, seed=length)))


def test_under_vmap_and_nested_in_gradients_and_jit():
    def penalty(scan):
        loss, args = mlp(scan)

        def outer(scale):
            inner = jax.jit(lambda x: loss(jax.tree.map(lambda w: w * scale, args[0]), x))
            return jnp.sum(inner(args[1] * scale) * jnp.sin(scale))

        return outer

    ours, plainly = (penalty(scan) for scan in (with_schedule(binomial(2)), lax.scan))

    @jax.jit
    def nested(scales):
        summed = jax.grad(lambda s: jnp.sum(jax.vmap(ours)(s)))(scales)
        each = jax.vmap(jax.grad(jax.jit(ours)))(scales)
        return jax.vmap(jax.grad(plainly))(scales), summed, each

    expected, *several = nested(np.linspace(0.2, 1.0, 3, dtype=np.float32))
    for found in several:
        close(found, expected)


def test_hessian_products_forward_over_reverse():
    losses = [mlp(scan)[0] for scan in (lax.scan, with_schedule(binomial(2)))]
    _, (weights, x) = mlp(lax.scan)
    v = jax.tree.map(lambda w: numbers(*w.shape, seed=5), weights)
    products = [hvp(loss, mode="forward_over_reverse") for loss in losses]
    plain, found = jax.jit(lambda *args: [product(*args) for product in products])(v, weights, x)
    close(found, plain, rtol=5e-6)  # twice as many steps of rounding


@EVERY
def test_each_step_is_computed_as_often_as_the_schedule_says(schedule):
    calls = collections.Counter()

    def step(carry, index):
        jax.debug.callback(lambda k: calls.update([int(k)]), index)
        return jnp.sin(carry), None

    grad = jax.jit(
        jax.grad(lambda x: checkpointed_scan(step, x, jnp.arange(7), schedule=schedule)[0])
    )
    jax.block_until_ready(grad(jnp.float32(0.5)))
    jax.effects_barrier()
    # Forward pass; again; and once more within each backward step.
    assert calls.total() == LENGTH + schedule.extra_forward_steps(LENGTH) + LENGTH
    assert min(calls.values()) >= 2


@functools.cache
def temporary_bytes(schedule=None, layers=64, width=64, batch=32):
    """Return the temporary memory of the gradient of a chain; None stands for the plain scan."""
    scan = with_schedule(schedule) if schedule else lax.scan
    weights = jax.ShapeDtypeStruct((layers, width, width), jnp.float32)
    x = jax.ShapeDtypeStruct((batch, width), jnp.float32)

    def loss(weights, x):
        return jnp.sum(scan(lambda h, w: (jnp.tanh(h @ w), None), x, weights)[0])

    compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(weights, x).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("schedule", [binomial(5), binomial(10), sqrt(), store_all()])
def test_memory_is_what_the_schedule_says(schedule):
    slots, state, weights = schedule.slots(64), 4 * 32 * 64, 4 * 64 * 64
    found = temporary_bytes(schedule)
    assert found - temporary_bytes(binomial(2)) == pytest.approx((slots - 2) * state, rel=0.15)
    # Beside the slots: a few states (current, its successor, cotangents), and one step's weights.
    assert found == pytest.approx(slots * state + 4 * state + 2 * weights, rel=0.15)


def test_the_plain_scan_takes_the_memory_of_all_states():
    assert temporary_bytes() > 60 * 4 * 32 * 64
    assert temporary_bytes(binomial(5)) < temporary_bytes() / 4


def test_states_in_half_precision_stay_so():
    def loss(scan, x, w):
        return jnp.sum(scan(lambda c, t: (jnp.tanh(c * t), c), x, w)[1].astype(jnp.float32))

    x, w = numbers(4).astype(jnp.bfloat16), numbers(9, 4, seed=1).astype(jnp.bfloat16)

    @jax.jit
    def both(x, w):
        gradient = jax.grad(loss, argnums=(1, 2))
        return [gradient(scan, x, w) for scan in (lax.scan, with_schedule(binomial(3)))]

    expected, found = both(x, w)
    close(found, expected, rtol=2**-7)  # one unit of bfloat16's last place


# In bfloat16 256 + 1 is 256: a sum of cotangents that begins with the last step loses the others.
FACTORS = np.array([1.0, 1.0, 1.0, 1.0, 256.0, 0.0, 0.0], jnp.bfloat16)


@pytest.mark.parametrize("place", ["closed over", "in the carry"])
def test_cotangents_of_16_bit_weights_are_summed_in_32(place):
    def loss(weight, schedule):
        def closed_over(carry, factor):
            return carry + factor * weight, None

        def in_the_carry(carry, factor):
            total, weight = carry
            return (total + (factor * weight).astype(total.dtype), weight), weight * factor

        if place == "closed over":
            return checkpointed_scan(closed_over, weight * 0, FACTORS, schedule=schedule)[0]
        start = (jnp.float32(0.0), weight)
        (total, last), ys = checkpointed_scan(in_the_carry, start, FACTORS, schedule=schedule)
        return (total + jnp.sum(ys.astype(total.dtype)) + last.astype(total.dtype)) / 3

    def sums(weight):
        return {name: jax.grad(loss)(weight, which) for name, which in SCHEDULES.items()}

    # 260, or a third of 521, which bfloat16 rounds by half of 2^-8 at the most
    right, error = (260, 0) if place == "closed over" else (521 / 3, 2**-8)
    for found in jax.jit(sums)(jnp.bfloat16(1.0)).values():
        assert found.dtype == jnp.bfloat16
        np.testing.assert_allclose(np.float32(found), right, rtol=error)


def test_hessian_products_of_16_bit_weights():
    def loss(weight):
        body = lambda carry, factor: (carry + factor * weight**2, None)  # noqa: E731
        return checkpointed_scan(body, weight * 0, FACTORS, schedule=sqrt())[0]

    product = jax.jit(lambda w: hvp(loss)(w, w))(jnp.bfloat16(1.0))
    assert product.dtype == jnp.bfloat16
    assert float(product) == 520.0  # 2 (256 + 4), a bfloat16


def _on_devices(axis_type):
    return jax.make_mesh((2,), ("i",), devices=jax.devices()[:2], axis_types=(axis_type,))


def test_states_lie_where_they_came_from():
    """On a mesh with explicit axes, and on the devices of `jax.shard_map`."""

    def loss(x):
        body = lambda carry, factor: (jnp.sin(carry * factor), None)  # noqa: E731
        end = checkpointed_scan(body, x, jnp.arange(1.0, 4.0), schedule=binomial(1))[0]
        return jnp.sum(checkpointed_chain([jnp.sin, jnp.cos], end, schedule=binomial(1)))

    x = numbers(4)
    right = jax.jit(jax.grad(loss))(x)
    lies = NamedSharding(_on_devices(AxisType.Explicit), PartitionSpec("i"))
    found = jax.jit(jax.grad(loss))(jax.device_put(x, lies))
    assert found.sharding == lies
    close(found, right)
    parts = {"in_specs": PartitionSpec("i"), "out_specs": PartitionSpec("i")}
    each = jax.shard_map(jax.grad(loss), mesh=_on_devices(AxisType.Auto), **parts)
    close(jax.jit(each)(x), right)


def test_numbers_of_weak_type_and_numpy_arrays_are_fine():
    end, ys = checkpointed_scan(
        lambda c, t: (c * t, t), 1.5, np.ones(3, np.float32), schedule=binomial(1)
    )
    assert (float(end), ys.shape) == (1.5, (3,))


def run(body=lambda c, _: (c, None), init=1.0, xs=None, schedule=None, **options):
    schedule = binomial(2) if schedule is None else schedule
    return checkpointed_scan(body, init, xs, schedule=schedule, **options)


FIRST_STORED_TWICE = (Store(0), Store(1), Advance(), Advance(), Backward())
FIRST_STORED_TWICE += (Restore(0), Advance(), Backward(), Restore(1), Backward())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"body": lambda _, __: (jnp.ones(2), None)}, TypeError, r"carry must be float32\[\], got"),
        ({"body": lambda c, _: (c.astype(jnp.bfloat16), None)}, TypeError, r"got bfloat16\[\]"),
        ({"body": lambda c, _: ((c,), None)}, TypeError, "structure of init"),
        ({"body": lambda c, _: c}, TypeError, r"must return \(carry, y\)"),
        ({"length": None}, ValueError, "as long as `length`"),
        ({"length": -1}, ValueError, "length must be >= 0, got -1"),
        ({"xs": np.ones(4)}, ValueError, r"one first axis.*got lengths \[3, 4\]"),
        ({"xs": (np.ones(3), np.ones(2))}, ValueError, "one first axis"),
        ({"xs": np.float32(1.0)}, ValueError, "one first axis"),
        ({"schedule": optimal([1] * 4, [1] * 4, 2)}, ValueError, "chain of 3 steps, got one for 4"),
        (
            {"schedule": (Store(0), Backward()), "length": 0},
            ValueError,
            "of 0 steps, got one for 1",
        ),
        ({"schedule": "binomial"}, TypeError, "schedule must be one of.*got 'binomial'"),
        ({"schedule": (Store(0), Backward())}, ValueError, "chain of 3 steps, got one for 1"),
        (
            {"schedule": (Store(0), Advance(), Backward(), Restore(0))},
            ValueError,
            "action 1.*must not pass x_0",
        ),
        ({"schedule": FIRST_STORED_TWICE}, ValueError, "x_0 must be stored in one slot, got two"),
    ],
)
def test_what_can_not_be_run_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        run(**{"length": 3, **options})


A, B = Advance(), Backward()


@pytest.mark.parametrize(
    "actions",
    [
        (Store(0), A, A, B, Restore(0), A, B, Restore(0), B),
        # x_1 is stored, and left for another state, before a step is computed from it
        (Store(0), A, A, B, Restore(0), A, Store(1), Restore(0), Restore(1), B, Restore(0), B),
        (Store(1), A, Store(0), A, Store(2), Restore(2), B, Restore(0), B, Restore(1), B),
    ],
)
def test_actions_of_ones_own(actions):
    x = np.float32(0.3)
    found = jax.jit(
        jax.grad(lambda x: run(lambda c, _: (jnp.sin(c), None), x, schedule=actions, length=3)[0])
    )
    inner, outer = math.sin(0.3), math.sin(math.sin(0.3))
    close(found(x), np.float32(math.cos(0.3) * math.cos(inner) * math.cos(outer)))
