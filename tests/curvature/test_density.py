"""Spectral densities of matrices whose eigenvalues are known."""

import functools
import logging
import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from adlab.core import probes
from adlab.curvature import Linear, Matrix, lanczos, lanczos_bytes, spectral_density
from adlab.curvature._engine import FUSED, HOST
from adlab.curvature.drive import CountedMatvec, FlatMatvec

KEY = jax.random.key(3)
DIM = 600
OUTLIERS = np.linspace(3, 12, 9)
EIGENVALUES = np.sort(np.concatenate([np.linspace(-0.2, 0.3, DIM - 9), OUTLIERS]))
RANGE = EIGENVALUES[-1] - EIGENVALUES[0]
LOOPS = pytest.mark.parametrize("loop", ["host", "fused"])


def with_spectrum(eigenvalues, seed=0):
    """A dense symmetric matrix with these eigenvalues, in a random basis."""
    size = len(eigenvalues)
    basis, _ = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, size)))
    matrix = (basis * eigenvalues) @ basis.T
    return (matrix + matrix.T) / 2


def as_float32(matrix):
    return jax.device_put(np.asarray(matrix, np.float32))


BULK = as_float32(with_spectrum(EIGENVALUES))
SMALL = with_spectrum(np.linspace(-1, 2, 30) ** 3)


@pytest.fixture(scope="module", params=["host", "fused"])
def found(request):
    """The protocol of theory: 80 steps from each of 10 probes."""
    return spectral_density(BULK, key=KEY, num_matvecs=80, num_probes=10, loop=request.param)


def assert_within_errors(estimate, expected):
    assert estimate.standard_error > 0
    assert abs(estimate.value - expected) <= 5 * estimate.standard_error  # z <= 5


def wasserstein(density, eigenvalues):
    """The distance of the mean quadrature from the true spectrum: both have steps alone."""
    nodes, weights = np.ravel(density.nodes), np.ravel(density.weights) / len(density.weights)
    points = np.sort(np.concatenate([nodes, eigenvalues]))
    order = np.argsort(nodes)
    reached = np.concatenate([[0.0], np.cumsum(weights[order])])
    ours = reached[np.searchsorted(nodes[order], points, side="right")]
    true = np.searchsorted(np.sort(eigenvalues), points, side="right") / len(eigenvalues)
    return float(np.sum(np.abs(ours - true)[:-1] * np.diff(points)))


def test_functionals_of_a_known_spectrum_lie_within_their_errors(found):
    assert_within_errors(found.negative_energy(), -EIGENVALUES[EIGENVALUES < 0].sum())
    assert_within_errors(found.trace(), EIGENVALUES.sum())
    for order in (1, 2, 3, 4):
        assert_within_errors(found.moment(order), np.mean(EIGENVALUES**order))
    assert_within_errors(found.mean(lambda x: abs(x)), np.mean(np.abs(EIGENVALUES)))
    assert_within_errors(found.cumulative(1.0), 1 - len(OUTLIERS) / DIM)


def test_errors_come_from_the_scatter_of_the_probes(found):
    energy = found.negative_energy()
    per_probe = DIM * np.sum(found.weights * np.maximum(-np.asarray(found.nodes), 0), axis=1)
    assert energy.samples.shape == (10,)
    assert energy.num_matvecs == found.num_matvecs == 800
    np.testing.assert_allclose(energy.samples, per_probe, rtol=1e-5)  # sums of float32
    np.testing.assert_allclose(energy.value, per_probe.mean(), rtol=1e-5)
    expected = per_probe.std(ddof=1) / math.sqrt(10)
    np.testing.assert_allclose(energy.standard_error, expected, rtol=1e-3)  # differences


def test_moments_of_order_zero_are_one_and_negative_orders_are_refused(found):
    np.testing.assert_allclose(found.moment(0).value, 1.0, atol=1e-5)  # float32 eigenvectors
    with pytest.raises(ValueError, match="order must be >= 0, got -1"):
        found.moment(-1)


