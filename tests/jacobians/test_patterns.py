"""Patterns of Jacobians, beside the Jacobians themselves."""

import hypothesis
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from pattern_cases import EXACT, WIDER
from scipy import sparse

from adlab.jacobians import _loops, _rounds, sparsity
from adlab.jacobians._facts import Fact
from adlab.jacobians._flow import flow
from adlab.jacobians._rows import identity
from adlab.jacobians.coloring import colored


def nonzero(fun, shape):
    """Entries of the Jacobian that differ from zero at one of several points."""
    rng = np.random.default_rng(1)
    points = rng.uniform(0.1, 1.3, (8, *shape)).astype(np.float32)
    points[points > 0.99] = 0.5  # within the domain of all functions
    try:
        found = oracles.quickly_compiled(jax.vmap(jax.jacfwd(fun)))(points)
    except TypeError:
        found = oracles.quickly_compiled(jax.vmap(jax.jacrev(fun)))(points)
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


def chain(x):
    """Carry from row to row what the one before held, and return a part of it."""
    return jax.lax.scan(lambda c, r: (jnp.stack([c[1], r[0] * c[0]]), c[0] * r[1]), x[0], x)


def backwards(x):
    last, rows = jax.lax.scan(lambda c, r: (r * x[0, 1], (c, r[::-1])), x[0], x, reverse=True)
    return last, rows


def handed_on(x):
    """Two carries that depend on nothing at first; the one gets what the other had."""
    ones = jnp.ones(2)
    return jax.lax.scan(lambda c, r: ((c[1], r[::-1]), 2 * c[0]), (ones, ones), x)


def stepped(x):
    step = lambda y: y.at[1:-1].add(0.1 * (y[2:] - y[:-2]) * y[1:-1])  # noqa: E731
    return jax.lax.fori_loop(0, 3, lambda _, y: step(y), x.ravel())


def counting(x):
    step = lambda c: (c[0] + 1, jnp.roll(c[1], 1) * x)  # noqa: E731
    return jax.lax.while_loop(lambda c: c[0] < 2, step, (0, x))[1]


def rows_alone(x):
    return jax.lax.map(lambda r: (jnp.sum(r), r[::-1] ** 2, x[0, 0] * r), x)


@pytest.mark.parametrize(
    ("unrolled", "rounds", "wider"),
    [
        (20_000, 10_000, {}),
        (0, 10_000, {counting}),  # the loop's length isn't known
        (0, 2, {chain, backwards, handed_on, stepped, counting}),  # any number of rounds
    ],
)
@pytest.mark.parametrize("loop", [chain, backwards, handed_on, stepped, counting, rows_alone])
def test_loops_that_are_too_long_to_be_followed_lose_zeros_alone(
    loop, unrolled, rounds, wider, monkeypatch
):
    monkeypatch.setattr(_loops, "UNROLLED", unrolled)
    monkeypatch.setattr(_rounds, "ROUNDS", rounds)
    for limit in ("ENTRIES", "WORDS"):
        monkeypatch.setattr(_rounds, limit, 0)
    found = sparsity(loop, jax.ShapeDtypeStruct((5, 2), np.float32)).toarray()
    expected = nonzero(loop, (5, 2))
    if loop in wider:
        assert np.all(found >= expected)
        assert np.any(found > expected)
    else:
        np.testing.assert_array_equal(found, expected)


def test_100000_variables_in_a_band_are_three_diagonals_in_three_colours():
    n = 100_000
    found = sparsity(lambda x: jnp.sin(x[1:-1]) * x[2:] - x[:-2], jnp.ones(n))
    expected = sparse.diags_array(np.ones((3, 1)), offsets=[0, 1, 2], shape=(n - 2, n), dtype=bool)
    assert isinstance(found, sparse.csr_array)
    assert found.dtype == bool
    assert (found != expected).nnz == 0
    np.testing.assert_array_equal(colored(found), np.arange(n) % 3)


