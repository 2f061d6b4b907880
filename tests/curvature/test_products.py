import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
import regressions
from oracles import quickly_compiled

from adlab.curvature import hvp, linearize_hvp

MODES = ["forward_over_reverse", "reverse_over_forward", "reverse_over_reverse"]
ROUND_OFF = 1e-13  # of a few dozen float64 operations on numbers of order 1 to 10


def _direction(like, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.standard_normal(jnp.shape(leaf)), like)


def _flat(tree):
    return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)])


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", list(regressions.ALL))
def test_products_in_every_mode_and_the_gradient_are_those_in_closed_form(name):
    case = regressions.ALL[name]()
    vectors = [_direction(case.params, seed) for seed in range(2)]

    @quickly_compiled
    def compute(params, vectors):
        gradient, matvec = linearize_hvp(case.fun, params, *case.data)
        products = {
            mode: [hvp(case.fun, mode=mode)(v, params, *case.data) for v in vectors]
            for mode in MODES
        }
        return gradient, products | {"linearised": [matvec(v) for v in vectors]}

    gradient, products = compute(case.params, vectors)
    assert np.abs(_flat(gradient) - case.gradients.mean(axis=0)).max() <= ROUND_OFF
    assert set(products) == {*MODES, "linearised"}
    for mode, found in products.items():
        for v, product in zip(vectors, found, strict=True):
            assert jax.tree.structure(product) == jax.tree.structure(case.params)
            error = np.abs(_flat(product) - case.hessian @ _flat(v)).max()
            assert error <= ROUND_OFF, mode


@pytest.mark.parametrize("mode", [*MODES, "linearised"])
def test_dense_quadratic_in_float32(mode):
    fun, x, _, hessian, _ = oracles.quadratic(dim=6)
    x, v = np.asarray(x, np.float32), np.float32([1.0, -2.0, 0.5, 0.0, 3.0, 1.0])
    product = (
        linearize_hvp(fun, x)[1](v)
        if mode == "linearised"
        else quickly_compiled(hvp(fun, mode=mode))(v, x)
    )
    assert product.dtype == jnp.float32
    np.testing.assert_allclose(product, hessian @ np.asarray(v), atol=5e-6)  # float32, norm ~ 10


@pytest.mark.parametrize("mode", [*MODES, "linearised"])
def test_leaves_of_several_dtypes(mode):
    fun, params, gradient = oracles.tree_quadratic()[:3]
    v = {
        "bias": jnp.array([1.0, 2.0, -0.5], jnp.bfloat16),
        "scale": jnp.float32(3.0),
        "weight": jnp.array([[0.5, 1.0, 1.5], [-2.0, 0.25, 0.0]], jnp.float32),
    }
    if mode == "linearised":
        found, matvec = quickly_compiled(lambda p: linearize_hvp(lambda p: fun(p, 0.5), p))(params)
        product = matvec(v)
        for leaf, exact in zip(jax.tree.leaves(found), jax.tree.leaves(gradient), strict=True):
            np.testing.assert_array_equal(np.asarray(leaf, np.float64), exact + 0.5)
    else:
        product = quickly_compiled(hvp(fun, mode=mode))(v, params, 0.5)
    total = sum(np.asarray(leaf, np.float64).sum() for leaf in jax.tree.leaves(v))
    for place, name in enumerate(sorted(v), 1):
        assert product[name].dtype == v[name].dtype
        exact = place * np.asarray(v[name], np.float64) + total
        np.testing.assert_array_equal(np.asarray(product[name], np.float64), exact)  # all exact


def test_v_of_another_precision_comes_back_in_its_own():
    v = jnp.array([1.0, 2.0], jnp.float32)
    x = jnp.array([1.0, 0.5], jnp.bfloat16)
    product = hvp(lambda x: jnp.sum(x**2))(v, x)
    assert product.dtype == jnp.float32
    np.testing.assert_array_equal(product, [2.0, 4.0])
    product = linearize_hvp(lambda x: jnp.sum(x**2), x)[1](v)
    assert product.dtype == jnp.float32


@pytest.mark.usefixtures("x64")
def test_differences_of_the_gradient_in_closed_form_approach_the_product_at_second_order():
    case = regressions.softmax()
    direction = _direction(case.params)
    x, v = _flat(case.params), _flat(direction)

    def gradient(flat):
        jacobians = regressions.affine_jacobians(case.inputs, 3)
        p = regressions.softmax_of(np.einsum("nai,i->na", jacobians, flat))
        return np.einsum("nai,na->i", jacobians, p - np.eye(3)[case.targets]) / len(p)

    exact = _flat(hvp(case.fun)(direction, case.params, *case.data))
    errors = []
    for h in (2e-2, 1e-2, 5e-3):
        difference = (gradient(x + h * v) - gradient(x - h * v)) / (2 * h)
        errors.append(np.linalg.norm(difference - exact))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.02)  # the next term is O(h^2)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.02)
    assert errors[2] <= 1e-4


def _bilinear(a, b, c):
    """a . M b + c a_0 a_1, M = [[1, 2], [3, 4]]."""
    return a @ (jnp.array([[1.0, 2.0], [3.0, 4.0]]) @ b) + c["c"] * a[0] * a[1]