def test_wasserstein_distance_is_as_the_theorem_bounds_it():
    t, failing = 0.15, 1e-6
    steps = math.ceil(12 / t + 0.5)
    count = math.ceil(4 / (DIM + 2) / t**2 * math.log(2 * DIM / failing))
    density = spectral_density(BULK, key=KEY, num_matvecs=steps, num_probes=count)
    assert wasserstein(density, EIGENVALUES) <= t * RANGE
    # The theorem is generous: (range)/m is what the docstring says, plus the scatter.
    assert wasserstein(density, EIGENVALUES) <= RANGE * (1 / steps + 1 / math.sqrt(count * DIM))


def test_more_steps_come_closer_to_the_spectrum():
    distances = [
        wasserstein(spectral_density(BULK, key=KEY, num_matvecs=m, num_probes=10), EIGENVALUES)
        for m in (2, 10, 80)
    ]
    assert distances[0] > 2 * distances[1] > 4 * distances[2]


def test_every_outlier_is_found_once(found):
    for outlier in OUTLIERS:
        near = np.sum(np.abs(np.asarray(found.nodes) - outlier) < 0.05, axis=1)
        np.testing.assert_array_equal(near, 1)
    beyond = np.sum(np.asarray(found.nodes) > 1.0, axis=1)
    np.testing.assert_array_equal(beyond, len(OUTLIERS))


def test_bounds_lie_inside_the_spectrum_and_their_residuals_bound_an_eigenvalue(found):
    (low, low_residual), (high, high_residual) = found.bounds()
    round_off = 20 * np.finfo(np.float32).eps * RANGE  # of 80 products in float32
    assert EIGENVALUES[0] - round_off <= low <= EIGENVALUES[0] + low_residual + round_off
    assert EIGENVALUES[-1] - high_residual - round_off <= high <= EIGENVALUES[-1] + round_off
    assert low == np.min(found.nodes)
    assert high == np.max(found.nodes)


def test_every_residual_bounds_the_distance_to_an_eigenvalue(found):
    distance = np.min(np.abs(np.asarray(found.nodes)[..., None] - EIGENVALUES), axis=-1)
    round_off = 20 * np.finfo(np.float32).eps * RANGE
    assert np.all(distance <= np.asarray(found.residuals) + round_off)
    assert np.median(found.residuals) > 5e-3  # in the bulk they do bound something


@pytest.mark.usefixtures("x64")
def test_residuals_are_the_lengths_they_claim_to_be():
    """|A y - theta y| of the Ritz vectors, from a basis made by QR of the Krylov matrix."""
    density = spectral_density(jax.device_put(SMALL), key=KEY, num_matvecs=5)
    q = np.asarray(start(0, jnp.float64))
    krylov = np.stack([np.linalg.matrix_power(SMALL, k) @ q for k in range(5)], axis=1)
    basis, _ = np.linalg.qr(krylov)
    values, coordinates = np.linalg.eigh(basis.T @ SMALL @ basis)
    vectors = basis @ coordinates
    expected = np.linalg.norm(SMALL @ vectors - vectors * values, axis=0)
    np.testing.assert_allclose(density.nodes[0], values, rtol=1e-9)  # the Krylov matrix's condition
    np.testing.assert_allclose(density.residuals[0], expected, rtol=1e-8, atol=1e-10)


@functools.cache
def probe_of(law, dtype, dim):
    like = jax.ShapeDtypeStruct((dim,), dtype)
    return jax.jit(lambda key, index: law(like, key=jax.random.fold_in(key, index)))


def start(index, dtype, law=probes.sphere, dim=30):
    probe = np.asarray(probe_of(law, dtype, dim)(KEY, index))
    return probe / np.linalg.norm(probe)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("law", "loop"),
    [("sphere", "host"), ("sphere", "fused"), ("gaussian", "host"), ("rademacher", "host")],
)
def test_the_quadrature_is_exact_below_order_2m_and_no_further(law, loop):
    steps = 4
    density = spectral_density(
        jax.device_put(SMALL), key=KEY, num_matvecs=steps, num_probes=4, law=law, loop=loop
    )
    nodes, weights = np.asarray(density.nodes), np.asarray(density.weights)
    assert nodes.dtype == np.float64
    for index in range(2):
        q = np.asarray(start(index, jnp.float64, getattr(probes, law)))
        for order in range(2 * steps):
            exact = q @ np.linalg.matrix_power(SMALL, order) @ q
            ours = np.sum(weights[index] * nodes[index] ** order)
            np.testing.assert_allclose(ours, exact, rtol=1e-11, atol=1e-10)  # 8^7 eps
        beyond = q @ np.linalg.matrix_power(SMALL, 2 * steps) @ q
        assert np.sum(weights[index] * nodes[index] ** (2 * steps)) < beyond * (1 - 1e-6)


