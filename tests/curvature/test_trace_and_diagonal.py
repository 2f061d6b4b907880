"""Traces and diagonals: means, variances and errors as the docstrings state them."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from matfree import stochtrace

from adlab.core import probes
from adlab.curvature import Linear, diagonal, trace

KEY = jax.random.key(1)
DIM = 20
COUNT = 12  # of products, where any will do
LOOPS = pytest.mark.parametrize("loop", ["host", "fused"])
MATRIX = np.asarray(oracles.quadratic(DIM).hessian)
FLAT = np.linspace(1, 3, 100)
RANDOM = np.random.default_rng(2)
SKEWED = MATRIX + np.triu(RANDOM.standard_normal((DIM, DIM)), 1)  # square, not symmetric


def as_float32(matrix):
    return jax.device_put(np.asarray(matrix, np.float32))


@functools.cache
def probes_of(law):
    """Probe i comes from fold_in(key, i)."""
    like = jax.ShapeDtypeStruct((DIM,), np.float32)
    rows = jax.jit(jax.vmap(lambda i: law(like, key=jax.random.fold_in(KEY, i))))
    return np.asarray(rows(np.arange(COUNT)), np.float64)


def one_probe_variance(law, a):
    symmetric = (a + a.T) / 2
    squares, tr, d = np.sum(symmetric**2), np.trace(a), len(a)
    return {
        "rademacher": 2 * (squares - np.sum(np.diag(symmetric) ** 2)),
        "gaussian": 2 * squares,
        "sphere": 2 * d / (d + 2) * (squares - tr**2 / d),
    }[law]


@pytest.mark.parametrize("law", ["rademacher", "gaussian", "sphere", "coordinate"])
def test_hutchinson_has_the_mean_and_variance_of_theory(law):
    count = 40_000
    estimate = trace(as_float32(MATRIX), key=KEY, num_matvecs=count, law=law, chunk_size=4000)
    oracles.assert_mean_is(np.trace(MATRIX), estimate.samples)
    if law != "coordinate":
        # 5 % is 5 standard errors or more: kurtosis 6 at most, sqrt(5 / 40,000) = 1.1 % each.
        variance = one_probe_variance(law, MATRIX)
        np.testing.assert_allclose(np.var(estimate.samples), variance, rtol=0.05)
    assert estimate.samples.shape == (count,)
    assert estimate.num_matvecs == count
    expected = np.std(estimate.samples, ddof=1) / math.sqrt(count)
    np.testing.assert_allclose(estimate.standard_error, expected, rtol=1e-6)
    np.testing.assert_allclose(estimate.value, np.mean(estimate.samples), rtol=1e-6)


@LOOPS
def test_hutchinson_is_exact_where_its_variance_vanishes(loop):
    matrix = as_float32(np.diag(np.arange(DIM)))
    signs = trace(matrix, key=KEY, num_matvecs=20, law="rademacher", loop=loop)
    assert signs.value == 190.0
    assert signs.standard_error == 0.0
    few = trace(matrix, key=KEY, num_matvecs=4, law="rademacher", loop=loop)
    assert few.value == 190.0  # but four signs may agree by chance
    assert np.isnan(few.standard_error)
    sphere = trace(as_float32(2.5 * np.eye(DIM)), key=KEY, num_matvecs=4, law="sphere", loop=loop)
    np.testing.assert_allclose(sphere.samples, 50, rtol=1e-6)  # |u|^2 = d to round-off


@LOOPS
@pytest.mark.parametrize("estimator", ["hutchinson", "hutch++", "xtrace"])
def test_samples_are_those_of_the_probes_of_the_key(estimator, loop):
    """Against the definition, in float64, with a QR of its own for every probe left out."""
    naive = {"hutchinson": naive_hutchinson, "hutch++": naive_hutchpp, "xtrace": naive_xtrace}
    found = trace(
        as_float32(SKEWED), key=KEY, num_matvecs=COUNT, estimator=estimator, law="gaussian",
        loop=loop,
    )  # fmt: skip
    u = probes_of(probes.gaussian)
    expected = naive[estimator](np.float64(as_float32(SKEWED)), u, COUNT)
    assert found.num_matvecs == COUNT
    np.testing.assert_allclose(found.samples, expected, rtol=2e-4, atol=2e-3)  # float32, |A| = 10
    np.testing.assert_allclose(found.value, np.mean(expected), rtol=1e-4)
    error = np.std(expected, ddof=1) / math.sqrt(len(expected))
    np.testing.assert_allclose(found.standard_error, error, rtol=1e-3)


def naive_hutchinson(a, u, count):
    return np.array([probe @ a @ probe for probe in u[:count]])


def naive_hutchpp(a, u, count):
    sketches = count // 3
    q, _ = np.linalg.qr(a @ u[:sketches].T)
    rest = np.eye(len(a)) - q @ q.T
    tested = u[sketches : count - sketches]
    return np.trace(q.T @ a @ q) + np.array([g @ rest @ a @ rest @ g for g in tested])


def naive_xtrace(a, u, count):
    size, d = count // 2, len(a)
    samples = []
    for i in range(size):
        others = np.delete(u[:size], i, axis=0)
        q, _ = np.linalg.qr(a @ others.T)
        rest = u[i] - q @ (q.T @ u[i])
        rest = rest * math.sqrt((d - size + 1) / (rest @ rest))
        samples.append(np.trace(q.T @ a @ q) + rest @ a @ rest)
    return np.array(samples)


@jax.jit
def xtrace_of_matfree(matrix, u):
    return stochtrace.leave_one_out_xtrace()(lambda v: matrix @ v, u)


@pytest.mark.parametrize("law", ["gaussian", "sphere"])
def test_xtrace_is_the_one_of_matfree(law):
    u = probes_of(getattr(probes, law))[: COUNT // 2].astype(np.float32)
    matrix = as_float32(MATRIX)
    theirs = xtrace_of_matfree(matrix, u)
    ours = trace(matrix, key=KEY, num_matvecs=COUNT, estimator="xtrace", law=law)
    np.testing.assert_allclose(ours.samples, theirs, rtol=2e-4, atol=2e-3)  # float32


@pytest.mark.parametrize(
    ("estimator", "law"),
    [
        ("hutch++", "rademacher"),
        ("hutch++", "gaussian"),
        ("xtrace", "gaussian"),
        ("xtrace", "sphere"),
        ("xtrace", "rademacher"),
    ],
)
def test_hutchpp_and_xtrace_are_unbiased(estimator, law):
    keys = jax.random.split(KEY, 4000)
    matrix = as_float32(MATRIX)

    def once(key):
        found = trace(matrix, key=key, num_matvecs=9, estimator=estimator, law=law)
        return found.value

    estimates = jax.jit(lambda keys: jax.lax.map(once, keys, batch_size=500))(keys)
    oracles.assert_mean_is(np.trace(MATRIX), estimates)
    assert np.std(estimates) > 1  # so that the test has something to see: 0.016 in the mean


@LOOPS
@pytest.mark.parametrize(("estimator", "rank"), [("hutch++", 4), ("xtrace", 5)])
def test_low_rank_is_exact(estimator, rank, loop):
    """With m = 12: rank m/3 for Hutch++, m/2 - 1 for XTrace; one more isn't."""
    factors = np.random.default_rng(7).standard_normal((DIM, rank + 1))
    options = {"key": KEY, "num_matvecs": COUNT, "estimator": estimator, "loop": loop}
    for law in ("gaussian", "rademacher"):
        low = factors[:, :rank] @ factors[:, :rank].T
        found = trace(as_float32(low), law=law, **options)
        np.testing.assert_allclose(found.value, np.trace(low), rtol=1e-5)  # float32
        assert found.standard_error <= 1e-4 * np.trace(low)
    high = factors @ factors.T
    found = trace(as_float32(high), law="gaussian", **options)
    assert abs(found.value - np.trace(high)) > 1e-3 * np.trace(high)


