import jax
import jax.numpy as jnp
import numpy as np
import pytest
import registry

from adlab.gradients import finite_difference, from_host, one_sided, reverse_mode, two_point
from adlab.gradients.host import searching

KEY = jax.random.key(0)


def single(x):
    """sum exp(x_i) sin(3 x_i), by NumPy, in the dtype of x."""
    return np.sum(np.exp(x) * np.sin(3 * x), axis=-1)


def _gradient(x):
    x = np.asarray(x, np.float64)
    return np.exp(x) * (np.sin(3 * x) + 3 * np.cos(3 * x))


X = np.array([0.5, 0.75, 1.0, 1.5], np.float32)
FUNCTIONS = {"sequential": from_host(single), "batched": from_host(single, vectorized=True)}


@pytest.mark.parametrize("how", FUNCTIONS)
@pytest.mark.parametrize("name", registry.VALUES_ONLY)
def test_every_kind_that_needs_values_alone_takes_host_functions(name, how):
    g = registry.KINDS[name].make(FUNCTIONS[how], 4, **registry.KINDS[name].free)
    # the accuracy of the kind, as the registry states it, for values and slopes of about 10; the
    # user's own has a step of 1/4, and so an error of 1/96 times third derivatives of about 150
    bound = 1.6 if name == "custom" else registry.KINDS[name].error * 10
    np.testing.assert_allclose(g(X, key=KEY), _gradient(X), rtol=0, atol=bound)


def test_host_functions_add_nothing_to_the_programs_of_others():
    assert FUNCTIONS  # a process that has some

    def cube(x):
        return jnp.sum(x**3)

    assert str(jax.make_jaxpr(reverse_mode(cube))(X)) == str(jax.make_jaxpr(jax.grad(cube))(X))


@pytest.mark.parametrize("how", FUNCTIONS)
def test_host_functions_run_under_jit_vmap_and_scan(how):
    g = two_point(FUNCTIONS[how], law="orthogonal", num_probes=4, smoothing=2.0**-6)
    points = np.stack([X, X - np.float32(0.25), X / 2])
    alone = np.stack([g(point, key=KEY) for point in points])

    @jax.jit
    def compiled(points):
        mapped = jax.vmap(lambda x: g(x, key=KEY))(points)
        scanned = jax.lax.scan(lambda c, x: (c, g(x, key=KEY)), 0, points)[1]
        return g(points[1], key=KEY), mapped, scanned

    jitted, mapped, scanned = compiled(points)
    # float32 rounding of values of about 5 over a smoothing of 1/64
    np.testing.assert_allclose(jitted, alone[1], atol=1e-3)
    np.testing.assert_allclose(mapped, alone, atol=1e-3)
    np.testing.assert_allclose(scanned, alone, atol=1e-3)


@pytest.mark.parametrize("how", FUNCTIONS)
def test_values_are_those_of_numpy_under_nested_vmap(how):
    points = jnp.asarray(np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4))
    # exp and sin of one NumPy, on other strides
    np.testing.assert_allclose(
        jax.jit(jax.vmap(jax.vmap(FUNCTIONS[how])))(points), single(np.asarray(points)), rtol=1e-6
    )


@pytest.mark.parametrize("how", FUNCTIONS)
@pytest.mark.usefixtures("x64_in_every_thread")
def test_float64_functions_keep_the_accuracy_of_their_differences(how):
    x = X.astype(np.float64)
    for g, bound in [
        # 10 times eps^(2/3), eps^(4/5) and eps^(1/2) of float64, times values of about 10
        (jax.jit(two_point(FUNCTIONS[how], law="orthogonal", num_probes=4)), 4e-9),
        (finite_difference(FUNCTIONS[how]), 4e-9),
        (finite_difference(FUNCTIONS[how], scheme="richardson"), 3e-11),
        (jax.jit(one_sided(FUNCTIONS[how], law="orthogonal", num_probes=4)), 2e-6),
    ]:
        estimate = g(x, key=KEY)
        assert estimate.dtype == jnp.float64
        np.testing.assert_allclose(estimate, _gradient(X), rtol=0, atol=bound)


@pytest.mark.usefixtures("x64_in_every_thread")
def test_a_float64_value_at_float32_points_is_not_rounded():
    fun = from_host(lambda x: 1e6 + float(np.sum(x.astype(np.float64) ** 2)))
    value, gradient = finite_difference(fun).value_and_grad(jnp.asarray(X))
    assert value.dtype == jnp.float64
    assert value == 1e6 + np.sum(X.astype(np.float64) ** 2)
    # float64 round-off of 1e6 over a step of 5e-3; float32's would be 12
    np.testing.assert_allclose(gradient, 2 * X, atol=1e-6)