@hypothesis.given(
    hypothesis.strategies.integers(0, 2**32 - 1),
    hypothesis.strategies.tuples(*[hypothesis.strategies.integers(1, 12)] * 2),
    hypothesis.strategies.floats(0, 1),
)
@hypothesis.settings(max_examples=100)
def test_columns_of_one_colour_share_no_row(seed, shape, density):
    pattern = np.random.default_rng(seed).random(shape) < density
    colors = colored(sparse.csr_array(pattern))
    assert set(colors) == set(range(colors.max() + 1))  # none is skipped
    for color in set(colors):
        assert pattern[:, colors == color].sum(axis=1).max() <= 1


def test_the_order_with_fewer_colours_is_taken():
    """Of a path a b c d: in order a d b c it takes 3 colours, with the inner ones first 2."""
    path = sparse.csr_array(np.array([[1, 0, 1, 0], [0, 0, 1, 1], [0, 1, 0, 1]], bool))
    assert colored(path).max() == 1
    band = sparse.diags_array(np.ones((3, 1)), offsets=[-1, 0, 1], shape=(9, 9)).tolil()
    band[5, 4] = 0  # the fullest first: 4 colours
    assert colored(band.tocsr()).max() == 2


def test_trees_are_laid_end_to_end_in_rows_and_columns():
    def fun(scale, tree, order):
        return {"b": tree["y"][order], "a": (scale * tree["x"], jnp.sum(tree["y"]))}, order

    tree = {"x": jnp.ones((1, 2)), "y": jnp.ones(3)}
    order = np.array([2, 0])
    found = sparsity(fun, jnp.float32(2), tree, order, argnums=(1, 0), has_aux=True).toarray()
    expected = [  # x, y, scale
        [1, 0, 0, 0, 0, 1],
        [0, 1, 0, 0, 0, 1],
        [0, 0, 1, 1, 1, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 0, 1, 0, 0, 0],
    ]
    np.testing.assert_array_equal(found, np.array(expected, bool))


def test_what_is_a_shape_or_traced_has_no_known_value():
    fun = lambda x, order: x[order]  # noqa: E731
    x, order = jnp.ones(3), jnp.array([2, 0])
    known = np.array([[0, 0, 1], [1, 0, 0]], bool)
    np.testing.assert_array_equal(sparsity(fun, x, order).toarray(), known)
    shape = jax.ShapeDtypeStruct(order.shape, order.dtype)
    np.testing.assert_array_equal(sparsity(fun, x, shape).toarray(), np.ones((2, 3), bool))
    found = []
    jax.jit(lambda x, order: found.append(sparsity(fun, x, order)))(x, order)
    jax.jit(lambda x: found.append(sparsity(fun, x, order)))(x)
    np.testing.assert_array_equal(found[0].toarray(), np.ones((2, 3), bool))
    np.testing.assert_array_equal(found[1].toarray(), known)


@pytest.mark.parametrize(
    "fun", [lambda x: jax.lax.sort((x, x**2), num_keys=1)[1], lambda x: jax.lax.top_k(x, 3)[0]]
)
def test_what_orders_numbers_mixes_those_of_a_line(fun):
    """In programs of derivatives tangents are put in order by gathers; here they are sorted."""
    (fact,) = flow(jax.make_jaxpr(fun)(jnp.ones((2, 3))), [Fact(identity(6, 0, 6), None)])
    np.testing.assert_array_equal(fact.pattern.toarray(), np.kron(np.eye(2), np.ones((3, 3))) > 0)


def test_what_is_not_known_is_dense():
    """An operation that has no rule, and one whose place depends on the tangents."""
    unknown = jax.make_jaxpr(lambda x: jnp.sin(x)[::-1])(jnp.ones(3))
    seeds = [Fact(identity(3, 0, 3), None)]
    (fact,) = flow(unknown, seeds)
    np.testing.assert_array_equal(fact.pattern.toarray(), np.eye(3, dtype=bool)[::-1])
    strange = unknown.jaxpr.eqns[0].replace(primitive=jax.extend.core.Primitive("strange"))
    jaxpr = unknown.jaxpr.replace(eqns=[strange, *unknown.jaxpr.eqns[1:]])
    (fact,) = flow(jax.extend.core.ClosedJaxpr(jaxpr, ()), seeds)
    assert fact.pattern.toarray().all()
    for fun in (
        lambda x: x[jnp.argmax(x)] * jnp.ones(2),
        lambda x: jax.lax.cond(x[0] > 0, lambda: x[:1], lambda: x[1:2]),
        lambda x: jax.lax.while_loop(lambda y: y[0] < 1, lambda y: 2 * y, x),
        lambda x: x.at[jnp.argmax(x)].set(0.0),
        lambda x: jax.lax.dynamic_slice(x, (jnp.argmax(x),), (2,)),
    ):
        (fact,) = flow(jax.make_jaxpr(fun)(jnp.ones(3)), seeds)
        assert fact.pattern.toarray().all()


