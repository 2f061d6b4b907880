"""The complex step: right to round-off, or refused; never a finite wrong number."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import primitives
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from xla_flags import AS_FOR_USERS

from adlab.core.jaxprs import equations
from adlab.gradients import finite_difference, from_host
from adlab.gradients._holomorphic import holomorphic
from adlab.gradients._holomorphic_primitives import KNOWN

X = jnp.array([0.5, -1.0, 2.0])


def _gradient(fun):
    return finite_difference(fun, scheme="complex")(X)


def _steps(fun, x):
    """Return the imaginary parts of fun at x + ih, all x at once, over h."""
    h = {"float32": 1e-9, "float64": 1e-20}[x.dtype.name]  # those of finite_difference
    z = lax.complex(x, jnp.full_like(x, h))
    steps = lambda z: jnp.imag(holomorphic("fun", fun, z)(z)) / h  # noqa: E731
    return jax.jit(steps, compiler_options=AS_FOR_USERS)(z)


def _gradients(funs, x):
    """Return the gradients of several functions, by one program: what finite_difference does."""

    def along(direction):
        z = lax.complex(x, h * direction)
        return jnp.imag(extended(z)) / h

    h = {"float32": 1e-9, "float64": 1e-20}[x.dtype.name]
    z = lax.complex(x, x)
    extended = holomorphic("funs", lambda z: jnp.stack([fun(z) for fun in funs]), z)
    gradients = jax.jit(lambda e: lax.map(along, e), compiler_options=AS_FOR_USERS)
    return gradients(jnp.eye(x.size, dtype=x.dtype)).T


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


def _by_callback(x):
    return jax.pure_callback(lambda x: np.conj(x).sum(), jax.ShapeDtypeStruct((), x.dtype), x)


def _triangular(x, **options):
    return jnp.sum(jax.scipy.linalg.solve_triangular(jnp.diag(x) + 1, x, **options))


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
    "hessenberg": lambda x: jnp.sum(lax.linalg.hessenberg(jnp.diag(x) + 1)[0]),
    "eig": lambda x: jnp.sum(jnp.linalg.eigvals(jnp.diag(x) + jnp.ones(3, x.dtype)) ** 2),
    "arctan2": lambda x: jnp.sum(jnp.arctan2(x, x[::-1])),
    "cumulative logsumexp": lambda x: jnp.sum(lax.cumlogsumexp(x)),
    "adjoint triangular solve": lambda x: _triangular(x, trans="C"),
    "adjoint LU solve": lambda x: jnp.sum(
        jax.scipy.linalg.lu_solve(jax.scipy.linalg.lu_factor(jnp.diag(x) + 1), x, trans=2)
    ),
    "factor of Cholesky": lambda x: jnp.sum(jax.scipy.linalg.cho_solve((jnp.diag(x), True), x)),
    # Holomorphic, and real for real x; but their parts aren't, and so the step is rounded away.
    "fft": lambda x: jnp.sum(jnp.fft.fft(x.astype(jnp.complex64))[1:] ** 2),
    "cosine by exponentials": lambda x: jnp.sum(jnp.exp(1j * x) + jnp.exp(-1j * x)),
    "complex data": lambda x: jnp.sum(jnp.array([1j, 1, 2]).astype(x.dtype) * x),
    "complex data in jit": jax.jit(lambda x: jnp.sum(x * lax.complex(jnp.ones(3), jnp.ones(3)))),
    "complex carry": lambda x: lax.fori_loop(0, 2, lambda _, y: y * x, jnp.full(3, 1j, x.dtype))[0],
    "callback": _by_callback,
    "convolution in a custom solver": lambda x: lax.custom_linear_solve(
        lambda y: x * y, x, lambda _, y: jnp.convolve(y, x, mode="same"), symmetric=True
    )[0],
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


@pytest.mark.parametrize(
    "fun", [jax.scipy.special.erf, jnp.fft.rfft, lambda x: jax.scipy.special.fresnel(x)[0]]
)
def test_a_function_that_refuses_complex_input_is_named_with_a_remedy(fun):
    with pytest.raises(ValueError, match=r'accepts complex input.*use scheme="richardson"'):
        _gradient(lambda x: jnp.real(jnp.sum(fun(x))))


ROTATION = np.array([[0.6, 0.8, 0.0], [-0.8, 0.6, 0.0], [0.0, 0.0, 1.0]], np.float32)


def _rotation(x):
    return jnp.asarray(ROTATION).astype(x.dtype)


def _loop(x):
    return lax.scan(lambda c, v: (c * jnp.cos(v), None), jnp.ones((), x.dtype), x)[0]


def _smooth(y, x):
    return jnp.convolve(y, x, mode="same") / 4


def _convolutions_inside(x):
    """Convolve in a scan, in a loop with a branch, in vmap, in remat and under a custom rule."""
    custom = jax.custom_jvp(lambda x: _smooth(x, x))
    custom.defjvps(lambda t, _, x: 2 * _smooth(x, t))
    scanned = lax.scan(lambda y, m: (_smooth(y, m), y[0]), x, jnp.stack([x, x**2]))
    looped = lax.fori_loop(
        0, 2, lambda i, y: lax.cond(i > 0, lambda y: _smooth(y, x), jnp.sin, y), x
    )
    mapped = jax.checkpoint(jax.vmap(lambda a: _smooth(a, x)))(jnp.outer(x, x) + _rotation(x))
    return sum(map(jnp.sum, [*scanned, looped, mapped, custom(x) ** 2]))


@jax.jit
def _data_inside_jit(x):
    """Data that don't depend on x are turned to complex numbers, and compared, conjugated."""
    weights = jnp.conj(jnp.max(jnp.asarray(ROTATION, x.dtype), axis=0))
    return jnp.sum(weights * x**2) + jnp.sum(jnp.vander(x**2, 3)) + jnp.polyder(x, 1)[1]


