"""Star colourings of symmetric patterns, and Hessians by them, beside closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from adlab.jacobians import _symmetry, sparse_hessian
from adlab.jacobians.coloring import colored, read_off, star_colored


def path_matrix(n):
    return sparse.diags_array(np.ones((3, 1)), offsets=[-1, 0, 1], shape=(n, n))


def arrow_matrix(n, tip=0):
    found = np.eye(n)
    found[tip], found[:, tip] = 1, 1
    return found


def grid_matrix(k):
    ones = sparse.eye_array(k)
    return sparse.kron(path_matrix(k), ones) + sparse.kron(ones, path_matrix(k))


@pytest.mark.parametrize(
    ("pattern", "columns", "stars"),
    [
        (path_matrix(100), 3, 3),
        (arrow_matrix(60), 60, 2),
        (arrow_matrix(60, tip=17), 60, 2),
        (np.kron(np.eye(9), np.ones((4, 4))), 4, 4),
        (np.kron(np.eye(9), arrow_matrix(5)), 5, 2),
        (grid_matrix(12), 7, 5),  # 5: fewer are impossible on a grid of 4 x 4 and more
        (np.eye(7), 1, 1),
        (np.zeros((7, 7)), 1, 1),
        (np.ones((6, 6)), 6, 6),
    ],
)
def test_stars_take_as_many_colours_as_known(pattern, columns, stars):
    pattern = sparse.csr_array(pattern) > 0
    assert colored(pattern).max() + 1 == columns
    found = star_colored(pattern)
    assert found.max() + 1 == stars
    check_recovery(pattern.toarray(), found)


def check_recovery(pattern, colors):
    """Read entries, no two of which are equal, off the products with the sums of columns."""
    n = len(pattern)
    numbers = np.random.default_rng(0).permutation(np.arange(1.0, n * n + 1))
    entries = np.triu(pattern * numbers.reshape(n, n))
    matrix = entries + np.triu(entries, 1).T
    products = np.stack([matrix[:, colors == k].sum(axis=1) for k in range(colors.max() + 1)])
    rows, cols = np.nonzero(pattern)
    places, sweeps = read_off(rows, cols, colors)
    np.testing.assert_array_equal(products[sweeps, places], matrix[rows, cols])


@given(st.integers(0, 2**32 - 1), st.integers(1, 24), st.floats(0, 1), st.booleans())
@settings(max_examples=300, deadline=None)
def test_every_entry_of_a_random_symmetric_pattern_is_read_off(seed, n, density, diagonal):
    rng = np.random.default_rng(seed)
    pattern = rng.random((n, n)) < density * rng.random()
    pattern |= pattern.T
    if diagonal:
        pattern |= np.eye(n, dtype=bool)
    colors = star_colored(sparse.csr_array(pattern))
    assert set(colors) == set(range(colors.max() + 1))  # none is skipped
    check_recovery(pattern, colors)
    meets = pattern & ~np.eye(n, dtype=bool)
    assert not np.any(meets & (colors[:, None] == colors))  # neighbours differ
    assert not any(_has_path(meets, colors, *pair) for pair in np.argwhere(np.triu(meets)))


def _has_path(meets, colors, b, c):
    """Tell whether a path a b c d has two colours."""
    starts = meets[b] & (colors == colors[c])
    ends = meets[c] & (colors == colors[b])
    starts[c] = ends[b] = False
    return starts.any() and ends.any()


def test_100000_columns_in_a_path_and_an_arrow_are_coloured_by_steps_for_each_entry():
    """The hub alone has as many pairs of neighbours as the matrix has entries in all, squared."""
    n = 100_000
    arrow = path_matrix(n).tolil()
    arrow[0, :], arrow[:, 0] = 1, 1
    assert star_colored(sparse.csr_array(arrow)).max() + 1 == 4


def products_of(hessian, *args):
    """Return how many products are taken at once: the widest stack of tangents."""
    n = sum(np.size(leaf) for leaf in jax.tree.leaves(args))
    program = jax.make_jaxpr(hessian)(*args)
    text = str(program)
    return max(k for k in range(1, n + 1) if f"f32[{k},{n}]" in text)


def hub(x):
    """x0 meets all others, which are by themselves."""
    return jnp.sum(jnp.sin(x[0] * x[1:])) + jnp.sum(x**4)


def hub_hessian(x):
    x = x.astype(np.float64)
    rest, product = x[1:], x[0] * x[1:]
    matrix = np.diag(12 * x**2)
    matrix[0, 0] -= np.sum(rest**2 * np.sin(product))
    matrix[0, 1:] = matrix[1:, 0] = np.cos(product) - product * np.sin(product)
    matrix[range(1, len(x)), range(1, len(x))] -= x[0] ** 2 * np.sin(product)
    return matrix


def full(found):
    matrix = np.zeros(found.shape, found.dtype)
    matrix[tuple(np.asarray(found.indices).T)] = found.data
    return matrix


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("chunk_size", ["auto", 1])
def test_an_arrow_takes_two_products(chunk_size, given):
    x = np.linspace(0.2, 1.1, 30, dtype=np.float32)
    pattern = sparse.csr_array(arrow_matrix(30)) if given else None
    hessian = sparse_hessian(hub, chunk_size=chunk_size, pattern=pattern)
    found = jax.jit(hessian)(x)
    np.testing.assert_allclose(full(found), hub_hessian(x), rtol=1e-5, atol=1e-5)  # float32
    np.testing.assert_array_equal(full(found), full(found).T)
    if chunk_size == "auto" and not given:  # what is given is verified by 6 products more
        assert products_of(hessian, x) == 2


def test_a_given_pattern_that_misses_an_entry_in_both_places_is_refused():
    x = np.linspace(0.2, 1.1, 30, dtype=np.float32)
    given = arrow_matrix(30)
    given[0, 5] = given[5, 0] = 0
    with pytest.raises(ValueError, match="misses some in 2 of 30 rows, first in row 0"):
        sparse_hessian(hub, pattern=sparse.csr_array(given))(x)


def test_entries_found_in_one_of_two_places_are_none(monkeypatch):
    wide = arrow_matrix(30)
    wide[3] = 1
    found = sparse.csr_array(wide) > 0
    monkeypatch.setattr("adlab.jacobians.patterns.find", lambda _: (found, True))
    x = np.linspace(0.2, 1.1, 30, dtype=np.float32)
    hessian = jax.jit(sparse_hessian(hub))(x)
    assert hessian.nse == 88
    np.testing.assert_allclose(full(hessian), hub_hessian(x), rtol=1e-5, atol=1e-5)  # float32


def test_entries_are_read_off_across_leaves_of_trees():
    """The hub is one leaf, and what it meets are two others."""

    def fun(tree, hub_number):
        rest = jnp.concatenate([jnp.ravel(tree["a"]), tree["b"]])
        return hub(jnp.concatenate([hub_number[None], rest]))

    x = np.linspace(0.2, 1.1, 9, dtype=np.float32)
    tree = {"a": x[1:5].reshape(2, 2), "b": x[5:]}
    found = jax.jit(sparse_hessian(fun, argnums=(1, 0)))(tree, x[0])
    expected, places = hub_hessian(x), {"hub": [0], "a": [1, 2, 3, 4], "b": [5, 6, 7, 8]}
    named = {"hub": {"hub": found[0][0], **found[0][1]}}
    named |= {name: {"hub": row[0], **row[1]} for name, row in found[1].items()}
    for one, row in named.items():
        for other, block in row.items():
            wanted = expected[np.ix_(places[one], places[other])].reshape(block.shape)
            np.testing.assert_allclose(block.todense(), wanted, rtol=1e-5, atol=1e-5)  # float32


@pytest.mark.usefixtures("x64")
def test_entries_of_leaves_of_several_dtypes_are_not_read_off_one_another():
    def fun(tree):
        return hub(jnp.append(tree["a"], tree["b"].astype(jnp.float64)))

    x = np.linspace(0.2, 1.1, 9)
    found = sparse_hessian(fun)({"a": x[:5], "b": x[5:].astype(np.float32)})
    assert (found["a"]["a"].dtype, found["b"]["a"].dtype) == (jnp.float64, jnp.float32)
    exact = hub_hessian(x)
    np.testing.assert_allclose(full(found["a"]["a"])[0, 1:], exact[0, 1:5], rtol=1e-14)  # float64
    np.testing.assert_allclose(full(found["b"]["a"]), exact[5:, :5], rtol=1e-5)  # float32


@jax.custom_jvp
def one_sided(x, y):
    return x * y


one_sided.defjvp(lambda p, t: (one_sided(*p), t[0] * p[1]))  # y's tangent is forgotten


def test_a_rule_that_is_no_derivative_keeps_its_hessian_that_is_not_symmetric():
    """The gradient in x0 is the sum of the others, theirs doesn't hold x0."""
    fun = lambda x: jnp.sum(one_sided(x[0], x[1:])) + jnp.sum(x[2:] ** 3)  # noqa: E731
    x = np.linspace(0.5, 1.5, 6, dtype=np.float32)
    expected = np.diag(np.append([0, 0], 6 * x[2:]))
    expected[0, 1:] = 1
    found = jax.jit(sparse_hessian(fun))(x)
    np.testing.assert_allclose(full(found), expected, rtol=1e-6)  # float32


