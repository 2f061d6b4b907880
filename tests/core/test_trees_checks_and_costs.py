import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adlab.core import checks, spelling, trees
from adlab.core.cost import Cost

DTYPES = [jnp.bfloat16, jnp.float16, jnp.float32]
MIXED = {"a": jnp.ones((2, 3), jnp.bfloat16), "b": [jnp.float32(2.0), jnp.zeros((0, 4))]}

shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
leaves = st.tuples(shapes, st.sampled_from(DTYPES), st.integers(0, 99)).map(
    lambda leaf: jnp.asarray(
        np.random.default_rng(leaf[2]).standard_normal(leaf[0], np.float32).astype(leaf[1])
    )
)
forests = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.dictionaries(st.sampled_from("abc"), inner, min_size=1)
    ),
    max_leaves=5,
)


@jax.jit
def _there_and_back(tree):
    vector = trees.ravel(tree)
    return vector, trees.unravel(vector, tree)


@settings(max_examples=25)
@given(forests)
def test_unravel_undoes_ravel_whatever_the_shapes_and_dtypes(tree):
    vector, back = _there_and_back(tree)
    assert (vector.ndim, vector.size, vector.dtype) == (1, trees.size(tree), jnp.float32)
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(tree), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_array_equal(a, b)


def test_same_shapes_compares_structure_and_shapes_but_not_dtypes():
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.int32), MIXED)
    assert trees.same_shapes(MIXED, shapes)
    assert trees.same_shapes(1.0, jnp.float32(2))
    for other in ({"a": MIXED["a"]}, {"a": MIXED["a"][:1], "b": MIXED["b"]}, [MIXED["a"]]):
        assert not trees.same_shapes(MIXED, other)