ACCEPTED = {
    "exp and sin": lambda x: jnp.sum(jnp.exp(x) * jnp.sin(x)),
    "powers": lambda x: jnp.sum(x**3 / (2 + x**2)),
    "matmul": lambda x: jnp.sum((_rotation(x) @ x) ** 2),
    "solve": lambda x: jnp.sum(jnp.linalg.solve(_rotation(x) + jnp.diag(x) / 4, x)),
    "scan": _loop,
    "masks of other data": lambda x: jnp.sum(jnp.where(jnp.arange(3) > 0, x**2, x)),
    "indices": lambda x: x[1] * x[-1] + jnp.sum(x[::-1][:2]) ** 2,
    "norm written out": lambda x: jnp.sqrt(jnp.sum(x**2)),
    "tanh": lambda x: jnp.sum(jnp.tanh(x)),
    "convolve": lambda x: jnp.sum(jnp.convolve(x, jnp.sin(x)) ** 2),
    "correlate": lambda x: jnp.correlate(x, _rotation(x)[0], mode="same")[0] ** 2,
    "convolutions inside": _convolutions_inside,
    "real data inside jit": _data_inside_jit,
    "factor of data": lambda x: jnp.sum(jax.scipy.linalg.cho_solve((_rotation(x), True), x) ** 2),
    "something printed": lambda x: (jax.debug.callback(lambda _: None, x), jnp.sum(x**2))[1],
}


def test_a_holomorphic_function_is_differentiated_to_round_off():
    funs = list(ACCEPTED.values())
    found = _gradients(funs, X)
    expected = jax.jit(jax.jacrev(lambda x: jnp.stack([fun(x) for fun in funs])))(X)
    for name, got, right in zip(ACCEPTED, found, expected, strict=True):
        # a few roundings of float32
        np.testing.assert_allclose(got, right, rtol=2e-5, atol=1e-6, err_msg=name)


NEW = hasattr(primitives, "log2_p")  # since JAX 0.12
SCALE = np.log(2) if NEW else 1.0