@jax.custom_vjp
def backward(x):
    return x**3


backward.defvjp(lambda x: (x**3, x), lambda x, s: (3 * x**2 * s,))


def test_products_from_the_left_are_read_off_too(monkeypatch):
    """Forward mode is missing: products are vector-Jacobian ones of the gradient."""
    monkeypatch.setattr("adlab.jacobians.hessian.rules_are_known", lambda _: True)
    x = np.linspace(0.2, 1.1, 12, dtype=np.float32)
    hessian = jax.jit(sparse_hessian(lambda x: hub(x) + jnp.sum(backward(x))))
    np.testing.assert_allclose(
        full(hessian(x)), hub_hessian(x) + np.diag(6 * x), rtol=1e-5, atol=1e-5  # float32
    )  # fmt: skip
    assert products_of(hessian, x) == 2


def of_jax_with_a_rule_of_a_user(x):
    rounded = jax.custom_jvp(jnp.ceil)
    rounded.defjvp(lambda p, t: (rounded(*p), t[0]))
    return rounded(x)


def of_jax_with_slopes_of_a_user(x):
    rounded = jax.custom_jvp(jnp.ceil)
    rounded.defjvps(lambda *args: args[0])
    return rounded(x)


@jax.custom_gradient
def stretched(x):
    return x, lambda s: 2 * s


