"""Jacobians by elimination of array functions: what JAX gives, at the cost of a count by hand."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adlab import graphs
from adlab.graphs.elimination import ARRAY_LIMIT, _Costs, _Table
from adlab.graphs.local import local_forms

ORDERS = ("forward", "reverse", "markowitz", "optimal")
RNG = np.random.default_rng(0)
V = RNG.normal(size=3)
W = RNG.uniform(0.5, 1.5, size=3)
A = RNG.normal(size=(2, 3))
B = RNG.normal(size=(3, 3))
SQUARE = np.ones((2, 2))
STACK = RNG.normal(size=(2, 2, 3))
HALF = V.astype(jnp.bfloat16)

pytestmark = pytest.mark.usefixtures("x64")


@jax.custom_jvp
def cumsum(x):  # bears the name of a primitive with another derivative
    return x * 2


cumsum.defjvp(lambda primals, tangents: (cumsum(*primals), 5 * tangents[0]))


@jax.custom_vjp
def cube(x):
    return x * x * x


cube.defvjp(lambda x: (cube(x), x), lambda x, g: (3 * x**2 * g,))


def powers(x):
    """A loop whose length JAX doesn't know: it has no reverse mode."""
    return jax.lax.while_loop(lambda c: c[0] < 3, lambda c: (c[0] + 1, c[1] * x), (0, x))[1]


def convolved(x, kernel):
    return jax.lax.conv_general_dilated(x[None, None], kernel[None, None], (1,), "SAME")[0, 0]


def layer(params, x):
    return jnp.tanh(params["w"] @ x + params["b"])


def scanned(x):
    last, every = jax.lax.scan(lambda c, a: (jnp.sin(c) * a, c), x[0], x)
    return last, every


def every_kind_of_output(x, y):
    """Outputs that stand twice, are computed twice, arguments, constants, empty, needed further."""
    once = jnp.sin(x) * y
    empty = jnp.zeros((0, 3)) @ once
    later = jnp.exp(once) + jnp.sum(empty) + jnp.sum(once[:0])
    return {
        "twice": (once, once), "computed twice": jnp.sin(x) * y, "argument": (y, y),
        "constant": (jnp.ones(2), 1.0, jnp.ones(2)), "empty": (empty, x[:0], jnp.zeros((0, 2))),
        "needed further": (later, (jnp.tanh(later), later), jnp.sum(jnp.tanh(later))),
        "through integers": jnp.round(x).astype(int).astype(float) * 3.0,
    }  # fmt: skip


def complex_steps(x, y):
    """Steps that are holomorphic, and some that aren't; numbers, arrays and products."""
    z = jnp.fft.fft(x) * jnp.exp(jax.lax.complex(y[1], y[0])) + jnp.conj(jnp.fft.fft(y))
    return jnp.abs((A + 1j * A[::-1]) @ z), jnp.angle(z), jnp.imag(z[1] * z[2])