# Elementary functions and their derivatives, and at which points.
_INNER = np.array([1e-8, 1e-3, 0.1, 0.5, 0.9, 0.999])
_POSITIVE = np.array([1e-8, 1e-3, 0.1, 0.5, 1.0, 2.7, 40.0])
_ALL = np.concatenate([-_POSITIVE, _POSITIVE])
_BOTH = np.concatenate([-_INNER, _INNER])
ELEMENTARY = {
    "acos": (lax.acos, lambda x: -1 / np.sqrt(1 - x**2), _BOTH),
    "acosh": (lax.acosh, lambda x: 1 / np.sqrt((x - 1) * (x + 1)), 1 + _POSITIVE[2:]),
    "asin": (lax.asin, lambda x: 1 / np.sqrt(1 - x**2), _BOTH),
    "asinh": (lax.asinh, lambda x: 1 / np.sqrt(x**2 + 1), _ALL),
    "atan": (lax.atan, lambda x: 1 / (x**2 + 1), _ALL),
    "atanh": (lax.atanh, lambda x: 1 / (1 - x**2), _BOTH),
    "cos": (lax.cos, lambda x: -np.sin(x), _ALL),
    "cosh": (lax.cosh, np.sinh, _ALL),
    "exp": (lax.exp, np.exp, _ALL),
    "exp2": (lax.exp2, lambda x: np.log(2) * np.exp2(x), _ALL),
    "expm1": (lax.expm1, np.exp, _ALL),
    "log": (lax.log, lambda x: 1 / x, _POSITIVE),
    "log1p": (lax.log1p, lambda x: 1 / (1 + x), np.concatenate([-_INNER, _POSITIVE])),
    "logistic": (lax.logistic, lambda x: 1 / (2 * np.cosh(x / 2)) ** 2, _ALL),
    "rsqrt": (lax.rsqrt, lambda x: -0.5 * x**-1.5, _POSITIVE),
    "sin": (lax.sin, np.cos, _ALL),
    "sinh": (lax.sinh, np.cosh, _ALL),
    "sqrt": (lax.sqrt, lambda x: 0.5 / np.sqrt(x), _POSITIVE),
    "square": (lax.square, lambda x: 2 * x, _ALL),
    "tan": (lax.tan, lambda x: 1 / np.cos(x) ** 2, _ALL),
    "tanh": (lax.tanh, lambda x: 1 / np.cosh(x) ** 2, _ALL),
    "pow": (lambda x: x**2.5, lambda x: 2.5 * x**1.5, _POSITIVE),
    "integer_pow": (lambda x: x**-3, lambda x: -3 * x**-4.0, _ALL),
    "div": (lambda x: 2 / x, lambda x: -2 / x**2, _ALL),
    "stop_gradient": (lambda x: x * lax.stop_gradient(x), lambda x: 2 * x, _ALL),
    "reduce": (
        lambda x: lax.reduce(jnp.stack([x, x]), _zero(x), lambda a, b: a + b + a * b, (0,)),
        lambda x: 2 * (1 + x),
        _ALL,
    ),
    "reduce_window": (
        lambda x: lax.reduce_window(x, _zero(x), lambda a, b: a + b + a * b, (1,), (1,), "VALID"),
        lambda x: 1 + 0 * x,
        _ALL,
    ),
    "scatter by function": (lambda x: x.at[:].apply(jnp.sin), np.cos, _ALL),
    "log2 or log": (jnp.log2 if NEW else jnp.log, lambda x: 1 / (x * SCALE), _POSITIVE),
    "one_minus_square or mul": (
        lambda x: jax.jvp(jnp.tanh, (x,), (jnp.ones_like(x),))[1],
        lambda x: -2 * np.tanh(x) / np.cosh(x) ** 2,
        _ALL[np.abs(_ALL) >= 0.1],  # 1 - tanh^2 is itself rounded to 1e-16
    ),
}


def _zero(x):
    return jnp.zeros((), x.dtype)