@pytest.mark.parametrize("vectorized", [False, True])
def test_a_float64_function_in_32_bit_mode_is_an_error_that_names_the_flag(vectorized):
    fun = from_host(lambda x: np.sum(x.astype(np.float64), axis=-1), vectorized=vectorized)
    for call in (lambda: fun(X), lambda: two_point(fun)(X, key=KEY).block_until_ready()):
        with pytest.raises(Exception, match=r"returned float64.*jax_enable_x64.*adlab run --x64"):
            call()


class SimulatorError(Exception):
    """What a user's own code may raise."""


def _failing(x):
    raise SimulatorError(f"mesh of {x.shape[-1]} cells is degenerate")


@pytest.mark.parametrize("vectorized", [False, True])
def test_the_users_exception_reaches_the_user_eagerly_and_under_jit(vectorized):
    fun = from_host(_failing, vectorized=vectorized)
    g, several = two_point(fun), one_sided(fun, num_probes=3)
    for call in (lambda: fun(X), lambda: g(X, key=KEY), lambda: several(X, key=KEY),
                 lambda: finite_difference(fun)(X), lambda: g.check(X),
                 lambda: jax.vmap(fun)(X[None]), lambda: jax.vmap(jax.vmap(fun))(X[None, None]),
                 lambda: jax.vmap(lambda x: g(x, key=KEY))(X[None])):  # fmt: skip
        with pytest.raises(SimulatorError, match=r"^mesh of 4 cells is degenerate\n") as error:
            call()
        assert str(error.value) == "mesh of 4 cells is degenerate"
        note = error.value.__notes__[0]
        assert note.startswith("from_host: _failing raised this, called with arrays of (")
        assert error.traceback[-1].name == "_failing"
        assert error.value.__cause__ is None
        assert error.value.__context__ is None  # without JAX's own error
    mapped = jax.vmap(lambda x: g(x, key=KEY))
    for compiled, points in ((jax.jit(lambda x: g(x, key=KEY)), X), (jax.jit(mapped), X[None])):
        with pytest.raises(jax.errors.JaxRuntimeError) as error:
            jax.block_until_ready(compiled(points))
        last = str(error.value).strip().splitlines()[-1]
        assert last.startswith("SimulatorError: mesh of 4 cells is degenerate (from_host: ")


def _logarithms(x):
    if np.any(x <= 0):
        raise SimulatorError("outside of the domain")
    return np.sum(np.log(x), axis=-1)


@pytest.mark.parametrize("how", ["sequential", "batched", "jitted"])
def test_exceptions_in_search_of_a_step_count_as_values_that_aren_t_finite(how):
    fun = from_host(_logarithms, vectorized=how == "batched")
    fun = jax.jit(fun) if how == "jitted" else fun
    x = np.array([0.01, 0.3], np.float32)
    fun(x)  # a program that has been traced already must not be the one of the search
    for g in (
        finite_difference(fun),
        two_point(fun, law="orthogonal", num_probes=2),
        one_sided(fun, law="orthogonal", num_probes=2),
    ):
        # one step for both: forward 2 sqrt(eps f f'') / f' for the slope of 3, beside f'' = 1e4
        np.testing.assert_allclose(g(x, key=KEY), 1 / x, rtol=5e-2)
        with pytest.raises(Exception, match="outside of the domain"):
            jax.block_until_ready(g(-x, key=KEY))
    with pytest.raises(Exception, match="outside of the domain"):
        jax.block_until_ready(fun(-x))
    with searching():
        points = np.stack([-x, x])
        values = jax.jit(lambda points: jax.lax.map(fun, points, batch_size=2))(points)
    np.testing.assert_allclose(values, [np.nan, np.log(x).sum()], rtol=1e-6)  # float32


def test_a_function_of_numpy_is_told_about_from_host():
    fun = lambda x: jnp.float32(np.sum(np.sin(x)))  # noqa: E731
    for g in (finite_difference(fun), two_point(fun, num_probes=2)):
        with pytest.raises(TypeError, match=r"calls NumPy on x: .*from_host\(fun\)") as error:
            g(X, key=KEY)
        assert isinstance(error.value.__cause__, jax.errors.TracerArrayConversionError)


@pytest.mark.parametrize("chunk_size", [1, 3, 8])
@pytest.mark.parametrize(("factory", "evaluations"), [(two_point, 14), (one_sided, 8)])
def test_batches_are_no_longer_than_the_chunk_and_hold_every_point_once(
    factory, evaluations, chunk_size
):
    lengths = []

    def fun(x):
        lengths.append(len(x))
        return np.sum(x**2, axis=-1)

    options = {"num_probes": 7, "chunk_size": chunk_size, "smoothing": "relative"}
    g = factory(from_host(fun, vectorized=True), **options)
    jax.block_until_ready(jax.jit(g)(X, key=KEY))
    assert sum(lengths) == evaluations == g.cost(X).evaluations
    assert max(lengths) == min(chunk_size, 7)


