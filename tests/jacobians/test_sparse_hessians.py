"""Sparse Hessians, beside closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

from adlab.jacobians import sparse_hessian


@jax.jit
def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def rosenbrock_hessian(x):
    """Closed form: tridiagonal."""
    inner = 1200 * x[:-1] ** 2 - 400 * x[1:] + 2
    diagonal = np.append(inner, 0) + np.append(0, np.full(len(inner), 200.0))
    return sparse.diags([-400 * x[:-1], diagonal, -400 * x[:-1]], [-1, 0, 1], format="csr")


@pytest.mark.parametrize("chunk_size", ["auto", 2])
def test_the_hessian_of_a_chain_of_5000_is_its_closed_form(chunk_size):
    x = np.linspace(-1.0, 1.0, 5000, dtype=np.float32)
    found = jax.jit(sparse_hessian(rosenbrock, chunk_size=chunk_size))(x)
    assert (found.shape, found.nse) == ((5000, 5000), 3 * 5000 - 2)
    rows, cols = np.asarray(found.indices).T
    expected = np.ravel(rosenbrock_hessian(x.astype(np.float64))[rows, cols])
    np.testing.assert_allclose(found.data, expected, rtol=1e-5, atol=1e-3)  # float32, up to 1,602


def full(found):
    matrix = np.zeros(found.shape, found.dtype)
    if found.nse:
        matrix[tuple(np.asarray(found.indices).T)] = found.data
    return matrix


def test_trees_arguments_and_auxiliary_data_are_as_in_jax_hessian():
    def fun(a, scale, b):
        value = scale * (jnp.sum(a["x"] ** 3) + a["x"][0] * b) + jnp.sum(jnp.sin(a["y"]))
        return value, {"kept": b}

    a, b = {"x": np.float32([1.0, 2.0]), "y": np.ones((1, 3), np.float32)}, np.float32(2.0)
    hessians = (f(fun, argnums=(0, 2), has_aux=True) for f in (sparse_hessian, jax.hessian))
    (found, aux), (expected, _) = jax.jit(lambda *args: [h(*args) for h in hessians])(a, 2.0, b)
    is_sparse = lambda leaf: hasattr(leaf, "todense")  # noqa: E731
    dense = jax.tree.map(full, found, is_leaf=is_sparse)
    jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, rtol=1e-6), dense, expected)
    assert aux == {"kept": b}
    entries = jax.tree.map(lambda leaf: leaf.nse, found, is_leaf=is_sparse)
    assert entries == (
        {"x": ({"x": 2, "y": 0}, 1), "y": ({"x": 0, "y": 3}, 0)},
        ({"x": 1, "y": 0}, 0),
    )


def test_a_linear_function_has_no_entries():
    assert sparse_hessian(jax.jit(lambda x: 3 * jnp.sum(x)))(np.ones(4, np.float32)).nse == 0


def test_a_given_pattern_is_verified():
    x = np.linspace(-1.0, 1.0, 8, dtype=np.float32)
    expected = rosenbrock_hessian(x)
    found = jax.jit(sparse_hessian(rosenbrock, pattern=expected))(x)
    np.testing.assert_allclose(full(found), expected.toarray(), rtol=1e-5, atol=1e-3)  # float32
    with pytest.raises(ValueError, match=r"7 of 8 rows, first in row 1; .*jax\.grad\(fun\)"):
        sparse_hessian(rosenbrock, pattern=sparse.triu(expected))(x)


@pytest.mark.parametrize(
    ("fun", "x", "message"),
    [
        (lambda x: x, np.ones(2, np.float32), "fun must return one real .* of shape"),
        (jnp.sum, np.arange(3, dtype=np.int32), "x must be real floating-point, got int32"),
    ],
)
def test_what_has_no_hessian_is_refused(fun, x, message):
    with pytest.raises(TypeError, match=f"sparse_hessian: {message}"):
        sparse_hessian(fun)(x)
    with pytest.raises(TypeError, match="fun must be callable"):
        sparse_hessian(3)