def root(x):
    return jax.lax.custom_root(
        lambda y: y**2 - x, x, lambda f, y: y - f(y), lambda g, y: y / g(jnp.ones_like(y))
    )


@pytest.mark.parametrize(
    ("fun", "known"),
    [
        (lambda x: jax.nn.softplus(x) * jax.scipy.special.xlogy(x, 2.0), True),
        (jax.jit(lambda x: jax.nn.logsumexp(jnp.stack([x, jnp.sin(x)]))), True),
        (lambda x: jnp.linalg.slogdet(jnp.diag(jnp.stack([x, 2 * x])))[1], True),
        (lambda x: jax.lax.fori_loop(0, 3, lambda _, y: jnp.where(y > 1, y, y**2), x), True),
        (lambda x: x * jax.random.normal(jax.random.key(0)), True),
        (lambda x: one_sided(x, x), False),
        (backward, False),
        (jax.jit(lambda x: jax.lax.scan(lambda c, _: (backward(c), None), x, None, 3)[0]), False),
        (of_jax_with_a_rule_of_a_user, False),
        (of_jax_with_slopes_of_a_user, False),
        (stretched, False),
        (root, False),
        (lambda x: jax.pure_callback(lambda x: x, jax.ShapeDtypeStruct((), x.dtype), x), False),
    ],
)
def test_rules_of_jax_are_known_and_those_of_users_are_not(fun, known):
    assert _symmetry.rules_are_known(jax.make_jaxpr(fun)(jnp.float32(0.5))) == known