FUNCTIONS = {
    "elementwise": (lambda x: jnp.sin(jnp.exp(x)) * x, (V,)),
    "both operands": (lambda x, y: x * y - x / y, (V, W)),
    "the same operand twice": (lambda x: x * x + jnp.arctan2(x, x), (W,)),
    "minus": (lambda x, y: (x - y) - (y - x), (V, W)),
    "scalars": (lambda x, y: x * jnp.sin(x * y), (0.3, 0.7)),
    "scalar and vector": (lambda a, x: a * x + a, (0.3, V)),
    "row and column": (lambda x, y: x[:, None] * y[None, :], (V, W)),
    "sum": (lambda x: jnp.sum(jnp.square(x), axis=1), (A,)),
    "mean and variance": (lambda x: (x - x.mean()) / jnp.sqrt(x.var() + 1e-3), (V,)),
    "maximum": (jnp.max, (V,)),
    "product of all": (jnp.prod, (W,)),
    "gather": (lambda x: x[np.array([2, 0, 2])], (V,)),
    "scatter": (lambda x: jnp.zeros(4).at[np.array([1, 1, 3])].add(jnp.sin(x)), (V,)),
    "slices": (lambda x: jnp.concatenate([x[1:], x[:1], x]), (V,)),
    "transpose": (lambda x: jnp.sin(x).T.reshape(-1), (A,)),
    "matrix times vector": (lambda a, x: a @ x, (A, V)),
    "vector times matrix": (lambda x, a: x @ a, (V, B)),
    "matrix times matrix": (lambda a, b: a @ b, (A, B)),
    "matrix squared": (lambda a: a @ a, (B,)),
    "inner product": (lambda x, y: jnp.vdot(x, y), (V, W)),
    "inner product with itself": (lambda x: jnp.vdot(x, x), (V,)),
    "all axes of both": (lambda a, b: jnp.tensordot(a, b.T, [[0, 1], [1, 0]]), (A, A + 1)),
    "all axes of one": (lambda t, a: jnp.tensordot(t, a, [[2, 0], [1, 0]]), (STACK, A)),
    "batched product": (lambda s, t: jnp.einsum("bij,bkj->bik", s, t), (STACK, STACK + 1)),
    "constant matrix": (lambda x: jnp.sin(A @ x), (V,)),
    "convolution": (convolved, (V, W)),
    "cumulative sum": (lambda x: jnp.cumsum(x) * x, (V,)),
    "cumulative product": (jnp.cumprod, (W,)),
    "sort": (lambda x: jnp.sort(x) * x, (V,)),
    "where": (lambda x: jnp.where(x > 0, jnp.sin(x), x * 3.0), (V,)),
    "softmax": (jax.nn.softmax, (V,)),
    "relu": (lambda x: jax.nn.relu(x) * 2.0, (V,)),
    "scan": (scanned, (V,)),
    "branches": (lambda x: jax.lax.cond(x[0] > 0, jnp.sin, jnp.cos, x), (V,)),
    "rule of its own": (lambda x: cumsum(x * 3.0), (V,)),
    "inverse": (lambda a: jnp.linalg.inv(a + 3.0 * jnp.eye(3)), (B,)),
    "pytrees": (lambda p, x: {"out": layer(p, x)}, ({"w": A, "b": V[:2]}, W)),
    "stopped": (lambda x: jax.lax.stop_gradient(jnp.sin(x)) * x, (V,)),
    "through integers": (lambda x: jnp.floor(x).astype(int).astype(float) * x, (4 * V,)),
    "outputs that are inputs": (lambda x, y: (x, x * y, x), (V, W)),
    "outputs used further": (lambda x: (jnp.exp(x), jnp.sin(jnp.exp(x))), (V,)),
    "a constant output": (lambda x: (jnp.ones(2), x), (V,)),
    "an argument without use": (lambda _, y: jnp.sin(y), (V, W)),
    "outputs of every kind": (every_kind_of_output, (V, W)),
    "complex": (complex_steps, (V, W)),
}


def shapes(*args):
    """Return shapes and dtypes: of these a graph is built without computing any value."""
    return jax.eval_shape(lambda *args: args, *args)


def leaves_close(found, expected, **tolerance):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(
            np.asarray(a, float), np.asarray(b, float), **tolerance
        )  # fmt: skip


@pytest.fixture
def spent(monkeypatch):
    """Return (table, multiplications) of every elimination, counted by the values on edges."""
    found, eliminate, finish = {}, _Table.eliminate, _Table.require_finished

    def counted(table, vertex):
        cost = eliminate(table, vertex)
        found[id(table)] = (table, found.get(id(table), (table, 0))[1] + cost)
        return cost

    def finished(table):
        found.setdefault(id(table), (table, 0))  # one without a vertex between
        finish(table)

    monkeypatch.setattr(_Table, "eliminate", counted)
    monkeypatch.setattr(_Table, "require_finished", finished)
    return found


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_order_gives_the_jacobian_at_the_cost_it_says(name, spent):
    fun, args = FUNCTIONS[name]
    graph = graphs.build(fun, *shapes(*args))
    expected = jax.jacfwd(fun, tuple(range(len(args))))
    found = [graphs.eliminate(graph, order) for order in ORDERS[:3]]
    ways = [expected, *(elimination.jacobian for elimination in found)]
    spent.clear()
    expected, *several = oracles.quickly_compiled(lambda *args: [way(*args) for way in ways])(*args)
    for jacobian in several:  # a few roundings of numbers of about 1
        leaves_close(jacobian, expected, rtol=1e-12, atol=1e-12)
    counted = [cost + table.final_cost() for table, cost in spent.values()]
    assert counted == [elimination.multiplications for elimination in found]


