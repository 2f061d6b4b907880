"""polar: derivatives of all orders at repeated singular values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from prescribed_matrices import (
    assert_two_orders,
    derivative,
    orthonormal,
    two_orders,
    with_singular_values,
)

from adlab.rules import matrix_function, polar, svd

pytestmark = pytest.mark.usefixtures("x64")


def normal(seed, *shape, complex_=False):
    rng = np.random.default_rng(seed)
    parts = rng.normal(size=(2, *shape))
    return parts[0] + 1j * parts[1] if complex_ else parts[0]


@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize(("rows", "columns"), [(3, 3), (5, 3)])
def test_two_orders_of_both_modes_at_repeated_values(rows, columns, complex_):
    """Along a curve through q diag(2, 2, 1/2), against differences of SciPy's polar factors."""
    a = with_singular_values([2.0, 2.0, 0.5], rows, columns, complex_=complex_)
    da, db, w = normal(1, 3, rows, columns, complex_=complex_)
    z = normal(2, columns, columns, complex_=complex_)

    def loss_of(xp, u, p):
        return xp.real(xp.sum(w * u) + xp.sum(z * p) + xp.sum(w * (u @ p @ p)))

    def loss(t):
        t = t.astype(a.dtype)
        return loss_of(jnp, *polar(a + t * (da + t * db)))

    def value(t):
        return loss_of(np, *scipy.linalg.polar(a + t * da + t * t * db))

    assert_two_orders(jax.jit(two_orders(loss))(0.0), value)


@pytest.mark.parametrize("gap", [1.0, 1e-4, 1e-8, 1e-12, 1e-16, 0.0])
def test_the_derivative_is_that_of_the_closed_form_at_any_gap(gap):
    """With c = w^T da v: w^T du v = x = (c - c^T)_ij / (s_i + s_j), and v^T dp v = c - x_ij s_j."""
    w, v = orthonormal(np.random.default_rng(3), 3, 3), orthonormal(np.random.default_rng(4), 3, 3)
    s, da = np.array([1.0, 1.0 + gap, 1.0 - gap / 3]), normal(5, 3, 3)
    (u, p), (du, dp) = jax.jit(lambda a, da: jax.jvp(polar, (a,), (da,)))(w * s @ v.T, da)
    c = w.T @ da @ v
    turn = (c - c.T) / (s[:, None] + s)
    np.testing.assert_allclose(u, w @ v.T, atol=1e-14)
    np.testing.assert_allclose(p, v * s @ v.T, atol=1e-14)
    np.testing.assert_allclose(du, w @ turn @ v.T, atol=3e-14)
    np.testing.assert_allclose(dp, v @ (c - turn * s) @ v.T, atol=3e-14)


def test_a_third_derivative_holds_where_svd_has_no_second():
    """The polar factor of exp(t k) for a skew k is itself: its third derivative is k^3."""
    k = normal(6, 3, 3)
    k = k - k.T

    def curve(t):  # with the cubic part of the exponential
        moved = jnp.eye(3) + t * k + t**2 / 2 * k @ k + t**3 / 6 * k @ k @ k
        return polar(moved).u

    def times(n, f):
        return f if n == 0 else times(n - 1, jax.jacfwd(f))

    @jax.jit
    def run(t):
        through = jax.jacfwd(jax.jacfwd(lambda t: (f := svd(jnp.eye(3) + t * k)).u @ f.vh))(t)
        return [times(n, curve)(t) for n in (1, 2, 3)], through

    found, through = run(0.0)
    for got, expected in zip(found, (k, k @ k, k @ k @ k), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-13)
    assert np.isnan(through).all()


def test_p_is_the_root_of_the_gram_matrix_and_batches_are_taken():
    a = np.stack([with_singular_values([1.0, 1.0, 1.0], 4, 3, seed) for seed in range(3)])
    w = normal(7, 3, 3)

    def loss(a):
        return jnp.sum(w * polar(a).p)

    def by_root(a):
        return jnp.sum(w * matrix_function(jnp.swapaxes(a, -1, -2) @ a, "sqrt"))

    @jax.jit
    def run(a):
        return jax.grad(loss)(a), jax.vmap(jax.grad(loss))(a), jax.grad(by_root)(a)

    one, mapped, root = run(a)
    np.testing.assert_allclose(one, mapped, atol=1e-14)
    np.testing.assert_allclose(one, root, atol=1e-13)
    slope = derivative(lambda t: np.sum(w * scipy.linalg.polar(a[0] + t * a[1])[1]))
    np.testing.assert_allclose(np.sum(one[0] * a[1]), slope, rtol=1e-9)


def test_what_has_no_polar_factor_is_refused():
    for a, told in [
        (np.ones((2, 3)), r"at least as many rows as columns, got shape \(2, 3\); take"),
        (
            np.ones((3, 2)),
            r"full column rank, .* smallest singular value .* beside the largest 2.45",
        ),
        (np.zeros((2, 2)), "full column rank"),
        (np.full((2, 2), np.inf), "a must be finite"),
    ]:
        with pytest.raises(ValueError, match=told):
            polar(a)
    u, p = jax.jit(polar)(np.ones((3, 2)))
    assert np.isnan(u).all()
    np.testing.assert_allclose(p, np.full((2, 2), np.sqrt(1.5)), atol=1e-14)
    gradients = jax.jit(jax.vmap(jax.grad(lambda a: polar(a).p[0, 1])))
    ones, eye = gradients(np.stack([np.ones((3, 2)), np.eye(3, 2)]))
    assert np.isnan(ones).all()
    np.testing.assert_allclose(eye, [[0, 0.5], [0.5, 0], [0, 0]], atol=1e-15)
