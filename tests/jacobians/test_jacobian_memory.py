"""Memory is bounded by the chunk."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adlab.jacobians import costs, jacobian

WIDTH = 4000


def temporary(mode, chunk_size):
    def fun(x, a, b):  # 64 -> 4000 -> 64
        return b @ jnp.sin(a @ x)

    j = jax.jit(jacobian(fun, mode=mode, chunk_size=chunk_size))
    compiled = j.lower(jnp.ones(64), jnp.ones((WIDTH, 64)), jnp.ones((64, WIDTH))).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_a_chunk_of_sweeps_takes_the_memory_of_so_many(mode):
    sweep = 4 * WIDTH  # bytes of the intermediate; beside those of a chunk, its value and slope
    assert temporary(mode, 4) <= (4 + 3) * sweep
    assert temporary(mode, 64) >= 64 * sweep


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_the_automatic_chunk_keeps_the_widest_intermediate_within_its_bound(mode, monkeypatch):
    monkeypatch.setattr(costs, "MEMORY", 10 * 4 * WIDTH)

    def fun(x):
        return jnp.sum(jnp.sin(jnp.broadcast_to(x, (WIDTH // 32, 32))), axis=0)

    table = costs.jacobian_costs(fun, jnp.ones(32))
    assert table[mode].chunk == 8  # ten fit; four chunks of eight have no remainder
    found = jacobian(fun, mode=mode)(jnp.ones(32))
    np.testing.assert_allclose(found, np.cos(1.0) * (WIDTH // 32) * np.eye(32), rtol=1e-5)


def test_an_elimination_beyond_memory_is_not_considered(monkeypatch):
    a = jnp.ones((3, 200))

    def fun(x):  # elimination forms the 200 x 3 matrix, the sweeps 200 numbers at a time
        return a @ jnp.sin(a.T @ jnp.sin(x))

    modes = {row.mode for row in costs.jacobian_costs(fun, jnp.ones(3))}
    assert modes == {"forward", "reverse", "mixed"}
    monkeypatch.setattr(costs, "MEMORY", 1000)
    modes = {row.mode for row in costs.jacobian_costs(fun, jnp.ones(3))}
    assert modes == {"forward", "reverse"}