@pytest.mark.parametrize(
    ("dtype", "rtol", "least"), [("float64", 1e-12, 0), ("float32", 1e-5, 1e-3)]
)
def test_elementary_functions_have_the_derivatives_of_the_books(x64, dtype, rtol, least):
    del x64
    kept = [points[np.abs(points) >= least] for _, _, points in ELEMENTARY.values()]
    points = np.stack([np.resize(some, 14) for some in kept]).astype(dtype)
    funs = [fun for fun, _, _ in ELEMENTARY.values()]
    found = _steps(
        lambda z: jnp.stack([fun(part) for fun, part in zip(funs, z, strict=True)]),
        jnp.asarray(points),
    )
    assert found.dtype == dtype
    for got, x, (name, (_, slope, _)) in zip(found, points, ELEMENTARY.items(), strict=True):
        right = slope(x.astype(np.float64))
        # relative, at each point: tails and zeros count; float32 underflows below 1e-38 / step
        atol = 1e-28 if dtype == "float32" else 0
        np.testing.assert_allclose(got, right, rtol=rtol, atol=atol, err_msg=name)


# By what they are called in a jaxpr: all that are known beside those above.
_ORDER = np.array([2, 0, 1])
_MASK = np.array([True, False, True])
_RING = [(0, 1), (1, 0)]


def _square(x):
    return jnp.outer(x, x) + 2 * jnp.eye(3, dtype=x.dtype) + jnp.arange(3.0).astype(x.dtype)


def _solve_triangular(x):
    solve = lax.linalg.triangular_solve
    transposed = solve(_square(x), x, left_side=True, lower=True, transpose_a=True)
    right = solve(_square(x), _square(x)[:1], unit_diagonal=True)
    return transposed + right[0]


def _mapped_over_devices(x):
    def on_each(x):
        y = jnp.cosh(x) * lax.axis_index("i").astype(x.dtype)
        total = lax.psum(jnp.convolve(y, x), "i") + lax.pmean(x[0] * y[0], "i")
        moved = lax.ppermute(y, "i", _RING) * lax.all_gather(x, "i")[1]
        swapped = lax.all_to_all(jnp.concatenate([x, y]), "i", 0, 0, tiled=True)
        scattered = lax.psum_scatter(jnp.concatenate([x, y**2]), "i", tiled=True)
        return jnp.sum(total) + jnp.sum(moved * scattered[: x.size]) + jnp.sum(swapped)[None]

    mesh = jax.make_mesh((2,), ("i",), axis_types=(AxisType.Auto,))
    spec = P("i")
    x = jnp.concatenate([x, x[:1]])
    unchecked = jax.shard_map(
        lambda x: lax.psum(x**3, "i"), mesh=mesh, in_specs=spec, out_specs=P(), check_vma=False
    )
    return jax.shard_map(on_each, mesh=mesh, in_specs=spec, out_specs=spec)(x) + unchecked(x)


def _cubes(x):
    return jnp.sum(x**3 + x * jnp.sin(x))


def _here():
    return jax.sharding.SingleDeviceSharding(jax.devices()[0])