def starts(x):
    return jnp.argmax(x[0]), jnp.argmax(x[1])


def test_a_slice_that_data_place_in_two_directions_may_be_anywhere():
    """Two by one of three by three: rows i and i + 1, of all columns."""
    found = sparsity(lambda x: jax.lax.dynamic_slice(x, starts(x), (2, 1)), jnp.ones((3, 3)))
    expected = [[1, 1, 1, 1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1, 1, 1, 1]]
    np.testing.assert_array_equal(found.toarray(), np.array(expected, bool))


def test_an_update_that_data_place_in_two_directions_may_be_anywhere():
    """Its two numbers, of columns 1 and 2, may get to rows 0 and 1, and 1 and 2, of any column."""
    fun = lambda x: jax.lax.dynamic_update_slice(x, x[2:, 1:].T ** 2, starts(x))  # noqa: E731
    found = sparsity(fun, jnp.ones((3, 3))).toarray()
    expected = np.eye(9, dtype=bool)  # no place is certain to be overwritten
    expected[:6, 7] = expected[3:, 8] = True
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("loops", [False, True])
def test_a_callback_is_not_called_for_its_value(loops):
    def drawn():
        return jax.pure_callback(
            lambda: pytest.fail("called"), jax.ShapeDtypeStruct((), np.float32)
        )

    def fun(x):
        if loops:
            return x * jax.lax.fori_loop(0, 3, lambda _, c: c * drawn(), jnp.float32(0))
        return x * drawn()

    assert sparsity(fun, jnp.ones(3)).nnz == 3


@pytest.mark.parametrize(
    ("args", "options", "error", "message"),
    [
        ((jnp.ones(2),), {"argnums": 1}, ValueError, "argnums must name one of the 1 positional"),
        ((jnp.ones(2),), {"has_aux": 1}, TypeError, "has_aux must be True or False, got 1"),
        ((jnp.arange(2),), {}, TypeError, "^sparsity: x must be real floating-point, got int32"),
    ],
)
def test_what_sparsity_refuses(args, options, error, message):
    with pytest.raises(error, match=message):
        sparsity(lambda x: x, *args, **options)


def refers(x):
    ref = jax.new_ref(jnp.zeros(3))
    ref[0] = x[1]
    ref[1] = ref[0] * x[2]
    return ref[...]


def counts(x):
    """256 unknown numbers, added up in 8 bits, may come to 0, and to anything else."""
    number = (x > -2).astype(jnp.uint8) * (x > -0.5).astype(jnp.uint8)
    total = jnp.zeros(3, jnp.uint8).at[jnp.zeros(256, int)].add(number)
    return total.astype(jnp.float32) * x[:3]


@pytest.mark.parametrize(
    ("fun", "entries", "size"),
    [
        (refers, [(0, 1), (1, 1), (1, 2)], 3),
        (counts, [(0, 0)], 256),
        (lambda x: x.at[:].set(x[::-1] ** 2), [(0, 2), (1, 1), (2, 0)], 3),
        (lambda x: x.at[:].add(x[::-1]), [(0, 0), (0, 2), (2, 0)], 3),
        (lambda x: x.at[...].mul(x[::-1], mode="drop"), [(0, 0), (0, 2)], 3),
        (lambda x: jnp.zeros(3).at[:].set(x), [(0, 0), (1, 1), (2, 2)], 3),
    ],
)
def test_what_is_written_in_place_or_counted_is_found(fun, entries, size):
    found = sparsity(fun, np.ones(size, np.float32)).todense()
    assert all(found[place] for place in entries)
