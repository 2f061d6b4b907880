"""Sparse Jacobians: right, small, and found once."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from jacobian_cases import CASES
from jax.experimental.sparse import BCOO

from adlab.jacobians import jacobian


@jax.jit
def band(x):
    return jnp.sin(x[1:-1]) * x[2:] - x[:-2] ** 2


def dense(found):
    matrix = np.zeros(found.shape, found.dtype)
    np.add.at(matrix, tuple(np.asarray(found.indices).T), np.asarray(found.data))
    return matrix


@pytest.mark.parametrize("case", CASES)
def test_functions_give_what_jax_gives(case):
    fun, args, argnums = CASES[case]
    j = jacobian(fun, mode="sparse", argnums=argnums)

    @oracles.quickly_compiled
    def both(*args):
        sparse = lambda b: isinstance(b, BCOO)  # noqa: E731
        found = jax.tree.map(lambda b: b.todense(), j(*args), is_leaf=sparse)
        return found, jax.jacfwd(fun, argnums)(*args)

    found, expected = both(*args)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)  # float32


@pytest.mark.parametrize("chunk_size", ["auto", 2])
def test_a_banded_jacobian_of_20000_columns_is_never_dense(chunk_size):
    n = 20_000
    x = np.linspace(0.0, 1.0, n, dtype=np.float32)
    j = jax.jit(jacobian(band, mode="sparse", chunk_size=chunk_size))
    found = j(x)
    assert isinstance(found, BCOO)
    assert (found.shape, found.nse) == ((n - 2, n), 3 * (n - 2))
    memory = j.lower(x).compile().memory_analysis()
    assert memory.temp_size_in_bytes + memory.output_size_in_bytes < 100 * x.nbytes  # dense: n
    rows, (left, middle, right) = np.arange(n - 2), (x[k : n - 2 + k] for k in range(3))
    values = np.zeros((n - 2, 3))
    places = np.asarray(found.indices)
    values[places[:, 0], places[:, 1] - places[:, 0]] = found.data
    expected = np.stack([-2 * left, np.cos(middle) * right, np.sin(middle)], axis=1)
    np.testing.assert_array_equal(np.bincount(places[:, 0]), np.full(len(rows), 3))
    np.testing.assert_allclose(values, expected, atol=1e-6)  # float32, values up to 2


@pytest.fixture
def searched(monkeypatch):
    """The patterns that have been coloured."""
    found, own = [], sys.modules["adlab.jacobians.sparse"]._planned
    monkeypatch.setattr(
        "adlab.jacobians.sparse._planned", lambda *args: found.append(args) or own(*args)
    )
    return found


def test_a_pattern_is_coloured_once(searched):
    j = jacobian(band, mode="sparse")
    x = np.ones(8, np.float32)
    j(x)
    j(2 * x)
    assert len(searched) == 1
    jax.eval_shape(j, np.ones(9, np.float32))
    j(x)
    jax.eval_shape(j, x)
    assert len(searched) == 2


def test_auxiliary_data_and_keywords_come_along_in_sparse_mode():
    @jax.jit
    def fun(x, *, factor):
        return factor * x**2, x[0]

    found, aux = jacobian(fun, mode="sparse", has_aux=True)(
        np.arange(1, 4, dtype=np.float32), factor=3.0
    )
    np.testing.assert_allclose(dense(found), np.diag([6.0, 12.0, 18.0]))
    assert aux == 1.0


def test_patterns_that_depend_on_other_arguments_are_found_anew():
    x = np.arange(1, 6, dtype=np.float32)
    rolled = jacobian(jax.jit(lambda x, n: jnp.roll(x, n) * x), mode="sparse")
    taken = jacobian(jax.jit(lambda x, i: x[i] * x), mode="sparse")
    places = np.arange(5, dtype=np.int32)
    for j, other, order in (
        *((rolled, n, np.roll(places, n)) for n in (1, 2)),
        *((taken, order, order) for order in (places, places[::-1])),
    ):
        permuted = np.eye(5)[order]  # (P x) * x
        expected = np.diag(permuted @ x) + x[:, None] * permuted
        np.testing.assert_array_equal(dense(j(x, other)), expected)


def test_only_the_last_patterns_are_kept(searched):
    sparse = jacobian(jax.jit(lambda x, n: jnp.where(np.arange(12) == n, x, 0) * x), mode="sparse")
    x = np.arange(1, 13, dtype=np.float32)
    for n in range(12):
        np.testing.assert_allclose(dense(sparse(x, n)), np.diag(2 * x * (np.arange(12) == n)))
        assert len(searched) == n + 1
    sparse(x, 11)
    assert len(searched) == 12  # coloured before
    sparse(x, 0)
    assert len(searched) == 13  # long gone


def test_a_plan_is_for_the_trees_that_it_was_made_for():
    """Both have four numbers and a diagonal, in leaves of other sizes."""
    squares = jacobian(jax.jit(lambda x: jax.tree.map(jnp.square, x)), mode="sparse")
    for sizes in ((2, 2), (1, 3), (4, 0)):
        x = {name: np.ones(size, np.float32) for name, size in zip("ab", sizes, strict=True)}
        found = squares(x)
        for name, size in zip("ab", sizes, strict=True):
            np.testing.assert_array_equal(dense(found[name][name]), 2 * np.eye(size))


def test_what_a_function_closes_over_is_read_at_each_call():
    weights, state = np.array([1.0, 0.0, 1.0], np.float32), {"shift": 1}
    x = np.array([1.0, 2.0, 3.0], np.float32)
    scaled = jacobian(lambda x: weights * x, mode="sparse")
    rolled = jacobian(lambda x: jnp.roll(x, state["shift"]) * x, mode="sparse")
    for kept in ([1.0, 0.0, 1.0], [0.0, 1.0, 1.0]):
        weights[:] = kept
        np.testing.assert_array_equal(dense(scaled(x)), np.diag(kept))
    for state["shift"] in (1, 2):
        permuted = np.roll(np.eye(3), state["shift"], axis=0)
        expected = np.diag(permuted @ x) + x[:, None] * permuted
        np.testing.assert_array_equal(dense(rolled(x)), expected)


def test_patterns_follow_random_keys_whose_values_are_known(searched):
    @jax.jit
    def dropped(x, key):
        return x[::-1] * jax.random.bernoulli(key, 0.5, x.shape).astype(x.dtype)

    x, j = np.arange(1, 9, dtype=np.float32), jacobian(dropped, mode="sparse")
    for seed in (0, 1):
        key = jax.random.key(seed)
        expected = np.diag(dropped(np.ones(8, np.float32), key))[:, ::-1]
        found = j(x, key)
        assert found.nse == expected.sum()
        np.testing.assert_array_equal(dense(found), expected)
        traced = jax.jit(j)(x, key)  # of unknown value: no zero is known
        assert traced.nse == 8
        np.testing.assert_array_equal(dense(traced), expected)
    assert len(searched) == 3  # jit keeps what it traced


@pytest.mark.parametrize("turned", [False, True])
def test_the_side_with_fewer_colours_is_swept(turned):
    """An arrow of full rows and a diagonal: three products by rows, and as many by columns."""

    def arrow(x):
        return jnp.concatenate([jnp.sum(x**2)[None], jnp.sum(jnp.sin(x))[None], x**3])

    def fan(x):
        return x[2:] ** 2 * x[0] + x[1]

    fun, n = (fan, 42) if turned else (arrow, 40)
    x = np.linspace(0.1, 1.0, n, dtype=np.float32)
    program = jax.make_jaxpr(jacobian(fun, mode="sparse"))(x)
    widest = max(
        out.aval.size for eqn in program.eqns if eqn.primitive.name != "jit" for out in eqn.outvars
    )
    assert widest < 8 * n  # a dense matrix has n^2
    both = oracles.quickly_compiled(lambda x: (jacobian(fun, mode="sparse")(x), jax.jacfwd(fun)(x)))
    found, expected = both(x)
    np.testing.assert_allclose(dense(found), expected, rtol=1e-5, atol=1e-6)  # float32


@jax.custom_vjp
def clipped(x):
    return x**2


clipped.defvjp(lambda x: (x**2, x), lambda x, s: (jnp.clip(2 * x * s, -1, 1),))


def test_a_rule_for_reverse_mode_alone_is_swept_by_rows():
    x = np.float32([0.1, 0.2, 3.0])
    found = jacobian(lambda x: clipped(x)[::-1], mode="sparse")(x)
    np.testing.assert_allclose(dense(found), np.diag([0.2, 0.4, 1.0])[::-1], rtol=1e-6)  # float32


def test_a_loop_of_unknown_length_is_swept_by_columns():
    def fun(x):
        def halved(x):
            return jax.lax.while_loop(lambda y: y[1] > 1, lambda y: y / 2, x)

        return jnp.concatenate([jnp.sum(x)[None], halved(x)])

    x = np.float32([1.0, 8.0, 3.0])
    np.testing.assert_allclose(
        dense(jacobian(fun, mode="sparse")(x)), np.vstack([np.ones(3), np.eye(3) / 8])
    )


@pytest.mark.parametrize("solve", ["solve", "inverse", "fft"])
def test_solves_inverses_and_transforms_are_dense_blocks(solve):
    """Of three systems, or signals, each one's Jacobian is its own block."""
    x = np.random.default_rng(0).normal(size=(3, 2, 2)) + 4 * np.eye(2)
    x = x.astype(np.float32)
    fun = {
        "solve": lambda x: jnp.linalg.solve(x, jnp.ones(2)),
        "inverse": jnp.linalg.inv,
        "fft": lambda x: jnp.abs(jnp.fft.fft(x.reshape(3, 4))),
    }[solve]
    both = oracles.quickly_compiled(lambda x: (jacobian(fun, mode="sparse")(x), jax.jacfwd(fun)(x)))
    found, expected = both(x)
    np.testing.assert_allclose(dense(found), expected, rtol=1e-4, atol=1e-5)  # float32
    assert found.nse == found.size // 3


def test_a_function_without_entries_has_empty_matrices():
    found = jacobian(lambda x: (jnp.round(x), jnp.ones(2)), mode="sparse")(np.ones(3, np.float32))
    assert [(block.shape, block.nse) for block in found] == [((3, 3), 0), ((2, 3), 0)]
