import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adlab.core import probes, trees

LAWS = {name: probes.resolve(name) for name in ("sphere", "gaussian", "rademacher", "coordinate")}
LAWS["orthogonal"] = lambda like, *, key: trees.unravel(
    probes.orthogonal_block(like, key=key, count=1)[0], like
)
COUNT = 10_000
TREE = {"a": np.zeros((3, 2), "f"), "b": np.zeros((), "f"), "c": np.zeros(2, "f")}


@functools.cache
def _keys(count):
    return jax.random.split(jax.random.key(0), COUNT)[:count]


def _draw(law, like, count=COUNT):
    draw = oracles.quickly_compiled(jax.vmap(lambda key: law(like, key=key)))
    return jax.tree.map(np.asarray, draw(_keys(count)))


def _zeros(dim):
    return np.zeros(dim, np.float32)


def _ravelled(u):
    """The rows of a batch of trees."""
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(u)], axis=1)


def _assert_second_moments_are_the_identity(u):
    u = np.asarray(u, np.float64)
    mean, mean_of_squares = u.T @ u / len(u), (u**2).T @ u**2 / len(u)
    deviation = np.sqrt(np.maximum(mean_of_squares - mean**2, 0) / len(u))
    error = np.abs(mean - np.eye(u.shape[1]))
    assert np.all(error <= 5 * deviation + 1e-5)  # z <= 5; signs squared vary by float32 round-off


@pytest.mark.parametrize(
    ("name", "dim"),
    [(name, dim) for name in LAWS for dim in (1, 33)]
    + [("rademacher", dim) for dim in (31, 32, 100)],
)
def test_probes_have_the_identity_as_second_moment_and_the_right_mean(name, dim):
    u = _draw(LAWS[name], _zeros(dim))
    assert u.shape == (COUNT, dim)
    assert u.dtype == jnp.float32
    _assert_second_moments_are_the_identity(u)
    oracles.assert_mean_is(dim**-0.5 if name == "coordinate" else 0.0, u, round_off=1e-6)


@pytest.mark.parametrize("name", ["sphere", "rademacher", "coordinate", "orthogonal"])
def test_probes_of_constant_length_are_sqrt_of_the_dimension_of_the_whole_tree_long(name):
    u = _ravelled(_draw(LAWS[name], TREE, 50))
    # float32 rounding of nine squares
    np.testing.assert_allclose(np.sum(u**2, axis=1), 9.0, rtol=1e-6)


def test_sphere_probes_have_the_fourth_moment_of_the_uniform_law():
    u = _draw(probes.sphere, _zeros(5))
    oracles.assert_mean_is(3 * 5 / (5 + 2), u**4)


def test_gaussian_probes_have_the_fourth_moments_of_the_normal_law():
    u = _draw(probes.gaussian, _zeros(5))
    oracles.assert_mean_is(3.0, u**4)
    oracles.assert_mean_is(5 * 7.0, np.sum(u**2, axis=1) ** 2)


def test_rademacher_probes_are_signs():
    np.testing.assert_array_equal(np.abs(_draw(probes.rademacher, _zeros(33), 20)), 1)


def test_rademacher_signs_are_independent_within_a_word_and_across_words():
    u = np.asarray(_draw(probes.rademacher, _zeros(256)), np.float64)
    correlation = np.abs(u.T @ u / COUNT - np.eye(256))
    assert correlation.max() <= 5 * COUNT**-0.5  # z <= 5 for each of the 32,640 pairs
    for lag in (1, 8, 32, 64):
        products = u[:, :-lag] * u[:, lag:]
        oracles.assert_mean_is(0.0, products.mean(axis=1))


def test_coordinate_probes_have_one_entry_in_the_whole_tree():
    u = _ravelled(_draw(probes.coordinate, TREE, 200))
    np.testing.assert_array_equal((u != 0).sum(axis=1), 1)
    assert set(np.nonzero(u)[1]) == set(range(9))  # a coordinate is missed with odds 9e-11