BILINEAR_AT = (jnp.array([1.0, -1.0]), jnp.array([0.5, 2.0]), {"c": jnp.float32(3.0)})


@pytest.mark.parametrize("mode", MODES)
def test_argnums_choose_the_argument_and_the_blocks_between_several(mode):
    u, w, s = jnp.array([1.0, 2.0]), jnp.array([1.0, -1.0]), {"c": jnp.float32(0.5)}

    @quickly_compiled
    def products(u, w, s):
        one, other = (hvp(_bilinear, mode=mode, argnums=k)(u, *BILINEAR_AT) for k in (0, 1))
        both = hvp(_bilinear, mode=mode, argnums=(0, 1))((u, w), *BILINEAR_AT)
        return one, other, both, hvp(_bilinear, mode=mode, argnums=(-1, 0))((s, u), *BILINEAR_AT)

    one, other, both, swapped = products(u, w, s)
    np.testing.assert_array_equal(one, [6.0, 3.0])  # c swap u
    np.testing.assert_array_equal(other, [0.0, 0.0])
    np.testing.assert_array_equal(both[0], [6 - 1, 3 - 1])  # c swap u + M w
    np.testing.assert_array_equal(both[1], [1 + 6, 2 + 8])  # M^T u
    np.testing.assert_array_equal(swapped[0]["c"], 1 * -1.0 + 2 * 1.0)  # u_0 a_1 + u_1 a_0
    np.testing.assert_array_equal(swapped[1], [6 - 0.5, 3 + 0.5])  # c swap u + s swap a


def test_argnums_of_the_linearised_product():
    u, w = jnp.array([1.0, 2.0]), jnp.array([1.0, -1.0])
    gradient, matvec = linearize_hvp(_bilinear, *BILINEAR_AT, argnums=(0, 1))
    np.testing.assert_array_equal(gradient[1], [1 - 3, 2 - 4])  # M^T a
    np.testing.assert_array_equal(matvec((u, w))[0], [5.0, 2.0])
    np.testing.assert_array_equal(matvec((u, w))[1], [7.0, 10.0])


@pytest.mark.parametrize("mode", MODES)
def test_aux_comes_back_as_fun_made_it(mode):
    def fun(x, shift):
        return jnp.sum(x**3) + shift * jnp.sum(x), {"square": x**2, "count": jnp.array(2)}

    x, v = jnp.array([1.0, 2.0]), jnp.array([1.0, -1.0])
    product, aux = hvp(fun, mode=mode, has_aux=True)(v, x, 3.0)
    np.testing.assert_array_equal(product, [6.0, -12.0])
    np.testing.assert_array_equal(aux["square"], [1.0, 4.0])
    assert aux["count"] == 2
    gradient, matvec, aux = linearize_hvp(fun, x, 3.0, has_aux=True)
    np.testing.assert_array_equal(gradient, [6.0, 15.0])
    np.testing.assert_array_equal(matvec(v), [6.0, -12.0])
    np.testing.assert_array_equal(aux["square"], [1.0, 4.0])


@pytest.mark.parametrize("mode", [*MODES, "linearised"])
def test_jit_and_vmap_over_vectors_give_the_matrix(mode):
    fun, x, _, hessian, _ = oracles.quadratic(dim=4)
    x, eye = x.astype(jnp.float32), jnp.eye(4, dtype=jnp.float32)

    @jax.jit
    def rows(x, eye):
        if mode == "linearised":
            return jax.vmap(linearize_hvp(fun, x)[1])(eye)
        return jax.vmap(lambda v: hvp(fun, mode=mode)(v, x))(eye)

    np.testing.assert_allclose(rows(x, eye), hessian, atol=5e-6)  # float32


def test_a_linearised_product_evaluates_fun_once_and_crosses_jit_as_data():
    calls, traces = [], []

    def fun(x, scale):
        calls.append(1)
        return scale * jnp.sum(jnp.sin(x))

    @jax.jit
    def twice(matvec, v):
        traces.append(1)
        return matvec(matvec(v))

    x, v = np.array([0.5, 1.0], np.float32), jnp.array([1.0, 2.0])
    _, matvec = linearize_hvp(fun, jnp.asarray(x), 2.0)
    for factor in (1.0, 2.0, 3.0):
        found = twice(matvec, factor * v)
        np.testing.assert_allclose(found, factor * 4 * np.sin(x) ** 2 * v, rtol=1e-6)  # float32
    leaves, structure = jax.tree.flatten(matvec)
    doubled = jax.tree.unflatten(structure, [2 * leaf for leaf in leaves])
    assert len(leaves) >= 2  # sin x or the like, and x
    assert np.abs(twice(doubled, v) - twice(matvec, v)).max() > 0.1
    assert len(calls) == 1
    assert len(traces) == 1


def _with_reverse_rule(fun, rule):
    wrapped = jax.custom_vjp(fun)
    wrapped.defvjp(lambda x: (fun(x), x), lambda x, t: (rule(x) * t,))
    return wrapped


