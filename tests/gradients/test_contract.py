"""What every kind of gradient owes; what `GradientFn` does for all is tested on some of them."""

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import registry

from adlab import gradients
from adlab.core.cost import Cost
from adlab.gradients import GradientFn

every_kind = pytest.mark.parametrize("name", registry.KINDS)
some_kinds = pytest.mark.parametrize("name", registry.SOME)
KEY = jax.random.key(0)
A = jnp.asarray(np.array([1.0, -2.0, 0.5], np.float32))
B = jnp.asarray(np.array([[0.5, 1.0]], np.float32))


def _make(name, fun, dim=3, **options):
    """Make a kind whose steps aren't measured, for that is the subject of few tests here."""
    return registry.KINDS[name].make(fun, dim, **registry.KINDS[name].free, **options)


@jax.jit
def _fitted(x, y, *, weight=1.0):
    """A quadratic of two arguments: weight (|x|^2 + x_0 sum y + |y|^2 / 2)."""
    dtype = np.promote_types(x.dtype, y.dtype)  # one of them may be complex
    x, y = x.astype(dtype), y.astype(dtype)
    return weight * (jnp.sum(x**2) + x[0] * jnp.sum(y) + 0.5 * jnp.sum(y**2))


def _gradient_x(x, y):
    return 2 * np.asarray(x) + np.array([np.sum(np.asarray(y)), 0, 0])


def _gradient_y(x, y):
    return np.asarray(y) + np.asarray(x)[0]


def _close(name, actual, expected, coarse=False):
    bound = registry.KINDS[name].coarse if coarse else registry.KINDS[name].error
    scale = max(1.0, float(np.max(np.abs(expected))))
    # the accuracy of the kind, as the registry states it
    np.testing.assert_allclose(np.asarray(actual, np.float64), expected, atol=bound * scale)


def _assert_same_form(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)


@every_kind
def test_the_gradient_of_a_vector_is_the_known_one(name):
    measured, free = registry.KINDS[name].make(_fitted, 3), _make(name, _fitted)
    for g in (measured, free) if registry.KINDS[name].free else (free,):
        _close(name, g(A, B, key=KEY), _gradient_x(A, B))


@every_kind
def test_the_gradient_of_a_tree_of_mixed_dtypes_has_its_form_and_values(name):
    fun, params, gradient, *_ = oracles.tree_quadratic()
    estimate = registry.KINDS[name].make(jax.jit(fun), 10)(params, key=KEY)
    _assert_same_form(estimate, params)
    largest = max(float(np.max(np.abs(leaf))) for leaf in jax.tree.leaves(gradient))
    for leaf in gradient:
        error = np.asarray(estimate[leaf], np.float64) - gradient[leaf]
        # the accuracy of the kind with bfloat16 leaves, as the registry states it
        assert np.max(np.abs(error)) <= registry.KINDS[name].coarse * largest


@every_kind
def test_scalars_have_scalar_gradients(name):
    g = _make(name, lambda x: x**2, dim=1)
    for x in (2.0, np.float32(2.0)):
        estimate = g(x, key=KEY)
        assert (estimate.shape, estimate.dtype) == ((), jnp.float32)
        _close(name, estimate, 4.0)


@some_kinds
def test_numpy_arrays_are_taken_as_jax_arrays(name):
    seen = []

    def fun(x):
        seen.append(type(x))
        return jnp.sum(x.at[0].multiply(2.0) ** 2)

    g = _make(name, fun)
    value, estimate = g.value_and_grad(np.array([1.0, 2.0, 3.0]), key=KEY)
    assert estimate.dtype == jnp.float32
    _close(name, estimate, [8.0, 4.0, 6.0])
    assert value == 17
    assert np.ndarray not in seen


@some_kinds
@pytest.mark.parametrize("argnums", [1, -1])
def test_argnums_counts_from_either_end(name, argnums):
    _close(name, _make(name, _fitted, dim=2, argnums=argnums)(A, B, key=KEY), _gradient_y(A, B))


