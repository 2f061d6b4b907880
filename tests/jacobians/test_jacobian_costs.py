"""Costs are those counted by hand, and decide as they should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from adlab.graphs import eliminate
from adlab.jacobians import JacobianCosts, ModeCost, jacobian, jacobian_costs, mixed
from adlab.jacobians.mixed import cheapest
from adlab.jacobians.selection import select

N = 100


def product(x, a):
    return a @ x


def shapes(m, n=N):
    return jax.ShapeDtypeStruct((n,), jnp.float32), jax.ShapeDtypeStruct((m, n), jnp.float32)


@pytest.mark.parametrize(("m", "n"), [(1, 7), (5, 3), (40, 40)])
def test_a_product_counts_as_by_hand(m, n):
    costs = jacobian_costs(product, *shapes(m, n))
    one = 2 * m * n  # multiplications and additions of a product with the matrix
    matrix, vectors = 4 * m * n, 4 * (m + n)
    for mode, passes in (("forward", n), ("reverse", m)):
        row = costs[mode]
        assert (row.passes, row.chunk, row.exact) == (passes, passes, True)
        assert row.flops == one + passes * one  # the value, then each sweep
    # the matrix is read for the value and once for all columns; each column is read and written
    assert costs["forward"].bytes == 2 * matrix + vectors + n * vectors
    assert costs["mixed"].flops == one  # the value alone: its derivative is there already


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_local_derivatives_count_once_and_their_products_in_every_sweep(mode):
    n = 6
    row = jacobian_costs(jnp.sin, jax.ShapeDtypeStruct((n,), jnp.float32))[mode]
    assert row.flops == 2 * n + n * n  # sine and cosine; n products with the cosine


@pytest.mark.parametrize("ratio", [0.01, 0.1, 0.3, 0.9, 1, 1.2, 3, 10, 100, 300])
def test_the_sweep_follows_the_shorter_side(ratio):
    m = int(ratio * N)
    costs = jacobian_costs(product, *shapes(m))
    assert costs.best_sweep == ("reverse" if m < 0.95 * N else "forward")
    assert costs.best == "mixed"  # the Jacobian of a x is a


def hourglass(x, narrow, wide):
    """100 -> 200 -> 1 -> 200 -> 100."""
    for a in (wide, narrow.T, narrow, wide.T):
        x = jnp.tanh(a @ x)
    return x


def deep(x, *matrices):
    for a in matrices:
        x = jnp.tanh(a @ x)
    return x


SQUARE = [jnp.ones((30, 30))] * 3
NETWORKS = {
    "forward": (jnp.ones(5), jnp.ones((30, 5)), *SQUARE),
    "reverse": (jnp.ones(30), *SQUARE, jnp.ones((5, 30))),
}


def test_elimination_is_taken_where_the_function_narrows_and_not_in_a_straight_network():
    args = [jnp.ones(s) for s in ((100,), (200, 1), (200, 100))]
    assert jacobian_costs(hourglass, *args).best == "mixed"
    assert jacobian_costs(deep, *NETWORKS["forward"]).best == "forward"
    assert jacobian_costs(deep, *NETWORKS["reverse"]).best == "reverse"


def test_the_order_of_fewest_multiplications_is_found():
    args = [jnp.ones(s) for s in ((100,), (200, 1), (200, 100))]
    found = cheapest(select(hourglass, 0, False, args, {}))
    # matrices into and out of the narrow place, then their product; diagonals scale 1 row or column
    products = 100 * 200 + 200 * 100 + 100 * 100
    assert products <= found.multiplications <= products + 2 * (200 + 1 + 200 + 100)
    assert found.multiplications < min(
        eliminate(found.graph, order).multiplications for order in ("forward", "reverse")
    )


@pytest.mark.parametrize(("layers", "searched"), [(3, True), (20, False)])
def test_the_optimal_order_is_searched_for_in_small_graphs_alone(layers, searched, monkeypatch):
    orders = []
    monkeypatch.setattr(
        mixed, "eliminate", lambda graph, order: orders.append(order) or eliminate(graph, order)
    )
    cheapest(select(deep, 0, False, (jnp.ones(2), *[jnp.ones((2, 2))] * layers), {}))
    assert orders == ["forward", "reverse", "markowitz"] + ["optimal"] * searched


def test_reverse_mode_must_be_clearly_less_work_where_no_products_are():
    x = jnp.ones(10)
    pairs = jacobian_costs(lambda x: jnp.exp(x[::2]) * jnp.sin(x[1::2]), x)
    assert (pairs["forward"].slowness, pairs["forward"].passes, pairs["reverse"].passes) == (
        1.0, 10, 5,
    )  # fmt: skip
    assert pairs["reverse"].slowness == 1.5
    assert jacobian_costs(product, *shapes(N))["reverse"].slowness == 1.05


def jaxpr(fun, *args):
    return str(jax.make_jaxpr(fun)(*args))


def test_auto_is_the_program_of_the_mode_that_is_best():
    for best, args in NETWORKS.items():
        assert jaxpr(jacobian(deep), *args) == jaxpr(jacobian(deep, mode=best), *args)
    found = jacobian(product)
    assert jaxpr(found, *shapes(3)) == jaxpr(jacobian(product, mode="mixed"), *shapes(3))


@pytest.mark.parametrize("chunk_size", ["auto", 7])
def test_elimination_is_not_considered_eagerly_or_with_a_chunk(chunk_size, monkeypatch):
    monkeypatch.setattr("adlab.jacobians.transform.mixed", None)
    found = jacobian(product, chunk_size=chunk_size)
    np.testing.assert_array_equal(found(jnp.ones(4), jnp.ones((2, 4))), np.ones((2, 4)))
    if chunk_size != "auto":
        jax.jit(found)(jnp.ones(4), jnp.ones((2, 4)))


def test_a_compiled_jacobian_is_traced_once_for_all_values():
    traced = []

    def fun(x):
        traced.append(x)
        return jnp.sin(x)

    j = jax.jit(jacobian(fun))
    j(jnp.ones(3))
    first = len(traced)
    j(2 * jnp.ones(3))
    assert len(traced) == first


def test_an_eager_jacobian_decides_once_for_given_shapes(monkeypatch):
    calls = []
    own = jacobian.__globals__["cost_table"]
    monkeypatch.setitem(
        jacobian.__globals__, "cost_table", lambda *a, **k: calls.append(1) or own(*a, **k)
    )
    j = jacobian(jnp.sin)
    for x in (jnp.ones(3), 2 * jnp.ones(3), jnp.ones(4)):
        j(x)
    assert len(calls) == 2


def test_a_loop_of_unknown_length_is_told():
    def fun(x):
        return jax.lax.while_loop(lambda v: v[0] < 10.0, lambda v: v * 2.0, x)

    costs = jacobian_costs(fun, jnp.ones(3))
    assert not costs["forward"].exact
    assert "reverse" not in {row.mode for row in costs}
    assert ">= " in str(costs)


def test_the_table_is_aligned_and_marks_the_best():
    rows = (ModeCost("forward", 100, 2_020_000, 10, 5), ModeCost("reverse", 3, 80, 5, 3))
    lines = str(JacobianCosts(100, 3, rows)).splitlines()
    assert lines == [
        "Jacobian of 3 x 100 numbers",
        "mode     passes      flops  bytes     effort",
        "forward     100  2,020,000     10  2,020,010",
        "reverse       3         80      5         85  best",
    ]


def test_arguments_are_selected_as_in_the_jacobian():
    x, a = jnp.ones(3), jnp.ones((2, 3))
    costs = jacobian_costs(lambda x, a: (a @ x, a), x, a, argnums=(0, 1), has_aux=True)
    assert (costs.inputs, costs.outputs) == (9, 2)
