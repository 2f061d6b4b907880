"""lstsq and pinv: closed forms, curves of constant rank, identities, and where jnp.linalg fails."""

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

from adlab.rules import lstsq, pinv

pytestmark = pytest.mark.usefixtures("x64")

CASES = [(6, 4, 4), (4, 6, 4), (4, 4, 4), (6, 4, 2), (4, 6, 3), (4, 4, 1)]


@jax.jit
def pulled(a, b, cotangent):
    x, pull = jax.vjp(lstsq, a, b)
    return x, *pull(cotangent)


@jax.jit
def pushed(a, b, da, db):
    return jax.jvp(lstsq, (a, b), (da, db))[1], jax.jvp(pinv, (a,), (da,))[1]


def random_case(rows, columns, rank, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, columns))
    return a, rng.normal(size=rows), rng.normal(size=columns)


@pytest.mark.parametrize(("rows", "columns", "rank"), CASES)
def test_the_solution_is_the_pseudoinverse_applied(rows, columns, rank):
    a, b, _ = random_case(rows, columns, rank)
    expected = np.linalg.pinv(a, rcond=1e-12)
    np.testing.assert_allclose(lstsq(a, b), expected @ b, atol=1e-12)
    np.testing.assert_allclose(pinv(a), expected, atol=1e-12)


@pytest.mark.parametrize(("rows", "columns", "rank"), CASES)
def test_reverse_mode_gives_the_closed_form(rows, columns, rank):
    a, b, cotangent = random_case(rows, columns, rank)
    x, da, db = pulled(a, b, cotangent)
    p = np.linalg.pinv(a, rcond=1e-12)
    b_bar, r = p.T @ cotangent, b - a @ x
    expected = -np.outer(b_bar, x) + np.outer(r, p @ b_bar)
    expected += np.outer(p.T @ x, cotangent - p @ (a @ cotangent))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(da, expected, atol=3e-13 * scale)
    np.testing.assert_allclose(db, b_bar, atol=3e-13 * np.abs(b_bar).max())


