import numpy as np
import pytest

from adlab import optimize

K = optimize.log_grid(10_000, 24, start=100)


def _noisy(rng, exponent=-1.0, seeds=32):
    return 3.0 * K**exponent * (1 + 0.3 * rng.standard_normal((seeds, K.size)))


def test_log_grid_has_its_ends_and_equal_ratios():
    grid = optimize.log_grid(51_200, 24, start=3_840)
    assert (grid[0], grid[-1], grid.size) == (3_840, 51_200, 24)
    ratios = np.diff(np.log(grid))
    np.testing.assert_allclose(ratios, ratios.mean(), rtol=3e-3)  # rounding to integers
    np.testing.assert_array_equal(optimize.log_grid(5, 24), [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(optimize.log_grid(7, 24, start=7), [7])


def test_slope_of_a_power_law_is_its_exponent():
    curves = np.stack([K**-1.1, 5 * K**0.5])
    np.testing.assert_allclose(optimize.slope(K, curves), [-1.1, 0.5], rtol=1e-12)  # round-off


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_slope_of_what_has_no_logarithm_is_nan(bad):
    assert np.isnan(optimize.slope([1, 2, 3], [1.0, bad, 1.0]))


def test_hitting_time_of_a_power_law_is_exact():
    curves = np.stack([100 / K, 400 / K])
    # linear on these axes: round-off only
    np.testing.assert_allclose(optimize.hitting_time(K, curves, 0.05), [2000, 8000], rtol=1e-12)
    assert np.isnan(optimize.hitting_time(K, 1 / K, 1e-9))
    assert np.isnan(optimize.hitting_time(K, 1 / K, 1.0))


def test_hitting_time_takes_the_first_of_several_crossings():
    assert optimize.hitting_time([1, 2, 3, 4], [4.0, 1.0, 4.0, 1.0], 1.0) == 2


def test_slope_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for seed in range(400):
        fit = optimize.slope_interval(K, _noisy(rng), seed=seed, num_resamples=300)
        assert fit.low < fit.estimate < fit.high
        hits += fit.low <= -1 <= fit.high
    # 95 % nominal; 4 standard errors of a share of 400
    assert abs(hits / 400 - 0.95) <= 0.045


def test_intervals_are_reproducible():
    samples = _noisy(np.random.default_rng(2))
    first, second = (optimize.slope_interval(K, samples) for _ in range(2))
    assert first == second
    assert optimize.slope_interval(K, samples, seed=1) != first


def test_mean_interval_has_the_width_of_the_standard_error():
    samples = np.random.default_rng(3).standard_normal((400, 5))
    interval = optimize.mean_interval(samples)
    np.testing.assert_allclose(interval.estimate, samples.mean(axis=0), rtol=1e-12)  # round-off
    # 2 x 1.96 standard errors; 1000 resamples know a quantile to some 5 %, four points of such
    np.testing.assert_allclose(interval.high - interval.low, 2 * 1.96 / 20, rtol=0.2)


def test_dimension_slope_is_one_when_time_stretches_by_the_dimension():
    dims = [8, 32, 128]
    grids = [K * dim for dim in dims]
    exact = [np.tile(7 * dim / grid, (2, 1)) for dim, grid in zip(dims, grids, strict=True)]
    fit = optimize.dimension_slope(dims, grids, exact, target=7e-3)
    np.testing.assert_allclose([fit.estimate, fit.low, fit.high], 1, rtol=1e-12)  # round-off


def test_dimension_slope_covers_as_often_as_it_says():
    rng = np.random.default_rng(4)
    dims = [8, 32, 128]
    grids = [K * dim for dim in dims]
    hits = 0
    for seed in range(200):
        factors = np.exp(0.3 * rng.standard_normal((3, 32, 1)) - 0.045)  # of mean 1
        samples = [7 * n * f / k for n, f, k in zip(dims, factors, grids, strict=True)]
        fit = optimize.dimension_slope(dims, grids, samples, 7e-3, seed=seed, num_resamples=200)
        hits += fit.low <= 1 <= fit.high
    # 95 % nominal; 4 standard errors of a share of 200
    assert abs(hits / 200 - 0.95) <= 0.062


def test_dimension_slope_refuses_a_target_outside_of_a_window():
    curves = np.tile(1 / K, (2, 1))
    with pytest.raises(ValueError, match=r"target must be crossed .* at dim = 8"):
        optimize.dimension_slope([8, 16], [K, K], [curves, curves], target=1.0)
    with pytest.raises(ValueError, match="must be of one length"):
        optimize.dimension_slope([8], [K, K], [curves, curves], target=1e-3)


def test_collapse_is_the_ratio_to_the_reference():
    reference = K**-0.7
    spread = np.tile([0.8, 1.0, 1.2, 1.8], 4)[:, None]  # four say too little: [0.5, 1.9] by Student
    fit = optimize.collapse(spread * reference, reference)
    assert fit.estimate == pytest.approx(1.2, rel=1e-12)  # round-off
    assert 0.8 < fit.low < 1.2 < fit.high < 1.8
    with pytest.raises(ValueError, match="reference must have the points"):
        optimize.collapse(spread * reference, reference[:-1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optimize.log_grid(0, 3), "num_steps must be >= 1"),
        (lambda: optimize.log_grid(10, 3, start=0), "start must be >= 1"),
        (lambda: optimize.log_grid(10, 1), "num_points must be >= 2"),
        (lambda: optimize.slope([1.0], [1.0]), "x must be at least two"),
        (lambda: optimize.slope([0.0, 1.0], [1.0, 1.0]), "x must be at least two positive"),
        (lambda: optimize.slope([1.0, 2.0], [1.0]), "y must end in 2 points"),
        (lambda: optimize.slope_interval([1, 2], [[1.0, 2.0]]), "samples must hold at least two"),
        (lambda: optimize.slope_interval([1, 2], [[1.0]] * 2), "samples must end in 2 points"),
        (lambda: optimize.mean_ratio_interval([1.0], [1.0, 2.0]), "lower must have the seeds"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