def test_a_law_of_coordinates_gives_diagonal_entries():
    """One step from e_i: the node is a_ii."""
    matrix = as_float32(SMALL)
    found = spectral_density(matrix, key=KEY, num_matvecs=1, num_probes=4, law="coordinate")
    indices = [int(np.argmax(start(i, jnp.float32, probes.coordinate))) for i in range(4)]
    np.testing.assert_allclose(found.nodes[:, 0], np.diag(SMALL)[indices], rtol=1e-5, atol=1e-6)


def test_moments_are_unbiased():
    """The starts are uniform on the sphere: E q.A^2 q = tr A^2 / d, at any number of steps."""
    found = spectral_density(as_float32(SMALL), key=KEY, num_matvecs=2, num_probes=2000, grid=2)
    for order in (1, 2, 3):
        exact = np.trace(np.linalg.matrix_power(SMALL, order)) / 30
        oracles.assert_mean_is(exact, found.moment(order).samples)


def test_marchenko_pastur():
    """Sample covariances of Gaussian data, against the law in closed form."""
    dim, count = 400, 800
    ratio = dim / count
    data = np.random.default_rng(5).standard_normal((count, dim)).astype(np.float32)
    matrix = jax.device_put(data.T @ data / count)
    found = spectral_density(matrix, key=KEY, num_matvecs=40, num_probes=10)
    finite = 4 / dim  # how far a sample of this size is from its limit, in units of the values
    laws = [
        (lambda x: x, 1.0),
        (lambda x: x**2, 1 + ratio),
        (lambda x: x**3, 1 + 3 * ratio + ratio**2),
        (lambda x: 1 / x, 1 / (1 - ratio)),
        (lambda x: np.log(x), -1 - (1 - ratio) / ratio * math.log(1 - ratio)),
    ]
    for function, expected in laws:
        estimate = found.mean(function)
        error = abs(estimate.value - expected)
        assert error <= 5 * estimate.standard_error + finite * (1 + abs(expected))
    low, high = (1 - math.sqrt(ratio)) ** 2, (1 + math.sqrt(ratio)) ** 2
    x = np.linspace(low, high, 100_001)
    law = np.sqrt((high - x) * (x - low)) / (2 * math.pi * ratio * x)
    below = np.cumsum(law) * (x[1] - x[0])
    at = np.array([0.2, 0.5, 1.0, 1.5, 2.5])
    # Each of 10 quadratures jumps by up to pi/m = 0.08 at a node; their mean by much less.
    np.testing.assert_allclose(found.cumulative(at).value, np.interp(at, x, below), atol=0.03)
    inside = (found.grid > low + 0.2) & (found.grid < high - 0.2)
    wide = spectral_density(matrix, key=KEY, num_matvecs=40, num_probes=10, broadening=0.08)
    inside = (wide.grid > low + 0.4) & (wide.grid < high - 0.4)
    expected = np.interp(wide.grid[inside], x, law)
    np.testing.assert_allclose(wide.density[inside], expected, atol=0.05)  # ripples of the nodes


DEGENERATE = {
    "identity": np.ones(12),
    "zero": np.zeros(12),
    "rank one": np.array([5.0] + [0.0] * 11),
    "multiples": np.repeat([-1.0, 2.0, 2.5], 4),
}


