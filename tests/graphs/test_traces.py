"""Both modes, step by step: the formulas of the lecture and derivatives in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adlab import graphs
from adlab.graphs.formulas import number, relation

W1, W2 = 2.0, 3.0
V1 = np.log(W1)
V2 = W2 * V1
V3 = np.sqrt(V2)
SLOPE = 1 + 1 / (2 * V3)  # dL/dv2


def lecture(w1, w2):
    return w2 * jnp.log(w1) + jnp.sqrt(w2 * jnp.log(w1))


@jax.custom_jvp
def clipped(x):
    return jnp.minimum(x, 1.0)


clipped.defjvp(lambda primals, tangents: (clipped(*primals), 5 * tangents[0]))


@jax.custom_vjp
def cube(x):
    return x * x * x


cube.defvjp(lambda x: (cube(x), x), lambda x, g: (7 * x**2 * g,))  # not its derivative


pytestmark = pytest.mark.usefixtures("x64")


@pytest.fixture
def graph():
    return graphs.build(lecture, W1, W2)


def table(graph, records):
    """Name, formula, last side of the chain rule and derivative of every record."""
    return [
        (graph.nodes[r.node].name, (r.formula or {}).get("text"), r.chain["text"][-1])
        for r in records
    ]


def derivatives(records):
    return [float(r.derivative) for r in records]


def test_forward_mode_in_the_first_argument_is_that_of_the_slides(graph):
    records = graphs.forward_trace(graph, "w1")
    assert table(graph, records) == [
        ("w1", None, "∂w1/∂w1"),
        ("v1", "log w1", "1/w1·∂w1/∂w1"),
        ("v2", "w2·v1", "w2·∂v1/∂w1"),
        ("v3", "√v2", "1/(2·√v2)·∂v2/∂w1"),
        ("L", "v2 + v3", "1·∂v2/∂w1 + 1·∂v3/∂w1"),
    ]
    dv1, dv2 = 1 / W1, W2 / W1
    expected = [1, dv1, dv2, dv2 / (2 * V3), dv2 * SLOPE]
    np.testing.assert_allclose(derivatives(records), expected, rtol=1e-14)  # a few roundings
    np.testing.assert_allclose(
        [r.value for r in records], [W1, V1, V2, V3, V2 + V3], rtol=1e-14
    )  # fmt: skip


def test_forward_mode_in_the_second_argument_is_that_of_the_slides(graph):
    records = graphs.forward_trace(graph, "w2")
    assert table(graph, records) == [
        ("w2", None, "∂w2/∂w2"),
        ("v1", "log w1", "0"),
        ("v2", "w2·v1", "v1·∂w2/∂w2"),
        ("v3", "√v2", "1/(2·√v2)·∂v2/∂w2"),
        ("L", "v2 + v3", "1·∂v2/∂w2 + 1·∂v3/∂w2"),
    ]
    expected = [1, 0, V1, V1 / (2 * V3), V1 * SLOPE]
    np.testing.assert_allclose(derivatives(records), expected, rtol=1e-14)  # a few roundings


def test_reverse_mode_is_that_of_the_slides_with_their_last_step_put_right(graph):
    records = graphs.reverse_trace(graph)
    assert table(graph, records) == [
        ("L", "v2 + v3", "1"),
        ("v3", "√v2", "∂L/∂L·1"),
        ("v2", "w2·v1", "∂L/∂L·1 + ∂L/∂v3·1/(2·√v2)"),
        ("v1", "log w1", "∂L/∂v2·w2"),
        ("w2", None, "∂L/∂v2·v1"),
        ("w1", None, "∂L/∂v1·1/w1"),
    ]
    expected = [1, 1, SLOPE, SLOPE * W2, SLOPE * V1, SLOPE * W2 / W1]
    np.testing.assert_allclose(derivatives(records), expected, rtol=1e-14)  # a few roundings
    np.testing.assert_allclose(derivatives(records)[4], 0.93348, atol=1e-5)  # dL/dw2
    general = [r.chain["text"][1] for r in records[1:]]
    assert general == [
        "∂L/∂L·∂L/∂v3",
        "∂L/∂L·∂L/∂v2 + ∂L/∂v3·∂v3/∂v2",
        "∂L/∂v2·∂v2/∂v1",
        "∂L/∂v2·∂v2/∂w2",
        "∂L/∂v1·∂v1/∂w1",
    ]


def test_zero_terms_are_kept_as_the_slides_keep_them(graph):
    first, second = (graphs.forward_trace(graph, wrt, zeros=True) for wrt in ("w1", "w2"))
    assert table(graph, first) == [
        ("w1", None, "∂w1/∂w1"),
        ("w2", None, "∂w2/∂w1"),
        ("v1", "log w1", "1/w1·∂w1/∂w1"),
        ("v2", "w2·v1", "v1·∂w2/∂w1 + w2·∂v1/∂w1"),  # in the order of the factors of w2 v1
        ("v3", "√v2", "1/(2·√v2)·∂v2/∂w1"),
        ("L", "v2 + v3", "1·∂v2/∂w1 + 1·∂v3/∂w1"),
    ]
    assert first[3].chain["text"][1] == "∂v2/∂w2·∂w2/∂w1 + ∂v2/∂v1·∂v1/∂w1"
    assert second[2].chain["text"][1:] == ("∂v1/∂w1·∂w1/∂w2", "1/w1·∂w1/∂w2")
    assert second[3].chain["text"][-1] == "v1·∂w2/∂w2 + w2·∂v1/∂w2"
    np.testing.assert_allclose(derivatives(second), [1, 0, 0, V1, V1 / (2 * V3), V1 * SLOPE],
                               rtol=1e-14)  # fmt: skip
    for wrt, kept in (("w1", first), ("w2", second)):
        left_out = {r.node: float(r.derivative) for r in graphs.forward_trace(graph, wrt)}
        assert left_out.items() <= {r.node: float(r.derivative) for r in kept}.items()


def test_reverse_mode_keeps_zeros_of_what_the_output_does_not_depend_on():
    graph = graphs.build(lambda x, y, k: (x * y, jnp.sin(y) + k), 2.0, 3.0, 4)
    plain = graphs.reverse_trace(graph, "y1")
    assert [graph.nodes[r.node].name for r in plain] == ["y1", "y", "x"]
    kept = graphs.reverse_trace(graph, "y1", zeros=True)
    assert kept[0].chain["text"] == ("∂y1/∂y1", "1")
    found = {graph.nodes[r.node].name: (r.chain["text"][-1], float(r.derivative)) for r in kept}
    assert found["y"] == ("∂y1/∂v1·cos y + ∂y1/∂y1·x", 2.0)
    assert found["y2"] == ("0", 0.0)
    assert found["x"][1] == 3.0
    assert "k" not in found  # an integer


def test_an_output_that_is_used_further_has_derivative_one():
    graph = graphs.build(lambda x: (x * x, jnp.sin(x * x)), 2.0)
    kept = graphs.reverse_trace(graph, "y1", zeros=True)
    assert [graph.nodes[r.node].name for r in kept] == ["y1", "y2", "x"]
    assert (kept[0].partials, kept[0].chain["text"]) == ((), ("∂y1/∂y1", "1"))
    assert float(kept[2].derivative) == 4.0


def test_the_chain_rule_is_written_in_latex_too(graph):
    v2 = graphs.reverse_trace(graph)[2]
    assert v2.formula["latex"] == r"w_{2}\,v_{1}"
    assert v2.chain["latex"] == (
        r"\frac{\partial L}{\partial v_{2}}",
        r"\frac{\partial L}{\partial L}\,\frac{\partial L}{\partial v_{2}}"
        r" + \frac{\partial L}{\partial v_{3}}\,\frac{\partial v_{3}}{\partial v_{2}}",
        r"\frac{\partial L}{\partial L}\,1"
        r" + \frac{\partial L}{\partial v_{3}}\,\frac{1}{2\sqrt{v_{2}}}",
    )
    last = graphs.forward_trace(graph, "w1")[3]
    assert last.chain["latex"][2] == (
        r"\frac{1}{2\sqrt{v_{2}}}\,\frac{\partial v_{2}}{\partial w_{1}}"
    )


def test_local_derivatives_stand_at_the_steps_that_they_enter(graph):
    forward, reverse = graphs.forward_trace(graph, "w1"), graphs.reverse_trace(graph)
    assert [(p.child, p.parent, p.value) for p in forward[2].partials] == [(3, 2, W2)]
    of_v2 = {(p.child, p.parent): p.value for p in reverse[2].partials}
    assert of_v2.keys() == {(5, 3), (4, 3)}
    np.testing.assert_allclose(of_v2[4, 3], 1 / (2 * V3), rtol=1e-14)  # a few roundings


# Written partials, evaluated as Python beside the number that JAX gives.
EVERY = {
    "sub": (lambda a, b: a - b, ["1", "−1"]),
    "div": (lambda a, b: a / b, ["1/b", "−a/b²"]),
    "pow": (lambda a, b: a**b, ["b·a^(b − 1)", "L·log a"]),
    "arctan2": (jnp.arctan2, ["b/(a² + b²)", "−a/(a² + b²)"]),
    "max": (jnp.maximum, ["[a > b]", "[b > a]"]),
    "tanh": (jnp.tanh, ["1 − L²"]),
    "sigmoid": (jax.lax.logistic, ["L·(1 − L)"]),
    "rsqrt": (jax.lax.rsqrt, ["−L/(2·a)"]),
    "cbrt": (jnp.cbrt, ["1/(3·L²)"]),
    "fourth": (lambda a: a**4, ["4·a³"]),
    "inverse square": (lambda a: jax.lax.integer_pow(a, -2), ["(-2)·a⁻³"]),
    "cos": (jnp.cos, ["−sin a"]),
    "asin": (jnp.arcsin, ["1/√(1 − a²)"]),
    "log1p": (jnp.log1p, ["1/(1 + a)"]),
}


def as_python(formula, a, b, out):
    for old, new in (("²", "**2"), ("³", "**3"), ("⁻**3", "**-3"), ("^", "**"), ("−", "-")):
        formula = formula.replace(old, new)
    for name in ("sin", "log"):
        formula = formula.replace(f"{name} a", f"{name}(a)")
    formula = formula.replace("√", "sqrt").replace("·", "*").replace("[", "(").replace("]", ")")
    scope = {"a": a, "b": b, "L": out, "sin": np.sin, "log": np.log, "sqrt": np.sqrt}
    return float(eval(formula, scope))


@pytest.mark.parametrize("name", EVERY)
def test_written_partials_are_the_numbers_beside_them(name):
    fun, formulas = EVERY[name]
    args = (0.3, 0.7)[: len(formulas)]
    graph = graphs.build(fun, *args, names=["a", "b"][: len(formulas)])
    assert len(graph.steps) == 1
    for place, formula in enumerate(formulas):
        (partial,) = graphs.forward_trace(graph, "ab"[place])[-1].partials
        assert partial.formula["text"] == formula
        value = as_python(formula, 0.3, 0.7, float(graph.nodes[-1].value))
        np.testing.assert_allclose(partial.value, value, rtol=1e-13)  # a few roundings


def test_a_difference_of_sine_and_cosine_squared_in_an_exponential():
    graph = graphs.build(lambda x, y: jnp.exp(-((jnp.sin(x) - jnp.cos(y)) ** 2)), 0.4, 1.1)
    gap = np.sin(0.4) - np.cos(1.1)
    factor = -2 * gap * np.exp(-(gap**2))
    slopes = {graph.nodes[r.node].name: r.derivative for r in graphs.reverse_trace(graph)}
    expected = {"x": factor * np.cos(0.4), "y": factor * np.sin(1.1)}
    for name, slope in expected.items():
        np.testing.assert_allclose(slopes[name], slope, rtol=1e-13)  # a few roundings
        forward = graphs.forward_trace(graph, name)[-1]
        np.testing.assert_allclose(forward.derivative, slope, rtol=1e-13)  # a few roundings


def softmax_regression(w, x, y):
    return -jnp.sum(y * jax.nn.log_softmax(x @ w))


def mlp(w, x):
    return jnp.sum(jnp.tanh(jnp.tanh(x @ w) @ w) ** 2)


def scanned(x):
    return jax.lax.scan(lambda c, _: (jnp.sin(c) * x, None), x, None, length=3)[0].sum()


def branched(x):
    return jax.lax.cond(x[0] > 0, jnp.sin, jnp.cos, x).sum()


SQUARE = np.arange(9.0).reshape(3, 3) / 9 - 0.4
FUNCTIONS = {
    "softmax regression": (softmax_regression, (SQUARE, SQUARE[:2] + 1, np.eye(3)[:2])),
    "network": (mlp, (SQUARE, SQUARE[:2])),
    "scan": (scanned, (SQUARE[0],)),
    "cond": (branched, (SQUARE[2],)),
    "own jvp": (lambda x: jnp.sum(clipped(x) ** 2), (4 * SQUARE,)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_traces_of_arrays_end_where_jax_does(name):
    fun, args = FUNCTIONS[name]
    graph = graphs.build(fun, *args)
    value, grad = oracles.quickly_compiled(jax.value_and_grad(fun))(*args)
    grad = np.asarray(grad)
    np.testing.assert_allclose(graph(*args), value, rtol=1e-14)  # sums in another order
    (back,) = [r for r in graphs.reverse_trace(graph) if r.node == graph.inputs[0]]
    np.testing.assert_allclose(back.derivative, grad, rtol=1e-12, atol=1e-14)  # round-off
    direction = np.cos(np.arange(grad.size)).reshape(grad.shape)
    last = graphs.forward_trace(graph, graph.nodes[0].name, direction)[-1]
    np.testing.assert_allclose(last.derivative, np.vdot(grad, direction), rtol=1e-12)


def grown(x, y):
    """exp(x y), by way of a complex exponential."""
    return jnp.abs(jnp.exp(jax.lax.complex(x, y) * 2j) * jnp.exp(jax.lax.complex(x * y + 2 * y, x)))


def energy(x):
    """sum(x^2) by Parseval's identity."""
    return jnp.sum(jnp.square(jnp.abs(jnp.fft.fft(x)))) / x.size


