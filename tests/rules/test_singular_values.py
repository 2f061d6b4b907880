"""svd and eigh: derivatives where values coincide or vanish, and where jnp.linalg gives none."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prescribed_matrices import (
    assert_two_orders,
    constant_rank_curve,
    derivative,
    orthonormal,
    two_orders,
    with_singular_values,
)

from adlab.rules import eigh, svd
from adlab.rules.eigenvalues import _mirrored
from adlab.rules.singular_values import SVD

pytestmark = pytest.mark.usefixtures("x64")

RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=(7, 7))


def projector_derivative(u, s, v, da, group):
    """d(u_c u_c^T) for a = u diag(s) v^T with all of u known: from first-order perturbations."""
    rows = len(u)
    padded = np.zeros(rows)
    padded[: len(s)] = s
    wide = np.zeros((rows, rows))
    wide[:, : len(v)] = u.T @ da @ v
    turn = np.zeros((rows, rows))
    for i in range(rows):
        for j in group:
            if i not in group:
                step = wide[i, j] * padded[j] + padded[i] * wide[j, i]
                turn[i, j] = step / (padded[j] ** 2 - padded[i] ** 2)
    moved = u @ turn @ u.T
    return moved + moved.T


def prescribed(s, rows, seed=1):
    rng = np.random.default_rng(seed)
    u, v = orthonormal(rng, rows, rows), orthonormal(rng, len(s), len(s))
    return (u[:, : len(s)] * np.asarray(s, float)) @ v.T, u, v, rng.normal(size=(rows, len(s)))


def loss_of_all(f, k=2, xp=jnp, a=None):
    """A loss that sees singular values, a projector on each side, and a low-rank part.

    That part comes from the factors, or from `a`: the factors don't hold it in a cluster.
    """
    rows, columns = f.u.shape[0], f.vh.shape[1]
    left = f.u[:, :k] @ xp.conj(f.u[:, :k]).T
    right = xp.conj(f.vh[:k]).T @ f.vh[:k]
    low = (f.u[:, :k] * f.s[:k].astype(f.u.dtype)) @ f.vh[:k] if a is None else left @ a
    weights = WEIGHTS.astype(f.u.dtype)
    total = xp.sum(weights[:rows, :rows] * left) + xp.sum(weights[:columns, :columns] * right)
    total = total + xp.sum(weights[:rows, :columns] * low)
    return xp.real(total) + xp.sum(xp.sin(f.s))


@pytest.mark.parametrize("full_matrices", [False, True])
@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (3, 3)])
def test_factors_multiply_to_the_matrix_and_have_the_shapes_of_numpy(shape, full_matrices):
    a = np.random.default_rng(1).normal(size=shape)
    found = svd(a, full_matrices=full_matrices)
    expected = np.linalg.svd(a, full_matrices=full_matrices)
    assert [f.shape for f in found] == [f.shape for f in expected]
    np.testing.assert_allclose(found.s, expected[1], atol=1e-14)
    k = min(shape)
    np.testing.assert_allclose(found.u[:, :k] * found.s @ found.vh[:k], a, atol=1e-13)


@pytest.mark.parametrize(("shape", "full_matrices"), [((4, 3), False), ((3, 4), True)])
def test_two_orders_of_both_modes_agree_with_differences(shape, full_matrices):
    a, da = with_singular_values([3, 2, 1], *shape), np.random.default_rng(2).normal(size=shape)

    def loss(t):
        return loss_of_all(svd(a + t * da, full_matrices=full_matrices))

    def value(t):
        factors = np.linalg.svd(a + t * da, full_matrices=full_matrices)
        return loss_of_all(SVD(*factors), xp=np)

    assert_two_orders(jax.jit(two_orders(loss))(0.0), value)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)])
def test_complex_factors_agree_with_differences(shape):
    rng = np.random.default_rng(3)
    a, da = rng.normal(size=(2, *shape)) + 1j * rng.normal(size=(2, *shape))

    _, found = jax.jit(
        lambda a, da: jax.jvp(lambda a: loss_of_all(svd(a, full_matrices=False)), (a,), (da,))
    )(a, da)

    def value(t):
        return loss_of_all(SVD(*np.linalg.svd(a + t * da, full_matrices=False)), xp=np)

    expected = derivative(value, 1e-3)
    np.testing.assert_allclose(found, expected, rtol=1e-8)


@functools.partial(jax.jit, static_argnums=3)
def projected(a, da, mask, full_matrices):
    """The projector on the left vectors that a mask of 0 and 1 selects, and its derivative."""

    def projector(a):
        left = svd(a, full_matrices=full_matrices).u * mask
        return left @ left.T

    return jax.jvp(projector, (a,), (da,))


@pytest.mark.parametrize(
    ("s", "rows", "group"),
    [
        ([3.0, 2.0, 1.0, 1.0], 4, [2, 3]),
        ([1.0] * 4, 6, [0, 1, 2, 3]),
        ([2.0, 2.0, 2.0, 0.5], 4, [0, 1, 2]),
        ([5.0, 0.0, 0.0, 0.0], 4, [0]),
        ([3.0, 1.0, 0.0, 0.0], 6, [0, 1]),
    ],
)
@pytest.mark.parametrize("full_matrices", [False, True])
def test_projectors_of_whole_clusters_are_exact(s, rows, group, full_matrices):
    a, u, v, da = prescribed(s, rows)
    mask = np.isin(np.arange(rows if full_matrices else len(s)), group).astype(float)
    value, found = projected(a, da, mask, full_matrices)
    np.testing.assert_allclose(value, u[:, group] @ u[:, group].T, atol=1e-13)
    expected = projector_derivative(u, s, v, da, group)
    np.testing.assert_allclose(found, expected, atol=3e-13 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("size", [3, 5])
def test_the_polar_factor_of_the_identity_moves_by_the_skew_part_and_fails_in_jax(size):
    da = np.random.default_rng(4).normal(size=(size, size))

    def polar(decompose):
        def run(a):
            u, _, vh = decompose(a)
            return u @ vh

        return run

    @jax.jit
    def run(da):
        return [
            jax.jvp(polar(decompose), (np.eye(size),), (da,))[1]
            for decompose in (svd, jnp.linalg.svd)
        ]

    found, theirs = run(da)
    np.testing.assert_allclose(found, (da - da.T) / 2, atol=1e-15)
    assert np.any(np.isnan(theirs))


@jax.jit
@jax.grad
def exponentials(a):
    return jnp.sum(jnp.exp(svd(a).s))


@pytest.mark.parametrize("s", [[1.0] * 4, [2.0, 1.0, 1.0, 0.5], [3.0, 3.0, 1.0, 1.0]])
def test_sums_over_singular_values_are_exact_where_these_coincide(s):
    a, u, v, _ = prescribed(s, 5)
    found = exponentials(jnp.asarray(a))
    np.testing.assert_allclose(found, (u[:, :4] * np.exp(s)) @ v.T, atol=1e-13)


def test_a_low_rank_part_is_exact_as_a_projector_times_the_matrix():
    """At the identity the first factors form no cluster, at diag(2, 2, 2, 1) they do."""
    a, u, v, da = prescribed([2.0, 2.0, 2.0, 1.0], 4)
    weights = WEIGHTS[:4, :4]

    def low_rank(a):
        left = svd(a).u[:, :3]
        return jnp.sum(weights * (left @ (left.T @ a)))

    found = jax.jit(lambda a, da: jax.jvp(low_rank, (a,), (da,))[1])(a, da)
    moved = projector_derivative(u, [2, 2, 2, 1], v, da, [0, 1, 2])
    expected = np.sum(weights * (moved @ a + u[:, :3] @ u[:, :3].T @ da))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_null_spaces_move_as_the_rest_pushes_them():
    """L = <C, U2 U2^T> has the gradient -2 (1 - A A^+) C A^{+T}, C symmetric."""
    a = np.random.default_rng(5).normal(size=(6, 3))
    c = WEIGHTS[:6, :6] + WEIGHTS[:6, :6].T

    def loss(a):
        null = svd(a).u[:, 3:]
        return jnp.sum(c * (null @ null.T))

    p = np.linalg.pinv(a)
    expected = -2 * (np.eye(6) - a @ p) @ c @ p.T
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(jnp.asarray(a)), expected, atol=1e-12)
    with pytest.raises(NotImplementedError):
        jax.grad(lambda a: jnp.sum(jnp.linalg.svd(a)[0] ** 2))(jnp.asarray(a))


@pytest.mark.parametrize(("rows", "columns", "full_matrices"), [(6, 5, False), (5, 7, True)])
def test_ranges_hold_along_curves_of_constant_rank(rows, columns, full_matrices):
    curve, da = constant_rank_curve(3, rows, columns)
    weights = WEIGHTS[:rows, :rows]

    def seen(left):
        return (weights * (left[:, :3] @ left[:, :3].T)).sum()

    def loss(a):
        return seen(svd(a, full_matrices=full_matrices).u)

    found = jax.jit(lambda a, da: jax.jvp(loss, (a,), (da,))[1])(curve(0.0), da)
    expected = derivative(lambda t: seen(np.linalg.svd(curve(t))[0]))
    np.testing.assert_allclose(found, expected, atol=1e-8 * abs(expected))


def test_the_leading_triple_of_a_matrix_of_ones_is_exact():
    da = np.random.default_rng(6).normal(size=(5, 5))

    def leading(a):
        u, s, vh = svd(a)
        return jnp.sum(WEIGHTS[:5, :5] * (s[0] * jnp.outer(u[:, 0], vh[0])))

    found = jax.jit(lambda a, da: jax.jvp(leading, (a,), (da,))[1])(np.ones((5, 5)), da)
    # a = 5 e e^T: the leading part moves by da less what stays in the null spaces, for a small da.
    inside = np.eye(5) - np.ones((5, 5)) / 5
    expected = np.sum(WEIGHTS[:5, :5] * (da - inside @ da @ inside))
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_a_gap_is_kept_until_rounding_hides_it():
    """The projector on the first factor turns at a rate of 1/gap: larger c eps would lose it."""
    gaps = 10.0 ** np.array([-2, -6, -10, -14])
    a = np.stack([np.diag([1 + gap, 1.0, 0.5]) for gap in gaps])
    turned = np.eye(3)[[1, 0, 2]] - np.diag([0, 0, 1.0])

    def first(a):
        u = svd(a).u[:, 0]
        return u[0] * u[1]

    found = jax.jit(jax.vmap(lambda a: jax.jvp(first, (a,), (turned,))[1]))(a)
    np.testing.assert_allclose(found, 1 / (a[:, 0, 0] - a[:, 1, 1]), rtol=1e-12)


def test_coinciding_values_are_told_from_gaps_by_rounding_alone():
    """Copies of a value are up to 9 eps apart at n = 3; twice the tolerance of 24 is kept."""
    gaps = float(np.finfo(float).eps) * np.array([48, 20, 2])
    a = np.stack([np.diag([1 + gap, 1.0, 0.5]) for gap in gaps])
    turned = np.eye(3)[[1, 0, 2]]
    found = jax.jit(jax.vmap(lambda a: jax.jvp(lambda a: svd(a).u[1, 0], (a,), (turned,))[1]))(a)
    assert found[0] != 0
    np.testing.assert_array_equal(found[1:], 0)


def stationary(factors, cotangents, together, apart):
    """Return cotangents without what sees the vectors of a cluster turn, as one or each basis."""
    (u, _, vh), (du, dvh), k = factors, (x.copy() for x in cotangents), len(together)
    v, dv = vh.T[:, :k], dvh.T
    ofu, ofv = u[:, :k].T @ du[:, :k], v.T @ dv[:, :k]
    both = ofu + ofv
    du[:, :k] -= u[:, :k] @ (np.where(together, both - both.T, 0) / 2)
    du[:, :k] -= u[:, :k] @ (np.where(apart, ofu - ofu.T, 0) / 2)
    dv[:, :k] -= v @ (np.where(apart, ofv - ofv.T, 0) / 2)
    return du, dv.T


@settings(max_examples=30)
@given(
    shape=st.sampled_from([(5, 3), (3, 5), (4, 4)]),
    values=st.lists(st.sampled_from([0.0, 1e-9, 1.0, 1 + 1e-13, 1 + 1e-7, 2.0]), min_size=3),
    full_matrices=st.booleans(),
    seed=st.integers(0, 2**20),
)
def test_both_modes_are_adjoint_and_finite_at_any_rank_and_gap(shape, values, full_matrices, seed):
    a = with_singular_values(values[: min(shape)], *shape, seed=seed)
    rng = np.random.default_rng(seed + 1)
    run = _run(full_matrices)
    da = rng.normal(size=shape)
    factors = jax.device_get(svd(a, full_matrices=full_matrices))  # those of a cluster are JAX's
    u, s, vh = (rng.normal(size=f.shape) for f in factors)
    # Together with vectors, values that coincide must have one cotangent, and zeros with a choice
    # of bases none, as a differentiable function of s has.
    values = np.sort(np.pad(values[: min(shape)], (0, max(0, min(shape) - len(values)))))[::-1]
    first = np.array([np.argmax(np.abs(values - value) < 1e-12) for value in values])
    shared = np.where(values > 0, s[first], 0)
    linked = first[:, None] == first
    u, vh = stationary(factors, (u, vh), linked & (values > 0), linked & (values == 0))
    for bar in (SVD(u, shared, vh), SVD(0 * u, s, 0 * vh)):
        pushed, pulled = jax.device_get(run(a, da, bar))
        assert all(np.all(np.isfinite(part)) for part in (*pushed, pulled))
        terms = np.concatenate([np.ravel(x * y) for x, y in zip(bar, pushed, strict=True)])
        left, right, size = np.sum(terms), np.sum(pulled * da), np.sum(np.abs(terms))
        assert abs(left - right) <= 1e-11 * max(size, 1)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)])
def test_what_multiplies_the_inverse_of_nothing_is_left_out(shape):
    """Singular values of 1e-17 count as 0: no derivative is of the size of their inverse."""
    a, da = with_singular_values([3, 2, 0], *shape), np.random.default_rng(11).normal(size=shape)
    for full_matrices in (False, True):
        bar = svd(a, full_matrices=full_matrices)
        pushed, pulled = _run(full_matrices)(a, da, bar)
        assert all(np.max(np.abs(part)) < 100 for part in (*pushed, pulled))


_RUNS = {}


def _run(full_matrices):
    if full_matrices not in _RUNS:

        def factors(a):
            return svd(a, full_matrices=full_matrices)

        def run(a, da, bar):
            return jax.jvp(factors, (a,), (da,))[1], jax.vjp(factors, a)[1](bar)[0]

        _RUNS[full_matrices] = jax.jit(run)
    return _RUNS[full_matrices]


@pytest.mark.parametrize("function", [lambda a: svd(a).s, lambda a: eigh(a).eigenvalues])
def test_first_derivatives_of_values_are_numbers_and_second_ones_at_clusters_are_not(function):
    def loss(a):
        return jnp.sum(function(a) ** 2)

    a = np.stack([np.zeros((4, 4)), np.eye(4), np.ones((4, 4))])
    gradient, hessian = jax.jit(jax.vmap(lambda a: (jax.grad(loss)(a), jax.hessian(loss)(a))))(a)
    np.testing.assert_allclose(gradient, 2 * a, atol=1e-13)
    assert np.all(np.isnan(hessian))


def test_equivariance_under_orthogonal_factors():
    rng = np.random.default_rng(7)
    a, q, r = rng.normal(size=(4, 3)), orthonormal(rng, 4, 4), orthonormal(rng, 3, 3)

    def loss(a):
        f = svd(a, full_matrices=False)
        return jnp.sum(jnp.log1p(f.s)) + f.s[0] * f.s[1]

    gradient = jax.jit(jax.grad(loss))
    found, expected = gradient(q @ a @ r), q @ gradient(a) @ r
    np.testing.assert_allclose(found, expected, atol=1e-13)


def test_jit_and_vmap_change_nothing():
    """Also the batch of the decomposition itself, in which one matrix has a cluster."""
    stack = np.random.default_rng(8).normal(size=(3, 4, 3))
    stack[1] = np.eye(4, 3)
    gradient = jax.grad(lambda a: loss_of_all(svd(a, full_matrices=True), k=3, a=a))
    together = jax.jit(jax.vmap(gradient))(stack)

    @jax.jit
    @jax.grad
    def batched(stack):
        found = svd(stack)
        return sum(loss_of_all(SVD(*(x[k] for x in found)), k=3, a=stack[k]) for k in range(3))

    alone = jax.jit(gradient)
    for k in range(3):
        np.testing.assert_allclose(together[k], alone(stack[k]), atol=1e-12)
    np.testing.assert_allclose(batched(stack), together, atol=1e-12)


@jax.jit
def projected_and_summed(a, da, mask):
    def projector(a):
        vectors = eigh(a).eigenvectors * mask
        return vectors @ vectors.T

    summed = jax.grad(lambda a: jnp.sum(jnp.exp(eigh(a).eigenvalues)))(a)
    return jax.jvp(projector, (a,), (da,))[1], summed


@pytest.mark.parametrize("values", [[1.0, 1.0, 2.0, 3.0], [2.0] * 4, [-1.0, 0.0, 0.0, 4.0]])
def test_eigenprojectors_are_exact_where_eigenvalues_coincide(values):
    rng = np.random.default_rng(9)
    values = np.array(values)
    v, da = orthonormal(rng, 4, 4), rng.normal(size=(4, 4))
    a, da = v * values @ v.T, da + da.T
    group = np.flatnonzero(values == np.unique(values)[0])
    c = v.T @ da @ v
    turn = np.zeros((4, 4))
    for i in range(4):
        for j in group:
            if i not in group:
                turn[i, j] = c[i, j] / (values[j] - values[i])
    expected = v @ (turn + turn.T) @ v.T
    found, summed = projected_and_summed(a, da, np.isin(np.arange(4), group).astype(float))
    np.testing.assert_allclose(found, expected, atol=1e-13)
    np.testing.assert_allclose(summed, v * np.exp(values) @ v.T, atol=1e-12)


def test_eigh_agrees_with_differences_to_second_order_and_takes_the_hermitian_part():
    rng = np.random.default_rng(10)
    a, da = rng.normal(size=(2, 3, 3))
    da = da + da.T

    def loss(decompose, a, xp=np):
        w, v = decompose(a)
        return xp.sum(xp.sin(w)) + xp.sum(WEIGHTS[:3, :3] * xp.outer(v[:, 0], v[:, 0]))

    h, dh = rng.normal(size=(2, 3, 3)) + 1j * rng.normal(size=(2, 3, 3))
    h, dh = h + h.conj().T, dh + dh.conj().T

    @jax.jit
    def run(t):
        first = jax.jvp(lambda a: jnp.sum(jnp.abs(eigh(a).eigenvectors[0]) ** 4), (h,), (dh,))[1]
        return two_orders(lambda t: loss(eigh, a + t * da, jnp))(t), loss(eigh, a, jnp), first

    found, value, turned = run(0.0)
    hermitian = (a + a.T) / 2
    assert_two_orders(found, lambda t: loss(np.linalg.eigh, hermitian + t * da))
    np.testing.assert_allclose(value, loss(np.linalg.eigh, hermitian))
    expected = derivative(lambda t: (abs(np.linalg.eigh(h + t * dh)[1][0]) ** 4).sum(), 1e-3)
    np.testing.assert_allclose(turned, expected, rtol=1e-8)


@pytest.mark.parametrize("function", [svd, eigh])
def test_bad_input_is_refused(function):
    name = function.__name__
    with pytest.raises(ValueError, match=rf"{name}: a must be finite, got inf at \[0, 1\]$"):
        function(np.array([[1.0, np.inf], [0.0, 1.0]]))
    with pytest.raises(ValueError, match=r"must be a matrix of shape \(..., m, n\), got shape"):
        function(np.ones(3))
    with pytest.raises(TypeError, match="32 or 64 bits"):
        function(jnp.eye(2, dtype=jnp.float16))
    if function is eigh:
        with pytest.raises(ValueError, match="must be square"):
            function(np.ones((2, 3)))
        with pytest.raises(ValueError, match="UPLO must be one of 'L', 'U', got 'l'"):
            function(np.eye(2), UPLO="l")


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (2, 0, 3), (0, 2, 2)])
@pytest.mark.parametrize("full_matrices", [True, False])
def test_empty_matrices_are_decomposed_as_by_numpy(shape, full_matrices):
    found = svd(np.zeros(shape), full_matrices=full_matrices)
    expected = np.linalg.svd(np.zeros(shape), full_matrices=full_matrices)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(svd(np.zeros(shape), compute_uv=False), expected[1])

    def loss(a):
        return sum(jnp.sum(part) for part in svd(a, full_matrices=full_matrices))

    np.testing.assert_array_equal(jax.grad(loss)(np.zeros(shape)), np.zeros(shape))
    if shape[-1] == shape[-2]:
        for ours, theirs in zip(
            eigh(np.zeros(shape)), np.linalg.eigh(np.zeros(shape)), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("shape", [(4, 3), (3, 4), (3, 3)])
def test_singular_values_alone_are_those_of_the_whole_with_all_derivatives(shape):
    rng = np.random.default_rng(0)
    a, da = rng.normal(size=(2, *shape))
    weights = np.array([1.0, -2.0, 3.0])

    def loss(t, alone):
        s = svd(a + t * da, compute_uv=False) if alone else svd(a + t * da).s
        return jnp.sum(weights * s**2)

    run = jax.jit(lambda t: (two_orders(lambda t: loss(t, True))(t), loss(t, True), loss(t, False)))
    found, value, whole = run(0.0)
    assert_two_orders(
        found, lambda t: np.sum(weights * np.linalg.svd(a + t * da, compute_uv=False) ** 2)
    )
    np.testing.assert_allclose(value, whole)
    nuclear = jax.grad(lambda a: jnp.sum(svd(a, compute_uv=False)))(np.eye(3))
    np.testing.assert_allclose(nuclear, np.eye(3), atol=1e-14)


@pytest.mark.parametrize("dtype", [float, complex])
def test_singular_values_of_hermitian_matrices_come_from_their_eigenvalues(dtype):
    """3, -3, 1, 0 and -2: 3 and -3 have one absolute value, and differ in sign."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2, 5, 5)) + (1j * rng.normal(size=(2, 5, 5)) if dtype is complex else 0)
    q, _ = np.linalg.qr(z[0])
    a, da = (q * [3.0, -3.0, 1.0, 0.0, -2.0]) @ q.conj().T, z[1] + z[1].conj().T
    u, s, vh = map(np.asarray, svd(a, hermitian=True))
    np.testing.assert_allclose(s, [3, 3, 2, 1, 0], atol=1e-13)
    np.testing.assert_allclose((u * s) @ vh, a, atol=1e-13)
    for basis in (u, vh):
        np.testing.assert_allclose(basis @ np.conj(basis).T, np.eye(5), atol=1e-13)
    np.testing.assert_allclose(svd(a, compute_uv=False, hermitian=True), s)
    assert svd(np.stack([a, a]), hermitian=True).u.shape == (2, 5, 5)

    def rebuilt(a):  # whose derivative is da itself, which svd without `hermitian` can't know
        u, s, vh = svd(a, hermitian=True)
        return (u * s.astype(u.dtype)[..., None, :]) @ vh

    moved = jax.jvp(rebuilt, (a,), (da,))[1]
    np.testing.assert_allclose(moved, da, atol=1e-12)
    with pytest.raises(ValueError, match="svd: a must be square, got shape"):
        svd(np.ones((2, 3)), hermitian=True)


@pytest.mark.parametrize(("triangle", "part"), [("L", np.tril), ("U", np.triu)])
def test_one_triangle_of_a_matrix_is_read(triangle, part):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(4, 4)) + 1j * rng.normal(size=(4, 4))
    read = np.asarray(_mirrored(jnp.asarray(a), triangle))
    np.testing.assert_array_equal(read, np.conj(read).T)  # whatever the imaginary diagonal
    w, v = map(np.asarray, eigh(a, UPLO=triangle))
    np.testing.assert_allclose(w, np.linalg.eigh(a, UPLO=triangle)[0], atol=1e-13)
    whole = part(a) + np.conj(part(a, 1 if triangle == "U" else -1)).T
    whole[np.diag_indices(4)] = whole.diagonal().real
    np.testing.assert_allclose((v * w) @ np.conj(v).T, whole, atol=1e-13)
    real = rng.normal(size=(4, 4))
    gradient = jax.grad(lambda a: jnp.sum(eigh(a, UPLO=triangle).eigenvalues ** 2))(real)
    expected = part(2 * real) * (2 - np.eye(4))  # |whole|^2 has each entry off the diagonal twice
    np.testing.assert_allclose(gradient, expected, atol=1e-12)