@LOOPS
@pytest.mark.parametrize("name", DEGENERATE)
def test_multiple_eigenvalues_end_the_recurrence_without_harm(name, loop):
    eigenvalues = np.sort(DEGENERATE[name])
    matrix = np.diag(eigenvalues) if name == "multiples" else with_spectrum(eigenvalues)
    matrix = as_float32(matrix)
    found = spectral_density(matrix, key=KEY, num_matvecs=12, num_probes=3, loop=loop)
    # All steps together see the whole space, so that every copy is found.
    for nodes in found.nodes:
        np.testing.assert_allclose(nodes, eigenvalues, atol=2e-5)  # float32, |A| <= 5
    np.testing.assert_allclose(found.residuals, 0, atol=2e-5)
    for index in range(3):
        q = np.asarray(start(index, jnp.float32, dim=12), np.float64)
        for order in range(4):
            exact = q @ np.linalg.matrix_power(np.asarray(matrix, np.float64), order) @ q
            moment = np.sum(
                np.asarray(found.weights[index]) * np.asarray(found.nodes[index]) ** order
            )
            np.testing.assert_allclose(moment, exact, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.trapezoid(found.density, found.grid), 1, atol=2e-3)


def test_fewer_steps_than_distinct_eigenvalues_end_early_too():
    matrix = as_float32(np.diag(DEGENERATE["multiples"]))
    found = spectral_density(matrix, key=KEY, num_matvecs=5, num_probes=2)
    distance = np.abs(np.asarray(found.nodes)[..., None] - [-1.0, 2.0, 2.5]).min(axis=-1)
    assert np.all(distance[np.asarray(found.weights) > 1e-6] < 1e-5)
    for index in range(2):
        q = np.asarray(start(index, jnp.float32, dim=12))
        for value in (-1.0, 2.0, 2.5):
            near = np.abs(np.asarray(found.nodes[index]) - value) < 1e-3
            share = np.sum(q[DEGENERATE["multiples"] == value] ** 2)
            np.testing.assert_allclose(np.sum(found.weights[index][near]), share, atol=1e-5)


@LOOPS
def test_the_basis_stays_orthonormal(loop):
    steps, vector = 80, np.asarray(start(0, jnp.float32, dim=DIM))
    host = loop == "host"
    engine = HOST if host else FUSED
    matvec = CountedMatvec(Matrix(BULK), steps) if host else FlatMatvec(Matrix(BULK))
    fresh = engine.directions(KEY, (1, DIM), np.float32)  # which isn't called: no space ends

    def vectors(rows):
        return lanczos.recur(engine, matvec, rows, steps, fresh).vectors[0]

    basis = np.asarray((vectors if host else jax.jit(vectors))(vector[None]))
    assert basis.shape == (steps, DIM)
    # Twice is enough: a few units of round-off, where one pass leaves 1e-5 and none 1.
    assert np.abs(basis @ basis.T - np.eye(steps)).max() <= 1e-6


def test_density_is_the_smoothed_quadrature():
    grid = np.linspace(-2, 9, 7)
    found = spectral_density(
        as_float32(SMALL), key=KEY, num_matvecs=6, num_probes=4,
        broadening=0.5, grid=grid,
    )  # fmt: skip
    gaussians = np.exp(-((grid[:, None, None] - found.nodes) ** 2) / (2 * 0.5**2))
    samples = (gaussians * found.weights).sum(axis=2) / (0.5 * math.sqrt(2 * math.pi))
    np.testing.assert_array_equal(found.grid, grid)
    np.testing.assert_allclose(found.density, samples.mean(axis=1), rtol=1e-12)
    wider = found.smoothed(grid, 1.0)
    wide = np.exp(-((grid[:, None, None] - found.nodes) ** 2) / 2) * found.weights
    np.testing.assert_allclose(
        wider.samples.T, wide.sum(axis=2) / math.sqrt(2 * math.pi), rtol=1e-12
    )
    expected = samples.std(axis=1, ddof=1) / math.sqrt(4)
    np.testing.assert_allclose(found.standard_error, expected, rtol=1e-9)


def test_density_integrates_to_one(found):
    # 4 broadenings beyond the last node hold all but 3e-5; the rest is the trapezoidal rule.
    np.testing.assert_allclose(np.trapezoid(found.density, found.grid), 1, atol=1e-4)
    assert len(found.grid) == 1024
    np.testing.assert_allclose(found.grid[0], np.min(found.nodes) - 4 * found.broadening, rtol=1e-4)
    np.testing.assert_allclose(
        found.grid[-1], np.max(found.nodes) + 4 * found.broadening, rtol=1e-5
    )


