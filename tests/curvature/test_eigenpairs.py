"""Extreme eigenpairs of matrices whose eigenvalues are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import regressions

from adlab.curvature import GaussNewton, Linear, eigenpairs

KEY = jax.random.key(2)
LOOPS = pytest.mark.parametrize("loop", ["host", "fused"])
EIGENVALUES = np.sort(np.concatenate([np.linspace(-1, 1, 94), [-6, -4, -3, 3, 5, 9]]))
BASIS, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((100, 100)))


def as_float32(matrix):
    return jax.device_put(np.asarray(matrix, np.float32))


DENSE = (BASIS * EIGENVALUES) @ BASIS.T
DENSE = (DENSE + DENSE.T) / 2
MATRIX, SMALL = as_float32(DENSE), as_float32(DENSE[:12, :12])
ROUND_OFF = 1e-5  # float32, |A| = 9


def check_pairs(found, matrix):
    """Unit vectors, residuals as measured in float64, flags that follow from them."""
    dense, vectors = np.asarray(matrix, np.float64), np.asarray(found.vectors, np.float64)
    values = np.asarray(found.values, np.float64)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    residuals = np.linalg.norm(vectors @ dense - values[:, None] * vectors, axis=1)
    scale = max(1.0, np.abs(values).max())
    np.testing.assert_allclose(found.residuals, residuals, rtol=1e-3, atol=1e-6 * scale)
    distance = np.abs(values[:, None] - np.linalg.eigvalsh(dense)).min(axis=1)
    assert np.all(distance <= np.asarray(found.residuals) + 1e-6 * scale)


@pytest.mark.parametrize(
    ("which", "expected", "loop"),
    [
        ("both", [9, 5, 3, -3, -4, -6], "host"),
        ("both", [9, 5, 3, -3, -4, -6], "fused"),
        ("largest", [9, 5, 3], "host"),
        ("smallest", [-3, -4, -6], "host"),
    ],
)
def test_extreme_pairs_are_found_in_decreasing_order(which, expected, loop):
    found = eigenpairs(MATRIX, key=KEY, k=3, which=which, num_matvecs=50, loop=loop)
    np.testing.assert_allclose(found.values, expected, atol=ROUND_OFF)
    assert np.all(found.converged)
    assert np.all(np.asarray(found.residuals) <= 1e-3 * 9)
    check_pairs(found, MATRIX)
    for value, vector in zip(expected, np.asarray(found.vectors), strict=True):
        true = BASIS[:, np.argmin(np.abs(EIGENVALUES - value))]
        # The angle is at most residual / gap, 1e-2: the cosine, half its square.
        assert abs(vector @ true) > 1 - 1e-4


@LOOPS
def test_too_few_steps_are_confessed(loop):
    found = eigenpairs(MATRIX, key=KEY, k=3, num_matvecs=8, loop=loop)
    expected = np.array([9, 5, 3, -3, -4, -6])
    wrong = np.abs(np.asarray(found.values) - expected) > 9e-3
    assert np.any(wrong)
    assert not np.any(np.asarray(found.converged) & wrong)
    check_pairs(found, MATRIX)
    # The residual of one is small, but 8 steps can't tell whether there is an eigenvalue beyond it.
    assert np.sum(np.asarray(found.residuals) <= 1e-3 * 9) == 1
    assert not np.any(found.converged)
    assert "not converged" in str(found)
    assert f"({8 + 6} products)" in str(found)


@LOOPS
def test_an_unreachable_tolerance_is_confessed(loop):
    found = eigenpairs(MATRIX, key=KEY, k=3, num_matvecs=50, rtol=1e-12, loop=loop)
    assert not np.any(found.converged)
    np.testing.assert_allclose(found.values, [9, 5, 3, -3, -4, -6], atol=ROUND_OFF)
    assert np.all(
        np.asarray(found.residuals)[[0, -1]] < ROUND_OFF
    )  # yet it is as good as float32 can be


def test_fewer_products_are_spent_where_they_suffice():
    seen = []
    found = eigenpairs(
        MATRIX, key=KEY, which="largest", num_matvecs=90, rtol=1e-1,
        on_progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert np.all(found.converged)
    assert found.num_matvecs < 30
    assert seen[-1][0] == found.num_matvecs == len(seen)
    assert {total for _, total in seen} == {90 + 1}
    tighter = eigenpairs(MATRIX, key=KEY, which="largest", num_matvecs=90, rtol=1e-5)
    assert tighter.num_matvecs > found.num_matvecs
    np.testing.assert_allclose(tighter.values, [9], atol=ROUND_OFF)


def test_auto_takes_at_most_40_steps_and_20_per_pair_or_the_dimension():
    totals = []
    options = {"key": KEY, "rtol": 1e-12, "on_progress": lambda _, total: totals.append(total)}
    eigenpairs(MATRIX, k=2, **options)
    eigenpairs(as_float32(DENSE[:9, :9]), k=2, **options)
    assert totals[0] == 40 + 40 + 4
    assert totals[-1] == 9 + 4


def test_host_and_fused_loops_agree():
    options = {"key": KEY, "k": 3, "num_matvecs": 8}
    host, fused = (eigenpairs(MATRIX, loop=loop, **options) for loop in ("host", "fused"))
    np.testing.assert_allclose(host.values, fused.values, atol=1e-4)  # float32, |A| = 9
    np.testing.assert_allclose(host.residuals, fused.residuals, atol=1e-3)
    cosines = np.sum(np.asarray(host.vectors) * np.asarray(fused.vectors), axis=1)
    np.testing.assert_allclose(np.abs(cosines), 1, atol=1e-5)
    assert host.num_matvecs == fused.num_matvecs == 14


def test_all_pairs_of_a_small_matrix():
    matrix = as_float32(DENSE[:6, :6])
    found = eigenpairs(matrix, key=KEY, k=3)
    np.testing.assert_allclose(found.values, np.linalg.eigvalsh(DENSE[:6, :6])[::-1], atol=1e-5)
    check_pairs(found, matrix)


@LOOPS
def test_rank_deficiency_and_multiplicity(loop):
    """The Krylov space ends after two steps; the rest is filled with directions outside of it."""
    direction = np.arange(1.0, 13)
    rank_one = as_float32(np.outer(direction, direction) / direction.dot(direction))
    found = eigenpairs(rank_one, key=KEY, k=2, num_matvecs=12, loop=loop)
    np.testing.assert_allclose(found.values, [1, 0, 0, 0], atol=1e-5)
    assert np.all(found.converged)
    check_pairs(found, rank_one)
    unit = as_float32(np.eye(12))
    identity = eigenpairs(unit, key=KEY, k=2, num_matvecs=12, loop=loop)
    np.testing.assert_allclose(identity.values, [1, 1, 1, 1], atol=1e-5)
    check_pairs(identity, unit)
    zero = eigenpairs(as_float32(np.zeros((12, 12))), key=KEY, k=2, num_matvecs=12, loop=loop)
    np.testing.assert_array_equal(zero.values, 0)
    assert np.all(zero.converged)


COPIES = np.repeat([5.0, 1.0], [10, 40])


@LOOPS
def test_every_copy_is_found_before_pairs_have_converged(loop):
    matrix = as_float32(np.diag(COPIES))
    found = eigenpairs(matrix, key=KEY, k=6, num_matvecs=49, loop=loop)
    np.testing.assert_allclose(found.values, [5] * 6 + [1] * 6, atol=ROUND_OFF)
    assert np.all(found.converged)
    assert found.num_matvecs <= 6 * 2 + 5 + 12  # two steps per copy, and checked every 5
    vectors = np.asarray(found.vectors, np.float64)
    np.testing.assert_allclose(vectors @ vectors.T, np.eye(12), atol=1e-5)  # float32
    check_pairs(found, matrix)


def test_a_regression_with_ten_outputs_has_every_eigenvalue_ten_times():
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((200, 8)) * np.logspace(0, -1, 8)).astype(np.float32)
    operator = GaussNewton(
        lambda weights, x: x @ weights, regressions.half_mean_square,
        as_float32(np.zeros((8, 10))), jax.device_put(x), as_float32(np.zeros((200, 10))),
    )  # fmt: skip
    found = eigenpairs(operator, key=KEY, k=12, which="largest")
    single = np.linalg.eigvalsh(np.float64(x).T @ np.float64(x) / 200)[::-1]
    np.testing.assert_allclose(found.values, np.repeat(single, 10)[:12], rtol=1e-4)  # rtol^2 / gap
    assert np.all(found.converged)


@pytest.mark.usefixtures("x64")
def test_no_random_spectrum_with_copies_converges_wrongly():
    rng = np.random.default_rng(4)
    for index in range(90):
        dim = int(rng.choice([2, 3, 9, 80]))
        pool = rng.standard_normal(max(1, dim // 3))
        eigenvalues = rng.choice(pool, dim)
        if index % 3 == 0:
            eigenvalues[dim // 3 :] = 0
        basis, _ = np.linalg.qr(rng.standard_normal((dim, dim)))
        k = int(rng.integers(1, min(dim, 6) + 1))
        which = ("largest", "smallest", "magnitude")[index // 30]
        matrix = jax.device_put((basis * eigenvalues) @ basis.T)
        found = eigenpairs(matrix, key=jax.random.fold_in(KEY, index), k=k, which=which)
        true = np.sort(eigenvalues)[::-1]
        ends = {"largest": true[:k], "smallest": true[-k:], "magnitude": -np.sort(-abs(true))[:k]}
        expected = ends[which]
        assert np.all(found.converged)
        # As far as a converged residual may be: rtol times the largest |value|.
        values = abs(found.values) if which == "magnitude" else found.values
        np.testing.assert_allclose(values, expected, atol=1.01e-3 * np.abs(true).max())


@LOOPS
def test_pairs_of_the_largest_magnitude_come_in_its_order(loop):
    found = eigenpairs(MATRIX, key=KEY, k=5, which="magnitude", num_matvecs=60, loop=loop)
    np.testing.assert_allclose(found.values[:3], [9, -6, 5], atol=ROUND_OFF)
    np.testing.assert_allclose(np.abs(found.values[3:]), [4, 3], atol=ROUND_OFF)
    assert np.all(found.converged)
    check_pairs(found, MATRIX)
    both = eigenpairs(MATRIX, key=KEY, k=5, num_matvecs=60, loop="host")
    assert found.num_matvecs <= both.num_matvecs - 5  # those of pairs that nobody wants


def test_pairs_of_the_largest_magnitude_are_at_most_all():
    every = eigenpairs(SMALL, key=KEY, k=40, which="magnitude")
    exact = np.linalg.eigvalsh(DENSE[:12, :12])
    np.testing.assert_allclose(every.values, exact[np.argsort(-abs(exact))], atol=ROUND_OFF)


def test_magnitude_needs_steps_for_both_ends():
    with pytest.raises(ValueError, match=r"at most num_matvecs = 9 .* which looks at both ends"):
        eigenpairs(MATRIX, key=KEY, k=5, which="magnitude", num_matvecs=9)


def eigenvector(value):
    return as_float32(BASIS[:, np.argmin(np.abs(EIGENVALUES - value))])


@LOOPS
def test_a_start_that_is_nearly_the_vector_saves_products(loop):
    matrix = as_float32(np.diag(np.append(np.linspace(0, 1, 399), 1.01)))  # a small gap
    options = {"key": KEY, "which": "largest", "num_matvecs": 200}
    known = eigenpairs(matrix, loop="host", **options)
    noise = 1e-4 * np.random.default_rng(0).standard_normal(400)
    start = {"w": 1e-30 * (known.vectors[0] + as_float32(noise))}  # of any length
    tree = Linear(lambda v: {"w": matrix @ v["w"]}, start)
    again = eigenpairs(tree, start=start, loop=loop, **options)
    np.testing.assert_allclose([*known.values, *again.values], 1.01, atol=ROUND_OFF)
    assert np.all(again.converged & known.converged)
    assert again.num_matvecs < known.num_matvecs


@LOOPS
def test_a_start_that_is_orthogonal_to_the_vector_hides_nothing(loop):
    for start in (eigenvector(5), eigenvector(5) + eigenvector(-6) + eigenvector(3)):
        found = eigenpairs(MATRIX, key=KEY, which="largest", loop=loop, start=start)
        np.testing.assert_allclose(found.values, [9], atol=ROUND_OFF)
        assert np.all(found.converged)


def test_a_start_may_be_traced():
    @jax.jit
    def value(start):
        return eigenpairs(SMALL, key=KEY, num_matvecs=12, start=start).values

    exact = np.linalg.eigvalsh(DENSE[:12, :12])[[-1, 0]]
    np.testing.assert_allclose(value(SMALL[0]), exact, atol=ROUND_OFF)


@pytest.mark.parametrize(
    ("start", "error", "told"),
    [
        (np.zeros(100, np.float32), ValueError, "start must be finite and not zero, got a largest"),
        (np.full(100, np.nan, np.float32), ValueError, "start must be finite and not zero"),
        (np.ones(99, np.float32), ValueError, "start must be shaped as the operator's vectors, "),
        (np.ones(100, np.int32), TypeError, "start must be real floating-point, got int32"),
    ],
)
def test_a_start_that_is_none_is_refused(start, error, told):
    with pytest.raises(error, match=told):
        eigenpairs(MATRIX, key=KEY, start=start)


def test_pairs_beyond_the_dimension_come_once():
    for k in (1, 5):
        found = eigenpairs(as_float32([[3.0]]), key=KEY, k=k)
        np.testing.assert_array_equal(found.values, [3])
        assert np.all(found.converged)
    all_of_them = eigenpairs(as_float32(DENSE[:5, :5]), key=KEY, k=4)
    expected = np.linalg.eigvalsh(DENSE[:5, :5])[::-1]
    np.testing.assert_allclose(all_of_them.values, expected, atol=1e-5)


@pytest.mark.parametrize("loop", ["host", "fused"])
def test_pairs_scale_with_the_operator(loop):
    """By powers of 2 near 1e-22 and 1e18, whose squares float32 can't hold or can only just."""
    options = {"k": 2, "num_matvecs": 12, "loop": loop}
    plain, *others = (
        eigenpairs(as_float32(DENSE[:12, :12] * scale), key=KEY, rtol=1e-4, **options)
        for scale in (1.0, 2.0**-73, 2.0**60)
    )
    for found, scale in zip(others, (2.0**-73, 2.0**60), strict=True):
        np.testing.assert_allclose(np.float64(found.values) / scale, plain.values, atol=1e-4)
        assert np.all(found.converged)
        size = np.abs(plain.values).max()
        assert np.all(np.float64(found.residuals) / scale <= 1e-4 * size)