@LOOPS
@pytest.mark.parametrize("estimator", ["hutchinson", "hutch++", "xtrace"])
def test_zero_and_whole_range(estimator, loop):
    options = {"key": KEY, "estimator": estimator, "loop": loop}
    found = trace(as_float32(np.zeros((DIM, DIM))), num_matvecs=COUNT, **options)
    np.testing.assert_allclose(found.value, 0, atol=1e-6)
    if estimator == "hutch++":  # sketches as many as dimensions; XTrace takes no probes then
        small = as_float32(MATRIX[:4, :4])
        found = trace(small, num_matvecs=12, law="gaussian", **options)
        np.testing.assert_allclose(found.value, np.trace(MATRIX[:4, :4]), rtol=1e-5)
        assert found.samples.shape == (4,)


def test_decaying_spectra_reward_sketches_and_flat_ones_do_not():
    """30 products in dimension 100: root mean squares over 100 keys."""
    basis, _ = np.linalg.qr(np.random.default_rng(3).standard_normal((100, 100)))
    steep, flat = ((basis * values) @ basis.T for values in (1 / np.arange(1, 101) ** 2, FLAT))
    keys = jax.random.split(KEY, 100)

    def compiled(estimator, law):
        def once(matrix, key):
            found = trace(matrix, key=key, num_matvecs=30, estimator=estimator, law=law)
            return found.value - jnp.trace(matrix)

        errors = jax.jit(jax.vmap(once, in_axes=(None, 0)))
        return lambda matrix: math.sqrt(np.mean(np.asarray(errors(as_float32(matrix), keys)) ** 2))

    hutchinson = compiled("hutchinson", "rademacher")
    hutchpp = compiled("hutch++", "rademacher")
    xtrace = compiled("xtrace", "sphere")
    # The ratios of one published experiment are 24 and 39; scatter of 100 keys is 7 % each.
    assert hutchpp(steep) < hutchinson(steep) / 12
    assert xtrace(steep) < hutchpp(steep)
    assert hutchpp(flat) > 1.3 * hutchinson(flat)