@pytest.mark.parametrize("shift", [0.0, 100.0])
def test_automatic_broadening_is_a_hundredth_of_the_range(shift):
    matrix = as_float32(SMALL + shift * np.eye(30))
    found = spectral_density(matrix, key=KEY, num_matvecs=30)
    np.testing.assert_allclose(found.broadening, 9 / 100, rtol=1e-3)  # eigenvalues -1 .. 8


def test_one_probe_has_no_error():
    found = spectral_density(as_float32(SMALL), key=KEY, num_matvecs=3)
    assert found.nodes.shape == found.weights.shape == found.residuals.shape == (1, 3)
    assert np.isnan(found.trace().standard_error)
    assert np.all(np.isnan(found.standard_error))
    assert np.all(np.isfinite(found.density))


def test_intervals_of_few_probes_cover_as_often_as_they_say():
    """Student's t with 7 degrees of freedom, at 95 %, over 1000 keys; at 2 steps of 8 probes."""
    count, dense = 1000, with_spectrum(np.linspace(-1, 2, 30))  # sums of many terms
    matrix = as_float32(dense)

    def once(key):
        found = spectral_density(matrix, key=key, num_matvecs=2, num_probes=8, grid=2)
        return jnp.stack(found.trace().interval() + found.moment(2).interval())

    keys = jax.random.split(KEY, count)
    rows = np.asarray(jax.jit(lambda keys: jax.lax.map(once, keys, batch_size=100))(keys))
    for (low, high), exact in zip(
        (rows[:, :2].T, rows[:, 2:].T), (np.trace(dense), np.sum(dense**2) / 30), strict=True
    ):
        holding = np.sum((low <= exact) & (exact <= high))
        assert abs(holding - 0.95 * count) <= 5 * math.sqrt(count * 0.95 * 0.05)


@LOOPS
def test_densities_scale_with_the_operator(loop):
    """By powers of 2 near 1e-22 and 1e18, whose squares float32 can't hold or can only just."""
    options = {"key": KEY, "num_matvecs": 4, "num_probes": 4, "grid": 16, "loop": loop}
    plain = spectral_density(as_float32(SMALL), **options)
    for scale in (2.0**-73, 2.0**60):
        found = spectral_density(as_float32(SMALL * scale), **options)
        for name, unit in (("nodes", scale), ("residuals", scale), ("density", 1 / scale)):
            ours = np.float64(getattr(found, name)) / unit
            np.testing.assert_allclose(ours, getattr(plain, name), rtol=1e-3, atol=1e-4)
        for name in ("density", "trace"):  # round-off of differences
            ours, theirs = (
                each.standard_error if name == "density" else each.trace().standard_error
                for each in (found, plain)
            )
            unit = 1 / scale if name == "density" else scale
            np.testing.assert_allclose(np.float64(ours) / unit, theirs, rtol=1e-2, atol=1e-5)
            assert np.any(np.asarray(theirs) > 0)


def test_gradients_are_those_of_the_quadrature():
    """The first moment is q.Aq in any number of steps: its gradient is the mean of q q^T."""
    matrix, like = as_float32(SMALL), jax.ShapeDtypeStruct((30,), jnp.float32)

    @jax.jit
    @jax.grad
    def gradient(a):
        operator = Linear(lambda v: a @ v, like)
        return (
            spectral_density(operator, key=KEY, num_matvecs=3, num_probes=2, grid=2).moment(1).value
        )

    q = np.stack([np.asarray(start(index, jnp.float32)) for index in range(2)])
    np.testing.assert_allclose(gradient(matrix), q.T @ q / 2, atol=1e-4)  # float32, through 3 steps


def test_two_samples_that_agree_state_no_error():
    found = spectral_density(as_float32(np.eye(30)), key=KEY, num_matvecs=1, num_probes=2)
    np.testing.assert_allclose(found.trace().value, 30, rtol=1e-6)
    assert np.isnan(found.trace().standard_error)
    assert np.all(np.isnan(found.trace().interval()))