def test_values_have_derivatives_and_vectors_say_that_they_have_none():
    """d value = v . dA v: v v^T in A. That of a vector is NaN, also where values are used too."""
    matrix, like = SMALL, jax.ShapeDtypeStruct((12,), jnp.float32)
    exact, vectors = np.linalg.eigh(np.float64(matrix))

    def both(a):
        found = eigenpairs(Linear(lambda v: a @ v, like), key=KEY)
        return jnp.append(found.values, found.vectors[0, 0]), found.converged

    @jax.jit
    def pull(*cotangent):
        (row, converged), back = jax.vjp(both, matrix)
        none = np.zeros(converged.shape, jax.dtypes.float0)
        return row[:2], converged, back((jnp.stack(cotangent), none))[0]

    one, zero = np.float32(1), np.float32(0)
    for cotangent, vector in (((one, zero), vectors[:, -1]), ((zero, one), vectors[:, 0])):
        values, converged, found = pull(*cotangent, zero)
        np.testing.assert_allclose(values, exact[[-1, 0]], atol=ROUND_OFF)
        assert np.all(converged)
        np.testing.assert_allclose(found, np.outer(vector, vector), atol=1e-4)  # float32, by gaps
    assert np.all(np.isnan(pull(one, zero, one)[2]))


def test_vectors_are_trees():
    scales = {"a": as_float32(np.ones((2, 3))), "b": as_float32([-2.0, 0.0]), "c": as_float32(5.0)}
    operator = Linear(lambda v: jax.tree.map(jnp.multiply, scales, v), scales)
    found = eigenpairs(operator, key=KEY, num_matvecs=9)
    assert jax.tree.structure(found.vectors) == jax.tree.structure(scales)
    assert found.vectors["a"].shape == (2, 2, 3)
    np.testing.assert_allclose(found.values, [5, -2], atol=1e-5)
    np.testing.assert_allclose(np.abs(found.vectors["c"]), [1, 0], atol=1e-4)
    np.testing.assert_allclose(np.abs(found.vectors["b"]), [[0, 0], [1, 0]], atol=1e-4)


