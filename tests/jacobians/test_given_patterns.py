"""Patterns that the user gives: taken, and refused where they miss entries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.sparse import BCOO
from scipy import sparse, spatial

from adlab.jacobians import jacobian, patterns, sparsity
from adlab.jacobians.given import probes

N = 12
X = np.linspace(0.2, 1.1, N, dtype=np.float32)
TRIDIAGONAL = sparse.diags([1.0, 1.0, 1.0], [-1, 0, 1], (N, N), format="csr")


@jax.jit
def band(x):
    wide = jnp.pad(x, 1)
    return jnp.sin(wide[1:-1]) * wide[2:] - wide[:-2] ** 2


def dense(found):
    return sparse.coo_array((found.data, np.asarray(found.indices).T), found.shape).toarray()


def padded(matrix, count):
    """A BCOO of so many places, the last ones beyond the matrix as those of `BCOO.fromdense`."""
    matrix = sparse.coo_array(matrix)
    places = np.tile(np.array(matrix.shape, np.int32), (count, 1))
    places[: matrix.nnz] = np.stack(matrix.coords, axis=1)
    return BCOO((jnp.asarray(np.ones(count, np.float32)), jnp.asarray(places)), shape=matrix.shape)


# Closed form.
EXPECTED = np.diag(np.cos(X) * np.append(X[1:], 0)) + np.diag(np.sin(X[:-1]), 1)
EXPECTED -= np.diag(2 * X[:-1], -1)


@pytest.fixture
def no_search(monkeypatch):
    monkeypatch.setattr(patterns, "find", None)


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize("form", ["csr", "coo", "csc", "dia", "bcoo", "padded bcoo", "wider"])
def test_a_given_pattern_is_taken(form):
    given = {
        "bcoo": lambda: BCOO.from_scipy_sparse(TRIDIAGONAL),
        "padded bcoo": lambda: padded(TRIDIAGONAL, 60),
        "wider": lambda: sparse.csr_array(np.abs(np.subtract.outer(range(N), range(N))) < 4),
    }.get(form, lambda: TRIDIAGONAL.asformat(form))()
    j = jacobian(band, mode="sparse", pattern=given)
    found = jax.jit(j)(X)
    assert found.nse == (TRIDIAGONAL.nnz if form != "wider" else 7 * N - 12)
    np.testing.assert_allclose(dense(found), EXPECTED, atol=1e-6)  # float32


def test_places_that_pad_a_bcoo_are_no_entries():
    given = padded(np.eye(3)[::-1], 8)
    x = np.ones(3, np.float32)
    assert jax.eval_shape(jacobian(jnp.flip, mode="sparse", pattern=given), x).nse == 3


@pytest.mark.usefixtures("x64")
def test_what_sparsity_finds_can_be_given():
    def fun(tree):
        return {"a": tree["x"] ** 2, "b": jnp.flip(tree["y"]) * tree["x"][0]}

    tree = {"x": np.array([1.0, 2.0]), "y": np.array([[3.0, 4.0, 5.0]])}
    j = jacobian(fun, mode="sparse", pattern=sparsity(fun, tree))

    @jax.jit
    def both(tree):
        sparse = lambda b: isinstance(b, BCOO)  # noqa: E731
        found = jax.tree.map(lambda b: b.todense(), j(tree), is_leaf=sparse)
        return found, jax.jacfwd(fun)(tree)

    jax.tree.map(np.testing.assert_array_equal, *both(tree))


@pytest.mark.parametrize("missing", [(5, 4), (7, 7), (0, 1)])
@pytest.mark.parametrize("rows", [False, True])
def test_a_missing_entry_is_refused_with_its_place(missing, rows):
    """In both directions of sweeps: of rows too, where a full row leaves them fewer colours."""

    @jax.jit
    def fun(x):
        return band(x).at[3].add(jnp.sum(x)) if rows else band(x)

    given = TRIDIAGONAL.toarray()
    given[3] += rows
    given[missing] = 0
    j = jacobian(fun, mode="sparse", pattern=sparse.csr_array(given))
    line, place = (missing[1], "column") if rows else (missing[0], "row")
    with pytest.raises(ValueError, match=rf"hold every entry .* in {place} {line};.*sparsity"):
        j(X)
    found = dense(jax.jit(j)(X))  # nothing can be raised: not a number
    lines = found.T if rows else found
    assert np.isnan(lines[line]).any()
    assert not np.isnan(np.delete(lines, line, axis=0)).any()


def test_an_entry_without_others_in_its_row_is_missed_too():
    given = sparse.csr_array((np.ones(1), ([0], [0])), (2, 2))
    with pytest.raises(ValueError, match="misses some in 1 of 2 rows, first in row 1"):
        jacobian(jnp.square, mode="sparse", pattern=given)(np.ones(2, np.float32))


def test_rounding_is_no_missing_entry():
    """Numbers that cancel to half of their digits, in float32, over many points."""
    points = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    points += np.sign(points)
    fun = lambda x: (x + 100.0) ** 2 - 1e4 - 200 * x  # noqa: E731
    j = jacobian(fun, mode="sparse", pattern=sparse.eye_array(3))
    assert np.isfinite(jax.jit(jax.vmap(lambda x: j(x).data))(points)).all()


def test_rounding_of_what_cancels_is_no_missing_entry():
    """Saturated, a softmax subtracts numbers that are equal: rounding is all that is left."""
    x = np.linspace(-1.0, 1.0, 300, dtype=np.float32).reshape(50, 6)
    x[:, 2] += 17
    blocks = sparse.kron(sparse.eye_array(50), np.ones((6, 6)))
    j = jax.jit(jacobian(jax.nn.softmax, mode="sparse", pattern=blocks))
    assert np.isfinite(j(x).data).all()


@pytest.mark.parametrize("entry", [jnp.inf, jnp.nan])
def test_a_row_that_is_not_finite_leaves_the_others_verified(entry):
    x = np.ones(3, np.float32)
    fun = jax.jit(lambda x: jnp.stack([x[0] * entry, x[1] * x[2], x[2]]))
    given = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    with pytest.raises(ValueError, match="misses some in 1 of 3 rows, first in row 1"):
        jacobian(fun, mode="sparse", pattern=sparse.csr_array(given))(x)
    given[1, 2] = 1
    found = dense(jacobian(fun, mode="sparse", pattern=sparse.csr_array(given))(x))
    np.testing.assert_array_equal(found[1:], [[0, 1, 1], [0, 0, 1]])
    assert not np.isfinite(found[0, 0])
    given[0, 0] = 0
    with pytest.raises(ValueError, match="misses some in 1 of 3 rows, first in row 0"):
        jacobian(fun, mode="sparse", pattern=sparse.csr_array(given))(x)


@pytest.mark.parametrize("given", [[[1, 0], [1, 0]], [[1, 0], [0, 0]]])
def test_a_small_row_beside_a_large_one_is_verified(given):
    fun = jax.jit(lambda x: jnp.stack([1e6 * x[0], x[1]]))
    x = np.ones(2, np.float32)
    with pytest.raises(ValueError, match="misses some in 1 of 2 rows, first in row 1"):
        jacobian(fun, mode="sparse", pattern=sparse.csr_array(np.array(given)))(x)


def test_each_of_200_columns_is_told_from_each_other():
    """An entry of column 18 can't be given for one of column 181, nor left out in any."""
    x, every = np.ones(200, np.float32), np.arange(200)
    for shift in (37, 163):
        given = sparse.csr_array((np.ones(200), (every, (every + shift) % 200)), (200, 200))
        with pytest.raises(ValueError, match="misses some in 200 of 200 rows"):
            jacobian(jnp.sin, mode="sparse", pattern=given)(x)
    none = sparse.csr_array((200, 200))
    with pytest.raises(ValueError, match="misses some in 200 of 200 rows"):
        jacobian(jnp.sin, mode="sparse", pattern=none)(x)