@pytest.mark.parametrize(
    ("argnums", "name"),
    [((1, 0), name) for name in registry.KINDS] + [((-1,), name) for name in registry.SOME],
)
def test_several_argnums_give_a_tuple_as_jax_does(name, argnums):
    dim = sum((A, B)[i].size for i in argnums)
    estimate = _make(name, _fitted, dim=dim, argnums=argnums)(A, B, key=KEY)
    _assert_same_form(estimate, jax.eval_shape(jax.grad(_fitted, argnums), A, B))
    for part, i in zip(estimate, argnums, strict=True):
        _close(name, part, (_gradient_x, _gradient_y)[i](A, B))


@some_kinds
def test_keyword_arguments_reach_the_function(name):
    estimate = _make(name, _fitted)(A, B, weight=2.0, key=KEY)
    _close(name, estimate, 2 * _gradient_x(A, B))


@every_kind
def test_auxiliary_data_come_back_as_from_jax(name):
    def fun(x, y):
        return _fitted(x, y), {"sum": jnp.sum(x), "y": y}

    g = _make(name, fun, has_aux=True)
    together, alone = jax.jit(lambda g: (g.value_and_grad(A, B, key=KEY), g(A, B, key=KEY)))(g)
    _assert_same_form(together, jax.eval_shape(jax.value_and_grad(fun, has_aux=True), A, B))
    _assert_same_form(alone, jax.eval_shape(jax.grad(fun, has_aux=True), A, B))
    for gradient, aux in (alone, (together[1], together[0][1])):
        _close(name, gradient, _gradient_x(A, B))
        assert aux["sum"] == np.sum(np.asarray(A))
        np.testing.assert_array_equal(aux["y"], B)


@every_kind
def test_the_value_is_that_of_the_function_and_the_gradient_the_same_as_alone(name):
    g = _make(name, _fitted)
    value, gradient = g.value_and_grad(A, B, key=KEY)
    assert (value.shape, value.dtype) == ((), jnp.float32)
    assert value == _fitted(A, B)
    np.testing.assert_allclose(gradient, g(A, B, key=KEY), rtol=1e-6)  # rounding of the mean


@every_kind
def test_jit_and_vmap_give_the_same(name):
    g = _make(name, _fitted)
    points = np.stack([A, 2 * np.asarray(A), np.asarray(A) - 1])
    mapped = jax.jit(jax.vmap(lambda x: g(x, B, key=KEY)))(points)
    for estimate, point in zip(mapped, points, strict=True):
        _close(name, estimate, _gradient_x(point, B))


@every_kind
def test_the_key_belongs_to_the_estimator_and_may_be_left_out_where_none_is_drawn(name):
    g = _make(name, _fitted)
    if registry.KINDS[name].random:
        with pytest.raises(TypeError, match=rf"^{name} draws random probes: key must be"):
            g(A, B)
        with pytest.raises(TypeError, match=rf"^{name} draws random probes: key must be"):
            g.value_and_grad(A, B)
    else:
        np.testing.assert_array_equal(g(A, B), g(A, B, key=KEY))


@every_kind
def test_it_is_a_frozen_pytree(name):
    g = _make(name, _fitted)
    leaves, structure = jax.tree.flatten(g)
    again = jax.tree.unflatten(structure, leaves)
    assert isinstance(again, GradientFn)
    np.testing.assert_array_equal(again(A, B, key=KEY), g(A, B, key=KEY))
    with pytest.raises(AttributeError):
        g.argnums = 1


@every_kind
def test_a_function_that_is_data_is_not_retraced_for_new_values(name):
    traces = []

    def fun(scale, x):
        traces.append(None)
        return jnp.sum(scale.astype(x.dtype) * x**2)

    @jax.jit
    def driver(g, x):
        return g(x, key=KEY)

    counts = []
    for scale in (1.0, 2.0, 3.0):
        partial = jax.tree_util.Partial(fun, jnp.float32(scale))
        _close(name, driver(_make(name, partial), A), 2 * scale * np.asarray(A))
        counts.append(len(traces))
    assert counts[0] == counts[-1]