def test_halves_are_differentiated_in_the_dtype_of_the_outputs():
    def fun(x, h):
        return (h * h).astype(jnp.float32) * x

    x, h = W.astype(np.float32), HALF
    graph = graphs.build(fun, *shapes(x, h))
    for order in ORDERS:
        by_x, by_h = graphs.eliminate(graph, order).jacobian(x, h)
        assert by_x.dtype == by_h.dtype == jnp.float32
        square = np.asarray(h * h, float)  # bfloat16 has 8 bits
        np.testing.assert_allclose(by_x, np.diag(square), rtol=1e-6)
        expected = np.diag(2 * np.asarray(h, float) * np.asarray(x, float))
        np.testing.assert_allclose(by_h, expected, rtol=1e-6)


def test_a_jacobian_is_that_of_differences():
    fun, args = FUNCTIONS["mean and variance"]
    found = graphs.eliminate(graphs.build(fun, jax.ShapeDtypeStruct((3,), float)))
    h = 1e-6
    (jacobian,), columns = oracles.quickly_compiled(
        lambda x: (found.jacobian(x), [(fun(x + e) - fun(x - e)) / (2 * h) for e in h * np.eye(3)])
    )(*args)
    np.testing.assert_allclose(jacobian, np.stack(columns, 1), atol=1e-8)  # h^2, and eps/h


@pytest.mark.parametrize("fun", [cube, lambda x: jnp.sin(powers(x)), lambda x: cube(x).sum()])
@pytest.mark.parametrize("x", [V, 0.7])
def test_steps_that_jax_differentiates_in_one_mode_only(fun, x):
    graph = graphs.build(fun, *shapes(x))
    eliminations = [graphs.eliminate(graph, order) for order in ("forward", "reverse")]

    def run(x):
        steps = 1e-5 * np.eye(np.size(x)).reshape(-1, *np.shape(x))
        ends = [(fun(x + step), fun(x - step)) for step in steps]
        return ends, [elimination.jacobian(x) for elimination in eliminations]

    ends, several = oracles.quickly_compiled(run)(x)
    columns = [np.subtract(*pair) / 2e-5 for pair in ends]
    expected = np.moveaxis(np.stack(columns), 0, -1).reshape(np.shape(columns[0]) + np.shape(x))
    for (found,) in several:
        np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-8)  # h^2, and eps/h


def test_under_vmap_each_point_has_its_own_jacobian():
    fun, args = FUNCTIONS["pytrees"]
    elimination = graphs.eliminate(graphs.build(fun, *shapes(*args)))
    many = np.stack([W, 2 * W])
    batched = jax.vmap(elimination.jacobian, in_axes=(None, 0))
    together = jax.tree.map(np.asarray, oracles.quickly_compiled(batched)(args[0], many))
    alone = oracles.quickly_compiled(elimination.jacobian)
    for place, x in enumerate(many):
        each = alone(args[0], x)
        leaves_close(jax.tree.map(lambda j: j[place], together), each, rtol=1e-13)  # noqa: B023


def multiplications(fun, *args):
    graph = graphs.build(fun, *shapes(*args))
    return tuple(graphs.eliminate(graph, order).multiplications for order in ORDERS)


def test_on_numbers_the_counts_are_those_of_the_graph():
    fun = lambda a, b: b * jnp.log(a) + jnp.sqrt(b * jnp.log(a))  # noqa: E731
    assert multiplications(fun, 2.0, 3.0) == (7, 4, 4, 4)


def test_each_step_of_a_chain_of_elementwise_functions_costs_n():
    n, x = 50, np.ones(50)
    chain = lambda x: jnp.tanh(jnp.cos(jnp.exp(jnp.sin(x))))  # noqa: E731
    assert multiplications(chain, x) == (3 * n,) * 4


def test_outputs_that_are_needed_further_or_stand_twice_cost_nothing_more():
    n, x = 50, np.ones(50)
    assert multiplications(lambda x: (y := jnp.sin(x), y, x, x), x) == (0,) * 4
    assert multiplications(lambda x: (jnp.sin(x), jnp.sin(x)), x) == (0,) * 4
    # exp in x, times sin in exp; the derivative of exp is there already
    assert multiplications(lambda x: (y := jnp.exp(x), jnp.sin(y), y), x) == (n,) * 4
    fun = lambda a, b: (v := jnp.log(a), w := v * b, jnp.sqrt(w), v)  # noqa: E731
    # v: one edge in, one out; w: those of v and b in, one out; in the other order v has two out
    assert multiplications(fun, 2.0, 3.0) == (1 + 2, 2 + 2, 3, 3)


def test_a_sum_of_maps_that_is_no_cheaper_than_a_matrix_is_made_one():
    # four columns through a product (eight multiplications) and what scales it (four), twice
    assert multiplications(lambda x: x @ SQUARE + SQUARE @ x, np.ones((2, 2))) == (2 * 4 * 12,) * 4


