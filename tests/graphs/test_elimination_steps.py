"""The steps of an elimination: each product is the chain rule on one path, and all add up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adlab import graphs

pytestmark = pytest.mark.usefixtures("x64")


def mixed(w1, w2):
    v1 = w1 * w2
    return jnp.log(jnp.sin(v1) * (w1 * v1)), w2 + jnp.exp(v1)


@pytest.mark.parametrize("order", ["forward", "reverse", "optimal"])
def test_every_step_adds_the_paths_through_its_vertex(order):
    graph = graphs.build(mixed, 0.8, 1.5)
    found = graphs.eliminate(graph, order)
    edges = dict.fromkeys(graph.edges)
    for step in found.steps(0.8, 1.5):
        into = {a for a, b in edges if b == step.vertex}
        out = {b for a, b in edges if a == step.vertex}
        assert step.multiplications == len(into) * len(out)
        assert {(p.parent, p.child) for p in step.products} == {(a, b) for a in into for b in out}
        for p in step.products:
            known = edges.get((p.parent, p.child))
            assert (p.before is None) == ((p.parent, p.child) not in edges)
            if known is not None:
                assert float(p.before) == known
            total = (0.0 if p.before is None else p.before) + p.second * p.first
            np.testing.assert_allclose(p.after, total, rtol=1e-15)
            edges[p.parent, p.child] = float(p.after)
        edges = {pair: value for pair, value in edges.items() if step.vertex not in pair}
        assert set(edges) == set(step.edges)
    exact = jax.jit(jax.jacfwd(mixed, argnums=(0, 1)))(0.8, 1.5)
    for k, out in enumerate(graph.outputs):
        for j, source in enumerate(graph.inputs):
            np.testing.assert_allclose(edges[source, out], exact[k][j], rtol=1e-13)


def test_between_arrays_the_derivatives_are_matrices():
    weights = np.arange(6.0).reshape(2, 3)
    graph = graphs.build(lambda x: jnp.sin(weights @ x), jnp.ones(3))
    (step,) = graphs.eliminate(graph, "reverse").steps(jnp.ones(3))
    (product,) = step.products
    np.testing.assert_array_equal(product.first, weights)
    np.testing.assert_allclose(product.second, np.diag(np.cos(weights.sum(axis=1))), rtol=1e-15)
    assert product.before is None
    np.testing.assert_allclose(product.after, product.second @ weights, rtol=1e-15)
