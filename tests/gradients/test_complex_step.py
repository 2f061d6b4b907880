import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adlab.gradients import finite_difference, from_host

X = jnp.array([0.5, -1.0, 2.0])


def _gradient(fun):
    return finite_difference(fun, scheme="complex")(X)


def _by_custom_rule(x):
    @jax.custom_jvp
    def wrapped(x):
        return jnp.sum(jnp.abs(x))

    wrapped.defjvp(lambda x, t: (wrapped(*x), jnp.sum(t[0])))
    return wrapped(x)


def _by_loop(x):
    return jax.lax.fori_loop(0, 3, lambda _, y: jnp.abs(y).astype(y.dtype), x).sum()


def _by_branch(x):
    return jax.lax.cond(jnp.real(x[0]) > 0, jnp.sum, jnp.prod, x)


REFUSED = {
    "abs": lambda x: jnp.sum(jnp.abs(x)),
    "norm": lambda x: jnp.linalg.norm(x),
    "relu": lambda x: jnp.sum(jax.nn.relu(x)),
    "max": lambda x: jnp.max(x),
    "maximum": lambda x: jnp.sum(jnp.maximum(x, 0)),
    "minimum": lambda x: jnp.sum(jnp.minimum(x, 0)),
    "where": lambda x: jnp.sum(jnp.where(x > 0, x, 0)),
    "conj": lambda x: jnp.sum(jnp.conj(x)),
    "vdot": lambda x: jnp.real(jnp.vdot(x, x)),
    "real": lambda x: jnp.sum(x.real**2),
    "imag": lambda x: jnp.sum(x.imag),
    "angle": lambda x: jnp.sum(jnp.angle(x)),
    "sort": lambda x: jnp.sort(x)[0],
    "sign": lambda x: jnp.sum(jnp.sign(x)),
    "cumulative max": lambda x: jax.lax.cummax(x)[1],
    "cholesky": lambda x: jnp.sum(jax.lax.linalg.cholesky(jnp.diag(x**2), symmetrize_input=False)),
    "qr": lambda x: jnp.linalg.qr(jnp.diag(x) + 1)[1][0, 0],
    "svd": lambda x: jnp.linalg.svd(jnp.diag(x) + 1, compute_uv=False)[0],
    "eigh": lambda x: jax.lax.linalg.eigh(jnp.diag(x), symmetrize_input=False)[1][0],
    "custom rule": _by_custom_rule,
    "loop": _by_loop,
    "branch": _by_branch,
    "jit": jax.jit(lambda x: jnp.sum(jnp.abs(x))),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_function_that_isn_t_holomorphic_is_refused_with_a_remedy(name):
    with pytest.raises(ValueError, match=r'needs a holomorphic fun.*use scheme="richardson"'):
        _gradient(REFUSED[name])


@pytest.mark.parametrize("name", ["abs", "norm", "relu", "max", "where"])
def test_the_refusal_names_the_line_of_the_users_function(name):
    fun = REFUSED[name]
    line = inspect.getsourcelines(fun)[1]
    with pytest.raises(ValueError, match=rf" at .*test_complex_step\.py:{line} \(<lambda>\)"):
        _gradient(fun)


def test_the_refusal_comes_before_anything_runs_and_also_from_check():
    g = finite_difference(REFUSED["abs"], scheme="complex")
    with pytest.raises(ValueError, match="'abs'"):
        jax.eval_shape(g, X)
    with pytest.raises(ValueError, match="'abs'"):
        g.check(X)


def test_a_host_function_that_drops_the_imaginary_part_is_refused():
    with pytest.raises(ValueError, match=r'scheme="complex"'):
        _gradient(from_host(lambda x: np.float32(np.sum(np.abs(x)))))


def test_a_function_that_refuses_complex_input_is_named_with_a_remedy():
    with pytest.raises(ValueError, match=r'accepts complex input.*use scheme="richardson"'):
        _gradient(lambda x: jnp.sum(jax.scipy.special.erf(x)))
    with pytest.raises(ValueError, match=r'accepts complex input.*use scheme="richardson"'):
        _gradient(lambda x: jnp.real(jnp.sum(jnp.fft.rfft(x))))


ROTATION = np.array([[0.6, 0.8, 0.0], [-0.8, 0.6, 0.0], [0.0, 0.0, 1.0]], np.float32)


def _loop(x):
    return jax.lax.scan(lambda c, v: (c * jnp.cos(v), None), jnp.ones((), x.dtype), x)[0]


ACCEPTED = {
    "exp and sin": (lambda x: jnp.sum(jnp.exp(x) * jnp.sin(x)), None),
    "powers": (lambda x: jnp.sum(x**3 / (2 + x**2)), None),
    "matmul": (lambda x: jnp.sum((jnp.asarray(ROTATION).astype(x.dtype) @ x) ** 2), None),
    "solve": (
        lambda x: jnp.sum(
            jnp.linalg.solve(jnp.asarray(ROTATION).astype(x.dtype) + jnp.diag(x) / 4, x)
        ),
        None,
    ),
    "fft": (
        lambda x: jnp.sum(jnp.fft.fft(x.astype(jnp.complex64))[1:] ** 2),
        lambda x: jnp.sum(jnp.real(jnp.fft.fft(x)[1:] ** 2)),
    ),
    "scan": (_loop, None),
    "masks of other data": (
        lambda x: jnp.sum(jnp.where(jnp.arange(3) > 0, x**2, x)),
        None,
    ),
    "indices": (lambda x: x[1] * x[-1] + jnp.sum(x[::-1][:2]) ** 2, None),
    "norm written out": (lambda x: jnp.sqrt(jnp.sum(x**2)), None),
    "tanh": (lambda x: jnp.sum(jnp.tanh(x)), None),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_holomorphic_function_is_differentiated_to_round_off(name):
    fun, real = ACCEPTED[name]
    # a few roundings of float32; jax.grad is of the real function
    np.testing.assert_allclose(_gradient(fun), jax.grad(real or fun)(X), rtol=2e-5, atol=1e-6)


def test_a_constant_has_zero_gradient():
    np.testing.assert_array_equal(_gradient(lambda x: jnp.float32(3.0)), 0)  # noqa: ARG005


@pytest.mark.parametrize(
    "fun",
    [lambda x: jnp.sum(jnp.log(x)), lambda x: jnp.sum(jnp.sqrt(x)), lambda x: jnp.sum(x**2.5)],
    ids=["log", "sqrt", "power"],
)
def test_where_fun_is_not_real_on_the_real_axis_the_complex_step_is_nan_and_check_says_so(fun):
    x = jnp.array([-1.7, -0.3])
    g = finite_difference(fun, scheme="complex")
    assert np.all(np.isnan(g(x)))
    with pytest.raises(ValueError, match=r"real for real x|finite at x"):
        g.check(x)


def test_the_complex_step_does_not_underflow_on_small_slopes():
    x = jnp.full(3, 50.0)
    g = finite_difference(lambda x: jnp.sum(jnp.exp(-x)), scheme="complex")
    np.testing.assert_allclose(g(x), -np.exp(-50.0), rtol=1e-5)  # float32 exp
