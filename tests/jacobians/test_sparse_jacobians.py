"""Sparse Jacobians: right, small, and found once."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from jacobian_cases import CASES
from jax.experimental.sparse import BCOO

from adlab.jacobians import jacobian

try:
    import asdex
except ImportError:
    asdex = None
needs_asdex = pytest.mark.skipif(asdex is None, reason="asdex doesn't work beside this jax")
# A dense pattern of the battery is coloured in as many colours; that it says so is right.
dense_is_said = pytest.mark.filterwarnings("ignore:Coloring used")


def band(x):
    return jnp.sin(x[1:-1]) * x[2:] - x[:-2] ** 2


def dense(found):
    matrix = np.zeros(found.shape, found.dtype)
    np.add.at(matrix, tuple(np.asarray(found.indices).T), np.asarray(found.data))
    return matrix


@needs_asdex
@dense_is_said
@pytest.mark.parametrize(
    "case", ["arguments turned round", "gather", "convolution", "recurrence", "tree", "scalar"]
)
def test_functions_give_what_jax_gives(case):
    fun, args, argnums = CASES[case]
    j = jacobian(fun, mode="sparse", argnums=argnums)

    @oracles.quickly_compiled
    def both(*args):
        sparse = lambda b: isinstance(b, BCOO)  # noqa: E731
        found = jax.tree.map(lambda b: b.todense(), j(*args), is_leaf=sparse)
        return found, jax.jacfwd(fun, argnums)(*args)

    found, expected = both(*args)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-6)  # float32


@needs_asdex
@pytest.mark.parametrize("chunk_size", ["auto", 2])
def test_a_banded_jacobian_of_20000_columns_is_never_dense(chunk_size):
    n = 20_000
    x = np.linspace(0.0, 1.0, n, dtype=np.float32)
    j = jax.jit(jacobian(band, mode="sparse", chunk_size=chunk_size))
    found = j(x)
    assert isinstance(found, BCOO)
    assert (found.shape, found.nse) == ((n - 2, n), 3 * (n - 2))
    memory = j.lower(x).compile().memory_analysis()
    assert memory.temp_size_in_bytes + memory.output_size_in_bytes < 100 * x.nbytes  # dense: n
    rows, (left, middle, right) = np.arange(n - 2), (x[k : n - 2 + k] for k in range(3))
    values = np.zeros((n - 2, 3))
    places = np.asarray(found.indices)
    values[places[:, 0], places[:, 1] - places[:, 0]] = found.data
    expected = np.stack([-2 * left, np.cos(middle) * right, np.sin(middle)], axis=1)
    np.testing.assert_array_equal(np.bincount(places[:, 0]), np.full(len(rows), 3))
    np.testing.assert_allclose(values, expected, atol=1e-6)  # float32, values up to 2


@needs_asdex
def test_the_pattern_is_found_once_for_given_shapes(monkeypatch):
    searched = []
    own = asdex.jacobian_coloring

    def counted(*args, **kwargs):
        searched.append(args)
        return own(*args, **kwargs)

    monkeypatch.setattr(asdex, "jacobian_coloring", counted)
    j = jacobian(band, mode="sparse")
    x = np.ones(8, np.float32)
    j(x)
    j(2 * x)
    assert len(searched) == 1
    jax.eval_shape(j, np.ones(9, np.float32))
    j(x)
    jax.eval_shape(j, x)
    assert len(searched) == 2


@needs_asdex
def test_auxiliary_data_and_keywords_come_along_in_sparse_mode():
    def fun(x, *, factor):
        return factor * x**2, x[0]

    found, aux = jacobian(fun, mode="sparse", has_aux=True)(
        np.arange(1, 4, dtype=np.float32), factor=3.0
    )
    np.testing.assert_allclose(dense(found), np.diag([6.0, 12.0, 18.0]))
    assert aux == 1.0


def test_without_asdex_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "asdex", None)
    with pytest.raises(ImportError, match=r"pip install -e '\.\[sparse\]' in adlab's folder"):
        jacobian(band, mode="sparse")


def test_an_asdex_that_fails_beside_this_jax_is_told(monkeypatch, tmp_path):
    (tmp_path / "asdex.py").write_text("from jax import no_such_name\n")
    monkeypatch.delitem(sys.modules, "asdex", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ImportError, match=f"beside jax {jax.__version__}.*no_such_name"):
        jacobian(band, mode="sparse")
    sys.modules.pop("asdex", None)


@needs_asdex
@dense_is_said
def test_patterns_that_depend_on_other_arguments_are_found_anew():
    x = np.arange(1, 6, dtype=np.float32)
    rolled = jacobian(lambda x, n: jnp.roll(x, n) * x, mode="sparse")
    taken = jacobian(lambda x, i: x[i] * x, mode="sparse")
    places = np.arange(5, dtype=np.int32)
    for j, other, order in (
        *((rolled, n, np.roll(places, n)) for n in (1, 2)),
        *((taken, order, order) for order in (places, places[::-1])),
    ):
        permuted = np.eye(5)[order]  # (P x) * x
        expected = np.diag(permuted @ x) + x[:, None] * permuted
        np.testing.assert_array_equal(dense(j(jnp.asarray(x), other)), expected)


@needs_asdex
def test_only_the_last_patterns_are_kept(monkeypatch):
    found, colour = [], asdex.jacobian_coloring

    def counted(*args, **kwargs):
        found.append(args)
        return colour(*args, **kwargs)

    monkeypatch.setattr(asdex, "jacobian_coloring", counted)
    sparse = jacobian(lambda x, a: x * a, mode="sparse")
    x, others = np.float32([1, 2, 3]), np.arange(1, 13, dtype=np.float32)[:, None] * np.ones(3, "f")
    for number, a in enumerate(others, start=1):
        np.testing.assert_allclose(dense(sparse(x, a)), np.diag(a))
        assert len(found) == number
    sparse(x, others[-1])
    assert len(found) == len(others)  # found before
    sparse(x, others[0])
    assert len(found) == len(others) + 1  # long gone


@needs_asdex
def test_random_keys_are_refused_with_what_to_do():
    sparse = jacobian(lambda x, key: x * jax.random.normal(key, x.shape), mode="sparse")
    for run in (sparse, jax.jit(sparse)):
        with pytest.raises(TypeError, match=r"mode=\"sparse\" can't take random keys.*draw before"):
            run(np.float32([1, 2, 3]), jax.random.key(0))