def test_an_hourglass_costs_what_products_of_matrices_do():
    a, b, c = 100, 200, 1
    widths = (a, b, c, b, a)
    weights = [np.ones((m, n)) for n, m in itertools.pairwise(widths)]

    def hourglass(x):
        for w in weights:
            x = w @ x
        return x

    dense = a * b * c + a * c * b + a * b * a
    assert dense == 2_040_000
    assert multiplications(hourglass, np.ones(a)) == (dense, dense, *(2 * a * b + a * a,) * 2)


def test_forward_mode_is_cheap_for_few_inputs_and_reverse_mode_for_few_outputs():
    m, n = 30, 4
    wide = np.ones((m, n))
    up = lambda x: jnp.sin(wide @ jnp.sin(x))  # noqa: E731
    # sin at the inputs scales columns, sin at the outputs rows: either way all of the matrix twice
    assert multiplications(up, np.ones(n)) == (2 * m * n,) * 4
    loss = lambda x: jnp.sum(jnp.sin(wide @ jnp.sin(x)) ** 2)  # noqa: E731
    forward, reverse, _, best = multiplications(loss, np.ones(n))
    assert forward == 3 * m * n  # columns through sin, product and its two slopes
    assert reverse == 2 * m + m * n + n  # one row the other way
    assert best == m + m * n + n  # the two slopes meet before the row does


# the complex one has more vertices than are searched for the optimum
COUNTED = [name for name in FUNCTIONS if name != "complex"]


@pytest.mark.parametrize("name", COUNTED)
def test_the_optimum_costs_no_more_than_any_other_order(name):
    fun, args = FUNCTIONS[name]
    graph = graphs.build(fun, *shapes(*args))
    *others, best = (graphs.eliminate(graph, order).multiplications for order in ORDERS)
    assert best <= min(others)


def test_the_optimum_is_that_of_all_orders():
    """Maps are left open until they meet a matrix: an order's price may come at its end."""
    weights = np.ones((5, 4))

    def fun(x):
        low = jnp.cumsum(x)
        return jnp.sum(jnp.sin(weights @ (low * low)))

    graph = graphs.build(fun, *shapes(np.ones(4)))
    names = [graph.nodes[v].name for v in graphs.eliminate(graph, "forward").order]
    assert len(names) == 4
    tried = [
        graphs.eliminate(graph, order).multiplications for order in itertools.permutations(names)
    ]
    assert graphs.eliminate(graph, "optimal").multiplications == min(tried) < max(tried)


def test_an_order_can_be_given_by_names():
    fun = lambda a, b: b * jnp.log(a) + jnp.sqrt(b * jnp.log(a))  # noqa: E731
    graph = graphs.build(fun, *shapes(2.0, 3.0))
    assert graphs.eliminate(graph, ["v2", "v1", "v3"]).multiplications == 4 + 2 + 2
    assert graphs.eliminate(graph, ["v3", "v2", "v1"]).multiplications == 4
    with pytest.raises(ValueError, match=r"each of \['v1', 'v2', 'v3'\] once, got \['v1'\]"):
        graphs.eliminate(graph, ["v1"])
    with pytest.raises(ValueError, match="did you mean 'v1'"):
        graphs.eliminate(graph, ["v11", "v2", "v3"])


def test_what_has_no_jacobian_is_refused():
    graph = graphs.build(lambda x, n: x * n, *shapes(2.0, 3))
    with pytest.raises(TypeError, match="jacobian"):
        graphs.eliminate(graph).jacobian(2.0, 3)
    with pytest.raises(TypeError, match="the output y must be real floating-point, got complex128"):
        graphs.eliminate(graphs.build(jnp.fft.fft, *shapes(V))).jacobian(V)
    with pytest.raises(ValueError, match="did you mean 'markowitz'"):
        graphs.eliminate(graph, "markovitz")

    def long(x):
        for _ in range(ARRAY_LIMIT + 2):
            x = jnp.sin(x)
        return x

    with pytest.raises(ValueError, match=rf'at most {ARRAY_LIMIT} .* order="markowitz"'):
        graphs.eliminate(graphs.build(long, *shapes(V)), "optimal")


def test_an_elimination_that_leaves_a_vertex_is_an_error_that_names_it():
    graph = graphs.build(lambda x: jnp.sin(jnp.exp(x)), *shapes(V))
    with pytest.raises(RuntimeError, match=r"inputs to outputs alone, got x -> v1, v1 -> y; take"):
        graphs.Elimination(graph, (), 0).jacobian(V)