@pytest.mark.parametrize("count", [1, 2, 9, 200, 20_000])
def test_the_numbers_that_verify_differ_in_all_places(count):
    drawn = probes(count)
    assert drawn.shape == (3, count)
    assert 1 <= np.abs(drawn).min() <= np.abs(drawn).max() <= 2
    apart = 0.99 / (2 + count ** (1 / 3))
    assert not spatial.cKDTree(drawn.T).query_pairs(apart, p=np.inf)
    assert np.abs(drawn.sum(axis=1)).max() < 2 + 5 * count**0.5  # of both signs


@pytest.mark.parametrize(
    ("pattern", "options", "error", "message"),
    [
        (np.eye(N), {}, TypeError, "must be a sparse matrix of scipy.sparse or a BCOO .* got ndar"),
        (
            TRIDIAGONAL,
            {"mode": "forward"},
            ValueError,
            "is for mode=\"sparse\", got mode='forward'",
        ),
        (sparse.coo_array(np.ones(3)), {}, ValueError, r"must have 2 axes, got shape \(3,\)"),
        (
            BCOO.fromdense(np.ones((N, N), np.float32), n_batch=1),
            {},
            ValueError,
            "must have no batch axes .* n_batch=1, n_dense=0",
        ),
    ],
)
def test_what_is_no_pattern_is_refused_at_once(pattern, options, error, message):
    with pytest.raises(error, match=f"pattern {message}"):
        jacobian(band, **{"mode": "sparse", **options}, pattern=pattern)


