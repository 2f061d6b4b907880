"""matrix_function: two derivatives at any gap of eigenvalues, against other algorithms."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from mpmath import mp
from prescribed_matrices import derivative, orthonormal, two_orders

from adlab.rules import eigh, matrix_function
from adlab.rules._divided_differences import by_quadrature
from adlab.rules._scalar_functions import named

pytestmark = pytest.mark.usefixtures("x64")

EPS = 2.0**-52
RNG = np.random.default_rng(0)
E, G, W = RNG.normal(size=(3, 3, 3))
E, G = E + E.T, G + G.T
Q = orthonormal(np.random.default_rng(1), 3, 3)
PAIR = Q * [0.5, 2.0, 2.0] @ Q.T
SCALAR = 2.0 * np.eye(3)


def square(a):
    return a @ a


# name or callable, exponent, the function of a matrix by another algorithm, and in mpmath
SMOOTH = {
    "sqrt": ("sqrt", None, scipy.linalg.sqrtm, mp.sqrt),
    "inv_sqrt": (
        "inv_sqrt", None, lambda a: np.linalg.inv(scipy.linalg.sqrtm(a)), lambda x: 1 / mp.sqrt(x)
    ),
    "log": ("log", None, scipy.linalg.logm, mp.log),
    "exp": ("exp", None, scipy.linalg.expm, mp.exp),
    "power 2.5": (
        "power", 2.5, lambda a: scipy.linalg.sqrtm(a) @ a @ a, lambda x: x ** mp.mpf(2.5)
    ),
    "power -1.5": (
        "power", -1.5, lambda a: np.linalg.inv(scipy.linalg.sqrtm(a) @ a),
        lambda x: x ** mp.mpf(-1.5),
    ),
    "power 3": ("power", 3, lambda a: a @ a @ a, lambda x: x**3),
    "power -2": ("power", -2, lambda a: square(np.linalg.inv(a)), lambda x: x**-2),
    "1/(1+x^2)": (
        lambda x: 1 / (1 + x**2), None, lambda a: np.linalg.inv(np.eye(len(a)) + a @ a),
        lambda x: 1 / (1 + x**2),
    ),
    "sin 3x": (
        lambda x: jnp.sin(3 * x), None, lambda a: scipy.linalg.sinm(3 * a),
        lambda x: mp.sin(3 * x),
    ),
}  # fmt: skip


def differences(name):
    fun, exponent, *_ = SMOOTH[name]
    return by_quadrature(fun) if callable(fun) else named(fun, exponent)


@functools.cache
def curves():
    """Both divided differences over gaps from 1 to 1e-16, and 0; all functions in one program."""
    gaps = np.append(10.0 ** -np.arange(17), 0.0)
    x, y, z = np.full_like(gaps, 1.3), 1.3 + gaps, 1.3 - 0.6 * gaps

    @jax.jit
    def run(x, y, z):
        found = {name: differences(name) for name in SMOOTH}
        return {name: (each.first(x, y), each.second(x, y, z)) for name, each in found.items()}

    return (x, y, z), run(x, y, z)


def quotient(f, *points):
    """The divided difference with 60 digits: those of f' or f''/2 where all points meet."""
    points = sorted(map(mp.mpf, map(float, points)))
    if points[0] == points[-1]:
        return mp.diff(f, points[0], len(points) - 1) / mp.factorial(len(points) - 1)
    if len(points) == 1:
        return f(points[0])
    return (quotient(f, *points[1:]) - quotient(f, *points[:-1])) / (points[-1] - points[0])


@pytest.mark.parametrize("name", SMOOTH)
def test_divided_differences_lose_nothing_at_any_gap(name):
    (x, y, z), found = curves()
    first, second = found[name]
    f = SMOOTH[name][-1]
    with mp.workdps(60):
        slopes = [quotient(f, *points) for points in zip(x, y, strict=True)]
        bends = [quotient(f, *points) for points in zip(x, y, z, strict=True)]
        off = [float(abs(a / b - 1)) for a, b in zip(map(float, first), slopes, strict=True)]
        bent = [float(abs(a / b - 1)) for a, b in zip(map(float, second), bends, strict=True)]
    most = 16 if callable(SMOOTH[name][0]) else 4  # a callable is taken as JAX evaluates it
    assert max(off) < most * EPS
    assert max(bent) < 2 * most * EPS