SQUARE = _with_reverse_rule(lambda x: x**2, lambda x: 2 * x)
ONCE = _with_reverse_rule(lambda x: x**3, lambda x: 3 * x**2)
TWICE = _with_reverse_rule(lambda x: x**3, lambda x: 3 * SQUARE(x))


@pytest.mark.parametrize(
    ("cube", "mode", "refused"),
    [
        (ONCE, "forward_over_reverse", None),
        (ONCE, "reverse_over_reverse", None),
        (TWICE, "reverse_over_reverse", None),
        (TWICE, "forward_over_reverse", TypeError),
        (ONCE, "reverse_over_forward", NotImplementedError),
    ],
    ids=["once-for", "once-ror", "twice-ror", "twice-for", "once-rof"],
)
def test_which_modes_a_reverse_rule_alone_suffices_for(cube, mode, refused):
    product, v = hvp(lambda x: jnp.sum(cube(x)), mode=mode), jnp.array([1.0, -1.0])
    if refused is None:
        np.testing.assert_array_equal(product(v, jnp.array([1.0, 2.0])), [6.0, -12.0])
    else:
        with pytest.raises(refused, match=r"custom_vjp|custom_lin"):
            product(v, jnp.array([1.0, 2.0]))


X = jnp.array([1.0, 2.0])


@pytest.mark.parametrize("v", [jnp.ones(3), jnp.ones((2, 1)), {"a": jnp.ones(2)}, (X, X)])
def test_v_of_another_shape_is_refused(v):
    match = r"v must be shaped as the argument, \(2,\), got"
    with pytest.raises(ValueError, match=match):
        hvp(lambda x: jnp.sum(x**2))(v, X)
    with pytest.raises(ValueError, match=match):
        linearize_hvp(lambda x: jnp.sum(x**2), X)[1](v)


@pytest.mark.parametrize("v", [np.array([1, 0]), jnp.array([True, False])])
def test_v_without_fractions_is_refused_for_products_would_be_cut_to_integers(v):
    match = "v must be real floating-point"
    with pytest.raises(TypeError, match=match):
        hvp(lambda x: jnp.sum(jnp.sin(x)))(v, X)
    with pytest.raises(TypeError, match=match):
        linearize_hvp(lambda x: jnp.sum(jnp.sin(x)), X)[1](v)


def _hvp(fun, v, *args, **options):
    return hvp(fun, **options)(v, *args)


def _linearize_hvp(fun, v, *args, **options):
    return linearize_hvp(fun, *args, **options)[1](v)


@pytest.mark.parametrize("function", [_hvp, _linearize_hvp])
class TestRefusals:
    def test_integer_and_complex_parameters(self, function):
        bad = {"a": X, "n": jnp.array([1, 2])}
        with pytest.raises(TypeError, match=r"\['n'\] must be real floating-point, got int32"):
            function(lambda p: jnp.sum(p["a"]), bad, bad)
        with pytest.raises(TypeError, match="must be real floating-point, got complex64"):
            function(lambda x: jnp.sum(x.real), X, X.astype(jnp.complex64))

    @pytest.mark.parametrize(
        "out",
        [
            lambda x: x,
            lambda x: (jnp.sum(x), x),
            lambda x: (jnp.sum(x),),
            lambda x: (jnp.sum(x), None),
            lambda _: None,
            lambda x: jnp.sum(x).astype(jnp.int32),
            lambda x: jnp.sum(x).astype(jnp.complex64),
        ],
        ids=["vector", "aux", "tuple", "aux without arrays", "nothing", "integer", "complex"],
    )
    def test_a_fun_that_is_not_a_scalar(self, function, out):
        with pytest.raises(TypeError, match="fun must return one real floating-point number, got"):
            function(out, X, X)

    def test_the_message_tells_dtype_and_shape_instead_of_a_tracer(self, function):
        with pytest.raises(TypeError, match=r"got float32 of shape \(2,\)"):
            function(lambda x: x, X, X)

    @pytest.mark.parametrize("argnums", [1, -2, (0, 1)])
    def test_an_argument_that_is_not_there(self, function, argnums):
        with pytest.raises(ValueError, match="argnums must name one of the 1 positional arguments"):
            function(jnp.sum, (X, X), X, argnums=argnums)

    @pytest.mark.parametrize("argnums", [(), (0, 0), (0, -2)])
    def test_an_argument_named_twice_or_none(self, function, argnums):
        with pytest.raises(ValueError, match="argnums must name"):
            function(jnp.vdot, (X, X), X, X, argnums=argnums)

    @pytest.mark.parametrize("argnums", [0.0, True, [0], "0"])
    def test_argnums_that_is_no_integer(self, function, argnums):
        with pytest.raises(TypeError, match="argnums must be an integer or a tuple of integers"):
            function(jnp.sum, X, X, argnums=argnums)


def test_an_unknown_mode_is_refused_when_built_with_the_nearest_match():
    with pytest.raises(ValueError, match=r"mode must be one of .*did you mean 'reverse_over_re"):
        hvp(jnp.sum, mode="reverse_over_revers")
