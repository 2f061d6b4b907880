"""Chains of unequal steps: gradients of the composition, in less memory."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adlab.checkpointing import (
    Advance,
    Backward,
    Restore,
    Schedule,
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

WIDTHS = (4, 6, 3, 8, 5, 2)
SCHEDULES = [store_all(), sqrt(), every(2), binomial(1), binomial(2)]
SCHEDULES.append(optimal([24, 18, 24, 40, 10], [4, 6, 3, 8, 5], 9))


def weights(seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape, np.float32) for shape in itertools.pairwise(WIDTHS)]


def dense(w, shift):
    """A step that closes over its own weights and what all of them share."""
    return lambda h: jnp.tanh(h @ w + shift)


def composed(functions, x, *, schedule):
    del schedule
    return functools.reduce(lambda state, function: function(state), functions, x)


def loss(chain, schedule, ws, shift, x):
    return jnp.sum(chain([dense(w, shift) for w in ws], x, schedule=schedule) ** 2)


ARGS = (weights(), np.float32(0.1), np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4))


def close(got, expected, tolerance=2e-6, name=""):  # float32, a few sums in another order
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        b = np.asarray(b)
        np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max(), rtol=0, err_msg=name)


def test_values_and_gradients_are_those_of_the_composition():
    funs = [functools.partial(loss, checkpointed_chain, schedule) for schedule in SCHEDULES]
    funs.append(functools.partial(loss, composed, None))
    *several, expected = jax.jit(
        lambda *args: [jax.value_and_grad(fun, argnums=(0, 1, 2))(*args) for fun in funs]
    )(*ARGS)
    for schedule, found in zip(SCHEDULES, several, strict=True):
        close(found, expected, name=repr(schedule))


def test_under_vmap_and_forward_over_reverse():
    ours, plainly = (
        functools.partial(loss, chain, binomial(2)) for chain in (checkpointed_chain, composed)
    )
    ws, shift, x = ARGS
    v = weights(seed=1)

    @jax.jit
    def products_and_gradients(v, ws, shift, x):
        gradients = [
            jax.vmap(jax.grad(fun, argnums=2), (None, None, 0))(ws, shift, x[:, None])
            for fun in (ours, plainly)
        ]
        return [hvp(fun)(v, ws, shift, x) for fun in (ours, plainly)], gradients

    products, gradients = products_and_gradients(v, ws, shift, x)
    close(*products, 1e-5)
    close(*gradients)


def test_cotangents_of_16_bit_weights_are_summed_in_32():
    """In bfloat16 256 + 1 is 256: a sum that begins with the last step would lose the others."""

    def loss(weight):
        steps = [lambda carry: carry + weight] * 4 + [lambda carry: carry + 256 * weight]
        return checkpointed_chain(steps, weight * 0, schedule=store_all())

    found = jax.grad(loss)(jnp.bfloat16(1.0))
    assert found.dtype == jnp.bfloat16
    assert float(found) == 260.0


def test_a_nan_stays_one_and_changes_no_other_number():
    def fun(x):
        steps = [jnp.sin, lambda h: h * x, jnp.exp]
        return checkpointed_chain(steps, x, schedule=binomial(1))

    x = np.array([np.nan, 0.5], np.float32)
    found = np.asarray(jax.jit(jax.grad(lambda x: jnp.sum(fun(x))))(x))
    s, c = np.sin(x), np.cos(x)
    wanted = np.exp(s * x) * (s + x * c)
    assert np.isnan(found[0])
    close(found[1], wanted[1])


def test_states_of_any_structure_and_integers_closed_over():
    places = np.array([2, 0], np.int32)
    table = np.arange(6, dtype=np.float32).reshape(3, 2)

    def fun(chain, table):
        steps = [
            lambda x: {"rows": table[places] * x, "x": x},
            lambda s: (s["rows"] @ s["rows"].T, s["x"] ** 2),
            lambda s: jnp.sum(s[0]) * s[1],
        ]
        return chain(steps, jnp.float32(0.7), schedule=binomial(1))

    chains = (checkpointed_chain, composed)
    close(
        *jax.jit(lambda table: [jax.grad(fun, argnums=1)(chain, table) for chain in chains])(table)
    )


UNEQUAL = tuple(64 + 64 * (k % 3) for k in range(25))
EQUAL = (64,) * 17
ROWS = 256


@functools.cache
def temporary_bytes(schedule, widths):
    """Return temporary memory of the gradient of x: those of weights would lend their buffers."""
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in itertools.pairwise(widths)]
    chain = composed if schedule is None else checkpointed_chain

    def total(ws, x):
        return jnp.sum(chain([dense(w, 0.0) for w in ws], x, schedule=schedule) ** 2)

    x = jax.ShapeDtypeStruct((ROWS, widths[0]), jnp.float32)
    compiled = jax.jit(jax.grad(total, argnums=1)).lower(shapes, x).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("schedule", [None, binomial(2), binomial(5), sqrt()], ids=repr)
def test_memory_of_equal_steps_is_that_of_the_slots_and_one_more_state(schedule):
    slots = schedule.slots(16) if schedule else 15
    state = 4 * ROWS * 64
    assert temporary_bytes(schedule, EQUAL) == pytest.approx((slots + 1) * state, rel=0.15)


def test_memory_of_unequal_steps_is_within_the_budget_and_two_more_states():
    sizes = [4 * ROWS * width for width in UNEQUAL[:-1]]
    costs = [a * b for a, b in itertools.pairwise(UNEQUAL)]
    for budget in (2 * max(sizes), 6 * max(sizes)):
        found = temporary_bytes(optimal(costs, sizes, budget), UNEQUAL)
        bound = budget + 2 * max(sizes) + 2**14  # and a few small arrays
        assert found <= bound < 0.6 * temporary_bytes(None, UNEQUAL)


ROW = 16
NUMBERS = 1024 * ROW  # of a state; a layer has 1/64 of it


def layer(w):
    return lambda pair: (pair[0], jnp.tanh(pair[1] @ w))


def product(w):
    """The compiler merges chains of these alone, and moves choices of a number through them."""
    return lambda pair: (pair[0], jnp.tanh(pair[1] * w))


@functools.cache
def states(derivative, schedule, length, step=layer):
    """Return the temporary memory of a derivative, in states; None is the plain composition.

    The first leaf of the states is known to be zero, and so are its cotangents.
    """
    chain = composed if schedule is None else checkpointed_chain

    def loss(x, ws):
        start = (jnp.zeros(ROW), x)
        return jnp.sum(chain([step(w) for w in ws], start, schedule=schedule)[1] ** 2)

    def penalty(argnum):
        def squares(*args):
            found = jax.grad(loss, argnums=argnum)(*args)
            return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(found))

        return jax.grad(squares, argnums=argnum)

    taken = {"gradient": jax.grad(loss), "twice in x": penalty(0), "twice in weights": penalty(1)}
    x = jax.ShapeDtypeStruct((NUMBERS // ROW, ROW), jnp.float32)
    w = jax.ShapeDtypeStruct((ROW, ROW) if step is layer else (), jnp.float32)
    compiled = jax.jit(taken[derivative]).lower(x, [w] * length).compile()
    return compiled.memory_analysis().temp_size_in_bytes / (4 * NUMBERS)


@pytest.mark.parametrize("step", [layer, product])
def test_memory_of_a_gradient_is_that_of_the_slots_at_any_length(step):
    assert states("gradient", binomial(4), 16, step) == pytest.approx(4 + 1, rel=0.1)
    assert states("gradient", binomial(4), 8, step) == pytest.approx(4 + 1, rel=0.1)


def test_memory_of_a_gradient_of_a_gradient_is_that_of_the_slots_at_any_length():
    short, middle, long = (states("twice in x", binomial(4), length) for length in (6, 12, 24))
    assert middle <= short + 1  # beside layers and their cotangents, 1/64 of a state each
    assert long <= short + 1
    assert 4 * long < 4 * 23 < states("twice in x", None, 24)
    more = states("twice in weights", binomial(4), 12) - states("twice in weights", binomial(4), 6)
    assert more <= 1


class Wrong(Schedule):
    """Differentiates the same step again and again."""

    def actions(self, length):
        return (Store(0), *([Backward()] * length))


def test_a_schedule_of_ones_own_is_checked():
    with pytest.raises(ValueError, match=r"action 1, Backward.*must be x_2, got x_0"):
        checkpointed_chain([jnp.sin] * 3, 1.0, schedule=Wrong())
    with pytest.raises(ValueError, match=r"action 1, Backward.*must be x_2, got x_0"):
        checkpointed_scan(lambda c, _: (c, None), 1.0, length=3, schedule=Wrong())


def test_steps_may_be_walked_twice_before_the_first_is_differentiated():
    actions = (Store(0), Advance(), Restore(0), Advance(), Store(1), Backward(), Restore(0))
    actions += (Backward(),)
    x = np.float32(0.3)
    expected = np.cos(np.sin(x)) * np.cos(x)

    def scanned(x):
        body = lambda c, _: (jnp.sin(c), None)  # noqa: E731
        return checkpointed_scan(body, x, length=2, schedule=actions)[0]

    chained = functools.partial(checkpointed_chain, [jnp.sin, jnp.sin], schedule=actions)
    for found in jax.jit(lambda x: [jax.grad(fun)(x) for fun in (scanned, chained)])(x):
        close(found, expected)


@pytest.mark.parametrize(
    ("functions", "x", "schedule", "error", "message"),
    [
        ([], 1.0, sqrt(), ValueError, "number of functions must be >= 1, got 0"),
        ([jnp.sin] * 2, 1.0, optimal([1], [1], 1), ValueError, "chain of 2 steps, got one for 1"),
        ([jnp.sin] * 2, 1.0, "sqrt", TypeError, r"schedule must be one of.*did you mean sqrt\(\)"),
        ([jnp.sin] * 2, 1.0, sqrt, TypeError, r"function sqrt: call it, sqrt\(...\)"),
        ([jnp.sin] * 2, 1.0, (Store(0),), ValueError, "for a chain of 2 steps"),
    ],
)
def test_what_can_not_be_run_is_refused(functions, x, schedule, error, message):
    with pytest.raises(error, match=message):
        checkpointed_chain(functions, x, schedule=schedule)
