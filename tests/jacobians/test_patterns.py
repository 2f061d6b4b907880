"""Patterns of Jacobians, beside the Jacobians themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pattern_cases import EXACT, WIDER

from adlab.jacobians import sparsity


def nonzero(fun, shape):
    """Entries of the Jacobian that differ from zero at one of several points."""
    rng = np.random.default_rng(1)
    points = jnp.asarray(rng.uniform(0.1, 1.3, (8, *shape)).astype(np.float32))
    points = jnp.where(points > 0.99, 0.5, points)  # within the domain of all functions
    try:
        found = jax.jit(jax.vmap(jax.jacfwd(fun)))(points)
    except TypeError:
        found = jax.jit(jax.vmap(jax.jacrev(fun)))(points)
    size = int(np.prod(shape))
    leaves = [np.asarray(leaf).reshape(8, -1, size) for leaf in jax.tree.leaves(found)]
    return np.any(np.concatenate(leaves, axis=1), axis=0)


@pytest.mark.parametrize("case", EXACT)
def test_a_pattern_is_that_of_the_jacobian(case):
    fun, shape = EXACT[case]
    found = sparsity(fun, jax.ShapeDtypeStruct(shape, np.float32)).toarray()
    np.testing.assert_array_equal(found, nonzero(fun, shape))


@pytest.mark.parametrize("case", WIDER)
def test_a_pattern_holds_the_jacobian(case):
    fun, shape = WIDER[case]
    found = sparsity(fun, jax.ShapeDtypeStruct(shape, np.float32)).toarray()
    assert not np.any(nonzero(fun, shape) & ~found)
