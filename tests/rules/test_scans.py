"""Second derivatives in a scan: jax 0.10 drops custom rules from one, in reverse mode."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from adlab.rules import lstsq, matrix_function, pinv, polar

pytestmark = pytest.mark.usefixtures("x64")

# A function of matrices, and what it is of one entry, with two derivatives.
STEPS = {
    "lstsq": (
        lambda c: c + lstsq(c, jnp.ones((1, 1))), lambda t: (t + 1 / t, 1 - t**-2, 2 * t**-3)
    ),
    "pinv": (lambda c: c + pinv(c), lambda t: (t + 1 / t, 1 - t**-2, 2 * t**-3)),
    "polar": (lambda c: polar(c).u + polar(c).p @ polar(c).p, lambda t: (1 + t * t, 2 * t, 2.0)),
    "matrix_function": (
        lambda c: matrix_function(c, "sqrt"), lambda t: (t**0.5, 0.5 * t**-0.5, -0.25 * t**-1.5)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_second_derivatives_of_two_steps_in_a_scan(name):
    step, known = STEPS[name]

    def twice(t):
        end, _ = lax.scan(lambda c, _: (step(c), None), jnp.reshape(t, (1, 1)), None, length=2)
        return end[0, 0]

    @jax.jit
    def run(t):
        over_reverse = jax.jvp(jax.grad(twice), (t,), (1.0,))
        return *over_reverse, jax.grad(jax.grad(twice))(t), jax.jacfwd(jax.jacfwd(twice))(t)

    inner, slope, bend = known(1.5)
    _, outer_slope, outer_bend = known(inner)
    expected = outer_bend * slope**2 + outer_slope * bend
    np.testing.assert_allclose(run(1.5), [outer_slope * slope, *3 * [expected]], rtol=1e-13)