def test_the_quotient_by_itself_loses_all_digits():
    (x, y, _), found = curves()
    plain = (np.exp(x) - np.exp(y))[:16] / (x - y)[:16]
    off = np.abs(plain / np.asarray(found["exp"][0])[:16] - 1)
    assert off[:3].max() < 1e-13
    assert off[13:].min() > 1e-4


@pytest.mark.parametrize("name", ["sqrt", "exp", "1/(1+x^2)"])
def test_gradients_hold_over_gaps_of_matrices_that_are_known_to_the_last_bit(name):
    """H diag(w) H of a Hadamard matrix H/2 and w = 1, 1 + gap, 1.5, 1.5 is exact in binary."""
    hadamard = scipy.linalg.hadamard(4) / 2
    gaps = np.append(2.0 ** -np.arange(2.0, 50.0), 0.0)
    w = np.stack([np.ones_like(gaps), 1 + gaps, 1.5 + 0 * gaps, 1.5 + 0 * gaps], axis=1)
    a = hadamard * w[:, None, :] @ hadamard
    weights = np.random.default_rng(2).normal(size=(4, 4))
    weights = weights + weights.T
    fun, exponent, _, f = SMOOTH[name]
    with mp.workdps(60):
        table = [[[float(quotient(f, x, y)) for x in row] for y in row] for row in w]
    expected = hadamard @ (np.array(table) * (hadamard @ weights @ hadamard)) @ hadamard

    @jax.jit
    @jax.grad
    def gradients(a):
        return jnp.sum(weights * matrix_function(a, fun, exponent=exponent))

    off = np.abs(gradients(a) - expected).max((1, 2)) / np.abs(expected).max((1, 2))
    assert off.max() < 40 * EPS  # eigenvectors and four products of size 4


def nilpotent(f, a, e, g):
    """f'(a)[e] and f''(a)[e, g], blocks of f(a + s e + t g) with s^2 = t^2 = 0 (Mathias, 1996)."""
    n, nothing = len(a), np.zeros_like(a)
    block = np.block([
        [a, e, g, nothing],
        [nothing, a, nothing, g],
        [nothing, nothing, a, e],
        [nothing, nothing, nothing, a],
    ])  # fmt: skip
    found = f(block)
    return found[:n, n : 2 * n], found[:n, 3 * n :]


@pytest.mark.parametrize("name", SMOOTH)
def test_two_derivatives_are_those_of_block_matrices(name):
    fun, exponent, f, _ = SMOOTH[name]

    @jax.jit
    @jax.vmap
    def run(a):
        def moved(s, t):
            return matrix_function(a + s * E + t * G, fun, exponent=exponent)

        def slope(t):
            return jax.jvp(lambda s: moved(s, t), (0.0,), (1.0,))[1]

        return moved(0.0, 0.0), *jax.jvp(slope, (0.0,), (1.0,))

    for a, value, first, second in zip((PAIR, SCALAR), *run(np.stack([PAIR, SCALAR])), strict=True):
        expected = nilpotent(f, a, E, G)
        np.testing.assert_allclose(value, f(a), atol=1e-12 * np.abs(f(a)).max())
        # scipy's functions of matrices that aren't normal are good to about 1e-10
        np.testing.assert_allclose(first, expected[0], atol=1e-9 * np.abs(expected[0]).max())
        np.testing.assert_allclose(second, expected[1], atol=1e-9 * np.abs(expected[1]).max())


@pytest.mark.parametrize("complex_", [False, True])
@pytest.mark.parametrize("name", ["log", "1/(1+x^2)"])
def test_every_mode_over_every_mode(name, complex_):
    fun, _, f, _ = SMOOTH[name]
    q = orthonormal(np.random.default_rng(3), 3, 3, complex_)
    a, da, weights = q * [2.0, 2.0, 0.5] @ np.conj(q).T, q @ E @ np.conj(q).T, W
    if complex_:
        weights = W + 1j * RNG.normal(size=(3, 3))
    first, second = (np.sum(weights * part).real for part in nilpotent(f, a, da, da))

    def loss(t):
        return jnp.real(jnp.sum(weights * matrix_function(a + t * da.astype(a.dtype), fun)))

    firsts, seconds = jax.jit(two_orders(loss))(0.0)
    np.testing.assert_allclose(firsts, first, rtol=1e-10)  # scipy's error
    np.testing.assert_allclose(seconds, second, rtol=1e-9)