def covered(matrix, keys, **options):
    """How many intervals state an error, hold the trace, and are of no width beside it."""
    exact = float(np.trace(matrix))

    def once(key):
        found = trace(matrix, key=key, **options)
        return jnp.stack([*found.interval(), found.value, found.standard_error])

    rows = jax.jit(lambda keys: jax.lax.map(once, keys, batch_size=100))(keys)
    low, high, estimate, error = np.float64(rows).T
    slack = 1e-4 * abs(exact)  # float32: an exact estimate's interval has no width
    holds = (low - slack <= exact) & (exact <= high + slack)
    narrow = (error < 1e-5 * abs(exact)) & (abs(estimate - exact) > slack)
    return np.sum(np.isfinite(error)), np.sum(holds), np.sum(narrow)


@pytest.mark.parametrize(
    ("estimator", "num_matvecs"), [("hutchinson", 50), ("hutchinson", 8), ("hutch++", 12)]
)
def test_intervals_cover_as_often_as_they_say(estimator, num_matvecs):
    """Student's t, at 95 %, over 1000 keys: of 50, 8 and 4 samples."""
    count, options = 1000, {"estimator": estimator, "num_matvecs": num_matvecs}
    stated, holding, _ = covered(as_float32(MATRIX), jax.random.split(KEY, count), **options)
    assert stated == count
    # 5 standard deviations of the binomial law; the samples are nearly Gaussian.
    assert abs(holding - 0.95 * count) <= 5 * math.sqrt(count * 0.95 * 0.05)


@pytest.mark.parametrize("num_matvecs", [6, 12])
def test_samples_that_agree_by_chance_state_no_error(num_matvecs):
    """Signs give one sample of a small multiple of I again and again, and it isn't the trace."""
    keys = jax.random.split(KEY, 200)
    stated, holding, narrow = covered(
        as_float32(2 * np.eye(6)), keys, estimator="hutch++", num_matvecs=num_matvecs
    )
    assert narrow == 0
    if num_matvecs == 6:
        assert stated == 0  # 2 samples
    else:
        assert 150 < stated < 200
        # At least 95 % less 5 deviations; discrete samples make it no exact law.
        assert holding >= 0.95 * stated - 5 * math.sqrt(stated * 0.95 * 0.05)


