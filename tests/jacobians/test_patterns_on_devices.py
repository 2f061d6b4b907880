"""Patterns of functions that run on several devices, where each has a value of its own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.sparse import BCOO
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from adlab.jacobians import jacobian, sparsity

MESH = jax.make_mesh((4,), ("i",), devices=jax.devices()[:4], axis_types=(AxisType.Auto,))
X = jnp.arange(1.0, 9.0)  # two numbers on each device
SPLIT = P("i")


def spread(fun, *, checked=True, inputs=SPLIT):
    return jax.shard_map(fun, mesh=MESH, in_specs=inputs, out_specs=SPLIT, check_vma=checked)


def place():
    return jax.lax.axis_index("i")


def own_mask(x):
    return jnp.where(place() == 2, x, 0.0)


def own_gather(x):
    return x[place() // 2] * jnp.ones(2)


def own_update(x):
    return jnp.zeros(2).at[place() % 2].add(x[0])


def own_slice(x):
    return jax.lax.dynamic_slice(x, (place() % 2,), (1,)) * x


def own_branch(x):
    return jax.lax.switch(place() % 2, [lambda x: x, lambda x: x[::-1] ** 2], x)


def own_rounds(x):
    return jax.lax.fori_loop(0, place(), lambda _, y: jnp.roll(y, 1) * x, x)


def neighbours(x):
    return x * jax.lax.ppermute(x, "i", [(k, (k + 1) % 4) for k in range(4)])


def shared(x):
    return x * jax.lax.psum(x, "i") + jax.lax.all_gather(x, "i", tiled=True)[2 * place() + 1]


def mask_of_places():
    return spread(lambda: jnp.where(place() == 2, jnp.ones(2), 0.0), inputs=())()


def masked_outside(x):
    return x * mask_of_places()


def chosen_outside(x):
    """Places made of the devices' numbers: 0, 0, 1, 1, 2, 2, 3, 3."""
    return x[spread(lambda: jnp.repeat(place(), 2), inputs=())()]


def in_a_loop(x):
    mask = jax.lax.fori_loop(0, 2, lambda _, m: m * mask_of_places(), jnp.ones(8))
    return jnp.where(mask > 0, x, x[::-1])


def pattern_of(fun, x):
    return np.asarray(jax.jit(jax.jacfwd(fun))(x)) != 0


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize(
    "fun",
    [own_mask, own_gather, own_update, own_slice, own_branch, own_rounds, neighbours, shared],
)
def test_a_pattern_holds_what_each_device_does(fun, checked):
    everywhere = spread(fun, checked=checked)
    found = sparsity(everywhere, X).toarray()
    assert not np.any(pattern_of(everywhere, X) & ~found)


@pytest.mark.parametrize("fun", [masked_outside, chosen_outside, in_a_loop])
def test_values_made_on_devices_are_unknown_and_no_zero(fun):
    found = sparsity(fun, X).toarray()
    assert not np.any(pattern_of(fun, X) & ~found)
    assert np.all(found.diagonal())


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("checked", [False, True])
def test_a_pattern_found_on_a_device_holds_for_all_of_them(compiled, checked):
    """What is known is the same on all; the device's own number isn't."""
    found = []

    def body(x):
        ordered = jnp.array([1, 0])
        found.append(sparsity(lambda x: own_mask(x)[ordered], x).toarray())
        found.append(sparsity(own_gather, x).toarray())
        return x

    everywhere = spread(body, checked=checked)
    (jax.jit(everywhere) if compiled else everywhere)(X)
    mask, gather = found[:2]
    assert mask[[0, 1], [1, 0]].all()
    assert gather.all()


def test_each_device_gets_its_own_sparse_jacobian():
    def body(x):
        return jacobian(own_gather, mode="sparse")(x).todense()

    found = spread(body, checked=False)(X)
    first, second = [1.0, 0.0], [0.0, 1.0]
    np.testing.assert_array_equal(found, [first] * 4 + [second] * 4)


@pytest.mark.parametrize("fun", [own_mask, own_gather, neighbours])
def test_sparse_jacobians_through_devices_are_right(fun):
    everywhere = spread(fun)
    found = jacobian(everywhere, mode="sparse")(X)
    assert isinstance(found, BCOO)
    np.testing.assert_allclose(found.todense(), jax.jit(jax.jacfwd(everywhere))(X))
