"""Patterns of loops of many rounds, beside closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from adlab.jacobians import _loops, _rounds, sparsity
from adlab.jacobians._rounds import Rounds, reached

T = 10_011  # rounds, beyond what is followed whatever it takes


def scanned(step, seen=lambda _: None, *, reverse=False):
    def fun(x):
        return jax.lax.scan(lambda c, _: (step(c), seen(c)), x, None, T, reverse=reverse)

    return fun


def heated(c):
    """A step of the heat equation whose ends are held."""
    return c.at[1:-1].add(0.1 * (c[2:] - 2 * c[1:-1] + c[:-2]))


def carried(c):
    """A step with the wind: each number gets what is on its left."""
    return c.at[1:].add(-0.1 * (c[1:] - c[:-1]))


def held_ends(n):
    """All numbers reach all that are inside; the ends are as they were."""
    full = np.ones((n, n), bool)
    full[0], full[-1] = np.eye(n, dtype=bool)[0], np.eye(n, dtype=bool)[-1]
    return full


@pytest.mark.parametrize(
    ("step", "n", "expected"),
    [
        (heated, 500, held_ends(500)),
        (carried, 500, np.tril(np.ones((500, 500), bool))),
        (lambda c: jnp.roll(c, 1), 64, np.roll(np.eye(64, dtype=bool), T, axis=0)),
        (lambda c: jnp.append(c[1:], 0.0), 64, np.zeros((64, 64), bool)),
        (lambda c: jnp.sin(c) * c[::-1], 64, np.eye(64) + np.eye(64)[::-1] > 0),
    ],
)
def test_what_a_long_loop_leaves_is_known(step, n, expected):
    found = sparsity(lambda x: scanned(step)(x)[0], jnp.ones(n)).toarray()
    np.testing.assert_array_equal(found, expected)
    counted = sparsity(lambda x: jax.lax.fori_loop(0, T, lambda _, c: step(c), x), jnp.ones(n))
    np.testing.assert_array_equal(counted.toarray(), expected)


def test_a_long_loop_over_many_numbers_that_do_not_meet_is_a_diagonal():
    found = sparsity(lambda x: scanned(jnp.sin)(x)[0], jnp.ones(100_000))
    np.testing.assert_array_equal(found.indices, np.arange(100_000))
    np.testing.assert_array_equal(found.indptr, np.arange(100_001))


@pytest.mark.parametrize("reverse", [False, True])
def test_what_is_seen_on_the_way_spreads_by_one_in_each_round(reverse):
    n, place = 30, 11
    found = sparsity(
        lambda x: scanned(heated, lambda c: c[place], reverse=reverse)(x)[1], jnp.ones(n)
    )
    rounds = np.arange(T)[::-1] if reverse else np.arange(T)
    expected = np.abs(np.arange(n) - place) <= rounds[:, None]
    np.testing.assert_array_equal(found.toarray(), expected)


def register(c, r):
    return jnp.append(c[1:], r), c[0] * r


@pytest.mark.parametrize(("delay", "reverse"), [(1, False), (3, True)])
def test_a_long_scan_that_forgets_is_two_diagonals(delay, reverse):
    fun = lambda x: jax.lax.scan(register, jnp.zeros(delay), x, reverse=reverse)  # noqa: E731
    last, seen = (sparsity(lambda x, k=k: fun(x)[k], jnp.ones(T)) for k in (0, 1))
    assert last.shape == (delay, T)
    early = np.arange(delay)[::-1] if reverse else np.arange(T - delay, T)
    np.testing.assert_array_equal(last.indices, early)
    expected = sparse.diags_array(
        [np.ones(T), np.ones(T - delay)], offsets=[0, delay if reverse else -delay]
    )
    assert (seen != (expected > 0)).nnz == 0


def test_a_sum_over_many_rows_is_one_full_row():
    found = sparsity(lambda x: jax.lax.scan(lambda c, r: (c + r, None), 0.0, x)[0], jnp.ones(T))
    assert (found.shape, found.nnz) == ((1, T), T)


def test_100000_numbers_that_reach_one_another_get_what_any_of_them_does(monkeypatch):
    monkeypatch.setattr(_rounds, "WORDS", 1000)
    fun = lambda a: scanned(lambda c: heated(c).at[0].set(a))(jnp.zeros(100_000))[0]  # noqa: E731
    expected = np.ones((100_000, 1), bool)
    expected[-1] = False  # held
    np.testing.assert_array_equal(sparsity(fun, 1.0).toarray(), expected)


def drawn(rng, rows, cols, density):
    found = sparse.csr_matrix(rng.random((rows, cols)) < density)
    return found if found.nnz and rng.random() < 0.8 else None


def draw(seed, length):
    """Return rounds of a loop, whose patterns may be missing."""
    rng = np.random.default_rng(seed)
    size, width, rows = (int(k) for k in rng.integers(1, (8, 140, 4)))
    local, seen = drawn(rng, size, size, 0.2), drawn(rng, rows, size, 0.4)
    first, base = (drawn(rng, size, width, 0.03) for _ in range(2))
    drive = drawn(rng, length * size, width, 0.01) if rng.random() < 0.4 else None
    return Rounds(local, seen, first, base, drive, length, size, width)


def by_definition(rounds):
    """P(t + 1) = B P(t) + S(t) with full arrays."""

    def full(pattern, rows, cols):
        return np.zeros((rows, cols), int) if pattern is None else pattern.toarray().astype(int)

    size, width = rounds.size, rounds.width
    local, base = full(rounds.local, size, size), full(rounds.base, size, width)
    seen = full(rounds.seen, 1 if rounds.seen is None else rounds.seen.shape[0], size)
    drive = full(rounds.drive, rounds.length * size, width).reshape(rounds.length, size, width)
    carry, looked = full(rounds.first, size, width), []
    for more in drive:
        looked.append(seen @ carry > 0)
        carry = (local @ carry + base + more > 0).astype(int)
    return np.concatenate(looked), carry > 0


def check(found, expected, *, exact=True):
    for one, other in zip(found, expected, strict=True):
        full = np.zeros_like(other) if one is None else one.toarray()
        assert full.shape == other.shape
        assert np.all(full >= other)
        if exact:
            np.testing.assert_array_equal(full, other)


@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 7, 65, 80]))
@settings(max_examples=150, deadline=None)
def test_rounds_are_followed_as_defined(seed, length):
    rounds = draw(seed, length)
    expected = by_definition(rounds)
    check(_rounds.carried(rounds), expected)
    if not rounds.first is rounds.base is rounds.drive is None:
        check(_rounds._in_turn(rounds), expected)
        check(_rounds._any_number(rounds), expected, exact=False)
        if rounds.drive is None:
            check(_rounds._in_bits(rounds), expected)


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.floats(0, 0.4))
@settings(max_examples=100, deadline=None)
def test_what_any_number_of_rounds_reaches(seed, n, density):
    rng = np.random.default_rng(seed)
    local, first = rng.random((n, n)) < density, rng.random((n, 5)) < 0.2
    power, expected = np.eye(n, dtype=int), np.zeros((n, 5), bool)
    for _ in range(n):
        expected |= power @ first > 0
        power = (local @ power > 0).astype(int)
    found = reached(sparse.csr_matrix(local), sparse.csr_matrix(first))
    np.testing.assert_array_equal(found.toarray(), expected)


@pytest.mark.parametrize("limit", ["ENTRIES", "WORDS"])
def test_a_long_loop_whose_patterns_grow_too_large_may_stop_anywhere(limit, monkeypatch):
    """A sum whose every value is returned, or numbers in a ring: what any round has reached."""
    monkeypatch.setattr(_rounds, limit, 1000)
    monkeypatch.setattr(_rounds, "ROUNDS", 100)
    monkeypatch.setattr(_loops, "UNROLLED", 0)
    fun, n = {
        "ENTRIES": (lambda x: jax.lax.scan(lambda c, r: (c + r, c), 0.0, x)[1], 101),
        "WORDS": (lambda x: jax.lax.fori_loop(0, 101, lambda _, c: jnp.roll(c, 1), x), 9),
    }[limit]
    assert sparsity(fun, jnp.ones(n)).toarray().all()