def test_a_pattern_of_another_shape_is_refused():
    j = jacobian(lambda x: band(x)[1:], mode="sparse", pattern=TRIDIAGONAL)
    with pytest.raises(ValueError, match=r"shape .* = \(11, 12\), got \(12, 12\)$"):
        j(X)
    j = jacobian(lambda x: band(x)[1:], mode="sparse", pattern=TRIDIAGONAL[:, 1:])
    with pytest.raises(ValueError, match=r"got \(12, 11\); transpose it"):
        j(X)


def test_a_traced_pattern_is_refused():
    @jax.jit
    def traced(pattern):
        return jacobian(band, mode="sparse", pattern=pattern)(X).data

    with pytest.raises(TypeError, match="pattern must be known when the function is traced"):
        traced(BCOO.from_scipy_sparse(TRIDIAGONAL))


def missing(fun, entries, x):
    rows, cols = zip(*entries, strict=True)
    fun, x = jax.jit(fun), np.asarray(x, np.float32)
    shape = (jax.eval_shape(fun, x).size, x.size)
    given = sparse.csr_array((np.ones(len(rows), bool), (rows, cols)), shape)
    with pytest.raises(ValueError, match="and misses some in"):
        jacobian(fun, mode="sparse", pattern=given)(x)


def test_neither_infinite_nor_large_rows_hide_what_others_miss():
    missing(lambda x: jnp.stack([jnp.sqrt(x[0]), x[1]]), [(0, 0)], [0.0, 1.0])
    missing(lambda x: jnp.stack([1e6 * x[0], x[1]]), [(0, 0), (1, 0)], [1.0, 1.0])
    missing(lambda x: jnp.stack([1e6 * x[0], x[1]]), [(0, 0)], [1.0, 1.0])


def test_no_column_is_taken_for_another_or_for_none():
    """Of 20,000 numbers some are near 0, or near another, where they are drawn at random once."""
    x = np.ones(20_000, np.float32)
    diagonal = [(k, k) for k in range(20_000)]
    missing(lambda x: x.at[18_168].add(x[18_167]), diagonal, x)
    for one, other in ((18, 181), (3, 77)):
        missing(lambda x, k=one: x[k : k + 1], [(0, other)], x[:200])