def test_complex_steps_of_real_functions_are_traced():
    graph = graphs.build(grown, 0.3, 0.7)
    expected = {"x": 0.7 * np.exp(0.21), "y": 0.3 * np.exp(0.21)}
    slopes = {graph.nodes[r.node].name: r.derivative for r in graphs.reverse_trace(graph)}
    for name, slope in expected.items():
        np.testing.assert_allclose(slopes[name], slope, rtol=1e-14)  # a few roundings
        forward = graphs.forward_trace(graph, name)[-1]
        np.testing.assert_allclose(forward.derivative, slope, rtol=1e-14)  # a few roundings
    made = {step.results[0]: step.primitive for step in graph.steps}
    records = graphs.forward_trace(graph, "x")[1:]
    written = {made[r.node]: [p.formula for p in r.partials] for r in records}
    assert written["abs"] == [None]  # whose derivative is no number times dz
    assert written["complex"] == [None, None]
    assert written["exp"][0]["text"].startswith("exp v")
    x = np.linspace(-1.0, 1.0, 5)
    spectral = graphs.build(energy, x)
    np.testing.assert_allclose(graphs.reverse_trace(spectral)[-1].derivative, 2 * x, atol=1e-14)
    last = graphs.forward_trace(spectral, "x", np.ones(5))[-1]
    np.testing.assert_allclose(last.derivative, 0.0, atol=1e-14)  # the sum of 2 x


