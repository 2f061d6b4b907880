"""What `hessian_spectrum` reads off spectra, what it concludes, and where its images come from."""

import importlib
from pathlib import Path

import numpy as np
import pytest

from adlab import data, lab
from adlab.figures import style
from adlab.figures.labels import text
from adlab.lab import config as configs
from adlab.lab import store

ROOT = Path(__file__).parents[2]
DIGITS, CIFAR = (ROOT / "configs" / f"hessian_spectrum{x}.toml" for x in ("", "_cifar10"))


@pytest.fixture(scope="module")
def job():
    return configs.load(DIGITS)


def spectra(extremes, weights=(0.25, 0.5, 0.25), dim=100):
    """Data of trainings (S, T) whose spectra have three nodes: lambda_min, 0 and lambda_max."""
    extremes = np.asarray(extremes, dtype=float)
    nodes = np.stack([extremes[..., 0], np.zeros(extremes.shape[:-1]), extremes[..., 1]], axis=-1)
    nodes = np.stack([nodes, nodes], axis=2)
    shape = extremes.shape[:-1]
    return {
        "batch_nodes": nodes, "batch_weights": np.broadcast_to(weights, nodes.shape),
        "batch_residuals": np.zeros(nodes.shape), "batch_dim": np.full(shape, dim),
        "classes": np.array(10),
    }  # fmt: skip


def scattered(extremes):
    """Trainings differ by a thousandth in lambda_min: equal ones would say nothing of scatter."""
    extremes = np.array(extremes, dtype=float)
    extremes[..., 0] *= 1 + 1e-3 * np.outer(np.arange(len(extremes)), [1, 2])
    return extremes


def outcomes(job, extremes):
    extremes = scattered(extremes)
    found = job.module.verdicts(spectra(extremes), job.config)
    return [verdict.outcome for verdict in found]


START, GONE = (-5.0, 16.0), (-0.01, 0.5)


def test_vanishing_negative_eigenvalues_bear_the_claims_out(job):
    assert outcomes(job, [[START, GONE]] * 3) == ["holds"] * 3


def test_negative_eigenvalues_that_stay_refute_all(job):
    assert outcomes(job, [[START, (-4.0, 16.0)]] * 3) == ["fails"] * 3


def test_a_spectrum_that_shrinks_as_a_whole_refutes_the_claim_on_the_ratio(job):
    assert outcomes(job, [[START, (-0.05, 0.16)]] * 3) == ["holds", "fails", "holds"]


def test_what_lambda_min_may_exceed_at_the_end_counts_against_the_fall(job):
    arrays = spectra(scattered([[START, GONE]] * 3))
    arrays["batch_residuals"][:, 0] = 3.0  # at the start the Ritz value alone is sure
    arrays["batch_residuals"][:, 1] = 0.99
    fall, ratio, _ = job.module.verdicts(arrays, job.config)
    assert fall.measured == pytest.approx(5.0, rel=2e-3)  # as far as trainings differ
    assert ratio.measured == pytest.approx((1 / 0.5) / (5 / 16), rel=2e-3)
    assert [fall.outcome, ratio.outcome] == ["fails"] * 2


def test_one_training_or_trainings_that_disagree_decide_nothing(job):
    assert outcomes(job, [[START, GONE]]) == ["undecided"] * 3
    assert outcomes(job, [[START, GONE], [START, START]]) == ["undecided"] * 3


def test_no_negative_eigenvalue_at_the_start_refutes_all(job):
    assert outcomes(job, [[(0.0, 16.0), GONE]] * 2) == ["fails"] * 3


def test_no_negative_eigenvalue_at_the_end_bears_the_claims_out(job):
    assert outcomes(job, [[START, (0.0, 0.5)]] * 2) == ["holds"] * 3


def test_intervals_are_students_of_the_logarithms(job):
    ends = np.array([0.01, 0.02, 0.05])
    verdict = job.module.verdicts(spectra([[START, (-end, 1.0)] for end in ends]), job.config)[0]
    logs = np.log(5.0 / ends)
    assert verdict.measured == pytest.approx(np.exp(logs.mean()))
    # The 97.5 % quantile of Student's t with 2 degrees of freedom is 4.303.
    low = np.exp(logs.mean() - 4.3027 * logs.std(ddof=1) / np.sqrt(3))
    assert verdict.low == pytest.approx(low, rel=1e-4)


