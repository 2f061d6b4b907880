"""Functions over what JAX offers, each with its arguments and those to differentiate."""

import jax
import jax.numpy as jnp
import numpy as np

RNG = np.random.default_rng(0)


def draw(*shape):
    return jax.device_put(np.asarray(RNG.uniform(0.2, 1.2, shape), np.float32))


A, KERNEL, PLACES = draw(5, 3), draw(2, 1, 2, 2), np.array([2, 0, 2, 1])
TREE = {"b": draw(3), "w": {"k": draw(2, 3), "s": draw()}}


def convolution(x):
    return jnp.tanh(jax.lax.conv_general_dilated(x, KERNEL, (1, 1), "SAME"))


def recurrence(x, a):
    def body(carry, row):
        carry = jnp.tanh(carry * row + x)
        return carry, carry[0]

    return jax.lax.scan(body, x, a)


def tree(params, x):
    hidden = jnp.tanh(params["w"]["k"] @ x + params["w"]["s"])
    return {"sum": jnp.sum(hidden), "rest": (hidden, x * params["b"])}


@jax.custom_jvp
def ruled(x):
    return jnp.sin(x)


ruled.defjvp(lambda x, t: (ruled(*x), 3.0 * t[0]))  # not the derivative: the rule is what counts


CASES = {
    "matrix": (lambda x, a: a @ x, (draw(3), A), 0),
    "wide matrix": (lambda x, a: a.T @ x, (draw(5), A), 0),
    "both factors": (lambda x, a: a @ jnp.sin(x), (draw(3), A), (0, 1)),
    "arguments turned round": (lambda x, y, z: x * y[0] + z, (draw(2), draw(3), draw()), (2, 0)),
    "last by a negative place": (lambda x, y: x * y, (draw(2), draw(2)), -1),
    "one in a tuple": (lambda x: x**2, (draw(2),), (0,)),
    "broadcast": (lambda x: x[:, None] * jnp.exp(x[None]), (draw(3),), 0),
    "reduction": (lambda x: (jnp.sum(x**2, axis=1), jnp.max(x)), (draw(3, 2),), 0),
    "gather": (lambda x: x[PLACES] * x[0], (draw(3, 2),), 0),
    "product of matrices": (lambda x: x @ x.T, (draw(2, 3),), 0),
    "convolution": (convolution, (draw(1, 1, 3, 3),), 0),
    "recurrence": (recurrence, (draw(2), draw(3, 2)), (0, 1)),
    "tree": (tree, (TREE, draw(3)), (0, 1)),
    "scalar": (lambda x: jnp.sin(x) * x, (draw(),), 0),
    "python number": (lambda x: jnp.sin(x) * x, (0.7,), 0),
    "scalar in": (lambda x: jnp.stack([x, x**3]), (draw(),), 0),
    "scalar out": (lambda x: jnp.sum(jnp.log(x)), (draw(4),), 0),
    "constant": (lambda x: (jnp.ones(2), x), (draw(2),), 0),
    "branch": (lambda x: jax.lax.cond(x[0] > 0, jnp.sin, jnp.cos, x), (draw(2),), 0),
    "jit inside": (lambda x: jax.jit(jnp.tanh)(x)[::-1] * x, (draw(3),), 0),
    "rule of its own": (lambda x: ruled(x) * x, (draw(2),), 0),
    "softmax": (jax.nn.softmax, (draw(4),), 0),
}
