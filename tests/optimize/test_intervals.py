"""Intervals hold the truth as often as they say: shares of repeats whose number is fixed here."""

import numpy as np
import pytest

from adlab import optimize

REPEATS = 2000
FEW = {"num_resamples": 999}  # twice as fast, and the quantiles known to half a percent
SKEWED = {
    "exponential": (lambda rng, shape: rng.exponential(size=shape), 1.0),
    "lognormal": (lambda rng, shape: np.exp(rng.standard_normal(shape)), np.exp(0.5)),
}
X = np.array([1.0, 3.0, 10.0, 30.0])


def share(interval, truth):
    return np.mean((interval.low <= truth) & (truth <= interval.high))


@pytest.mark.parametrize("seeds", [4, 5, 6, 8, 16, 32, 64])
def test_intervals_of_normal_means_and_slopes_cover_95_of_100(seeds):
    rng = np.random.default_rng(seeds)
    samples = 3 + 2 * rng.standard_normal((seeds, REPEATS))
    found = optimize.mean_interval(samples, **FEW)
    assert abs(share(found, 3.0) - 0.95) <= 0.02  # 4 standard errors of a share of 2,000
    assert found.enough == (seeds >= optimize.ENOUGH)
    half = (found.high - found.low) / 2
    error = samples.std(axis=0, ddof=1) / np.sqrt(seeds)
    assert np.all(half >= 1.9 * error)  # Student's quantile is 2.0 at 64 seeds, and more at fewer
    if seeds in (4, 8, 32):
        noise = 1 + 0.3 * rng.standard_normal((seeds, REPEATS // 2, X.size))
        found = optimize.slope_interval(X, noise / X, num_resamples=400)
        assert abs(share(found, -1.0) - 0.95) <= 0.03  # 4 standard errors of a share of 1,000


@pytest.mark.parametrize("law", SKEWED)
@pytest.mark.parametrize("seeds", [8, 16, 64])
def test_intervals_of_skewed_means_cover_90_of_100_from_enough_seeds_on(law, seeds):
    draw, mean = SKEWED[law]
    samples = draw(np.random.default_rng(seeds), (seeds, REPEATS))
    found = optimize.mean_interval(samples, **FEW)
    assert found.enough
    assert 0.9 <= share(found, mean) <= 0.97
    mirrored = optimize.mean_interval(-samples, **FEW)  # the skew of the other sign
    assert 0.9 <= share(mirrored, -mean) <= 0.97


@pytest.mark.parametrize("law", SKEWED)
@pytest.mark.parametrize("seeds", [8, 32])
def test_slopes_cover_90_of_100_where_whole_curves_are_scaled_by_a_skewed_factor(law, seeds):
    rng = np.random.default_rng(seeds)
    factor = SKEWED[law][0](rng, (seeds, REPEATS // 2, 1))
    noise = 1 + 0.3 * rng.standard_normal((seeds, REPEATS // 2, X.size))
    found = optimize.slope_interval(X, factor * noise / X, num_resamples=400)
    assert 0.9 <= share(found, -1.0) <= 0.98


@pytest.mark.parametrize("seeds", [2, 3, 4, 8])
def test_ratios_on_a_log_scale_need_few_seeds(seeds):
    rng = np.random.default_rng(seeds)
    found = optimize.ratio_interval(2 * np.exp(rng.standard_normal((seeds, REPEATS))), **FEW)
    assert abs(share(found, 2.0) - 0.95) <= 0.02  # 4 standard errors of a share of 2,000
    found = optimize.ratio_interval(rng.exponential(size=(seeds, REPEATS)), **FEW)
    assert share(found, np.exp(-np.euler_gamma)) >= 0.9
    assert found.enough


def test_the_ratio_of_means_over_the_same_seeds_leaves_common_scatter_alone():
    rng = np.random.default_rng(0)
    common, own = rng.exponential(size=(2, 16, 200))
    found = [
        optimize.mean_ratio_interval(3 * c * (1 + 0.01 * (o - 1)), c, num_resamples=400)
        for c, o in zip(common.T, own.T, strict=True)
    ]
    # 4 standard errors of a share of 200, and the skew
    assert np.mean([f.low <= 3 <= f.high for f in found]) >= 0.89
    assert np.median([f.high / f.low for f in found]) < 1.02


def test_few_seeds_say_that_more_are_needed_and_give_a_verdict_no_ends():
    few = optimize.mean_interval([1.0, 2.0, 4.0])
    assert not few.enough
    assert few.low < few.estimate < few.high
    assert few.ends == (few.estimate, -np.inf, np.inf)
    many = optimize.mean_interval(np.arange(8.0))
    assert many.enough
    assert many.ends == (many.estimate, many.low, many.high)
    many = optimize.mean_interval(np.ones((4, 3)))
    assert np.all(np.isinf(many.ends[1]))


def test_an_interval_follows_units_and_has_no_width_where_all_values_agree():
    samples = np.random.default_rng(1).exponential(size=9)
    one, small = (optimize.mean_interval(scale * samples) for scale in (1.0, 2.0**-60))
    np.testing.assert_allclose(
        [small.low, small.high], np.multiply(2.0**-60, [one.low, one.high]), rtol=1e-12
    )  # round-off
    same = optimize.mean_interval(np.full(9, 0.1))
    np.testing.assert_allclose([same.low, same.high], 0.1, rtol=1e-14)  # round-off
    scaled = np.exp(np.linspace(-1, 1, 9))[:, None] / X
    exact = optimize.slope_interval(X, scaled)
    np.testing.assert_allclose([exact.low, exact.high], -1, rtol=1e-12)  # round-off


def test_one_outlier_among_equal_values_leaves_the_far_end_open():
    found = optimize.mean_interval([0.0] * 8 + [1.0])
    assert found.high == np.inf  # a third of the resamples don't see it
    assert np.isfinite(found.low)


def test_values_that_are_no_numbers_leave_no_interval():
    samples = np.ones((9, 2)) + np.arange(9.0)[:, None]
    samples[3, 1] = np.nan
    found = optimize.mean_interval(samples)
    assert np.isfinite([found.low[0], found.high[0]]).all()
    assert np.isnan([found.low[1], found.high[1]]).all()
    assert np.isnan(optimize.ratio_interval([1.0, -1.0, 2.0]).low)
    negative = optimize.slope_interval(X, np.ones((9, 4)) * [1.0, 1.0, -1.0, 1.0])
    assert np.isnan([negative.estimate, negative.low, negative.high]).all()


def test_few_equal_ratios_say_nothing_of_their_scatter():
    for count in (2, optimize.ENOUGH - 1):
        middle, low, high = optimize.ratio_interval(np.full(count, 2.0)).ends
        assert middle == pytest.approx(2)
        assert (low, high) == (-np.inf, np.inf)
    assert optimize.ratio_interval([2.0, 2.5]).enough


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_sample_that_is_not_finite_leaves_no_ends(bad):
    for interval in (optimize.mean_interval, optimize.ratio_interval):
        found = interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, bad])
        assert np.isnan([found.low, found.high]).all()


def test_the_farthest_interval_is_one_that_decides_nothing_before_all_others():
    near, far = optimize.Interval(1.0, 0.9, 1.2), optimize.Interval(1.0, 0.5, 1.1)
    assert optimize.farthest([near, far], 1.0) is far
    few = optimize.Interval(1.0, 0.99, 1.01, enough=False)
    unknown = optimize.Interval(1.0, np.nan, 1.01)
    assert optimize.farthest([near, few, far], 1.0) is few
    assert optimize.farthest([near, unknown, far], 1.0) is unknown