@pytest.mark.parametrize("name", LAWS)
def test_a_probe_of_a_tree_is_a_probe_of_the_vector_cut_into_leaves(name):
    key = jax.random.key(3)
    whole, cut = jax.jit(lambda key: [LAWS[name](like, key=key) for like in (_zeros(9), TREE)])(key)
    parts = [np.asarray(leaf).reshape(-1) for leaf in jax.tree.leaves(cut)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize("name", LAWS)
def test_probes_take_shapes_and_keep_float64(name, x64):
    del x64
    like = {"x": jax.ShapeDtypeStruct((2, 3), jnp.float64)}
    u = LAWS[name](like, key=jax.random.key(0))
    assert (u["x"].shape, u["x"].dtype) == ((2, 3), jnp.float64)


@pytest.mark.parametrize("name", LAWS)
def test_probes_accept_legacy_keys(name):
    new, legacy = jax.random.key(5), jax.random.PRNGKey(5)
    np.testing.assert_array_equal(LAWS[name](_zeros(4), key=new), LAWS[name](_zeros(4), key=legacy))


@pytest.mark.parametrize("count", [1, 3, 7])
def test_orthogonal_probes_are_orthogonal_and_of_length_sqrt_d(count):
    rows = np.asarray(probes.orthogonal_block(_zeros(7), key=jax.random.key(0), count=count))
    # float32 Householder vectors of length 7
    np.testing.assert_allclose(rows @ rows.T, 7 * np.eye(count), atol=2e-5)


def test_every_orthogonal_probe_of_a_block_is_uniform_on_the_sphere():
    blocks = _draw(lambda like, *, key: probes.orthogonal_block(like, key=key, count=4), _zeros(4))
    for row in range(4):
        _assert_second_moments_are_the_identity(blocks[:, row])
        oracles.assert_mean_is(0.0, blocks[:, row])
        oracles.assert_mean_is(3 * 4 / (4 + 2), blocks[:, row] ** 4)


@pytest.mark.parametrize("name", ["sphere", "gaussian", "rademacher", "coordinate"])
def test_resolve_returns_the_law_of_a_name(name):
    assert probes.resolve(name) is getattr(probes, name)


def test_resolve_passes_a_callable_and_keeps_orthogonal_a_name():
    assert probes.resolve(_draw) is _draw
    assert probes.resolve("orthogonal") == "orthogonal"


def test_resolve_refuses_an_unknown_name_with_the_nearest():
    with pytest.raises(ValueError, match=r"law must be one of .*, got 'spere'; did you mean 'sp"):
        probes.resolve("spere")


@pytest.mark.parametrize("law", [None, 3, ["sphere"]])
def test_resolve_refuses_what_is_neither_name_nor_callable(law):
    with pytest.raises(TypeError, match="law must be a name or a callable"):
        probes.resolve(law)


@pytest.mark.parametrize(
    ("law", "dim", "num_probes", "expected"),
    [
        ("sphere", 10, 1, 10.0),
        ("rademacher", 10, 3, 4.0),
        ("coordinate", 10, 9, 2.0),
        ("gaussian", 10, 1, 12.0),
        ("gaussian", 10, 11, 2.0),
        ("orthogonal", 10, 1, 10.0),
        ("orthogonal", 10, 5, 2.0),
        ("orthogonal", 10, 10, 1.0),
        ("orthogonal", 10, 15, 1 + 5 * 5 / 15**2),
        ("orthogonal", 10, 20, 1.0),
    ],
)
def test_second_moment_is_the_closed_form(law, dim, num_probes, expected):
    # a few rounding errors of float64
    assert probes.second_moment(law, dim, num_probes) == pytest.approx(expected, rel=1e-14)


def test_second_moment_of_a_law_of_the_users_own_is_asked_of_it():
    def law(like, *, key):
        return probes.gaussian(like, key=key)

    with pytest.raises(ValueError, match="second_moment must be known for law"):
        probes.second_moment(law, 4, 2)
    law.second_moment = lambda d: d + 2
    assert probes.second_moment(law, 4, 2) == 1 + 5 / 2