@pytest.mark.parametrize(("rows", "columns", "rank"), CASES)
def test_derivatives_hold_along_curves_of_constant_rank(rows, columns, rank):
    curve, da = constant_rank_curve(rank, rows, columns)
    b, db = np.random.default_rng(9).normal(size=(2, rows))

    def solution(t):
        return np.linalg.pinv(curve(t), rcond=1e-10) @ (b + t * db)

    dx, dp = pushed(curve(0.0), b, da, db)
    expected = derivative(solution)
    np.testing.assert_allclose(dx, expected, atol=1e-8 * np.abs(expected).max())
    expected = derivative(lambda t: np.linalg.pinv(curve(t), rcond=1e-10))
    np.testing.assert_allclose(dp, expected, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize(("rows", "columns", "rank"), [(6, 4, 2), (4, 6, 3)])
def test_second_derivatives_hold_along_curves_of_constant_rank(rows, columns, rank):
    rng = np.random.default_rng(3)
    b0, b1 = rng.normal(size=(2, rows, rank))
    c0, c1 = rng.normal(size=(2, rank, columns))
    rhs = rng.normal(size=rows)

    def slope(t, inverse, multiply):
        b, c = b0 + t * b1, c0 + t * c1
        return inverse(multiply(b, c), multiply(b1, c) + multiply(b, c1))

    def by_formula(a, da):
        p = np.linalg.pinv(a, rcond=1e-10)
        turned, seen = da.T @ p.T @ p @ rhs, p.T @ da.T @ (rhs - a @ p @ rhs)
        return turned + p @ (seen - da @ p @ rhs - a @ turned)

    expected = derivative(lambda t: slope(t, by_formula, np.matmul))

    def by_rule(a, da):
        return jax.jvp(lambda a: lstsq(a, rhs), (a,), (da,))[1]

    bend = jax.jit(lambda t: jax.jvp(lambda t: slope(t, by_rule, jnp.matmul), (t,), (1.0,))[1])
    found = bend(0.0)
    np.testing.assert_allclose(found, expected, atol=1e-7 * np.abs(expected).max())


@pytest.mark.parametrize("shape", [(4, 3), (3, 4)])
def test_two_orders_of_both_modes_agree_with_differences(shape):
    rng = np.random.default_rng(4)
    a, da = rng.normal(size=(2, *shape))
    b, db = rng.normal(size=(2, shape[0], 2))
    seen, weights = rng.normal(size=(shape[1], 2)), rng.normal(size=shape[::-1])

    def loss(t):
        x, p = lstsq(a + t * da, b + t * db), pinv(a + t * da)
        return jnp.sum(seen * x) + jnp.sum(weights * p)

    def value(t):
        p = np.linalg.pinv(a + t * da)
        return np.sum(seen * (p @ (b + t * db))) + np.sum(weights * p)

    assert_two_orders(jax.jit(two_orders(loss))(0.0), value)


def test_complex_least_squares():
    rng = np.random.default_rng(5)
    a, da = rng.normal(size=(2, 5, 3)) + 1j * rng.normal(size=(2, 5, 3))
    b, db = rng.normal(size=(2, 5)) + 1j * rng.normal(size=(2, 5))
    x, dx = jax.jit(lambda *along: jax.jvp(lstsq, (a, b), along))(da, db)
    np.testing.assert_allclose(x, np.linalg.lstsq(a, b)[0], atol=1e-12)
    expected = derivative(lambda t: np.linalg.pinv(a + t * da) @ (b + t * db))
    np.testing.assert_allclose(dx, expected, atol=1e-9)


@settings(max_examples=30)
@given(
    shape=st.sampled_from([(6, 4), (4, 6), (4, 4)]),
    rank=st.integers(1, 3),
    gap=st.sampled_from([0.0, 1e-14, 1e-8, 1e-3, 1.0]),
    seed=st.integers(0, 2**20),
)
def test_both_modes_are_adjoint_at_any_rank_and_gap(shape, rank, gap, seed):
    rng = np.random.default_rng(seed + 1)
    a = with_singular_values(1 + gap * np.arange(rank)[::-1], *shape, seed=seed)
    da, b, db, bar = (rng.normal(size=s) for s in (shape, shape[0], shape[0], shape[1]))
    dx = np.asarray(pushed(a, b, da, db)[0])
    a_bar, b_bar = map(np.asarray, pulled(a, b, bar)[1:])
    left, right = dx @ bar, np.sum(a_bar * da) + b_bar @ db
    assert abs(left - right) <= 1e-12 * (abs(left) + np.linalg.norm(dx) * np.linalg.norm(bar))


def test_coinciding_singular_values_do_not_matter_and_jax_fails_on_them():
    rng = np.random.default_rng(6)
    a, b, bar = orthonormal(rng, 6, 3), rng.normal(size=6), rng.normal(size=3)
    expected = np.outer(b - a @ (a.T @ b), bar) - np.outer(a @ bar, a.T @ b)
    losses = (lambda a: lstsq(a, b) @ bar, lambda a: jnp.linalg.lstsq(a, b)[0] @ bar)
    ours, theirs = jax.jit(lambda a: [jax.grad(loss)(a) for loss in losses])(a)
    np.testing.assert_allclose(ours, expected, atol=1e-14)
    assert not np.allclose(theirs, expected, atol=1e-3)  # NaN, or finite and wrong


def test_the_gradient_is_finite_where_that_of_jax_is_not_a_number():
    b = np.arange(1.0, 5.0)
    losses = (lambda a: jnp.sum(lstsq(a, b)), lambda a: jnp.sum(jnp.linalg.lstsq(a, b)[0]))
    gradients = jax.jit(lambda a: [jax.grad(loss)(a) for loss in losses])
    for a in (np.eye(4, 3), np.zeros((4, 3)), np.ones((4, 3))):
        ours, theirs = gradients(a)
        assert np.all(np.isfinite(ours))
        if np.linalg.matrix_rank(a) != 1:  # at rank one, theirs may come out finite
            assert np.any(np.isnan(theirs))


def test_jit_and_vmap_change_nothing():
    a, b, _ = random_case(5, 3, 2)
    stack, rhs = np.stack([a, 2 * a, a + 1]), np.stack([b, b, -b])
    gradient = jax.grad(lambda a, b: jnp.sum(lstsq(a, b) ** 2), argnums=(0, 1))
    together = jax.jit(jax.vmap(gradient))(stack, rhs)
    for k in range(3):
        for found, expected in zip(together, gradient(stack[k], rhs[k]), strict=True):
            np.testing.assert_allclose(np.asarray(found)[k], expected, atol=1e-12)
    np.testing.assert_allclose(np.asarray(pinv(stack))[1], pinv(stack[1]), atol=1e-14)
    wide = np.swapaxes(stack, 1, 2)
    found = np.asarray(jax.jit(pinv)(wide))[2]
    np.testing.assert_allclose(found, pinv(wide[2]), atol=1e-14)


def test_one_decomposition_serves_value_and_derivatives():
    a, b, _ = random_case(5, 3, 3)
    for function in (lstsq, jax.hessian(lambda a, b: jnp.sum(lstsq(a, b)))):
        assert str(jax.make_jaxpr(function)(a, b)).count(" svd[") == 1


def test_a_rank_below_the_number_of_unknowns_is_refused_where_uniqueness_is_asked():
    a, b, _ = random_case(5, 3, 2)
    with pytest.raises(ValueError, match=r"must be unique, got a of rank 2 < 3 unknowns; drop"):
        lstsq(a, b, unique=True)
    with pytest.raises(ValueError, match="rank 2 < 5"):
        jax.jit(lambda a, b: lstsq(a, b, unique=True))(np.ones((2, 5)), np.ones(2))
    assert np.all(np.isnan(jax.jit(lambda a: lstsq(a, b, unique=True))(a)))
    gradient = jax.grad(lambda a: jnp.sum(lstsq(a, b, unique=True)))
    assert np.all(np.isnan(jax.jit(gradient)(a)))
    assert np.all(np.isnan(jax.jit(jax.vmap(gradient))(np.stack([a, a]))))
    full = a + np.eye(5, 3)
    np.testing.assert_allclose(lstsq(full, b, unique=True), lstsq(full, b))


@pytest.mark.parametrize(
    ("a", "b", "rcond", "message"),
    [
        (np.full((2, 2), np.nan), np.ones(2), None, r"a must be finite, got nan at \[0, 0\] and 3"),
        (np.eye(2), np.array([1.0, np.inf]), None, r"b must be finite, got inf at \[1\]"),
        (np.eye(3), np.ones(2), None, r"b must have shape \(3,\) or \(..., 3, k\), a row for"),
        (np.eye(3), np.float64(1), None, r"b must have shape \(3,\) or \(..., 3, k\), a row"),
        (np.ones((4, 3, 3)), np.ones((4, 3)), None, r"got \(4, 3\); take b\[\.\.\., None\]"),
        (np.ones((4, 3, 3)), np.ones((2, 3, 1)), None, "leading axes of a and b must broadcast"),
        (np.ones(3), np.ones(3), None, "must be a matrix"),
        (np.eye(2), np.ones(2), 1.5, r"rcond must be in \[0, 1\), or -1 for eps, got 1.5"),
        (np.eye(2), np.ones(2), -0.5, r"rcond must be in \[0, 1\), or -1 for eps, got -0.5"),
    ],
)
def test_bad_input_is_refused(a, b, rcond, message):
    with pytest.raises(ValueError, match=message):
        lstsq(a, b, rcond=rcond)


def test_dtypes_without_a_decomposition_are_refused():
    with pytest.raises(TypeError, match="must be of 32 or 64 bits, got bfloat16"):
        lstsq(np.eye(2, dtype=jnp.bfloat16), np.ones(2, jnp.bfloat16))
    with pytest.raises(TypeError, match="must hold numbers, got bool"):
        pinv(np.eye(2, dtype=bool))
    np.testing.assert_allclose(pinv(2 * np.eye(2, dtype=int)), np.eye(2) / 2)


def test_integers_take_the_dtype_of_the_other():
    a = np.eye(2, dtype=np.float32)
    assert lstsq(a, np.array([1, 2])).dtype == np.float32
    assert lstsq(np.array([[1, 0], [0, 1]]), np.ones(2, np.float32)).dtype == np.float32


@pytest.mark.parametrize("rcond", ["small", np.ones(2)])
def test_rcond_that_is_no_number_is_refused(rcond):
    with pytest.raises(TypeError, match="rcond must be a number in"):
        lstsq(np.eye(2), np.ones(2), rcond=rcond)


@pytest.mark.parametrize(
    ("batch_a", "batch_b", "rows"),
    [((3,), (3,), (1,)), ((2, 3), (3,), (2,)), ((), (3,), (2,)), ((3,), (), (2,)), ((3,), (), ())],
)
def test_leading_axes_are_those_of_vmap(batch_a, batch_b, rows):
    """`rows` () is a right-hand side, (2,) two of them; of rank 2 < 3, derivatives too."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=(*batch_a, 4, 2)) @ rng.normal(size=(2, 3))
    b = rng.normal(size=(*batch_b, 4, *rows))
    batch = np.broadcast_shapes(batch_a, batch_b)
    each_a = np.broadcast_to(a, (*batch, 4, 3)).reshape(-1, 4, 3)
    each_b = np.broadcast_to(b, (*batch, 4, *rows)).reshape(-1, 4, *rows)

    def loss(a, b, solve):
        return jnp.sum(jnp.sin(solve(a, b)))

    @jax.jit
    def both(a, b, each_a, each_b):
        one = jax.value_and_grad(loss, argnums=(0, 1))(a, b, lstsq)
        return (
            lstsq(a, b),
            one,
            jax.value_and_grad(loss, argnums=(0, 1))(each_a, each_b, jax.vmap(lstsq)),
        )

    x, (value, (da, db)), (expected, (each_da, each_db)) = both(a, b, each_a, each_b)
    solved = [np.linalg.pinv(p, rcond=1e-9) @ q for p, q in zip(each_a, each_b, strict=True)]
    np.testing.assert_allclose(x, np.reshape(solved, (*batch, 3, *rows)), atol=1e-12)
    np.testing.assert_allclose(value, expected, rtol=1e-12)

    def summed(each, shape):  # over the axes along which the argument was broadcast
        each = np.reshape(each, (*batch, *each.shape[1:]))
        extra = each.ndim - len(shape)
        return each.sum(tuple(range(extra))) if extra else each

    np.testing.assert_allclose(da, summed(each_da, a.shape), atol=1e-11)
    np.testing.assert_allclose(db, summed(each_db, b.shape), atol=1e-11)


@pytest.mark.parametrize(("rows", "columns", "rank"), CASES)
def test_residuals_rank_and_singular_values_are_those_of_numpy(rows, columns, rank):
    a, b, _ = random_case(rows, columns, rank)
    found = jax.jit(lambda a, b: lstsq(a, b, full=True))(a, b)
    x, squares, known, s = np.linalg.lstsq(a, b, rcond=1e-12)
    np.testing.assert_allclose(found.x, x, atol=1e-12)
    np.testing.assert_allclose(found.residuals, np.sum((b - a @ x) ** 2), atol=1e-12)
    if len(squares):  # NumPy leaves them out where the rank is less than n, or m isn't more
        np.testing.assert_allclose(found.residuals, squares[0], atol=1e-12)
    assert int(found.rank) == known == rank
    np.testing.assert_allclose(found.s, s, atol=1e-12)
    columns = np.stack([b, -2 * b], axis=-1)
    several = lstsq(np.stack([a, a]), columns, full=True)
    np.testing.assert_allclose(
        several.residuals, np.outer([1, 1], [1, 4]) * np.asarray(found.residuals), atol=1e-11
    )
    np.testing.assert_array_equal(several.rank, [rank, rank])


def test_residuals_and_singular_values_have_derivatives():
    """d|r|^2 = 2 r . (db - da x) at the minimum; ds_i = u_i . da v_i."""
    a, b, _ = random_case(6, 4, 4)
    _, da, db = (np.random.default_rng(1).normal(size=np.shape(z)) for z in (0.0, a, b))
    found, moved = jax.jvp(lambda a, b: lstsq(a, b, full=True)[::3], (a, b), (da, db))
    np.testing.assert_allclose(found[0], np.linalg.pinv(a) @ b)
    u, _, vh = np.linalg.svd(a, full_matrices=False)
    np.testing.assert_allclose(moved[1], np.diag(u.T @ da @ vh.T), atol=1e-13)
    moved = jax.jvp(lambda a, b: lstsq(a, b, full=True).residuals, (a, b), (da, db))[1]
    r = b - a @ found[0]
    np.testing.assert_allclose(moved, 2 * r @ (db - da @ found[0]), rtol=1e-12)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (2, 0, 3), (0, 3, 2)])
def test_empty_matrices_give_what_numpy_gives(shape):
    a, b = np.zeros(shape), np.ones((*shape[:-1], 2))
    x = lstsq(a, b)
    np.testing.assert_array_equal(x, np.zeros((*shape[:-2], shape[-1], 2)))
    np.testing.assert_array_equal(pinv(a), np.linalg.pinv(a))
    full = lstsq(a, b, full=True)
    np.testing.assert_array_equal(full.residuals, np.sum(b, axis=-2))
    np.testing.assert_array_equal(full.rank, np.zeros(shape[:-2]))
    assert full.s.shape == (*shape[:-2], min(shape[-2:]))
    da, db = jax.grad(lambda a, b: jnp.sum(lstsq(a, b)) + jnp.sum(pinv(a)), (0, 1))(a, b)
    np.testing.assert_array_equal(da, np.zeros(shape))
    np.testing.assert_array_equal(db, np.zeros(b.shape))


@pytest.mark.parametrize("dtype", [float, complex])
def test_pinv_of_hermitian_matrices_of_any_rank(dtype):
    """One of eigenvalues 3, -2 and 0: signs stay. Along it and along whole curves of that rank."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(3, 3)) + (1j * rng.normal(size=(3, 3)) if dtype is complex else 0)
    q, _ = np.linalg.qr(z)
    a, w = (q * [3.0, -2.0, 0.0]) @ q.conj().T, rng.normal(size=(3, 3))
    expected = (q * [1 / 3, -1 / 2, 0.0]) @ q.conj().T
    turn = rng.normal(size=(3, 3)) + (1j * rng.normal(size=(3, 3)) if dtype is complex else 0)
    turn = turn - turn.conj().T
    da = turn @ a - a @ turn  # of exp(t turn) a exp(-t turn), of constant rank
    value, moved = jax.jvp(lambda a: pinv(a, hermitian=True), (a,), (da,))
    np.testing.assert_allclose(value, expected, atol=1e-12)
    np.testing.assert_allclose(moved, turn @ expected - expected @ turn, atol=1e-12)
    loss = lambda a: jnp.sum(w * jnp.real(pinv(a, hermitian=True)))  # noqa: E731
    gradient = jnp.conj(jax.grad(loss, holomorphic=False)(a))
    np.testing.assert_allclose(gradient, np.conj(gradient).T, atol=1e-12)
    slope = np.real(np.sum(np.conj(gradient) * da))
    np.testing.assert_allclose(slope, np.sum(w * np.real(moved)), rtol=1e-10)


def test_manners_of_pinv():
    a = np.diag([1.0, 1e-3])
    np.testing.assert_allclose(pinv(a, rtol=1e-2), np.diag([1.0, 0.0]))
    np.testing.assert_allclose(pinv(a, rtol=1e-2, hermitian=True), np.diag([1.0, 0.0]))
    with pytest.raises(ValueError, match=r"rtol and rcond are one thing, got 0\.1 and 0\.2"):
        pinv(a, rtol=0.1, rcond=0.2)
    with pytest.raises(ValueError, match="pinv: a must be square, got shape"):
        pinv(np.ones((2, 3)), hermitian=True)
    with pytest.raises(ValueError, match=r"rank 2 < 3 unknowns"):
        lstsq(np.stack([np.eye(3), np.diag([1.0, 1.0, 0.0])]), np.ones(3), unique=True)


def test_rcond_minus_1_is_eps():
    eps = np.finfo(float).eps
    a = np.diag([1.0, 1.5 * eps])
    np.testing.assert_allclose(lstsq(a, np.ones(2)), [1, 0])
    np.testing.assert_allclose(lstsq(np.diag([1.0, 0.5 * eps]), np.ones(2), rcond=-1), [1, 0])
    for run in (lstsq, jax.jit(lambda a, b, rcond: lstsq(a, b, rcond=rcond))):
        found = run(a, np.ones(2), **({"rcond": -1}))
        np.testing.assert_allclose(found, np.linalg.lstsq(a, np.ones(2), rcond=-1)[0])


def test_rcond_decides_the_rank():
    a = np.diag([1.0, 1e-3])
    np.testing.assert_allclose(lstsq(a, np.ones(2)), [1, 1e3])
    np.testing.assert_allclose(lstsq(a, np.ones(2), rcond=1e-2), [1, 0])