def test_an_array_that_was_numpys_is_a_copy_and_a_constant_inside_a_trace():
    room = np.zeros((1 << 16) + 16, np.float32)
    numbers = room[-(room.ctypes.data // 4) % 16 :][: 1 << 16]  # where JAX would share them
    found = trees.as_array(numbers)
    numbers[:] = 1
    assert isinstance(found, jax.Array)
    np.testing.assert_array_equal(found, 0)
    program = jax.make_jaxpr(lambda x: trees.as_array(numbers) + x)(numbers)
    assert {equation.primitive.name for equation in program.eqns} == {"add"}
    assert trees.as_array(1.0).weak_type


def test_ravel_lays_leaves_end_to_end():
    np.testing.assert_array_equal(trees.ravel(MIXED), [1, 1, 1, 1, 1, 1, 2])


def test_ravel_takes_the_widest_dtype(x64):
    del x64
    tree = {"a": jnp.ones(2, jnp.float32), "b": jnp.ones(1, jnp.float64)}
    assert trees.ravel(tree).dtype == jnp.float64
    assert trees.unravel(trees.ravel(tree), tree)["a"].dtype == jnp.float32


def test_unravel_takes_shapes():
    like = {"a": jax.ShapeDtypeStruct((2,), jnp.bfloat16), "b": jax.ShapeDtypeStruct((), jnp.int32)}
    tree = trees.unravel(jnp.array([1.0, 2.0, 3.0]), like)
    assert tree["a"].dtype == jnp.bfloat16
    assert tree["b"] == 3


def test_size_counts_numbers_of_arrays_scalars_and_shapes():
    assert trees.size({"a": 1.0, "b": jax.ShapeDtypeStruct((4, 5), jnp.float32)}) == 21
    assert trees.size(MIXED) == 7
    assert trees.size({}) == 0


@pytest.mark.parametrize(
    ("dtype", "wide"),
    [(jnp.bfloat16, jnp.float32), (jnp.float16, jnp.float32), (jnp.float32, jnp.float32)],
)
def test_sums_are_taken_in_at_least_float32(dtype, wide):
    assert trees.wide_dtype(jnp.ones(2, dtype)) == wide
    assert trees.common_dtype({"a": jnp.ones(2, dtype)}) == wide


def test_sums_of_float64_are_taken_in_float64(x64):
    del x64
    assert trees.wide_dtype(jnp.ones(2)) == jnp.float64
    assert trees.common_dtype([jnp.ones(2), jnp.ones(2, jnp.bfloat16)]) == jnp.float64


def test_probe_like_widens_dtypes_and_keeps_shapes():
    like = trees.probe_like(MIXED)
    assert like["a"] == jax.ShapeDtypeStruct((2, 3), jnp.float32)
    assert like["b"][0] == jax.ShapeDtypeStruct((), jnp.float32)


def test_vdot_is_the_inner_product_of_the_vectors():
    other = {"a": jnp.full((2, 3), 3.0), "b": [jnp.float32(5.0), jnp.zeros((0, 4))]}
    assert trees.vdot(MIXED, other) == 6 * 3 + 2 * 5


def test_vdot_of_bfloat16_doesn_t_saturate():
    ones = jnp.ones(1000, jnp.bfloat16)  # a bfloat16 sum of ones stays at 256
    assert trees.vdot(ones, ones) == 1000


def test_vdot_refuses_trees_of_different_structure():
    with pytest.raises(ValueError, match="zip"):
        trees.vdot([jnp.ones(2)], [jnp.ones(2), jnp.ones(2)])


def test_add_scaled_computes_wide_and_rounds_to_the_dtype_of_x():
    x, u = jnp.array([1.0, 256.0], jnp.bfloat16), jnp.array([0.5, 3.0], jnp.float32)
    moved = trees.add_scaled({"x": x}, 0.5, {"x": u})["x"]
    assert moved.dtype == jnp.bfloat16
    np.testing.assert_array_equal(moved.astype(jnp.float32), [1.25, 258.0])  # 257.5 isn't held


def test_add_scaled_doesn_t_round_the_displacement_first():
    x, u = jnp.array([1.0], jnp.bfloat16), jnp.array([1.0], jnp.float32)
    # 1 + 0.0117 lies above the middle of bfloat16's 1.0078 and 1.0156
    assert trees.add_scaled(x, 0.0118, u).astype(jnp.float32)[0] == 1.015625


def test_cast_like_takes_the_dtypes_of_the_other_tree():
    cast = trees.cast_like({"a": jnp.ones(2)}, {"a": jnp.ones(2, jnp.bfloat16)})
    assert cast["a"].dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("value", "choices", "said"),
    [
        ("spere", ["sphere", "gaussian"], "; did you mean 'sphere'?"),
        ("xyz", ["sphere"], ""),
        (3, ["sphere"], ""),
    ],
)
def test_nearest_names_a_near_miss_only(value, choices, said):
    assert spelling.nearest(value, choices) == said


@pytest.mark.parametrize(
    ("tree", "options", "said"),
    [
        ({"a": np.zeros(3), "b": np.zeros((2, 1))}, {}, r"\[2, 3\] at \['b'\], \['a'\]"),
        ([np.zeros(3), 1.0], {}, r"\[none, 3\] at \[1\], \[0\]"),
        (np.zeros(3), {"length": 4}, r"\[3, 4\] at the array, length"),
        (1.0, {}, r"\[none\] at the array"),
        ((), {"scalars": True}, r"\[\]"),
    ],
)
def test_a_first_axis_is_one_length_or_refused_by_place(tree, options, said):
    with pytest.raises(ValueError, match=rf"^data must agree, got lengths {said}$"):
        trees.first_axis(tree, "data must agree", **options)


def test_a_first_axis_may_be_empty_known_or_beside_scalars():
    assert trees.first_axis({"a": np.zeros((0, 2)), "b": np.zeros(0)}, "-") == 0
    assert trees.first_axis((), "-", length=4) == 4
    assert trees.first_axis([np.zeros(3), 1.0], "-", scalars=True) == 3


def test_one_of_lists_the_choices():
    checks.one_of("scheme", "a", ["a", "b"])
    with pytest.raises(ValueError, match=r"^scheme must be one of 'a', 'b', got 'c'$"):
        checks.one_of("scheme", "c", ["a", "b"])


@pytest.mark.parametrize("value", [1, 0.5, np.float32(2), np.float64(1e-300), np.array(3.0)])
def test_positive_accepts_positive_numbers(value):
    checks.positive("step", value)


def test_positive_accepts_arrays_of_jax_and_tracers():
    checks.positive("step", jnp.float32(0.1))
    jax.jit(lambda h: checks.positive("step", h))(-1.0)


@pytest.mark.parametrize("value", [0, 0.0, -1, -0.5, float("nan"), float("inf"), np.float32(-2)])
def test_positive_refuses_other_numbers(value):
    with pytest.raises(ValueError, match=r"^step must be positive and finite, got "):
        checks.positive("step", value)


@pytest.mark.parametrize("value", ["0.1", True, 1j, None, [0.1], np.ones(2), np.True_, {}, object])
def test_positive_refuses_what_is_no_real_number(value):
    with pytest.raises(TypeError, match=r"^step must be a positive real number, got "):
        checks.positive("step", value)


def test_at_least_accepts_integers_of_python_and_numpy():
    checks.at_least("n", 1, 1)
    checks.at_least("n", np.int64(3), 1)


@pytest.mark.parametrize("value", [0, -1, np.int32(0)])
def test_at_least_refuses_smaller_integers(value):
    with pytest.raises(ValueError, match=r"^n must be >= 1, got "):
        checks.at_least("n", value, 1)


@pytest.mark.parametrize("value", [1.5, 2.0, True, "3", None, np.float32(2)])
def test_at_least_refuses_what_is_no_integer(value):
    with pytest.raises(TypeError, match=r"^n must be an integer >= 1, got "):
        checks.at_least("n", value, 1)


def test_concrete_is_false_for_trees_that_hold_a_tracer():
    seen = []
    jax.jit(lambda x: seen.append(checks.concrete({"a": 1.0, "x": x})))(1.0)
    assert seen == [False]
    assert checks.concrete({"a": 1.0, "x": jnp.ones(2)})


def test_require_key_names_the_function():
    checks.require_key("two_point", jax.random.key(0))
    with pytest.raises(TypeError, match=r"^two_point draws random probes: key must be"):
        checks.require_key("two_point", None)


def test_costs_add_and_multiply():
    cost = Cost(evaluations=2, jvps=1) + Cost(vjps=3)
    assert cost == Cost(evaluations=2, jvps=1, vjps=3)
    assert 2 * cost == cost * 2 == Cost(evaluations=4, jvps=2, vjps=6)
    assert cost.calls == 6
    assert Cost() + cost == cost
    assert cost.in_evaluations(jvp=2.5, vjp=3.0) == 2 + 2.5 + 9
    assert cost.in_evaluations(jvp=1.0, vjp=1.0) == cost.calls
    assert (cost * 0).calls == 0


@pytest.mark.parametrize("key", [0, np.int32(3), np.zeros(2), "key", np.uint32(7)])
def test_what_is_no_key_is_refused_with_the_call_that_makes_one(key):
    with pytest.raises(TypeError, match=r"key must be a jax.random key, got .*jax\.random\.key\(0"):
        checks.require_key("two_point", key)


def test_typed_and_raw_keys_are_taken_also_many_and_traced():
    for key in (jax.random.key(0), jax.random.PRNGKey(0), jax.random.split(jax.random.key(0), 3)):
        assert checks.require_key("two_point", key) is key
        jax.eval_shape(lambda key: checks.require_key("two_point", key), key)