@pytest.mark.usefixtures("x64")
@LOOPS
def test_chunk_size_changes_nothing(loop):
    options = {"key": KEY, "num_matvecs": 4, "num_probes": 4, "loop": loop}
    whole = spectral_density(jax.device_put(SMALL), **options)
    for chunk_size in (2,) if loop == "fused" else (1, 2, 3, 9):
        part = spectral_density(jax.device_put(SMALL), **options, chunk_size=chunk_size)
        np.testing.assert_allclose(part.nodes, whole.nodes, rtol=1e-12, atol=1e-12)  # round-off
        np.testing.assert_allclose(part.density, whole.density, rtol=1e-9, atol=1e-12)


def test_fewer_probes_are_the_first_of_more():
    matrix = as_float32(SMALL)
    few, many = (
        spectral_density(matrix, key=KEY, num_matvecs=4, num_probes=p).nodes for p in (2, 4)
    )
    np.testing.assert_allclose(few, many[:2], atol=1e-5)  # blocks of another size
    assert len(np.unique(np.round(many[:, 0], 4))) == 4  # and no probe comes twice


def test_fused_inside_jit_and_vmap_and_from_the_host_agree():
    matrix = as_float32(SMALL)
    options = {"num_matvecs": 4, "num_probes": 4, "grid": 16}
    host = spectral_density(matrix, key=KEY, loop="host", **options)

    def summed(found):
        return {"trace": found.trace(), "negative_energy": found.negative_energy()}

    @jax.jit
    def fused(matrix, key):
        found = spectral_density(matrix, key=key, **options)
        return found, summed(found)

    expected = summed(host)
    outside = jax.tree.map(np.asarray, spectral_density(matrix, key=KEY, loop="fused", **options))
    for found, sums in ((outside, summed(outside)), fused(matrix, KEY)):
        np.testing.assert_allclose(found.nodes, host.nodes, atol=2e-5)  # float32, |A| = 8
        np.testing.assert_allclose(found.weights, host.weights, atol=1e-4)
        np.testing.assert_allclose(found.residuals, host.residuals, atol=1e-3)
        np.testing.assert_allclose(found.density, host.density, atol=1e-3)
        np.testing.assert_allclose(found.standard_error, host.standard_error, atol=1e-3)
        np.testing.assert_allclose(found.broadening, host.broadening, rtol=1e-4)
        for name, theirs in expected.items():
            ours = sums[name]
            np.testing.assert_allclose(ours.value, theirs.value, rtol=1e-4)
            np.testing.assert_allclose(ours.standard_error, theirs.standard_error, rtol=1e-3)
        assert (found.dim, found.num_matvecs) == (host.dim, host.num_matvecs) == (30, 16)


def test_vmap_over_the_key_alone():
    matrix, keys = as_float32(SMALL), jax.random.split(KEY, 3)

    def nodes(key):
        return spectral_density(matrix, key=key, num_matvecs=2, grid=2).nodes[0]

    np.testing.assert_allclose(
        jax.jit(jax.vmap(nodes))(keys), [nodes(key) for key in keys], atol=2e-5
    )


def test_bfloat16_vectors_are_treated_in_float32():
    values = jax.device_put(np.repeat([-1.0, 0.5, 4.0], 20).astype(jnp.bfloat16))
    operator = Linear(
        jax.tree_util.Partial(jnp.multiply, values),
        jax.ShapeDtypeStruct((60,), jnp.bfloat16),
    )
    found = spectral_density(operator, key=KEY, num_matvecs=4, num_probes=4)
    (low, _), (high, _) = found.bounds()
    np.testing.assert_allclose([low, high], [-1, 4], atol=0.03)  # 2^-8 of |A| = 4, twice
    energy = found.mean(abs)
    assert abs(energy.value - 5.5 / 3) <= 5 * energy.standard_error + 0.03


def test_trees_are_laid_out_as_one_vector():
    scales = {"a": np.full((2, 3), 1.0), "b": np.full(4, -2.0), "c": np.float64(5.0)}
    scales = like = jax.tree.map(as_float32, scales)
    operator = Linear(lambda v: jax.tree.map(jnp.multiply, scales, v), like)
    found = spectral_density(operator, key=KEY, num_matvecs=11, num_probes=2)
    for nodes in found.nodes:
        np.testing.assert_allclose(nodes, [-2.0] * 4 + [1.0] * 6 + [5.0], atol=2e-5)
    assert found.dim == 11


