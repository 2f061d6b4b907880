"""What must not change an estimate: chunks, compilation, mapping. And what must: the key."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adlab.gradients import finite_difference, forward_gradient, forward_mode, one_sided, two_point

LAWS = ["sphere", "gaussian", "rademacher", "coordinate", "orthogonal"]
DIM = 5
X = np.linspace(-1.0, 2.0, DIM, dtype=np.float32)
KEY = jax.random.key(0)


@jax.jit
def cube(x):
    return jnp.sum(x**3) + x[0] * x[1]


def _close(a, b):
    # float32 rounding of sums taken in another order, over a smoothing of 1/4
    np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-4)


@pytest.mark.parametrize(
    ("law", "num_probes", "chunk_sizes"),
    [("rademacher", m, (3, 16, "auto")) for m in (7, 16, 17)]
    + [("orthogonal", m, (3, 16)) for m in (7, 17)]
    + [(law, 7, (3,)) for law in ("sphere", "gaussian", "coordinate")],
)
def test_the_estimate_is_the_same_whatever_the_chunk_size(law, num_probes, chunk_sizes):
    options = {"smoothing": 0.25, "law": law, "num_probes": num_probes}

    @oracles.quickly_compiled
    def estimates(x):
        sizes = (1, *chunk_sizes)
        return [two_point(cube, chunk_size=size, **options)(x, key=KEY) for size in sizes]

    reference, *others = estimates(X)
    assert np.max(np.abs(reference)) > 0.1
    for estimate in others:
        _close(estimate, reference)


@pytest.mark.parametrize("factory", [one_sided, forward_gradient])
def test_chunks_don_t_change_the_other_estimators(factory):
    options = {} if factory is forward_gradient else {"smoothing": 0.25}

    @oracles.quickly_compiled
    def estimates(x):
        kinds = [factory(cube, num_probes=7, chunk_size=s, **options) for s in (1, 3, "auto")]
        return [g(x, key=KEY) for g in kinds]

    reference, *others = estimates(X)
    for estimate in others:
        _close(estimate, reference)


@pytest.mark.parametrize("scheme", ["forward", "central", "richardson", "complex"])
def test_chunks_don_t_change_finite_differences(scheme):
    options = {"scheme": scheme, "step": 0.25}

    @oracles.quickly_compiled
    def estimates(x):
        return [finite_difference(cube, chunk_size=s, **options)(x) for s in ("auto", 1, 3)]

    whole, *others = estimates(X)
    for estimate in others:
        _close(estimate, whole)


def test_chunks_don_t_change_forward_mode():
    exact = 3 * X**2 + np.array([X[1], X[0], 0, 0, 0])
    for chunk_size in (1, 3, "auto"):
        # a few roundings of float32
        np.testing.assert_allclose(forward_mode(cube, chunk_size=chunk_size)(X), exact, rtol=1e-6)


@pytest.mark.parametrize("law", LAWS)
def test_different_keys_give_different_estimates_and_the_same_key_the_same(law):
    g = oracles.quickly_compiled(two_point(cube, smoothing=0.25, law=law, num_probes=3))
    keys = [jax.random.key(seed) for seed in range(8)]
    estimates = np.stack([g(X, key=key) for key in keys])
    assert len(np.unique(estimates, axis=0)) > 1
    np.testing.assert_array_equal(g(X, key=keys[3]), estimates[3])


def test_several_probes_span_several_directions():
    x = np.zeros(40, np.float32)

    @oracles.quickly_compiled
    @jax.vmap
    def estimates(slope):
        fun = lambda x: x @ slope  # noqa: E731
        return two_point(fun, law="gaussian", num_probes=3, smoothing=0.25)(x, key=KEY)

    # the estimate is a linear map of the slope: (1/m) sum u_i u_i^T, of rank m
    matrix = estimates(np.eye(40, dtype=np.float32))
    assert np.linalg.matrix_rank(matrix, tol=1e-2) == 3


@pytest.mark.parametrize("law", ["sphere", "coordinate", "orthogonal"])
def test_jit_vmap_and_scan_give_the_same_estimate(law):
    g = two_point(cube, smoothing=0.25, law=law, num_probes=3)
    points, seeds = np.stack([X, 2 * X, -X]), np.arange(3)

    @oracles.quickly_compiled
    def compiled(points, seeds):
        keys = jax.vmap(jax.random.key)(seeds)
        same_key = jax.vmap(lambda x: g(x, key=keys[0]))(points)
        scanned = jax.lax.scan(lambda c, pair: (c, g(pair[0], key=pair[1])), 0, (points, keys))[1]
        return same_key, jax.vmap(lambda x, key: g(x, key=key))(points, keys), scanned

    one_by_one = np.stack(
        [g(x, key=jax.random.key(seed)) for x, seed in zip(points, range(3), strict=True)]
    )
    same_key, by_vmap, scanned = compiled(points, seeds)
    _close(same_key[0], one_by_one[0])
    _close(by_vmap, one_by_one)
    _close(scanned, one_by_one)


def test_vmap_over_keys_gives_the_estimates_of_the_keys():
    g = two_point(cube, smoothing=0.25, num_probes=2)
    mapped = oracles.quickly_compiled(jax.vmap(lambda seed: g(X, key=jax.random.key(seed))))
    one_by_one = oracles.quickly_compiled(lambda key: g(X, key=key))
    alone = np.stack([one_by_one(jax.random.key(seed)) for seed in range(4)])
    _close(mapped(np.arange(4)), alone)


@pytest.mark.parametrize("smoothing", [0.25, "auto"])
@pytest.mark.parametrize("factory", [two_point, one_sided])
def test_an_estimator_can_be_differentiated_even_at_the_origin(factory, smoothing):
    matrix = np.diag(np.array([1, 2, 3], np.float32))

    def fun(x):
        return 0.5 * x @ (matrix @ x)

    g = factory(fun, smoothing=smoothing, law="orthogonal", num_probes=3)
    jacobian = oracles.quickly_compiled(jax.jacfwd(lambda x: g(x, key=KEY)))
    for x in np.array([[0, 0, 0], [0.5, -1, 0.25], [5, -10, 4]], np.float32):
        # float32 rounding of gradients of about 30 over a step of 3e-4 * rms x, on average
        np.testing.assert_allclose(jacobian(x), matrix, atol=2e-2)


def test_a_forward_gradient_can_be_differentiated():
    g = forward_gradient(lambda x: jnp.sum(x**3), law="orthogonal", num_probes=3)
    x = np.array([1, 2, 3], np.float32)
    hessian = oracles.quickly_compiled(jax.jacrev(lambda x: g(x, key=KEY)))(x)
    np.testing.assert_allclose(hessian, np.diag(6 * x), atol=1e-4)  # float32 rounding of 18


def test_finite_differences_can_be_differentiated():
    x = np.array([1, 2, 3], np.float32)
    hessian = oracles.quickly_compiled(jax.jacfwd(finite_difference(lambda x: jnp.sum(x**3))))(x)
    # rounding of 27 over a step of 2^-7, twice
    np.testing.assert_allclose(hessian, np.diag(6 * x), atol=2e-2)


def test_legacy_keys_draw_the_same_probes():
    g = two_point(cube, num_probes=3, smoothing=0.25)
    np.testing.assert_array_equal(g(X, key=jax.random.PRNGKey(4)), g(X, key=jax.random.key(4)))
