"""Jaxprs: walks, equations as functions, constants as arguments, bytes."""

import jax
import jax.numpy as jnp
import numpy as np

from adlab.core import jaxprs


def test_a_walk_that_runs_each_equation_gives_the_results():
    weights = jnp.arange(6.0).reshape(2, 3)  # a constant of the program

    def fun(x):
        return jax.jit(jnp.sin)(weights @ x) + 1.0, x, jnp.float32(2.0)

    x = jnp.array([0.5, -1.0, 2.0])
    found = jaxprs.walk(jax.make_jaxpr(fun)(x), [x], jaxprs.run_equation)
    expected = (np.sin(np.asarray(weights @ x)) + 1, x, 2.0)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)  # float32


def test_a_walk_can_carry_what_is_known_of_values():
    program = jax.make_jaxpr(lambda x, y: (x * 2.0 + y, jnp.sin(y)))(1.0, 1.0)
    union = lambda _, known: [frozenset().union(*known)]  # noqa: E731
    inputs = [frozenset("x"), frozenset("y")]
    nothing = lambda _: frozenset()  # noqa: E731
    found = jaxprs.walk(program, inputs, union, literal=nothing, constant=nothing)
    assert found == [frozenset("xy"), frozenset("y")]


def test_a_variable_in_two_places_has_two_partial_derivatives():
    (equation,) = jax.make_jaxpr(lambda x: x * x)(3.0).jaxpr.eqns
    step = jaxprs.step_function(equation)
    assert [float(d) for d in jax.grad(lambda a, b: step(a, b)[0], (0, 1))(3.0, 5.0)] == [5.0, 3.0]
    doubled = jaxprs.step_function(equation, {0: 2.0})
    assert float(doubled(jnp.float32(4.0))[0]) == 8.0


def test_hoisted_constants_are_arguments_and_have_derivatives():
    weight = jnp.array([2.0, 3.0])
    program = jax.make_jaxpr(lambda x: weight * x)(jnp.ones(2))
    run = jaxprs.hoisted(program, "product")
    slopes = jax.grad(lambda w, x: jnp.sum(run(w, x)[0]), (0, 1))(
        *program.consts, jnp.array([5.0, 7.0])
    )
    np.testing.assert_array_equal(slopes, [[5.0, 7.0], [2.0, 3.0]])


def test_bytes_are_those_of_the_array_and_nothing_has_none():
    assert jaxprs.num_bytes(jax.ShapeDtypeStruct((3, 4), jnp.bfloat16)) == 24
    assert jaxprs.num_bytes(jax.typeof(jnp.float32(1.0))) == 4
    assert jaxprs.num_bytes(object()) == 0