@every_kind
def test_second_moment_is_a_number_of_one_or_more(name):
    g = _make(name, _fitted)
    if name == "custom":
        with pytest.raises(ValueError, match=r"second_moment of central_of_their_own must be"):
            g.second_moment(A)
    else:
        assert g.second_moment(A, B) == 1.0  # each kind is set up to be exact


def _counting():
    """Return (tick, counts): tick(kind, value) is value, and counts the calls when it runs."""
    counts = dict.fromkeys(("evaluations", "jvps", "vjps"), 0)

    def tick(kind, value):
        def on_host(value):
            counts[kind] += 1
            return np.asarray(value)

        if jnp.iscomplexobj(value):  # the complex step lets nothing of x through the host
            jax.debug.callback(on_host, value)
            return value
        shape = jax.ShapeDtypeStruct(value.shape, value.dtype)
        return jax.pure_callback(on_host, shape, value, vmap_method="sequential")

    return tick, counts


@jax.jit
def _squares(x):
    return jnp.sum(x**2)


def _counted(kind, tick):
    """A function that counts its evaluations and sweeps."""

    plain = _squares
    if kind.calls == "evaluations":
        return lambda x: tick("evaluations", plain(x))
    if kind.calls == "vjps":
        fun = jax.custom_vjp(lambda x: tick("evaluations", plain(x)))
        fun.defvjp(lambda x: (plain(x), x), lambda x, t: (2 * x * tick("vjps", t),))
        return fun
    fun = jax.custom_jvp(lambda x: tick("evaluations", plain(x)))
    fun.defjvp(lambda x, t: (plain(*x), tick("jvps", jnp.vdot(2 * x[0], t[0]))))
    return fun


@every_kind
@pytest.mark.parametrize("has_aux", [False, True])
def test_the_cost_is_the_number_of_calls_counted(name, has_aux):
    tick, counts = _counting()
    fun = _counted(registry.KINDS[name], tick)
    make = registry.KINDS[name].make  # with what measuring the step costs
    g = make((lambda x: (fun(x), x)) if has_aux else fun, 3, has_aux=has_aux)
    jax.block_until_ready(g(A, key=KEY))
    jax.effects_barrier()
    assert g.cost(A) == Cost(**counts)
    assert g.cost(jax.ShapeDtypeStruct(A.shape, A.dtype)) == g.cost(A)


@every_kind
def test_value_and_grad_costs_at_most_one_evaluation_more(name):
    tick, counts = _counting()
    fun = _counted(registry.KINDS[name], tick)
    g = _make(name, fun)
    jax.block_until_ready(g.value_and_grad(A, key=KEY))
    jax.effects_barrier()
    joint = _make(name, lambda x: (fun(x), None), has_aux=True).cost(A)
    assert joint == Cost(**counts)
    assert joint.calls - g.cost(A).calls in (0, 1)


@every_kind
def test_check_passes_where_all_is_well(name):
    g = _make(name, _fitted)
    assert g.check(A, B) is None
    assert g.check(A, B, key=KEY) is None
    assert _make(name, lambda x: (jnp.sum(x), x), has_aux=True).check(A) is None


@some_kinds
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_check_refuses_a_point_that_isn_t_finite_and_says_where(name, bad):
    x = {"layer": [jnp.ones(2), jnp.array([1.0, bad])]}
    g = _make(name, lambda x: jnp.sum(x["layer"][0]), dim=4)
    with pytest.raises(ValueError, match=r"\['layer'\]\[1\] must be finite, got NaN or infinity"):
        g.check(x)


