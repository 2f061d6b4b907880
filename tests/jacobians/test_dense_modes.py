"""Every mode gives the same Jacobian, in the tree that JAX gives it."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from jacobian_cases import CASES, A, draw

from adlab.jacobians import jacobian, jacobian_costs

MODES = ["auto", "forward", "reverse", "mixed"]
ROUND_OFF = {"rtol": 2e-5, "atol": 1e-6}  # float32, sums of some tens of numbers


def assert_same(found, expected, **tolerance):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        np.testing.assert_allclose(
            np.asarray(one, np.float64), np.asarray(other, np.float64), **(tolerance or ROUND_OFF)
        )


@pytest.mark.parametrize("case", CASES)
def test_all_modes_give_what_jax_gives(case):
    fun, args, argnums = CASES[case]

    @oracles.quickly_compiled
    def all_at_once(*args):
        found = [jacobian(fun, mode=mode, argnums=argnums)(*args) for mode in MODES]
        return found, jax.jacfwd(fun, argnums)(*args)

    found, expected = all_at_once(*args)
    for one in found:
        assert_same(one, expected)


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_chunks_that_leave_a_remainder_change_nothing(mode):
    fun, args, argnums = CASES["tree"]
    ways = [
        jacobian(fun, mode=mode, argnums=argnums, chunk_size=chunk_size)
        for chunk_size in (1, 3, 100)
    ]
    ways.append(jax.jacfwd(fun, argnums))
    *several, expected = oracles.quickly_compiled(lambda *args: [way(*args) for way in ways])(*args)
    for found in several:
        assert_same(found, expected)


def in_every_mode(fun, *args):
    """Return the Jacobian in every mode, by one program."""
    ways = [jacobian(fun, mode=mode) for mode in MODES]
    return oracles.quickly_compiled(lambda *args: [way(*args) for way in ways])(*args)


def test_a_composition_has_the_jacobian_of_the_chain_rule():
    a, b, x = draw(4, 3), draw(2, 4), draw(3)
    several = in_every_mode(lambda x: jnp.exp(b @ jnp.sin(a @ x)), x)
    a, b, x = (np.asarray(array, np.float64) for array in (a, b, x))
    expected = np.exp(b @ np.sin(a @ x))[:, None] * (b * np.cos(a @ x)) @ a
    for found in several:
        np.testing.assert_allclose(found, expected, **ROUND_OFF)


def test_a_result_that_is_returned_twice_has_its_jacobian_twice():
    a, b, x = draw(40, 2), draw(2, 40), draw(40)

    def fun(x):
        z = b @ jnp.sin(x)
        return {"mean": a @ jnp.tanh(z), "mode": a @ jnp.tanh(z)}

    assert jacobian_costs(fun, x).best == "mixed"
    found = oracles.quickly_compiled(jacobian(fun))(x)
    a, b, x = (np.asarray(array, np.float64) for array in (a, b, x))
    expected = a @ ((1 - np.tanh(b @ np.sin(x)) ** 2)[:, None] * b * np.cos(x))
    np.testing.assert_allclose(found["mean"], expected, **ROUND_OFF)
    np.testing.assert_allclose(found["mode"], expected, **ROUND_OFF)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("chunk_size", ["auto", 2])
def test_auxiliary_data_come_along(mode, chunk_size):
    def fun(x, power, *, shift):
        return x**power, {"x": x, "shifted": power + shift}

    x = draw(3)
    found, aux = jacobian(fun, mode=mode, chunk_size=chunk_size, has_aux=True)(x, 2, shift=3)
    np.testing.assert_allclose(found, np.diag(2 * np.asarray(x)), **ROUND_OFF)
    assert aux["shifted"] == 5
    np.testing.assert_array_equal(aux["x"], x)


@pytest.mark.parametrize("mode", MODES)
def test_it_goes_through_jit_and_vmap_with_numbers_and_arrays_traced(mode):
    @jax.jit
    def fun(x, scale, a):
        return jnp.tanh(a @ x) * scale

    j = jacobian(fun, mode=mode)
    xs, scales, a = np.asarray(draw(4, 3)), np.asarray(draw(4)), np.asarray(A, np.float64)
    expected = [s * (1 - np.tanh(a @ x) ** 2)[:, None] * a for x, s in zip(xs, scales, strict=True)]
    batched = jax.vmap(j, in_axes=(0, 0, None))

    @oracles.quickly_compiled
    def both(xs, scales, a):
        return j(xs[0], scales[0], a), batched(xs, scales, a)

    one, several = both(xs, scales, A)
    np.testing.assert_allclose(one, expected[0], **ROUND_OFF)
    for found in (several, batched(xs, scales, A)):
        np.testing.assert_allclose(found, expected, **ROUND_OFF)


@oracles.quickly_compiled
def twice_in_every_mode(x):
    fun = lambda x: jnp.sum(x**3)  # noqa: E731
    return [jacobian(jacobian(fun, mode=mode), mode=mode)(x) for mode in MODES]


def test_it_can_be_differentiated_again():
    x = draw(3)
    for hessian in twice_in_every_mode(x):
        np.testing.assert_allclose(hessian, np.diag(6 * np.asarray(x)), **ROUND_OFF)


@pytest.mark.usefixtures("x64")
def test_64_bits_are_kept():
    x = np.array([0.3, 0.7])
    s, c, u = np.sin(x), np.cos(x), x[0]
    expected = [[c[0] * u + s[0], 0], [s[1], c[1] * u]]
    for found in in_every_mode(lambda x: jnp.sin(x) * x[0], x):
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, expected, rtol=1e-15)  # a few units in the last place


def test_the_dtype_is_that_of_the_value_whatever_the_mode():
    def fun(x):
        return x.astype(jnp.bfloat16), 2 * x

    for low, full in in_every_mode(fun, draw(2)):
        assert (low.dtype, full.dtype) == (jnp.bfloat16, jnp.float32)


def loop(x):
    return jax.lax.while_loop(lambda v: v[0] < 10.0, lambda v: v * 2.0, x)


@jax.custom_vjp
def backward_only(x):
    return x**2


backward_only.defvjp(lambda x: (x**2, x), lambda x, g: (2 * x * g,))


@pytest.mark.parametrize(("fun", "value"), [(loop, 16.0), (backward_only, 2.0)])
def test_auto_takes_the_mode_in_which_the_function_can_be_differentiated(fun, value):
    # 1 is doubled four times, until it exceeds 10; the square has slope 2
    for j in (jacobian(fun), jax.jit(jacobian(fun))):
        np.testing.assert_allclose(j(np.ones(2, np.float32)), value * np.eye(2))


def test_the_name_of_the_function_is_kept_and_callables_without_one_are_taken():
    def area(x):
        return x**2

    assert jacobian(area).__name__ == "area"
    held = jax.tree_util.Partial(jnp.multiply, jnp.float32(3.0))
    assert jacobian(held)(jnp.float32(2.0)) == 3.0


@pytest.mark.parametrize("mode", ["auto", "mixed"])
def test_values_that_are_closed_over_are_read_at_every_call(mode):
    held = {"scale": 1.0}
    j = jacobian(lambda x: x * held["scale"], mode=mode)
    assert j(jnp.float32(2.0)) == 1.0
    held["scale"] = 5.0
    assert j(jnp.float32(2.0)) == 5.0