@pytest.mark.parametrize(
    ("value", "written", "latex"),
    [
        (0.5 - 2j, "0.5-2j", r"0.5-2\,i"),
        (1e-8 + 1j, "1e-08+1j", r"1 \cdot 10^{-8}+1\,i"),
        (np.array([1j, 2.0]), "[0+1j, 2+0j]", r"[0+1\,i, 2+0\,i]"),
    ],
)
def test_complex_numbers_are_written(value, written, latex):
    assert number(value) == written
    assert number(value, "latex") == latex
    assert relation(np.ones(9, complex)) == "in C^(9,)"


def test_a_rule_for_reverse_mode_alone_is_used_by_it():
    graph = graphs.build(lambda x: jnp.sin(cube(x)), 0.5)
    *_, first = graphs.reverse_trace(graph)
    assert [p.value for p in first.partials] == [7 * 0.25]
    np.testing.assert_allclose(first.derivative, np.cos(0.125) * 7 * 0.25, rtol=1e-14)
    with pytest.raises(ValueError, match=r"v1 = cube\(x\) must have a rule for forward mode"):
        graphs.forward_trace(graph, "x")


def test_functions_that_bear_the_name_of_a_primitive_have_no_formula_of_its():
    @jax.custom_jvp
    def log(x):
        return x * 3

    log.defjvp(lambda primals, tangents: (log(*primals), 3 * tangents[0]))
    (_, last) = graphs.forward_trace(graphs.build(log, 2.0), "x")
    assert last.formula["text"] == "log(x)"
    assert last.partials[0].formula is None
    assert last.partials[0].value == 3