def test_complex_gradients_follow_the_convention_of_jax():
    """That of Re <m, f(a)> is conj(D[m]) for a Hermitian m: descent steps take its conjugate."""
    rng = np.random.default_rng(4)
    q = orthonormal(rng, 3, 3, complex_=True)
    a, m = q * [2.0, 2.0, 0.5] @ np.conj(q).T, rng.normal(size=(3, 3)) + 1j * W
    m = m + np.conj(m).T

    @jax.jit
    @jax.grad
    def gradient(a):
        return jnp.real(jnp.sum(jnp.conj(m) * matrix_function(a, "sqrt")))

    expected = scipy.linalg.solve_sylvester(*(2 * [scipy.linalg.sqrtm(a)]), m)
    np.testing.assert_allclose(np.conj(gradient(a)), expected, atol=1e-13)


def test_polynomials_are_exact_at_any_matrix():
    """Gradient and Hessian of <W, f(a)>, f = x^3 - 2x, against a a a - 2a."""

    def loss(a):
        return jnp.sum(W * matrix_function(a, lambda x: x**3 - 2 * x))

    def by_products(a):
        a = (a + a.T) / 2
        return jnp.sum(W * (a @ a @ a - 2 * a))

    both = jax.jit(
        jax.vmap(lambda a: [(jax.grad(f)(a), jax.hessian(f)(a)) for f in (loss, by_products)])
    )
    found, expected = both(np.stack([SCALAR, 0 * SCALAR, np.diag([1.0, 1.0, -3.0]), E]))
    for ours, known in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, known, atol=1e-13 * np.abs(known).max())


def test_the_rebuild_from_eigenvectors_is_what_it_replaces():
    def rebuilt(a):
        w, v = eigh(a)
        return jnp.sum(W * (v * w**2 @ v.T))

    def ours(a):
        return jnp.sum(W * matrix_function(a, "power", exponent=2))

    both = jax.jit(lambda a: (jax.grad(rebuilt)(a), jax.grad(ours)(a)))
    assert np.isnan(both(SCALAR)[0]).all()
    np.testing.assert_allclose(both(SCALAR)[1], 2 * (W + W.T), atol=1e-13)
    apart = both(PAIR + np.diag([0.0, 0.3, 0.7]))
    np.testing.assert_allclose(*apart, atol=1e-13)


@pytest.mark.parametrize("name", ["abs", "positive_part"])
def test_functions_with_a_kink_at_0(name):
    """With eigenvalues of both signs, some repeated; and with the middle slope at 0."""
    a = Q * [-1.5, 2.0, 2.0] @ Q.T

    def by_numpy(a):
        w, v = np.linalg.eigh(a)
        return np.sum(W * (v * (np.abs(w) if name == "abs" else np.maximum(w, 0)) @ v.T))

    @jax.jit
    def run(a, e):
        def loss(t):
            return jnp.sum(W * matrix_function(a + t * e, name))

        return loss(0.0), jax.grad(loss)(0.0), jax.grad(jax.grad(loss))(0.0)

    value, slope, bend = run(a, E)
    np.testing.assert_allclose(value, by_numpy(a), rtol=1e-13)
    np.testing.assert_allclose(slope, derivative(lambda t: by_numpy(a + t * E)), rtol=1e-9)
    twice = derivative(lambda s: derivative(lambda t: by_numpy(a + (s + t) * E), 1e-2), 1e-2)
    np.testing.assert_allclose(bend, twice, rtol=1e-6)  # h^8 and eps/h^2 of the inner ones
    at_zero = {"abs": 0.0, "positive_part": 0.5 * np.sum(W * E)}[name]
    np.testing.assert_allclose(run(0 * a, E)[1:], [at_zero, 0.0], atol=1e-15)


