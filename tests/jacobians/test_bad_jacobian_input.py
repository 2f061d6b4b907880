"""What a user may get wrong, told in one form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adlab.jacobians import jacobian, jacobian_costs

X = jnp.ones(3)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"mode": "foward"}, ValueError, r"mode must be one of .*did you mean 'forward'"),
        ({"chunk_size": 0}, ValueError, "chunk_size must be >= 1, got 0"),
        ({"chunk_size": 2.0}, TypeError, "chunk_size must be an integer >= 1, got 2.0"),
        ({"chunk_size": "all"}, ValueError, "chunk_size must be one of 'auto', got 'all'"),
        ({"argnums": 1.5}, TypeError, "argnums must be an integer or a tuple"),
        ({"argnums": ()}, ValueError, "argnums must name at least one argument"),
    ],
)
def test_bad_options_are_refused_at_once(options, error, message):
    with pytest.raises(error, match=message):
        jacobian(jnp.sin, **options)


def test_what_is_not_callable_is_refused():
    with pytest.raises(TypeError, match="fun must be callable, got 3"):
        jacobian(3)


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse", "mixed"])
@pytest.mark.parametrize(
    ("fun", "x", "error", "message"),
    [
        (jnp.sin, jnp.arange(3), TypeError, "x must be real floating-point, got int32"),
        (jnp.sin, {"a": X, "n": 3}, TypeError, r"\['n'\] must be real floating-point, got int32"),
        (jnp.sin, jnp.ones(0), ValueError, "x must hold at least one number"),
        (
            lambda x: {"a": x, "k": x > 0},
            X,
            TypeError,
            r"fun must return real.* got bool at \['k'\]",
        ),
        (lambda x: jax.lax.complex(x, x), X, TypeError, "fun must return real .*, got complex64"),
        (lambda x: x[:0], X, ValueError, "fun must return at least one number"),
    ],
)
def test_numbers_that_have_no_derivative_are_refused(mode, fun, x, error, message):
    with pytest.raises(error, match=message):
        jacobian(fun, mode=mode)(x)


@pytest.mark.parametrize(
    ("argnums", "message"),
    [
        (2, "argnums must name one of the 2 positional arguments, got 2"),
        ((0, -3), r"argnums must name one of the 2 positional arguments, got \(0, -3\)"),
        ((0, -2), r"argnums must name each argument once, got \(0, -2\)"),
    ],
)
def test_argnums_out_of_range_are_refused(argnums, message):
    for call in (jacobian(jnp.add, argnums=argnums), _costs(argnums)):
        with pytest.raises(ValueError, match=message):
            call(X, X)


def _costs(argnums):
    return lambda *args: jacobian_costs(jnp.add, *args, argnums=argnums)


def test_a_value_without_auxiliary_data_is_refused_where_these_are_announced():
    with pytest.raises(TypeError, match=r"pair .* with has_aux=True, got a "):
        jacobian(jnp.sin, has_aux=True)(X)


def test_a_function_that_has_no_derivative_either_way_says_why():
    @jax.custom_vjp
    def fun(x):
        return x

    fun.defvjp(lambda x: (x, None), lambda *_: (None,))

    def loop(x):  # no reverse mode through the loop, no forward mode through its body
        return jax.lax.while_loop(lambda v: v[0] < 10.0, lambda v: fun(v) * 2.0, x)

    with pytest.raises(TypeError, match="forward-mode"):
        jacobian(loop)(X)


@pytest.mark.parametrize("chunk_size", [1, 2, "auto"])
@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_auxiliary_data_needn_t_be_arrays(mode, chunk_size):
    transform = jacobian(
        lambda x: (x**2, {"name": "square"}), mode=mode, chunk_size=chunk_size, has_aux=True
    )
    found, aux = transform(np.float32([1, 2, 3]))
    np.testing.assert_allclose(found, np.diag([2, 4, 6]))
    assert aux == {"name": "square"}


def test_empty_argnums_are_a_wrong_value_and_numpys_integers_are_taken():
    with pytest.raises(ValueError, match=r"argnums must name at least one argument, got \(\)"):
        jacobian(jnp.sin, argnums=())
    found = jacobian(jnp.sin, argnums=np.int64(0))(np.float32(0.5))
    np.testing.assert_allclose(found, np.cos(0.5), rtol=1e-6)


def test_what_is_no_array_is_named():
    with pytest.raises(TypeError, match=r"\['n'\] must be real floating-point, got str"):
        jacobian(lambda x: x["w"] * 2)({"w": np.ones(2, np.float32), "n": "s"})