@pytest.mark.parametrize("trace", [lambda g: graphs.forward_trace(g, "w"), graphs.reverse_trace])
def test_the_first_node_that_is_not_finite_is_named_with_what_made_it(trace):
    graph = graphs.build(lambda w: w * jnp.log(w - 1.0) + 1.0, 0.5)
    with pytest.raises(ValueError, match=r"value of v2 = log v1 .* got nan at v1 = -0\.5"):
        trace(graph)
    with pytest.raises(ValueError, match=r"the derivative of .* must be finite, got inf"):
        trace(graphs.build(lambda w: jnp.sqrt(w), 0.0))


def test_several_outputs_are_told_apart():
    graph = graphs.build(lambda x: (x * 2, x * x), 3.0)
    assert float(graphs.reverse_trace(graph, "y2")[-1].derivative) == 6
    with pytest.raises(ValueError, match="output must be one of y1, y2, got None"):
        graphs.reverse_trace(graph)
    with pytest.raises(ValueError, match="'y1', 'y2', got 'y3'"):
        graphs.reverse_trace(graph, "y3")


def fails(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_what_cannot_be_traced_is_refused_by_name(graph):
    vector = graphs.build(lambda weights, n: weights * n, jnp.ones(2), 3)
    fails(lambda: graphs.forward_trace(graph, "w3"), "'w1', 'w2', got 'w3'")
    fails(lambda: graphs.forward_trace(vector, "weight"), "did you mean 'weights'")
    fails(lambda: graphs.forward_trace(vector, "n"), "floating-point input, got n of int")
    fails(lambda: graphs.forward_trace(vector, "weights"), r"tangent must be given .* \(2,\)")
    fails(
        lambda: graphs.forward_trace(vector, "weights", np.ones(3)),
        r"shape \(2,\), got \(3,\)",
    )
    fails(lambda: graphs.reverse_trace(vector), r"one floating-point number, got y of shape \(2,\)")


def test_results_that_are_not_numbers_with_derivatives_have_none():
    graph = graphs.build(lambda x: jnp.where(x > 1, x, 2 * x), 2.0)
    (compared,) = (step.results[0] for step in graph.steps if step.primitive == "gt")
    (record,) = (r for r in graphs.forward_trace(graph, "x") if r.node == compared)
    assert record.partials == ()
    assert record.chain["text"][-1] == "0"
    assert record.derivative == 0


def test_a_trace_prints_a_line_per_record_and_a_graph_its_ends():
    graph = graphs.build(lecture, W1, W2)
    assert repr(graph) == "Graph(w1, w2 -> L: 6 nodes, 4 steps)"
    first, *middle, last, end = repr(graphs.reverse_trace(graph)).splitlines()
    assert (first, end, len(middle)) == ("Records(", ")", 5)
    assert last == "  w1 = 2,  ∂L/∂w1 = 2.0201"
    assert repr(graphs.forward_trace(graph, "w2")[-1]) == "Record(∂L/∂w2 = 0.933485)"


def test_a_notebook_shows_the_picture_of_a_graph_and_of_a_trace():
    graph = graphs.build(lecture, W1, W2)
    alone, traced = (shown._repr_html_() for shown in (graph, graphs.reverse_trace(graph)))
    assert all(
        svg.startswith("<svg") and svg.rstrip().endswith("</svg>") for svg in (alone, traced)
    )
    assert len(traced) > len(alone)  # derivatives, and the chain rule below