@some_kinds
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_check_refuses_a_function_that_isn_t_finite(name, bad):
    with pytest.raises(ValueError, match=r": fun must be finite at x, got -?(nan|inf)$"):
        _make(name, lambda x: jnp.sum(x) * 0 + bad).check(A)


@some_kinds
def test_check_refuses_a_traced_call(name):
    g = _make(name, _fitted)
    with pytest.raises(TypeError, match=r"check reads values: call it outside jit, vmap and grad"):
        jax.jit(lambda x: g.check(x, B))(A)
    with pytest.raises(TypeError, match=r"check reads values: call it outside jit, vmap and grad"):
        jax.jit(lambda weight: g.check(A, B, weight=weight))(1.0)


BAD_FUNCTIONS = {
    "a vector": (
        lambda x: x**2,
        r"one real floating-point number, got (float32|complex64) of shape \(3,\)",
    ),
    "a vector of one": (lambda x: x[:1], r"got (float32|complex64) of shape \(1,\)"),
    "an integer": (lambda x: jnp.sum(x).astype(jnp.int32), r"got int32 of shape \(\)"),
    "a complex number": (
        lambda x: jax.lax.complex(jnp.sum(x), jnp.sum(x)),
        r"got complex64 of shape \(\)",
    ),
    "a flag": (lambda x: jnp.sum(x) * 0 == 1, r"got bool of shape \(\)"),
    "a tuple": (
        lambda x: (jnp.sum(x), x),
        r"real floating-point number, got PyTreeDef\(\(\*, \*\)\)",
    ),
    "nothing": (lambda x: None, r"real floating-point number, got PyTreeDef\(None\)"),  # noqa: ARG005
}


@some_kinds
@pytest.mark.parametrize("case", BAD_FUNCTIONS)
def test_a_function_that_returns_no_real_scalar_is_refused(name, case):
    fun, message = BAD_FUNCTIONS[case]
    for call in (_make(name, fun), _make(name, fun).value_and_grad):
        with pytest.raises(TypeError, match=message):
            call(A, key=KEY)


@some_kinds
@pytest.mark.parametrize("fun", [lambda x: x[:2], lambda x: jnp.sum(x), lambda x: (x[0], x, x)])
def test_has_aux_needs_a_pair(name, fun):
    with pytest.raises(TypeError, match=r"a pair \(value, aux\) with has_aux=True, got a "):
        _make(name, fun, has_aux=True)(A, key=KEY)


@some_kinds
@pytest.mark.parametrize(
    ("x", "place", "dtype"),
    [
        (jnp.arange(3), "x", "int32"),
        (3, "x", "int32"),
        (jnp.ones(2, jnp.complex64), "x", "complex64"),
        ({"w": jnp.ones(2), "n": [jnp.ones(1), jnp.arange(2)]}, r"\['n'\]\[1\]", "int32"),
        ({"w": jnp.ones(2), "z": jnp.ones(1, jnp.complex64)}, r"\['z'\]", "complex64"),
        ([jnp.array([True])], r"\[0\]", "bool"),
    ],
)
def test_leaves_that_aren_t_real_floating_point_are_refused_by_their_path(name, x, place, dtype):
    g = _make(name, lambda x: jnp.float32(0.0))  # noqa: ARG005
    message = rf"{place} must be real floating-point, got {dtype}"
    with pytest.raises(TypeError, match=message):
        g(x, key=KEY)
    with pytest.raises(TypeError, match=message):
        g.check(x)


@some_kinds
@pytest.mark.parametrize("x", [{}, [], jnp.ones((0, 3)), {"a": jnp.ones(0)}, None])
def test_an_empty_point_is_refused(name, x):
    with pytest.raises(ValueError, match="x must hold at least one number"):
        _make(name, lambda x: jnp.float32(0.0))(x, key=KEY)  # noqa: ARG005


