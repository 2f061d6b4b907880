import numpy as np
import parts
import pytest

from adlab import optimize

fits = parts.part("rates", "fits")
K = optimize.log_grid(10_000, 24, start=100)


def test_hitting_time_of_a_power_law_is_exact():
    curves = np.stack([100 / K, 400 / K])
    # linear on these axes: round-off only
    np.testing.assert_allclose(fits.hitting_time(K, curves, 0.05), [2000, 8000], rtol=1e-12)
    assert np.isnan(fits.hitting_time(K, 1 / K, 1e-9))
    assert np.isnan(fits.hitting_time(K, 1 / K, 1.0))


def test_hitting_time_takes_the_first_of_several_crossings():
    assert fits.hitting_time([1, 2, 3, 4], [4.0, 1.0, 4.0, 1.0], 1.0) == 2


def test_dimension_slope_is_one_when_time_stretches_by_the_dimension():
    dims = [8, 32, 128]
    grids = [K * dim for dim in dims]
    exact = [np.tile(7 * dim / grid, (2, 1)) for dim, grid in zip(dims, grids, strict=True)]
    fit = fits.dimension_slope(dims, grids, exact, target=7e-3)
    np.testing.assert_allclose([fit.estimate, fit.low, fit.high], 1, rtol=1e-12)  # round-off


def test_dimension_slope_covers_as_often_as_it_says():
    rng = np.random.default_rng(4)
    dims = [8, 32, 128]
    grids = [K * dim for dim in dims]
    hits = 0
    for seed in range(200):
        factors = np.exp(0.3 * rng.standard_normal((3, 32, 1)) - 0.045)  # of mean 1
        samples = [7 * n * f / k for n, f, k in zip(dims, factors, grids, strict=True)]
        fit = fits.dimension_slope(dims, grids, samples, 7e-3, seed=seed, num_resamples=200)
        hits += fit.low <= 1 <= fit.high
    # 95 % nominal; 4 standard errors of a share of 200
    assert abs(hits / 200 - 0.95) <= 0.062


def test_dimension_slope_refuses_a_target_outside_of_a_window():
    curves = np.tile(1 / K, (2, 1))
    with pytest.raises(ValueError, match=r"target must be crossed .* at dim = 8"):
        fits.dimension_slope([8, 16], [K, K], [curves, curves], target=1.0)
    with pytest.raises(ValueError, match="must be of one length"):
        fits.dimension_slope([8], [K, K], [curves, curves], target=1e-3)


def test_collapse_is_the_ratio_to_the_reference():
    reference = K**-0.7
    spread = np.tile([0.8, 1.0, 1.2, 1.8], 4)[:, None]  # four say too little: [0.5, 1.9] by Student
    fit = fits.collapse(spread * reference, reference)
    assert fit.estimate == pytest.approx(1.2, rel=1e-12)  # round-off
    assert 0.8 < fit.low < 1.2 < fit.high < 1.8
    with pytest.raises(ValueError, match="reference must have the points"):
        fits.collapse(spread * reference, reference[:-1])