def test_divided_differences_of_abs_with_zeros_are_those_of_the_recursion():
    points = np.array(np.meshgrid(*3 * [[-2.0, -1.0, 0.0, 0.5, 3.0]])).reshape(3, -1)
    each = named("abs", None)

    def first(x, y):
        return np.where(x == y, np.sign(x), (abs(x) - abs(y)) / np.where(x == y, 1, x - y))

    x, y, z = np.sort(points, axis=0)
    apart = np.where(x == z, 1, x - z)
    expected = np.where(x == z, 0, (first(x, y) - first(y, z)) / apart)
    found = jax.jit(lambda x, y, z: (each.first(x, y), each.second(x, y, z)))(*points)
    np.testing.assert_allclose(found[0], first(*points[:2]), atol=1e-15)
    np.testing.assert_allclose(found[1], expected, atol=1e-15)


PIECES = {  # a function for JAX, the same for NumPy, and its slope at the eigenvalues below
    "kink": (lambda x: jnp.maximum(x, 0), lambda x: np.maximum(x, 0), lambda x: x > 0),
    "steep step": (
        lambda x: jax.nn.sigmoid(3e4 * x), lambda x: np.where(x > 0, 1.0, 0.0), np.zeros_like
    ),
    "jump": (
        lambda x: jnp.where(x < 0.3, 1.0, 2.0) * x, lambda x: np.where(x < 0.3, x, 2 * x),
        lambda x: np.where(x < 0.3, 1.0, 2.0),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", PIECES)
def test_callables_may_have_kinks_and_steps_between_eigenvalues(kind):
    fun, f, slope_at = PIECES[kind]
    points = np.array(np.meshgrid(*3 * [[-1.0, -1.0, 0.1, 0.9]])).reshape(3, -1)
    each = by_quadrature(fun)
    found = jax.jit(lambda x, y, z: (each.first(x, y), each.second(x, y, z)))(*points)

    def slope(x, y):
        return np.where(x == y, slope_at(x), (f(x) - f(y)) / np.where(x == y, 1, x - y))

    x, y, z = np.sort(points, axis=0)
    bend = np.where(x == z, 0, (slope(x, y) - slope(y, z)) / np.where(x == z, 1, x - z))
    np.testing.assert_allclose(found[0], slope(*points[:2]), atol=1e-13)
    np.testing.assert_allclose(found[1], bend, atol=1e-12)


@pytest.mark.parametrize("dtype", ["f4", "c8", "c16"])
def test_batches_and_dtypes(dtype):
    a = np.stack([PAIR, SCALAR, PAIR @ PAIR]).astype(dtype).reshape(3, 1, 3, 3)
    weights = W.astype(dtype)

    def loss(a):
        return jnp.real(jnp.sum(weights * matrix_function(a, "sqrt")))

    batched = jax.jit(lambda a: jax.value_and_grad(loss)(a))(a)
    value, gradient = jax.jit(jax.vmap(jax.value_and_grad(loss)))(a[:, 0])
    bound = 1e-5 if dtype in ("f4", "c8") else 1e-13
    assert batched[1].dtype == np.dtype(dtype)
    np.testing.assert_allclose(batched[0], np.sum(value), rtol=bound)
    np.testing.assert_allclose(batched[1][:, 0], gradient, atol=bound)
    roots = [scipy.linalg.sqrtm(each) for each in a[:, 0].astype(complex)]
    wished = [scipy.linalg.solve_sylvester(root, root, (W + W.T) / 2) for root in roots]
    np.testing.assert_allclose(gradient, wished, atol=bound)


def test_eigenvalues_that_a_function_or_its_slope_is_undefined_at_are_named():
    singular = np.diag([1.0, 0.0, -1e-17])
    for fun, a, told in [
        ("log", np.diag([1.0, -0.25]), r"log must be finite .* got nan at -0.25, eigenvalue \[0\]"),
        ("inv_sqrt", singular, r"inv_sqrt .* got inf at 0, eigenvalue \[0\] .* and at 1 more"),
        ("sqrt", -np.eye(2), "sqrt must be finite at every eigenvalue of a, got nan at -1"),
        (jnp.log, np.diag([1.0, 0.0]), "log must be finite .* got -inf at 0"),
    ]:
        with pytest.raises(ValueError, match=told):
            matrix_function(a, fun)
        assert np.isnan(jax.jit(functools.partial(matrix_function, fun=fun))(a)).all()
    np.testing.assert_array_equal(matrix_function(singular, "sqrt"), np.diag([1.0, 0.0, 0.0]))
    for fun in ("sqrt", jnp.sqrt):
        slope = jax.grad(lambda a, fun=fun: matrix_function(a, fun)[0, 0])
        told = "the derivative of sqrt must be finite at every eigenvalue of a, got (inf|nan) at 0"
        with pytest.raises(ValueError, match=told):
            slope(np.diag([1.0, 0.0]))
        assert np.isnan(jax.jit(slope)(np.diag([1.0, 0.0]))).all()


def test_what_cannot_be_meant_is_refused():
    eye = np.eye(2)
    for arguments, error, told in [
        ((eye, "sqr"), ValueError, r"fun must be one of 'sqrt', .* got 'sqr'; did you mean 'sqrt"),
        ((eye, 3), TypeError, "fun must be a name or a function of a real scalar, got int"),
        (
            (eye, lambda x: jax.lax.complex(x, x)),
            TypeError,
            "fun must return a real scalar .* got complex128",
        ),
        ((eye, np.exp), TypeError, r"fun must be made of JAX's functions, .* got .*<ufunc 'exp'>"),
        ((eye, math.exp), TypeError, r"fun must be made of JAX's functions"),
        ((eye, lambda x: x if x > 0 else 0 * x), TypeError, r"or conditions, got .*<function"),
        ((eye, lambda x: x * eye), TypeError, r"fun must return a real scalar .* shape \(2, 2\)"),
        ((np.ones((2, 3)), "exp"), ValueError, r"a must be square, got shape \(2, 3\)"),
        ((np.eye(2, dtype=int), "exp"), TypeError, "a must be floating-point .* got int64"),
        ((np.nan * eye, "exp"), ValueError, "a must be finite, got nan"),
        ((eye, "power"), TypeError, 'exponent must be given with fun="power", got None'),
    ]:
        with pytest.raises(error, match=told):
            matrix_function(*arguments)
    with pytest.raises(TypeError, match='left out unless fun is "power", got 2'):
        matrix_function(eye, "sqrt", exponent=2)
    for exponent in (np.inf, 1j, "2", True, np.ones(2)):
        with pytest.raises(TypeError, match=r"exponent must be a .*number"):
            matrix_function(eye, "power", exponent=exponent)


def test_a_third_derivative_is_refused():
    def loss(t):
        return matrix_function(t * np.eye(2), "exp")[0, 0]

    with pytest.raises(NotImplementedError, match="got a request for a third"):
        jax.grad(jax.grad(jax.grad(loss)))(1.0)


def test_what_a_function_closes_over_is_a_constant_and_says_so():
    def scaled(p, s):
        return matrix_function(s * PAIR, lambda x: p * x**2)[0, 0]

    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(scaled, 1), (0, None)))(
        np.arange(3.0), 2.0
    )
    np.testing.assert_allclose(values, 4 * np.arange(3.0) * (PAIR @ PAIR)[0, 0], rtol=1e-13)
    np.testing.assert_allclose(slopes, values, rtol=1e-13)  # 2 p s PAIR^2 with s = 2
    with pytest.raises(TypeError, match="fun must not close over what is differentiated"):
        jax.grad(scaled)(1.0, 2.0)


def test_a_function_is_read_at_each_call_and_compiled_once():
    """Its state may have changed, eagerly; and what it closes over may be a traced integer."""
    a, state = np.array([[2.0, 0.5], [0.5, 1.0]]), {"factor": 2.0}

    def scaled(w):
        return state["factor"] * w

    slope = lambda: jax.grad(lambda a: matrix_function(a, scaled)[0, 0])(a)[0, 0]  # noqa: E731
    for factor in (2.0, 3.0):
        state["factor"] = factor
        np.testing.assert_allclose(matrix_function(a, scaled), factor * a)
        np.testing.assert_allclose(slope(), factor)

    def slopes(n):
        picked = lambda w: jnp.asarray([1.0, 2.0, 3.0])[n] * w  # noqa: E731
        return jax.grad(lambda a: jnp.trace(matrix_function(a, picked)))(jnp.asarray(a))

    found = jax.vmap(slopes)(jnp.arange(3))
    np.testing.assert_allclose(found, np.arange(1.0, 4.0)[:, None, None] * np.eye(2), atol=1e-6)