OTHERS = {
    "add_any": lambda x: jax.grad(_cubes, holomorphic=jnp.iscomplexobj(x))(x),
    "add, sub, neg": lambda x: x + x[0] - (-x) * 3,
    "broadcast_in_dim": lambda x: jnp.broadcast_to(x, (2, 3)) ** 2,
    "concatenate": lambda x: jnp.concatenate([x, x[:2] ** 2]),
    "conv_general_dilated": lambda x: lax.conv_general_dilated(
        _square(x)[None, None], _square(x)[None, None, :2], (2, 1), ((1, 0), (1, 1)), (1, 2), (2, 1)
    ),
    "convert_element_type": lambda x: (x * 2).astype(
        jnp.complex128 if jnp.iscomplexobj(x) else jnp.float64
    ),
    "copy": lambda x: jnp.copy(x) ** 2,
    "cumprod": lambda x: lax.cumprod(x, reverse=True),
    "cumsum": lambda x: lax.cumsum(x**2),
    "device_put": lambda x: jax.device_put(x, jax.devices()[0]) ** 2,
    "dot_general": lambda x: _square(x) @ _square(x) @ x,
    "dynamic_slice": lambda x: lax.dynamic_slice(x, (1,), (2,)) ** 2,
    "dynamic_update_slice": lambda x: lax.dynamic_update_slice(x, x[:1] ** 2, (1,)),
    "gather": lambda x: x[_ORDER] ** 2,
    "lu": lambda x: jax.scipy.linalg.lu(_square(x))[2],
    "mul": lambda x: x * x[0] * 2,
    "name": lambda x: checkpoint_name(x**2, "kept"),
    "optimization_barrier": lambda x: lax.optimization_barrier(x**2),
    "pad": lambda x: lax.pad(x, x[0] ** 2, ((1, -1, 1),)),
    "polynomial": lambda x: jnp.polyval(x, x[::-1]),
    "reduce_prod": lambda x: lax.reduce(x, jnp.ones((), x.dtype), lax.mul, (0,)) + jnp.prod(x),
    "reduce_sum": lambda x: jnp.sum(_square(x), axis=0),
    "reduce_window_sum": lambda x: lax.reduce_window(
        x**2, np.zeros((), x.dtype), lax.add, (2,), (1,), "VALID"
    ),
    "reshape": lambda x: _square(x).reshape(-1)[:5],
    "rev": lambda x: x[::-1] ** 2,
    "scatter": lambda x: x.at[_ORDER[:2]].set(x[:2] ** 2),
    "scatter-add": lambda x: x.at[_ORDER[:2]].add(x[:2] ** 2),
    "scatter-mul": lambda x: x.at[_ORDER[:2]].multiply(x[:2], unique_indices=True),
    "scatter-sub": lambda x: x.at[_ORDER[:2]].subtract(x[:2] ** 2),
    "select_n": lambda x: jnp.where(_MASK, x**2, x),
    "sharding_constraint": lambda x: lax.with_sharding_constraint(x**2, _here()),
    "slice": lambda x: lax.slice(x, (0,), (3,), (2,)) ** 2,
    "split": lambda x: jnp.split(x**2, [1])[1],
    "squeeze": lambda x: jnp.squeeze(x[None] ** 2),
    "stack": lambda x: jnp.stack([x, x**2]),
    "tile": lambda x: jnp.tile(x**2, 2),
    "transpose": lambda x: _square(x).T ** 2,
    "triangular_solve": _solve_triangular,
    "tridiagonal_solve": lambda x: lax.linalg.tridiagonal_solve(
        x.at[0].set(0), x + 2, x.at[-1].set(0), x[:, None]
    ),
    "unstack": lambda x: jnp.unstack(_square(x))[1],
}


def _scalar(fun):
    """Return a sum of all results, each with a weight of its own."""

    def of(x):
        found = [jnp.ravel(part) for part in jax.tree.leaves(fun(x))]
        flat = jnp.concatenate(found)
        weights = jnp.asarray(np.cos(1.7 * np.arange(flat.size))).astype(flat.dtype)
        return jnp.sum(weights * flat).astype(x.dtype)

    return of


POINT = np.array([0.7, -0.4, 1.3])


@functools.cache
def _gradients_of_others():
    """Return what reverse mode gives in float64 at POINT, once for both precisions."""
    funs = [_scalar(fun) for fun in OTHERS.values()]
    expected = jax.jit(jax.jacrev(lambda x: jnp.stack([fun(x) for fun in funs])))(POINT)
    assert expected.dtype == np.float64
    return np.asarray(expected)