@pytest.fixture
def series(job):
    return importlib.import_module(f"{job.module.__name__}.spectra").series


def test_series_are_what_the_nodes_say(series):
    arrays = spectra([[START, GONE]])
    arrays["batch_nodes"][0, 0, 1, 0] = -7.0  # the second probe looks deeper
    arrays["batch_residuals"][0, 0, 1, 0] = 0.3
    found = series(arrays, "batch")
    assert found.smallest[0, 0] == -7.0
    assert found.residual[0, 0] == 0.3
    np.testing.assert_allclose(found.ratio[0], [7 / 16, 0.02])
    np.testing.assert_allclose(found.negative_energy[0, 0], 100 * 0.25 * (5 + 7) / 2)
    np.testing.assert_allclose(found.negative_energy_error[0, 0], 100 * 0.25 * (7 - 5) / 2)
    np.testing.assert_allclose(found.trace[0, 1], 100 * 0.25 * (0.5 - 0.01))
    assert found.outliers.tolist() == [[1, 1]]


def test_a_ritz_value_that_has_not_converged_is_no_outlier(series):
    arrays = spectra([[START, GONE]])
    arrays["batch_residuals"][..., -1] = 5.0
    assert series(arrays, "batch").outliers.tolist() == [[0, 0]]


def test_without_the_images_the_user_learns_how_to_get_them(tmp_path):
    with pytest.raises(lab.LabError, match=r"path must name the binary release.*cs\.toronto\.edu"):
        lab.run(CIFAR, profile="smoke", out=tmp_path)


def test_a_pickle_instead_of_the_images_is_refused(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"\x80\x04pickled")
    with pytest.raises(lab.LabError, match="pickle"):
        lab.run(CIFAR, profile="smoke", out=tmp_path, overrides={"path": str(tmp_path)})


def test_colour_images_and_batches_go_through_and_the_table_has_a_row_per_spectrum(monkeypatch):
    rng = np.random.default_rng(0)
    images = rng.standard_normal((24, 8, 8, 3)).astype(np.float32)
    split = data.Dataset(images, np.arange(24, dtype=np.int32) % 10)
    monkeypatch.setattr(data, "cifar10", lambda _: (split, split))
    changes = {"path": "anywhere", "norms": ["none"]}
    job = configs.load(CIFAR, profile="smoke", changes=changes)
    arrays = store.as_arrays(job.module.run(job.config, lab.Progress.silent()))
    assert len(job.module.verdicts(arrays, job.config)) == 3
    rows = job.module.table(arrays, job.config)
    assert [(row["training"], row["step"]) for row in rows] == [(0, 0), (0, 2)]
    assert all(row["lambda_min"] < 0 < row["lambda_max"] for row in rows)
    assert all(np.isfinite(row["loss"]) for row in rows)


def test_densities_are_in_units_of_lambda_max_and_titles_follow_the_verdicts(job):
    extremes = scattered([[START, GONE]] * 3)
    arrays = spectra(extremes)
    stays = spectra(scattered([[START, (-4.0, 16.0)]] * 3))
    one = job.config.model_copy(update={"norms": ("batch",), "steps": (0, 280)})
    with style.context():
        drawn, asked = (
            job.module.plot(each, one, verdicts=job.module.verdicts(each, one))
            for each in (arrays, stays)
        )
        for figure, name in ((drawn, "densities"), (drawn, "training")):
            assert figure[name].get_suptitle() == text(f"hessian_spectrum.figure.{name}")
            words = text(f"hessian_spectrum.figure.{name}_asked")
            assert asked[name].get_suptitle() == words
    for ax in drawn["densities"].axes:
        grid, density = ax.lines[0].get_data()
        top = grid[grid > 0.5][np.argmax(density[grid > 0.5])]
        assert top == pytest.approx(1.0, abs=2e-3)  # 16 and 0.5, each of its own training
        assert np.trapezoid(density, grid) == pytest.approx(1.0, abs=1e-3)
    before = drawn["densities"].axes[0].lines[0].get_data()
    low = before[0][before[0] < -0.1][np.argmax(before[1][before[0] < -0.1])]
    assert low == pytest.approx(-5 / 16, abs=2e-3)
