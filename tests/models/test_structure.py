import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adlab.models.structure import Structure


def scaled(factor):
    return lambda x: factor * x


def chained(factor):
    inner = scaled(factor)
    return lambda x, *, power=2: inner(x) ** power


def recursive():
    def count(n):
        return 0 if n == 0 else count(n - 1)

    return count


ARRAY, LIST = jnp.ones(2), [1]
BUILT_ANEW = {
    "numbers": lambda: (1, 0.5, "a", None, np.dtype(np.float32), jnp.tanh, float("nan")),
    "containers": lambda: {"a": [1, (2,)], "b": {3}},
    "closure": lambda: scaled(2.0),
    "closure over closures": lambda: chained(2.0),
    "partial": lambda: functools.partial(scaled(2), x=3),
    "initializer": jax.nn.initializers.he_normal,
    "tree": lambda: jax.tree.structure({"a": 1, "b": jax.tree_util.Partial(scaled(3), 1.0)}),
    "the same array": lambda: [ARRAY],
}


@pytest.mark.parametrize("name", list(BUILT_ANEW))
def test_what_is_built_anew_is_equal(name):
    first, second = (Structure(BUILT_ANEW[name]()) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        ((1,), [1]),
        ({"a": 1}, {"a": 2}),
        (scaled(2.0), scaled(3.0)),
        (chained(2.0), chained(3.0)),
        (scaled(2.0), lambda x, factor=2.0: factor * x),
        (scaled(ARRAY), scaled(ARRAY)),  # may hold other numbers when called
        (scaled(LIST), scaled(LIST)),  # may change
        (recursive(), recursive()),
        (functools.partial(scaled(2), x=3), functools.partial(scaled(2), x=4)),
        (jax.tree.structure([1, 2]), jax.tree.structure((1, 2))),
        (jnp.ones(2), jnp.ones(2)),
    ],
)
def test_what_may_behave_differently_is_not_equal(one, other):
    assert Structure(one) != Structure(other)
    assert Structure(one) == Structure(one)