def test_rtol_stops_once_the_error_is_below():
    matrix = as_float32(SMALL)
    options = {"key": KEY, "num_matvecs": 5, "num_probes": 64}

    def error(found):
        return np.trapezoid(found.standard_error, found.grid)

    rtol = error(spectral_density(matrix, **(options | {"num_probes": 4}))) / 1.5
    found = spectral_density(matrix, rtol=rtol, **options)
    taken = len(found.nodes)
    assert 4 < taken < 64
    assert found.num_matvecs == 5 * taken
    assert error(found) <= rtol
    before = spectral_density(matrix, **(options | {"num_probes": taken - 4}))
    assert error(before) > rtol
    assert len(spectral_density(matrix, rtol=1e-9, **options).nodes) == 64


def test_progress_counts_products():
    seen = []
    spectral_density(
        BULK, key=KEY, num_matvecs=3, num_probes=4, chunk_size=2,
        on_progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen == [(2, 12), (4, 12), (6, 12), (8, 12), (10, 12), (12, 12)]


class Interrupted(Exception):
    pass


def test_an_interrupted_run_resumes_bit_for_bit(tmp_path):
    path = tmp_path / "deep" / "runs.npz"
    options = {"key": KEY, "num_matvecs": 7, "num_probes": 5, "chunk_size": 2}
    whole = spectral_density(BULK, **options)

    def stop(done, _):
        if done > 2 * 7 * 2 - 3:  # inside the second chunk
            raise Interrupted

    with pytest.raises(Interrupted):
        spectral_density(BULK, **options, resume=path, on_progress=stop)
    seen = []
    resumed = spectral_density(
        BULK, **options, resume=path, on_progress=lambda done, total: seen.append((done, total))
    )
    assert seen[0] == (14 + 2, 35)  # the first chunk, 14 products, isn't repeated
    for name in ("nodes", "weights", "residuals", "grid", "density", "standard_error"):
        np.testing.assert_array_equal(getattr(resumed, name), getattr(whole, name))
    seen.clear()
    again = spectral_density(
        BULK, **options, resume=path, on_progress=lambda *counts: seen.append(counts)
    )
    assert seen == []
    np.testing.assert_array_equal(again.density, whole.density)
    assert [file.name for file in path.parent.iterdir()] == ["runs.npz"]


def test_a_file_of_another_run_is_refused(tmp_path):
    path = tmp_path / "runs.npz"
    matrix = as_float32(SMALL)
    options = {"key": KEY, "num_matvecs": 4, "num_probes": 2, "resume": path}
    spectral_density(matrix, **options)
    for change, name in [
        ({"key": jax.random.key(4)}, "key"),
        ({"num_matvecs": 5}, "num_matvecs"),
        ({"law": "gaussian"}, "law"),
    ]:
        with pytest.raises(ValueError, match=f"resume must name a file of this very run.*{name}"):
            spectral_density(matrix, **(options | change))
    with pytest.raises(ValueError, match=r"very run.*dimension = 30 instead of 29"):
        spectral_density(as_float32(SMALL[1:, 1:]), **options)
    with pytest.raises(ValueError, match="resume must name a file of this very operator"):
        spectral_density(as_float32(1.1 * SMALL), **options)


def test_a_file_of_another_operator_is_refused_in_high_dimension(tmp_path):
    """Where quotients v.Av and lengths |Av| are the same for all operators of one kind."""
    like = jax.ShapeDtypeStruct((200_000,), jnp.float32)
    signs = probes.rademacher(like, key=KEY)
    first, second = (
        Linear(jax.tree_util.Partial(jnp.multiply, diagonal), like)
        for diagonal in (signs, jax.device_put(np.roll(signs, 1)))
    )
    options = {"key": KEY, "num_matvecs": 1, "resume": tmp_path / "runs.npz"}
    spectral_density(first, **options)
    with pytest.raises(ValueError, match="resume must name a file of this very operator"):
        spectral_density(second, **options)


def test_a_file_that_lacks_an_entry_is_refused_and_a_failed_one_is_not_left(tmp_path, monkeypatch):
    path = tmp_path / "runs.npz"
    options = {"key": KEY, "num_matvecs": 4, "num_probes": 2, "resume": path}
    matrix = as_float32(SMALL)
    spectral_density(matrix, **options)
    with pytest.raises(ValueError, match="very operator"):
        spectral_density(as_float32(1.001 * SMALL), **options)  # 1e3 units of round-off are 1.2e-4
    with np.load(path) as file:
        entries = dict(file)
    for name in ("mark", "asymmetry"):
        np.savez(path, **{key: value for key, value in entries.items() if key != name})
        with pytest.raises(ValueError, match=f"this very run, got .*without {name}"):
            spectral_density(matrix, **options)

    def full(*_, **__):
        raise OSError("disk full")

    path.unlink()
    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="disk full"):
        spectral_density(matrix, **options)
    assert list(tmp_path.iterdir()) == []