def correlation(x, kernel):
    return jnp.real(jnp.fft.ifft(jnp.fft.fft(x) * jnp.conj(jnp.fft.fft(kernel))))


def test_a_correlation_by_fourier_transforms_has_the_circulant_matrix_as_its_jacobian():
    x, kernel = RNG.normal(size=(2, 5))
    graph = graphs.build(lambda x: correlation(x, kernel), *shapes(x))
    circulant = np.stack([np.roll(kernel, k) for k in range(5)])
    found = [graphs.eliminate(graph, order) for order in ORDERS]
    several = oracles.quickly_compiled(lambda x: [e.jacobian(x) for e in found])(x)
    for (found,) in several:
        np.testing.assert_allclose(found, circulant, atol=1e-14)  # round-off of sums of 5


def test_complex_systems_of_equations_are_differentiated():
    def fun(x):  # |4 / (3 + i x)|
        return jnp.abs(jnp.linalg.solve(jax.lax.complex(3.0, x)[None, None], jnp.array([4.0 + 0j])))

    x = 0.7
    graph = graphs.build(fun, jax.ShapeDtypeStruct((), float))
    (found,) = oracles.quickly_compiled(graphs.eliminate(graph, "reverse").jacobian)(x)
    np.testing.assert_allclose(found, [-4 * x / (9 + x**2) ** 1.5], rtol=1e-14)  # some roundings


def test_costs_are_known_from_shapes_alone():
    shape = jax.ShapeDtypeStruct((100_000,), jnp.float32)
    graph = graphs.build(lambda x: jnp.sin(jnp.exp(x)), shape)
    assert graphs.eliminate(graph).multiplications == math.prod(shape.shape)


@pytest.mark.parametrize("name", ["stop_gradient", "custom_linear_solve", "dot_general", "exp"])
def test_rules_of_functions_named_as_primitives_are_theirs(name):
    def twice(x):
        return x * 2

    twice.__name__ = name
    named = jax.custom_jvp(twice)
    named.defjvp(lambda primals, tangents: (named(*primals), 3 * tangents[0]))
    found = graphs.eliminate(graphs.build(named, *shapes(V)))
    (jacobian,) = oracles.quickly_compiled(found.jacobian)(V)
    np.testing.assert_allclose(jacobian, 3 * np.eye(3))


@pytest.mark.parametrize("order", ["forward", "reverse", "markowitz"])
def test_paths_that_part_and_meet_again_and_again_are_not_followed_one_by_one(order):
    def fun(x):
        for shift in range(1, 13):  # two slices each, put together again: 2^12 paths
            x = jnp.roll(x, shift)
        return x

    x = np.arange(16.0)
    found = graphs.eliminate(graphs.build(fun, *shapes(x)), order)
    assert found.multiplications == 0
    traced = oracles.quickly_compiled(found.jacobian).trace(x)
    assert len(traced.jaxpr.eqns) < 2_000
    permutation = np.roll(np.eye(16), sum(range(1, 13)), axis=0)
    np.testing.assert_array_equal(traced.lower().compile()(x)[0], permutation)


def test_results_that_no_output_needs_cost_nothing():
    def fun(x):
        first, _, _ = jnp.split(2 * x, 3)
        return first

    graph = graphs.build(fun, *shapes(V))
    used, *unused = next(step for step in graph.steps if step.primitive == "split").results
    ends = {b for _, b in _Table(graph, local_forms(graph), _Costs()).edges}
    assert used in ends
    assert ends.isdisjoint(unused)
    (jacobian,) = oracles.quickly_compiled(graphs.eliminate(graph).jacobian)(V)
    np.testing.assert_array_equal(jacobian, [[2, 0, 0]])


def test_empty_arguments_have_empty_jacobians_and_integer_outputs_none():
    empty = np.zeros(0)
    found = graphs.eliminate(graphs.build(lambda x, e: jnp.sin(x) + jnp.sum(e), V, empty))
    by_x, by_empty = found.jacobian(V, empty)
    np.testing.assert_allclose(by_x, np.diag(np.cos(V)))
    assert by_empty.shape == (3, 0)
    rounded = graphs.eliminate(graphs.build(lambda x: x.astype(int), *shapes(V)))
    with pytest.raises(TypeError, match="the output y must be real floating-point, got int64"):
        rounded.jacobian(V)