@LOOPS
def test_xtrace_is_exact_from_as_many_products_as_dimensions_on(loop):
    matrix = as_float32(SKEWED)
    for num_matvecs in (DIM, 2 * DIM):
        found = trace(matrix, key=KEY, num_matvecs=num_matvecs, estimator="xtrace", loop=loop)
        np.testing.assert_allclose(found.samples, np.trace(SKEWED), rtol=1e-6)  # float32
        assert found.samples.shape == (num_matvecs // 2,)
        assert found.standard_error == 0
        assert found.num_matvecs == DIM
    fewer = trace(matrix, key=KEY, num_matvecs=DIM - 1, estimator="xtrace", loop=loop)
    assert fewer.standard_error > 0
    assert "standard error" in str(fewer)  # dependent samples: no interval
    assert np.all(np.isnan(fewer.interval()))
    one = trace(as_float32([[3.0]]), key=KEY, num_matvecs=4, estimator="xtrace", loop=loop)
    assert str(one) == "3 ± 0 (1 product)"


@LOOPS
def test_results_scale_with_the_operator(loop):
    """Powers of 2 near 1e-22 and 1e18, whose squares are 0 and infinity or near it in float32."""
    options = [
        (trace, {}),
        (trace, {"estimator": "hutch++"}),
        (trace, {"estimator": "xtrace"}),
        (diagonal, {}),
    ]
    for estimate, own in options:
        plain, *others = (
            estimate(as_float32(MATRIX * scale), key=KEY, num_matvecs=COUNT, loop=loop, **own)
            for scale in (1.0, 2.0**-73, 2.0**60)
        )
        assert np.all(np.asarray(plain.standard_error) > 0)
        for found, scale in zip(others, (2.0**-73, 2.0**60), strict=True):
            for name in ("value", "standard_error"):
                ours = np.float64(getattr(found, name)) / scale
                # Round-off: sketches are normalised by their largest entry.
                np.testing.assert_allclose(ours, np.float64(getattr(plain, name)), rtol=1e-3)


def test_gradients_are_those_of_the_estimator():
    """Of the mean of u.Au in A: the mean of u u^T; closures and data alike, and under vmap."""
    like = jax.ShapeDtypeStruct((DIM,), jnp.float32)
    options = {"key": KEY, "num_matvecs": COUNT}
    u = probes_of(probes.rademacher)
    for run, estimate in (
        (jax.jit, lambda a: trace(a, **options).value),
        # Outside of jit, the host's loop meets the traced array first, and hands over.
        (lambda fun: fun, lambda a: trace(Linear(lambda v: a @ v, like), **options).value),
        (jax.jit, lambda a: jnp.sum(diagonal(Linear(lambda v: a @ v, like), **options).value)),
    ):
        found = run(jax.grad(estimate))(as_float32(MATRIX))
        np.testing.assert_allclose(found, u.T @ u / COUNT, atol=1e-6)  # signs
    pair = as_float32([MATRIX, 2 * MATRIX])
    mapped = jax.vmap(lambda a: trace(Linear(lambda v: a @ v, like), **options).value)
    closure = jax.jit(mapped)(pair)
    one = np.trace(u @ MATRIX @ u.T) / COUNT
    np.testing.assert_allclose(closure, [one, 2 * one], rtol=1e-5)
    with pytest.raises(TypeError, match=r"operator must hold arrays that are traced .* as data"):
        jax.grad(lambda a: trace(Linear(lambda v: a @ v, like), loop="host", **options).value)(
            as_float32(MATRIX)
        )


@pytest.mark.parametrize("estimator", ["hutchinson", "hutch++", "xtrace"])
def test_chunk_size_changes_nothing(estimator):
    options = {"key": KEY, "num_matvecs": COUNT, "estimator": estimator}
    whole = trace(as_float32(MATRIX), **options).samples
    for chunk_size in (1, 5, 99):
        part = trace(as_float32(MATRIX), chunk_size=chunk_size, **options).samples
        np.testing.assert_allclose(part, whole, rtol=1e-4, atol=1e-4)  # float32


def test_hutchinson_in_both_loops_and_chunks_takes_the_same_probes():
    options = {"key": KEY, "num_matvecs": COUNT}
    whole = trace(as_float32(MATRIX), loop="host", **options).samples
    for chunk_size in (1, 5):
        part = trace(as_float32(MATRIX), loop="fused", chunk_size=chunk_size, **options).samples
        np.testing.assert_allclose(part, whole, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(("num_matvecs", "samples"), [(3, 1), (4, 2), (5, 3), (6, 2), (30, 10)])
def test_hutchpp_spends_all_products_and_no_more(num_matvecs, samples):
    seen = []
    found = trace(
        as_float32(MATRIX), key=KEY, num_matvecs=num_matvecs, estimator="hutch++",
        on_progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen[-1] == (num_matvecs, num_matvecs)
    assert found.samples.shape == (samples,)
    assert np.isnan(found.standard_error) == (samples < 4)
    assert np.all(np.isnan(found.interval())) == (samples < 4)


def test_xtrace_spends_an_even_number_and_says_so():
    seen = []
    found = trace(
        as_float32(MATRIX), key=KEY, num_matvecs=9, estimator="xtrace",
        on_progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen[-1] == (8, 8)
    assert found.num_matvecs == 8
    sphere = trace(as_float32(MATRIX), key=KEY, num_matvecs=8, estimator="xtrace", law="sphere")
    np.testing.assert_array_equal(found.samples, sphere.samples)  # the law that "auto" is


def test_long_vectors_are_summed_to_float32():
    like = jax.ShapeDtypeStruct((2**22,), jnp.float32)
    tenth = np.float32(0.1)
    found = trace(Linear(lambda v: v * tenth, like), key=KEY, num_matvecs=1)
    np.testing.assert_allclose(found.value, 2**22 * np.float64(tenth), rtol=5e-7)


def test_both_loops_return_one_dtype():
    for loop in ("host", "fused"):
        found = trace(as_float32(MATRIX), key=KEY, num_matvecs=COUNT, loop=loop)
        assert {np.asarray(leaf).dtype for leaf in jax.tree.leaves(found)} == {np.dtype("float32")}


def test_vmap_over_the_key_alone():
    keys = jax.random.split(KEY, 3)

    def once(key):
        return trace(as_float32(MATRIX), key=key, num_matvecs=2).value

    np.testing.assert_allclose(jax.vmap(once)(keys), [once(key) for key in keys], rtol=1e-5)


def test_rtol_stops_hutchinson_once_the_error_is_below():
    matrix = as_float32(MATRIX + 3 * np.eye(DIM))
    options = {"key": KEY, "num_matvecs": 5000}
    found = trace(matrix, rtol=0.02, **options)
    assert 8 < found.num_matvecs < 5000
    assert found.standard_error <= 0.02 * abs(found.value)
    before = trace(matrix, key=KEY, num_matvecs=found.num_matvecs - 8)
    assert before.standard_error > 0.02 * abs(before.value)
    assert trace(matrix, key=KEY, num_matvecs=99, rtol=1e-9).num_matvecs == 99
    # at 24, not 8: fewer samples that agree state no error
    assert trace(as_float32(np.eye(DIM)), rtol=0.1, **options).num_matvecs == 24


@LOOPS
@pytest.mark.parametrize("count", [4, 5, 8])
def test_samples_of_two_values_that_agree_state_no_error(count, loop):
    """Signs give 0 or 4 for the trace 2 of ones: all alike in 2^(1 - m) of the cases."""
    matrix, agreed = as_float32(np.ones((2, 2))), 0
    for seed in range(40):
        key = jax.random.key(seed)
        found = trace(matrix, key=key, num_matvecs=count, law="rademacher", loop=loop)
        alike = np.ptp(np.asarray(found.samples)) == 0
        agreed += alike
        assert np.isnan(found.standard_error) == alike
    # binomial, z <= 5
    share = 2.0 ** (1 - count)
    assert abs(agreed - 40 * share) <= 5 * np.sqrt(40 * share * (1 - share))


def test_estimates_print_with_their_errors():
    identity = as_float32(np.eye(DIM))
    assert str(trace(identity, key=KEY, num_matvecs=1)) == "20 ± nan (1 product)"
    assert str(diagonal(identity, key=KEY, num_matvecs=2)) == ("a tree of 1 arrays (2 products)")


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("estimator", ["hutchinson", "hutch++", "xtrace"])
def test_float64(estimator):
    low = np.outer(np.arange(1.0, 8), np.arange(1.0, 8))
    found = trace(
        jax.device_put(low), key=KEY, num_matvecs=6, estimator=estimator, law="coordinate"
    )
    assert np.asarray(found.samples).dtype == np.float64
    if estimator == "hutch++":
        np.testing.assert_allclose(found.value, np.trace(low), rtol=1e-13)


# -- the diagonal ---------------------------------------------------------------------------------


@LOOPS
def test_diagonal_is_the_mean_of_the_probes_with_welfords_error(loop):
    """Against both passes over the products, in float64."""
    found = diagonal(as_float32(SKEWED), key=KEY, num_matvecs=COUNT, loop=loop)
    u = probes_of(probes.rademacher)
    rows = u * (u @ np.float64(as_float32(SKEWED)).T)
    np.testing.assert_allclose(found.value, rows.mean(axis=0), rtol=1e-5, atol=1e-5)
    error = rows.std(axis=0, ddof=1) / math.sqrt(COUNT)
    np.testing.assert_allclose(found.standard_error, error, rtol=1e-4)  # float32
    assert found.num_matvecs == COUNT
    assert found.samples is None


def test_diagonal_has_the_mean_and_variance_of_theory():
    count, repeats = 3, 20_000
    keys = jax.random.split(KEY, repeats)

    def once(key):
        return diagonal(as_float32(MATRIX), key=key, num_matvecs=count).value

    estimates = np.asarray(jax.jit(lambda k: jax.lax.map(once, k, batch_size=2000))(keys))
    oracles.assert_mean_is(np.diag(MATRIX), estimates)
    variance = (np.sum(MATRIX**2, axis=1) - np.diag(MATRIX) ** 2) / count
    # sqrt(2 / 20,000) = 1 % each: 5 standard errors.
    np.testing.assert_allclose(estimates.var(axis=0), variance, rtol=0.05)


@LOOPS
def test_diagonal_matrices_are_exact(loop):
    values = np.arange(DIM) - 3.0
    found = diagonal(as_float32(np.diag(values)), key=KEY, num_matvecs=20, loop=loop)
    np.testing.assert_array_equal(found.value, values)
    np.testing.assert_array_equal(found.standard_error, 0)
    for count in (2, 19):
        few = diagonal(as_float32(np.diag(values)), key=KEY, num_matvecs=count)
        np.testing.assert_array_equal(few.value, values)
        assert np.all(np.isnan(few.standard_error))  # products of signs may agree by chance


def test_diagonal_comes_as_a_tree_in_float32():
    like = {"a": jax.ShapeDtypeStruct((2, 3), jnp.bfloat16), "b": jax.ShapeDtypeStruct((), "f4")}
    operator = Linear(
        lambda v: {"a": jnp.full((2, 3), 2, jnp.bfloat16) * v["a"], "b": -v["b"]}, like
    )
    found = diagonal(operator, key=KEY, num_matvecs=1)
    assert jax.tree.structure(found.value) == jax.tree.structure(like)
    assert found.value["a"].dtype == jnp.float32
    np.testing.assert_array_equal(found.value["a"], np.full((2, 3), 2.0))
    assert found.value["b"] == -1
    assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(found.standard_error))


def test_diagonal_stops_by_rtol_and_chunks_change_nothing():
    matrix = as_float32(MATRIX + 5 * np.eye(DIM))
    found = diagonal(matrix, key=KEY, num_matvecs=5000, rtol=0.1)
    assert 8 < found.num_matvecs < 5000

    def relative(found):
        return np.linalg.norm(found.standard_error) / np.linalg.norm(found.value)

    assert relative(found) <= 0.1
    before = diagonal(matrix, key=KEY, num_matvecs=found.num_matvecs - 8)
    assert relative(before) > 0.1
    for chunk_size in (1, 7):
        part = diagonal(matrix, key=KEY, num_matvecs=found.num_matvecs, chunk_size=chunk_size)
        np.testing.assert_allclose(part.value, found.value, rtol=1e-4, atol=1e-5)
