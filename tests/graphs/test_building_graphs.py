"""From functions to graphs: nodes and steps are those that one would draw by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adlab import graphs
from adlab.graphs import LiteralOperand

ROUND_OFF = 1e-12  # in float64; intermediate values reach a few thousand


def primitives(graph):
    return [step.primitive for step in graph.steps]


def names(graph):
    return [node.name for node in graph.nodes]


def lecture(w1, w2):
    return w2 * jnp.log(w1) + jnp.sqrt(w2 * jnp.log(w1))


@jax.custom_jvp
def sin(x):  # named as a primitive that it isn't
    return jnp.cumsum(x)


sin.defjvp(lambda primals, tangents: (sin(*primals), 2 * jnp.cumsum(tangents[0])))


@jax.custom_vjp
def cube(x):
    return x * x * x


cube.defvjp(lambda x: (cube(x), x), lambda x, g: (3 * x**2 * g,))


def test_the_example_of_the_lecture_has_four_steps_and_shares_one():
    graph = graphs.build(lecture, 2.0, 3.0)
    assert names(graph) == ["w1", "w2", "v1", "v2", "v3", "L"]
    assert [node.kind for node in graph.nodes] == ["input"] * 2 + ["step"] * 4
    assert primitives(graph) == ["log", "mul", "sqrt", "add"]
    assert graph.edges == ((0, 2), (1, 3), (2, 3), (3, 4), (3, 5), (4, 5))
    assert graph.inputs == (0, 1)
    assert graph.outputs == (5,)
    v1 = np.log(2)
    values = [2, 3, v1, 3 * v1, np.sqrt(3 * v1), 3 * v1 + np.sqrt(3 * v1)]
    np.testing.assert_allclose([node.value for node in graph.nodes], values, rtol=1e-6)  # float32
    np.testing.assert_allclose(graph(4.0, 1.0), np.log(4) + np.sqrt(np.log(4)), rtol=1e-6)


def test_operands_in_another_order_are_the_same_where_the_operation_does_not_care():
    fun = lambda a, b: (a * b) * (b * a) + (a - b) * (b - a)  # noqa: E731
    assert primitives(graphs.build(fun, 1.0, 2.0)) == ["mul", "mul", "sub", "sub", "mul", "add"]


def test_a_square_is_one_edge_of_two_operands():
    graph = graphs.build(lambda x: x * x, 3.0)
    assert graph.steps[0].parents == (0, 0)
    assert graph.edges == ((0, 1),)


@pytest.mark.usefixtures("x64")
def test_constants_that_differ_in_the_last_digits_are_not_shared():
    near = [np.array(1.0), jnp.asarray(1.0 + 1e-12)]
    fun = lambda x: jnp.sin(near[0] * x) - jnp.sin(near[1] * x)  # noqa: E731
    assert float(graphs.build(fun, 2.0)(2.0)) == float(fun(2.0)) != 0


def test_jit_and_checkpoint_are_read_through():
    inner = jax.jit(lambda x: jnp.exp(jax.jit(jnp.sin)(x)))
    graph = graphs.build(jax.checkpoint(lambda x: inner(x) + jnp.sin(x)), 1.0)
    assert primitives(graph) == ["sin", "exp", "add"]


def test_literals_are_kept_as_such_and_arrays_are_constants():
    table = jnp.arange(3.0)
    graph = graphs.build(lambda x: 2.5 * x + table, jnp.ones(3))
    assert graph.steps[0].operands == (LiteralOperand(2.5), 0)
    constant = graph.named("c1")
    assert constant.kind == "constant"
    np.testing.assert_array_equal(constant.value, table)
    np.testing.assert_array_equal(graph(jnp.ones(3)), 2.5 + table)


def test_what_no_output_needs_is_left_out_but_arguments_stay():
    def fun(x, unused):
        jnp.exp(unused)
        return jnp.sin(x)

    graph = graphs.build(fun, 1.0, 2.0)
    assert names(graph) == ["x", "unused", "L"]
    assert primitives(graph) == ["sin"]


def test_leaves_are_named_by_parameter_and_path():
    def fun(params, *rest):
        return params["w"] * rest[0] + params["b"][0] + rest[1]

    graph = graphs.build(fun, {"w": 1.0, "b": [2.0]}, 3.0, 4.0)
    assert names(graph)[:4] == ["params.b.0", "params.w", "rest1", "rest2"]
    assert names(graphs.build(lecture, 2.0, 3.0, names=["a", "b"]))[:2] == ["a", "b"]


def test_outputs_have_their_structure_and_names():
    fun = lambda x: {"same": x, "twice": (x * 2, x * 2), "one": 1.0}  # noqa: E731
    graph = graphs.build(fun, 3.0)
    assert graph(5.0) == fun(5.0)
    ends = [graph.nodes[end] for end in graph.outputs]
    assert [(end.name, end.kind) for end in ends] == [
        ("y1", "constant"), ("x", "input"), ("y2", "step"), ("y2", "step"),
    ]  # fmt: skip
    assert names(graphs.build(lambda x: x * 2, jnp.ones(2))) == ["x", "y"]


def test_outputs_never_take_the_name_of_an_argument():
    graph = graphs.build(lambda y1, L: (y1 + L, y1 * L), 1.0, 2.0)
    assert len(set(names(graph))) == len(graph.nodes)
    assert len(set(names(graphs.build(lambda L: jnp.sin(L), 1.0)))) == 2
    assert len(set(names(graphs.build(lambda v1: jnp.sin(jnp.cos(v1)), 1.0)))) == 3


def test_shapes_give_a_graph_without_values():
    shape = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    graph = graphs.build(lambda x: jnp.sin(x).sum(), shape)
    assert [node.shape for node in graph.nodes] == [(2, 3), (2, 3), ()]
    assert isinstance(graph.nodes[-1].value, jax.ShapeDtypeStruct)
    np.testing.assert_allclose(graph(jnp.ones((2, 3))), 6 * np.sin(1), rtol=1e-6)  # float32
    with pytest.raises(ValueError, match="graph must hold values"):
        graphs.reverse_trace(graph)


def test_functions_with_a_rule_of_their_own_are_one_step_unless_inlined():
    x = jnp.arange(1.0, 4.0)
    assert primitives(graphs.build(lambda x: sin(x) * 2.0, x)) == ["sin", "mul"]
    assert primitives(graphs.build(sin, x, inline=["sin"])) == ["cumsum"]
    assert primitives(graphs.build(jax.nn.relu, x, inline=["custom"])) == ["max"]
    assert primitives(graphs.build(cube, 2.0)) == ["cube"]
    assert primitives(graphs.build(cube, 2.0, inline=["sin"])) == ["cube"]
    assert primitives(graphs.build(cube, 2.0, inline=["custom"])) == ["mul", "mul"]


def test_loops_and_branches_are_single_steps_that_evaluate():
    def fun(x):
        last, _ = jax.lax.scan(lambda c, _: (jnp.sin(c), None), x, None, length=3)
        return jax.lax.cond(x > 0, lambda c: c * 2.0, lambda c: c, last)

    graph = graphs.build(fun, 0.5)
    assert {"scan", "cond"} <= set(primitives(graph))
    for x in (0.5, -0.5):
        np.testing.assert_array_equal(graph(x), fun(x))


def test_random_keys_pass_through():
    fun = lambda x, key: x * jax.random.normal(key, ())  # noqa: E731
    graph = graphs.build(fun, 2.0, jax.random.key(0))
    key = jax.random.key(1)
    np.testing.assert_array_equal(graph(3.0, key), fun(3.0, key))
    closed = graphs.build(lambda x: fun(x, key), 2.0)
    np.testing.assert_array_equal(closed(3.0), fun(3.0, key))


def test_a_graph_can_be_built_and_evaluated_within_jit():
    @jax.jit
    def both(a, b, x):
        fun = lambda x: jnp.sin(a * x) + jnp.cos(b * x)  # noqa: E731
        return graphs.build(fun, x)(x), fun(x)

    np.testing.assert_array_equal(*both(1.0, 2.0, 3.0))


UNARY = (jnp.sin, jnp.cos, jnp.exp, jnp.tanh, jnp.arctan, jnp.square, jnp.negative)
BINARY = (jnp.add, jnp.subtract, jnp.multiply, jnp.minimum, jnp.arctan2)


def trees():
    leaf = st.sampled_from(["x", "y", 0.5])
    return st.recursive(
        leaf,
        lambda inner: (
            st.tuples(st.sampled_from(UNARY), inner)
            | st.tuples(st.sampled_from(BINARY), inner, inner)
        ),
        max_leaves=8,
    )


def evaluate(tree, x, y):
    if not isinstance(tree, tuple):
        return {"x": x, "y": y}.get(tree, 0.5)
    # squashed, so that no tower of exponentials overflows
    return tree[0](*(jnp.tanh(jnp.asarray(evaluate(t, x, y), x.dtype)) for t in tree[1:]))


@settings(max_examples=25)
@given(trees(), st.floats(-1, 1), st.floats(-1, 1))
def test_any_expression_has_the_value_and_derivatives_of_the_function(tree, x, y):
    with jax.enable_x64(True):
        args = (jnp.asarray(x, jnp.float64), jnp.asarray(y, jnp.float64))
        fun = lambda x, y: evaluate(tree, x, y) + 0.25 * x  # noqa: E731
        graph = graphs.build(fun, *args)
        np.testing.assert_array_equal(graph(*args), fun(*args))
        grads = jax.grad(fun, argnums=(0, 1))(*args)
        if not np.all(np.isfinite(grads)):  # arctan2 at the origin
            with pytest.raises(ValueError, match="must be finite"):
                graphs.reverse_trace(graph)
        else:
            back = {r.node: float(r.derivative) for r in graphs.reverse_trace(graph)}
            for name, source, grad in zip("xy", graph.inputs, grads, strict=True):
                forward = graphs.forward_trace(graph, name)[-1].derivative
                np.testing.assert_allclose(forward, grad, rtol=ROUND_OFF, atol=ROUND_OFF)
                np.testing.assert_allclose(
                    back.get(source, 0.0), grad, rtol=ROUND_OFF, atol=ROUND_OFF
                )


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: graphs.build(3.0, 1.0), TypeError, "fun must be callable, got 3.0"),
        (lambda: graphs.build(lambda x: x if x > 0 else -x, 1.0), TypeError, "bool"),
        (lambda: graphs.build(float, 1.0), TypeError, "float"),
        (lambda: graphs.build(lecture, 1.0, 2.0, names=["a"]), ValueError, "2 different ones"),
        (lambda: graphs.build(lecture, 1.0, 2.0, names=["a", "a"]), ValueError, "2 different"),
        (lambda: graphs.build(lecture, 1.0, 2.0).named("w11"), ValueError, "did you mean .w1"),
        (lambda: graphs.build(lecture, 1.0, 2.0)(1.0), ValueError, "structure"),
    ],
)
def test_bad_input_is_refused_by_name(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_prints_within_a_function_are_no_part_of_its_graph():
    def fun(x):
        jax.debug.print("x is {}", x)
        return jnp.sin(x)

    graph = graphs.build(fun, 2.0)
    assert primitives(graph) == ["sin"]
    np.testing.assert_allclose(graph(2.0), np.sin(2.0), rtol=1e-6)


def test_mutable_references_are_refused():
    def fun(x):
        ref = jax.new_ref(x)
        ref[...] = 2 * ref[...]
        return ref[...]

    with pytest.raises(ValueError, match="fun must not use mutable references"):
        graphs.build(fun, 1.0)


def test_arguments_of_another_shape_are_refused_by_name():
    graph = graphs.build(lambda a, b: a * jnp.sum(b), 1.0, jnp.ones(3))
    with pytest.raises(ValueError, match=r"b must have shape \(3,\), .* got \(4,\)"):
        graph(1.0, jnp.ones(4))


def test_names_of_further_arguments_differ_from_those_of_parameters():
    graph = graphs.build(lambda x1, *x: x1 * x[0] + x[1], 1.0, 2.0, 3.0)
    assert names(graph)[:3] == ["x1", "x2", "x3"]


def test_large_arrays_that_depend_on_nothing_are_not_computed():
    number = jax.ShapeDtypeStruct((), "float32")
    graph = graphs.build(lambda x: x * jnp.sum(jnp.zeros((1000, 1000))), number)
    first = graph.steps[0]
    assert first.primitive == "broadcast_in_dim"
    assert graph.nodes[first.results[0]].kind == "step"
