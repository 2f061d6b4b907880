"""Memory is O(chunk_size * d) whatever the number of probes: read off the compiled program."""

import jax
import jax.numpy as jnp
import pytest

from adlab.gradients import finite_difference, forward_gradient, forward_mode, one_sided, two_point

DIM = 1_000_000
TREE = {
    "w": jax.ShapeDtypeStruct((1000, 900), jnp.float32),
    "b": jax.ShapeDtypeStruct((100_000,), jnp.float32),
}
KEY = jax.random.key(0)


def energy(tree):
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree))


def _temporary_bytes(g, x):
    compiled = jax.jit(lambda x, key: g(x, key=key)).lower(x, KEY).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("chunk_size", [16, "auto"])
def test_ten_thousand_probes_of_a_million_numbers_need_no_more_memory_than_160(chunk_size):
    few, many = (
        _temporary_bytes(
            two_point(energy, law="rademacher", num_probes=count, chunk_size=chunk_size), TREE
        )
        for count in (160, 10_000)
    )
    # Of a probe remain its slope and its key; no probe is held, but a chunk of points is.
    assert many <= few + 32 * (10_000 - 160)
    assert many <= 4 * 2 * (16 + 1) * DIM


@pytest.mark.parametrize(
    ("factory", "options"), [(one_sided, {"smoothing": "relative"}), (forward_gradient, {})]
)
def test_the_other_probed_kinds_keep_to_their_chunks_too(factory, options):
    x = jax.ShapeDtypeStruct((10_000,), jnp.float32)
    few, many = (
        _temporary_bytes(factory(energy, num_probes=count, chunk_size=16, **options), x)
        for count in (160, 10_000)
    )
    assert many == few


def test_a_remainder_costs_no_more_than_a_chunk():
    x = jax.ShapeDtypeStruct((10_000,), jnp.float32)
    options = {"chunk_size": 16, "smoothing": "relative"}
    whole = _temporary_bytes(two_point(energy, num_probes=160, **options), x)
    uneven = _temporary_bytes(two_point(energy, num_probes=175, **options), x)
    assert uneven <= 2.1 * whole  # the last, shorter chunk may have room of its own


# What measures a step is the same for all schemes: one of them stands for it.
@pytest.mark.parametrize(
    ("scheme", "step"),
    [("forward", "relative"), ("central", "auto"), ("richardson", "relative"), ("complex", "auto")],
)
@pytest.mark.parametrize("chunk_size", [1, 16])
def test_finite_differences_at_dim_20000_hold_a_chunk_of_points(scheme, step, chunk_size):
    dim = 20_000
    x = jax.ShapeDtypeStruct((dim,), jnp.float32)
    g = finite_difference(energy, scheme=scheme, step=step, chunk_size=chunk_size)
    # twelve vectors a chunk and twelve more, in float32; d^2 numbers would be 80 times that
    assert _temporary_bytes(g, x) <= 4 * 12 * (chunk_size + 1) * dim


def test_forward_mode_at_dim_20000_holds_a_chunk_of_tangents():
    dim = 20_000
    x = jax.ShapeDtypeStruct((dim,), jnp.float32)
    # six vectors a chunk and six more, in float32
    assert _temporary_bytes(forward_mode(energy, chunk_size=16), x) <= 4 * 6 * 17 * dim