@some_kinds
@pytest.mark.parametrize("argnums", [2, -3, (0, 2), (-3,)])
def test_argnums_out_of_range_are_refused(name, argnums):
    g = _make(name, _fitted, argnums=argnums)
    message = r"argnums must name one of the 2 positional arguments, got "
    with pytest.raises(ValueError, match=message):
        g(A, B, key=KEY)
    with pytest.raises(ValueError, match=message):
        g.cost(A, B)


@some_kinds
@pytest.mark.parametrize("argnums", [1.0, "0", True, (0, None), [0]])
def test_argnums_of_a_wrong_kind_are_refused(name, argnums):
    with pytest.raises(TypeError, match=r"^argnums must be an integer or a tuple of integers"):
        _make(name, _fitted, argnums=argnums)
    with pytest.raises(ValueError, match=r"^argnums must name at least one argument, got \(\)"):
        _make(name, _fitted, argnums=())


@some_kinds
@pytest.mark.parametrize("fun", [None, 3.0, "sum", jnp.ones(3)])
def test_what_isn_t_callable_is_refused(name, fun):
    with pytest.raises(TypeError, match=r"^fun must be callable, got "):
        _make(name, fun)


@some_kinds
def test_has_aux_must_be_a_flag(name):
    with pytest.raises(TypeError, match=r"^has_aux must be True or False, got 1"):
        _make(name, _fitted, has_aux=1)


@pytest.mark.parametrize("case", ["a vector", "a vector of one", "a tuple", "nothing"])
def test_at_complex_points_as_well(case):
    fun, message = BAD_FUNCTIONS[case]
    with pytest.raises(TypeError, match=message):
        _make("finite_difference/complex", fun)(A)


def test_the_registry_misses_no_factory():
    functions = {name for name in gradients.__all__ if inspect.isfunction(getattr(gradients, name))}
    assert {name for name, _ in registry.factories()} == functions - {"from_host", "noise_level"}


OPTIONS = {"smoothing": 0.1, "step": jnp.float32(0.1), "law": "gaussian", "num_probes": 8}
OPTIONS |= {"chunk_size": 2, "scheme": "forward", "argnums": (0, 1), "has_aux": True}


@pytest.mark.parametrize(("kind", "factory"), list(registry.factories()))
def test_a_gradient_shows_the_call_that_makes_it(kind, factory):
    def loss(x):
        return jnp.sum(x**2)

    needed = {"estimate": registry.central_of_their_own, "cost": np.sum} if kind == "custom" else {}
    shown = f"{kind}(loss, central_of_their_own, cost=sum" if needed else f"{kind}(loss"
    assert repr(factory(loss, **needed)) == f"{shown})"
    names = [name for name in inspect.signature(factory).parameters if name in OPTIONS]
    words = [f"{n}={0.1 if n == 'step' else repr(OPTIONS[n])}" for n in names]
    for name, word in zip(names, words, strict=True):
        assert repr(factory(loss, **needed, **{name: OPTIONS[name]})) == f"{shown}, {word})"
    together = factory(loss, **needed, **{name: OPTIONS[name] for name in names})
    assert repr(together) == f"{shown}, {', '.join(words)})"
    again = eval(f"lambda {kind}, loss, central_of_their_own, sum: {together}")
    assert repr(again(factory, loss, registry.central_of_their_own, np.sum)) == repr(together)


def test_a_gradient_shows_no_arrays():
    def loss(scale, x):
        return jnp.sum(scale * x**2)

    bound = jax.tree_util.Partial(loss, jnp.ones(1000))
    stacked = jax.tree.map(lambda _: jnp.ones(5), gradients.two_point(loss, smoothing=0.1))
    assert repr(gradients.reverse_mode(bound)) == "reverse_mode(loss)"
    assert repr(stacked) == "two_point(loss, smoothing=float32[5])"
    seen = []
    jax.jit(lambda g: seen.append(repr(g)))(gradients.two_point(loss, smoothing=0.1))
    assert seen == ["two_point(loss, smoothing=float32[])"]