@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-12), ("float32", 2e-5)])
def test_each_known_primitive_keeps_the_step_on_this_backend(x64, dtype, rtol):
    del x64
    found = _gradients([_scalar(fun) for fun in OTHERS.values()], POINT.astype(dtype))
    for name, got, right in zip(OTHERS, found, _gradients_of_others(), strict=True):
        # relative to the gradient; matrices here have condition numbers of about 10
        atol = rtol * np.max(np.abs(right))
        np.testing.assert_allclose(got, right, rtol=0, atol=atol, err_msg=name)


def test_collective_operations_keep_the_step(x64):
    del x64
    fun, x = _scalar(_mapped_over_devices), POINT
    both = lambda x: (finite_difference(fun, scheme="complex")(x), jax.grad(fun)(x))  # noqa: E731
    got, right = jax.jit(both, compiler_options=AS_FOR_USERS)(x)
    np.testing.assert_allclose(got, right, rtol=1e-12)  # some roundings of float64


def test_no_primitive_is_on_the_list_that_no_test_has_seen(x64):
    del x64
    x = jax.ShapeDtypeStruct((3,), jnp.complex64)
    funs = [*OTHERS.values(), *(fun for fun, _, _ in ELEMENTARY.values()), _mapped_over_devices]
    seen = {eqn.primitive.name for fun in funs for eqn in equations(jax.make_jaxpr(fun)(x).jaxpr)}
    assert KNOWN - seen == (set() if NEW else {"log2", "one_minus_square", "polynomial"})


def test_complex_data_known_only_when_it_runs_give_nan_unless_they_are_real():
    @jax.jit
    def gradient(data, x):
        return finite_difference(
            lambda x: jnp.sum(data * x.astype(data.dtype) ** 2), scheme="complex"
        )(x)

    real = np.array([1, -2, 3], np.complex64)
    np.testing.assert_allclose(gradient(real, X), 2 * real.real * X, rtol=1e-6)  # of float32
    assert np.all(np.isnan(gradient(real + 1j, X)))


def test_where_only_the_differences_of_imaginary_parts_are_real_the_gradient_is_nan():
    fun = jax.jit(lambda x: jnp.log(x) - jnp.log(3 * x + 1))
    assert np.isnan(finite_difference(fun, scheme="complex")(-2.0))


def test_a_constant_has_zero_gradient():
    np.testing.assert_array_equal(_gradient(lambda x: jnp.float32(3.0)), 0)  # noqa: ARG005


@pytest.mark.parametrize(
    "fun",
    [lambda x: jnp.sum(jnp.log(x)), lambda x: jnp.sum(jnp.sqrt(x)), lambda x: jnp.sum(x**2.5)],
    ids=["log", "sqrt", "power"],
)
def test_where_fun_is_not_real_on_the_real_axis_the_complex_step_is_nan_and_check_says_so(fun):
    x = np.array([-1.7, -0.3], np.float32)
    g = finite_difference(jax.jit(fun), scheme="complex")
    assert np.all(np.isnan(g(x)))
    with pytest.raises(ValueError, match=r"real for real x|finite at x"):
        g.check(x)


def test_the_complex_step_does_not_underflow_on_small_slopes():
    x = np.full(3, 50, np.float32)
    g = finite_difference(jax.jit(lambda x: jnp.sum(jnp.exp(-x))), scheme="complex")
    np.testing.assert_allclose(g(x), -np.exp(-50.0), rtol=1e-5)  # float32 exp


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_steps_are_short_beside_a_small_x(dtype, x64):
    del x64
    x = np.array([1e-9, 1e-15, 1e-20, 0.5, 0.0], dtype)[: 3 if dtype == jnp.float32 else 4]
    g = finite_difference(jax.jit(lambda x: jnp.sum(jnp.log(x))), scheme="complex")
    # the square of the share of x over 3, and round-off
    np.testing.assert_allclose(np.asarray(g(x)) * x, 1, rtol=4 * float(jnp.finfo(dtype).eps))
    at_zero = finite_difference(jax.jit(lambda x: jnp.sum(x**3 + x)), scheme="complex")
    np.testing.assert_array_equal(at_zero(np.zeros(2, dtype)), 1)