@LOOPS
def test_terms_that_cancel_are_not_asymmetric(loop):
    """The difference of two forms of one matrix is round-off, and no symmetric one."""
    like = jax.ShapeDtypeStruct((30,), jnp.float32)
    matrix = as_float32(1e3 * SMALL)
    factor = as_float32(np.eye(30) + np.diag(np.full(29, 0.7), 1))
    other = as_float32(np.linalg.solve(np.float64(factor), np.float64(matrix)))
    same = Linear(lambda v: factor @ (other @ v), like)
    found = spectral_density(Matrix(matrix) - same, key=KEY, num_matvecs=4, loop=loop)
    assert np.max(np.abs(found.nodes)) < 0.1  # of terms of 8000


def test_residuals_are_no_smaller_than_the_round_off_of_products():
    found = spectral_density(as_float32(SMALL), key=KEY, num_matvecs=30)
    assert np.min(found.residuals) >= np.finfo(np.float32).eps * np.max(found.nodes)


def test_memory_is_announced_and_known_beforehand(caplog):
    like = jax.ShapeDtypeStruct((1000,), jnp.float32)
    operator = Linear(lambda v: v, like)
    one = 20 * 1000 * 4
    assert lanczos_bytes(operator, num_matvecs=20) == one
    assert lanczos_bytes(operator, num_matvecs=20, num_probes=3, chunk_size=2) == 2 * one
    assert lanczos_bytes(operator, num_matvecs=20, num_probes=3, chunk_size=9) == 3 * one
    large = Linear(lambda v: v, jax.ShapeDtypeStruct((10**7,), jnp.float32))
    assert lanczos_bytes(large, num_matvecs=20, num_probes=9) == 20 * 10**7 * 4  # one at a time
    many = Linear(lambda v: v, jax.ShapeDtypeStruct((10**6,), jnp.float32))
    assert lanczos_bytes(many, num_matvecs=20, num_probes=99) <= 2**30
    assert lanczos_bytes(as_float32(np.eye(3)), num_matvecs=2) == 2 * 3 * 4
    with caplog.at_level(logging.INFO, logger="adlab.curvature"):
        spectral_density(operator, key=KEY, num_matvecs=20, num_probes=2, chunk_size=1)
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    message = record.getMessage()
    assert "2 probe(s) of 20 steps in dimension 1000" in message
    assert f"{one / 2**20:.3g} MiB" in message


def test_densities_and_operators_are_printed_in_one_line():
    matrix = Matrix(as_float32(SMALL))
    assert repr(matrix) == "Matrix(dim=30, float32)"
    assert repr(2.0 * matrix + matrix) == "Sum(dim=30, float32)"
    found = spectral_density(matrix, key=KEY, num_matvecs=30)
    assert repr(found) == ("SpectralDensity(dim=30, 1 probe of 30 steps, nodes from -1 to 8)")
    assert repr(found.moment(0)) == "Estimate(1 ± nan (30 products))"
    assert "<td>trace</td>" in found._repr_html_()
    rows = jax.tree.map(lambda leaf: np.asarray(leaf)[None], found)
    assert repr(rows) == "SpectralDensity(dim=30, traced or batched)"


def test_a_step_whose_sums_overflow_is_refused_and_not_hidden():
    starts = np.ones((1, 80))

    def products(rows):
        return np.full_like(rows, 1e308), np.ones(len(rows))

    with np.errstate(over="ignore"), pytest.raises(ValueError, match="got an overflow"):
        lanczos.recur(HOST, products, starts, 3, lambda _: starts)