def test_a_sequential_function_is_called_once_per_point_with_arrays_of_numpy():
    seen = []

    def fun(x):
        seen.append((type(x), x.shape, x.dtype))
        return np.sum(x**2)

    g = finite_difference(from_host(fun), chunk_size=3)
    jax.block_until_ready(g(X))
    assert seen == [(np.ndarray, (4,), np.float32)] * g.cost(X).evaluations


@pytest.mark.parametrize("vectorized", [False, True])
def test_pytrees_and_several_arguments_reach_the_host(vectorized):
    def fun(params, shift):
        assert isinstance(params["w"], np.ndarray)
        w, b = params["w"], params["b"]
        return np.sum(w**2, axis=(-2, -1)) + b * shift

    params = {"w": np.array([[1.0, 2.0], [3.0, 4.0]], np.float32), "b": np.float32(2.0)}
    g = finite_difference(from_host(fun, vectorized=vectorized))
    gradient = g(params, np.float32(5.0))
    # float32 rounding of 40 over a step of 2^-7
    np.testing.assert_allclose(gradient["w"], 2 * params["w"], atol=2e-3)
    np.testing.assert_allclose(gradient["b"], 5.0, atol=2e-3)


@pytest.mark.parametrize("vectorized", [False, True])
def test_keyword_arguments_reach_the_host(vectorized):
    def fun(x, *, weight):
        return weight * np.sum(x, axis=-1)

    g = finite_difference(from_host(fun, vectorized=vectorized))
    # float32 rounding of 15 over a step of 2^-7
    np.testing.assert_allclose(g(X, weight=np.float32(4.0)), 4.0, atol=1e-3)


@pytest.mark.parametrize("vectorized", [False, True])
def test_data_that_aren_t_mapped_come_as_they_are(vectorized):
    table = np.arange(12, dtype=np.float32).reshape(3, 4)

    def fun(x, table):
        rank = 2 + vectorized
        assert table.ndim == rank
        return np.einsum("...rj,...j->...", table, x)

    g = two_point(from_host(fun, vectorized=vectorized), law="orthogonal", num_probes=4)
    # float32 rounding of 100 over a step of 5e-3
    np.testing.assert_allclose(g(X, table, key=KEY), table.sum(axis=0), atol=5e-2)


@pytest.mark.parametrize(
    ("fun", "shape"),
    [(lambda x: x, r"\(4,\)"), (lambda x: 3, r"\(\) of int64"), (lambda x: None, "object")],  # noqa: ARG005
)
def test_a_result_that_is_no_real_number_is_refused(fun, shape):
    with pytest.raises(Exception, match=rf"from_host: fun must return real .*{shape}"):
        from_host(fun)(X)


def test_a_batched_function_must_return_one_number_per_point():
    fun = from_host(lambda x: np.sum(x), vectorized=True)
    with pytest.raises(Exception, match=r"numbers of shape \(2,\), got shape \(\)"):
        jax.block_until_ready(jax.vmap(fun)(jnp.ones((2, 3))))


def test_what_isn_t_callable_is_refused():
    with pytest.raises(TypeError, match=r"^from_host: fun must be callable, got 3"):
        from_host(3)


def test_automatic_differentiation_of_a_host_function_is_refused():
    with pytest.raises(
        ValueError,
        match="must not be differentiated by JAX",
    ):
        jax.grad(FUNCTIONS["sequential"])(jnp.asarray(X))


@pytest.mark.usefixtures("x64_in_every_thread")
def test_a_single_precision_function_says_so_where_float64_is_on():
    def single(x):
        return np.float32(np.sum(np.sin(x)))

    x = np.arange(1.0, 4.0)
    with pytest.raises(TypeError, match='pass dtype="float32"'):
        finite_difference(from_host(single))(x)
    g = finite_difference(from_host(single, dtype="float32"))
    # float32 values at the step that suits them: eps^(2/3) is 2e-5, of values of size 2
    np.testing.assert_allclose(g(x), np.cos(x), atol=1e-3)


def test_an_unknown_dtype_of_a_host_function_is_refused():
    with pytest.raises(ValueError, match="dtype must be one of 'float32', 'float64'"):
        from_host(np.sum, dtype="float16")


def test_an_exception_of_another_function_is_never_the_one_that_is_raised():
    """One that crossed the runtime and was not collected must not stand in for a later one."""

    def silent(x):
        del x
        raise RuntimeError

    def foreign(x):
        del x
        raise RuntimeError("of no host function")

    compiled = jax.jit(from_host(silent))
    with pytest.raises(jax.errors.JaxRuntimeError):
        jax.block_until_ready(compiled(X))
    shape = jax.ShapeDtypeStruct((), jnp.float32)
    g = two_point(lambda x: jax.pure_callback(foreign, shape, x, vmap_method="sequential"),
                  smoothing=0.1)  # fmt: skip
    with pytest.raises(jax.errors.JaxRuntimeError, match="of no host function"):
        jax.block_until_ready(g(X, key=KEY))