def test_inside_jit_and_vmap_over_the_key():
    def values(matrix, key):
        return eigenpairs(matrix, key=key, k=1, num_matvecs=12)

    mapped = jax.jit(jax.vmap(values, (None, 0)))(SMALL, jax.random.split(KEY, 2))
    np.testing.assert_allclose(mapped.values, [values(SMALL, KEY).values] * 2, atol=1e-5)
    assert np.all(mapped.converged)


@pytest.mark.usefixtures("x64")
def test_float64():
    matrix = jax.device_put(DENSE)
    found = eigenpairs(matrix, key=KEY, k=2, num_matvecs=90, rtol=1e-12)
    assert found.values.dtype == found.vectors.dtype == np.float64
    np.testing.assert_allclose(found.values, [9, 5, -4, -6], rtol=1e-13)
    assert np.all(found.converged)
    assert np.all(found.residuals <= 9e-12)


def test_pairs_are_printed_as_a_table():
    matrix = as_float32(np.diag(np.arange(1.0, 61.0)))
    found = eigenpairs(matrix, key=KEY, k=30, num_matvecs=60)
    header, *rows, products = repr(found).splitlines()
    assert header.split() == ["value", "residual", "converged"]
    assert len(rows) == 21  # ten at each end, and what says that others are left out
    assert rows[0].split()[0] == "60"
    assert rows[0].split()[2] == "yes"
    assert set(rows[10].split()) == {"..."}
    assert rows[-1].split()[0] == "1"
    assert products == f"({found.num_matvecs} products)"
    markup = found._repr_html_()
    assert markup.count("<tr>") == 22
    assert "<td>60</td>" in markup
    few = eigenpairs(matrix, key=KEY, num_matvecs=4)
    assert all(row.endswith("not converged") for row in str(few).splitlines()[1:3])
    assert "traced" in repr(jax.tree.map(lambda leaf: np.asarray(leaf)[None], found))
