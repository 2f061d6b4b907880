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
