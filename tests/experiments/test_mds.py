"""Every verdict of `mds` holds on data that bear it out, and fails on others; its mathematics."""

import importlib
from pathlib import Path

import jax
import numpy as np
import pytest

from adlab.lab import config as configs
from adlab.lab.errors import ConfigError
from adlab.problems import squared_stress

ROOT = Path(__file__).parents[2]
CASES = [[4, 2], [8, 2], [8, 4]]
CHANGES = {"cases": CASES, "num_seeds": 3, "simplex_seeds": 2, "maps": ["usa"], "map_seeds": 3}
CLOUDS = {f"cloud_{count}_{dim}": count * dim for count, dim in CASES}
SLOWER = dict(zip(CLOUDS, (4.0, 6.0, 6.5), strict=True))  # far below n = 8, 16, 32
EVALUATIONS = {"cloud_4_2": 200.0, "cloud_8_2": 900.0, "cloud_8_4": 3000.0}
SCATTER = np.array([0.98, 1.0, 1.02])


@pytest.fixture(scope="module")
def job():
    return configs.load(ROOT / "configs" / "mds.toml", changes=CHANGES)


@pytest.fixture(scope="module")
def descents(job):
    return importlib.import_module(f"{job.module.__name__}.descents")


def measured():
    """Data as they are expected: two-point dearer by 2 d_eff, simplexes growing faster than n."""
    data = {}
    for name, slower in SLOWER.items():
        steps = np.full(3, 100.0)
        data |= {
            f"{name}.d_eff": np.full(3, slower),
            f"{name}.slower": np.full(3, slower),
            f"{name}.hits": np.stack([steps, 2 * slower * steps * SCATTER]),
            f"{name}.last": np.full((2, 3), 1e-6),
            f"{name}.evaluations": EVALUATIONS[name] * np.full((3, 2), [0.98, 1.02]),
            f"{name}.flops": np.array([100, 150]),
            f"{name}.spectrum_error": np.full(3, 1e-15),
            f"{name}.scores_error": np.full(3, 1e-14),
            f"{name}.classical_loss": np.full(3, 1e-30),
            f"{name}.unsquared_loss": np.full(3, 0.1),
        }
    steps = np.full(3, 400.0)
    data |= {
        "usa.slower": np.array(17.0),
        "usa.hits": np.stack([steps, 34 * steps * SCATTER, 2 * 68 * steps]),
        "usa.path.two_point": np.zeros((5, 34, 2)),
        "usa.last": np.full((3, 3), 6e-6),
        "usa.classical_loss": np.array(1e-5),
        "usa.errors": np.full((3, 3), 0.002),
        "usa.raw_loss": np.array([1e-2, 2e-6, 2e-6]),
        "usa.raw_errors": np.array([0.4, 0.003, 0.003]),
        "world.plane.last": np.array([0.05, 0.06]),
        "world.plane.errors": np.array([0.4, 0.3]),
        "world.space.last": np.array([1e-7, 1e-2]),
        "world.space.errors": np.array([1e-3, 0.5]),
    }
    return data


def outcomes(job, **changed):
    """Return (claim, what it is about) -> outcome."""
    found = {}
    for verdict in job.module.verdicts(measured() | changed, job.config):
        about = verdict.claim.params.get("method") or verdict.claim.params.get("place")
        words = [about.key.rpartition(".")[2], *about.params.values()] if about else []
        claim = verdict.claim.key.rpartition(".")[2]
        found[claim, "_".join(map(str, words))] = verdict.outcome
    return found


def test_all_hold_on_data_that_bear_them_out(job):
    found = outcomes(job)
    assert set(found.values()) == {"holds"}
    assert set(found) == set(BAD)


def with_hits(name, row, factor):
    array = measured()[f"{name}.hits"]
    array[row] *= factor
    return {f"{name}.hits": array}


def every_cloud(part, change):
    return {f"{name}.{part}": change(name, measured()[f"{name}.{part}"]) for name in CLOUDS}


def simplexes_of(power, place):
    def change(name, array):
        array[place] = 100.0 * CLOUDS[name] ** power
        return array

    return every_cloud("evaluations", change)


def two_point_of(growth):
    """Let two-point take that many times more calls than gradient descent, by name of the cloud."""

    def change(name, array):
        array[1] = array[0] * growth(name) * SCATTER
        return array

    return every_cloud("hits", change)


def filled(part, value):
    return {part: np.full_like(measured()[part], value)}


def worse(row):
    """A method that gets nowhere, from any start."""
    found = {"usa.last": measured()["usa.last"]}
    found["usa.last"][row] = 2e-4
    if row < 2:
        found |= every_cloud("last", lambda _, array: np.full_like(array, 2e-4))
    return found


BAD = {
    ("reached", "gradient_descent"): worse(0),
    ("reached", "two_point"): worse(1),
    ("reached", "finite_difference"): worse(2),
    **{("ratio", name): with_hits(name, 1, 1.4) for name in CLOUDS},
    ("ratio", "usa"): with_hits("usa", 1, 0.7),
    ("coordinates", ""): with_hits("usa", 2, 1.05),
    ("slope", ""): two_point_of(lambda name: SLOWER[name] ** 2),
    ("control_slope", ""): two_point_of(lambda name: 2 * CLOUDS[name]),
    ("descent_slope", ""): every_cloud("hits", lambda name, array: array * CLOUDS[name]),
    ("simplex_slope", "adaptive_wide"): simplexes_of(0.8, 0),
    ("simplex_slope", "adaptive"): simplexes_of(0.8, 1),
    ("simplex_slope", "classic"): simplexes_of(0.8, 2),
    ("dearer", "two_point"): two_point_of(lambda _: 1.0),
    ("more_so", "two_point"): two_point_of(lambda name: 1000 / CLOUDS[name]),
    **{("dearer", kind): simplexes_of(0.1, k) for k, kind in enumerate(
        ("adaptive_wide", "adaptive", "classic"))},
    **{("more_so", kind): simplexes_of(-0.5, k) for k, kind in enumerate(
        ("adaptive_wide", "adaptive", "classic"))},
    ("spectrum_error", ""): every_cloud("spectrum_error", lambda _, array: array + 1e-6),
    ("scores_error", ""): every_cloud("scores_error", lambda _, array: array + 1e-6),
    ("classical_loss", ""): every_cloud("classical_loss", lambda _, array: array + 1e-6),
    ("unsquared_loss", ""): every_cloud("unsquared_loss", lambda _, array: 1e-30 * array),
    ("not_classical", ""): filled("usa.classical_loss", 5e-6),
    ("map", "usa"): filled("usa.errors", 0.05),
    ("raw", "usa"): filled("usa.raw_errors", 0.05),
    ("plane_last", ""): filled("world.plane.last", 1e-5),
    ("plane_errors", ""): filled("world.plane.errors", 0.01),
    ("space_last", ""): filled("world.space.last", 1e-3),
    ("space_errors", ""): filled("world.space.errors", 0.1),
}  # fmt: skip


@pytest.mark.parametrize("claim", BAD, ids=lambda claim: "-".join(filter(None, claim)))
def test_each_fails_on_data_that_refute_it(job, claim):
    assert outcomes(job, **BAD[claim])[claim] == "fails"


def test_what_was_not_reached_leaves_claims_open(job):
    hits = measured()["cloud_8_2.hits"]
    hits[1, 0] = np.nan
    found = outcomes(job, **{"cloud_8_2.hits": hits})
    assert found["ratio", "cloud_8_2"] == found["slope", ""] == "undecided"


def test_a_simplex_that_was_given_up_counts_with_its_budget(job):
    never = {"cloud_8_2.evaluations": np.full((3, 2), np.nan)}
    assert outcomes(job, **never)["simplex_slope", "classic"] == "holds"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cases": [[4, 2], [4, 4]]}, r"d <= N - 1, .*got \[4, 4\]; take d = 3"),
        ({"cases": [[4, 2], [4, 2]]}, r"cases must not repeat.*\(4, 2\) twice"),
        ({"cases": [[4, 2], [8, 1]]}, "two values of N d"),
        ({"cases": [[8, 2], [8, 3]]}, "two values of N at one d"),
        ({"maps": ["usa", "usa"]}, "maps must not repeat"),
        ({"maps": ["asia"]}, "maps"),
        ({"simplex_seeds": 5}, "simplex_seeds must be <= num_seeds = 3, got 5"),
        ({"step_fraction": 0.7}, "step_fraction"),
    ],
)
def test_configs_that_make_no_sense_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        configs.load(ROOT / "configs" / "mds.toml", changes=CHANGES | changes)


RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(5, 2))
TABLE = np.linalg.norm(POINTS[:, None] - POINTS[None], axis=-1)


def test_the_hessian_is_that_of_the_closed_form(descents):
    away = POINTS + 0.1 * RNG.normal(size=POINTS.shape)
    with jax.enable_x64(True):
        hessian = jax.jit(jax.hessian(lambda flat: squared_stress(flat.reshape(5, 2), TABLE)))
        known = hessian(away.ravel())
    np.testing.assert_allclose(descents.hessian(away, TABLE), known, rtol=1e-10, atol=1e-10)
    # At a solution: no curvature along d shifts and d (d - 1)/2 rotations.
    spectrum = np.linalg.eigvalsh(descents.hessian(POINTS, TABLE))
    np.testing.assert_allclose(spectrum[:3], 0, atol=1e-12 * spectrum[-1])
    assert spectrum[3] > 1e-3 * spectrum[-1]


def test_a_simplex_minimises_the_same_loss_and_stops_at_the_target(descents):
    start = POINTS + 0.05 * RNG.normal(size=POINTS.shape)
    keep = np.array([1.0, 30.0, 1e6])
    found = descents.simplex(start, TABLE, adaptive=True, edge=0.05, budget=3000, keep=keep)
    losses = found["loss"]
    assert losses[-1] <= 1e-4 < losses[-2]
    with jax.enable_x64(True):
        known = [float(descents.relative(path, TABLE)) for path in found["path"]]
    np.testing.assert_allclose(known, losses[[0, 29, -1]], rtol=1e-9)
    assert len(descents.simplex(start, TABLE, adaptive=False, edge=None, budget=20)["loss"]) == 20


def test_the_first_record_at_the_target_counts(descents):
    losses = np.array([[1.0, 1e-4, 1e-3], [1.0, 0.1, 0.1]])
    np.testing.assert_array_equal(descents.first_hit(np.array([0, 7, 9]), losses), [7, np.nan])


def test_movies_show_every_moment_and_end_on_the_map(job):
    data = measured()
    rng = np.random.default_rng(0)
    moments = np.geomspace(1e3, 1e6, 5)
    for method in ("gradient_descent", "two_point", "adaptive"):
        data |= {f"usa.path.{method}": rng.normal(size=(5, 34, 2))}
        data |= {f"usa.paced.{method}": np.geomspace(1, 1e-6, 5)}
    data |= {"usa.moments": moments, "usa.size": np.array(2000.0)}
    for kind, dim in (("plane", 2), ("space", 3)):
        data |= {f"world.{kind}.path": 6000 * rng.normal(size=(5, 32, dim))}
        data |= {f"world.{kind}.paced": np.geomspace(1, 1e-6, 5)}
        data |= {f"world.{kind}.moments": np.arange(1, 6)}
    shown = job.module.movies(data, job.config)
    assert set(shown) == {"usa", "world"}
    for movie in shown.values():
        assert movie.frames == 5
        movie.draw(0)
        movie.draw(4)
        below = movie.figure.axes[-1]
        ends = [line.get_xdata()[-1] for line in below.lines if len(line.get_xdata()) == 1]
        assert ends
        assert len(set(ends)) == 1  # every method at the same moment
    panel = shown["usa"].figure.axes[0]
    (dots,) = [
        line for line in panel.lines if len(line.get_xdata()) == 34 and line.get_zorder() == 3
    ]
    expected = 2000.0 * data["usa.path.gradient_descent"][4]
    spread = [
        np.sum((points - points.mean(axis=0)) ** 2) for points in (dots.get_xydata(), expected)
    ]
    assert spread[0] == pytest.approx(spread[1])  # turned and shifted, not stretched


def pictured(**changed):
    """Data for the figures: the adaptive simplex stays far from the target, the others arrive."""
    data, rng = measured(), np.random.default_rng(0)
    calls = np.array([0, 10, 100, 1000, 10_000])
    data |= {"usa.d_eff": np.array(17.0), "usa.size": np.array(2000.0)}
    data |= {"usa.flops": np.array([100, 300])}
    data |= {"usa.path.gradient_descent": rng.normal(size=(2, 34, 2))}
    for method in ("gradient_descent", "two_point", "finite_difference"):
        data |= {f"usa.calls.{method}": calls}
        data |= {f"usa.loss.{method}": np.tile([1, 0.1, 1e-6, 1e-6, 1e-6], (3, 1))}
    for kind, losses in (
        ("adaptive_wide", [1, 0.5, 0.1, 1e-6, 1e-6]),
        ("adaptive", [1, 0.9, 0.3, 0.3, 0.3]),
        ("classic", [1, 0.9, 0.8, 0.1, 1e-5]),
    ):
        data |= {f"usa.calls.{kind}": calls + 1, f"usa.loss.{kind}": np.array([losses])}
    for kind, dim in (("plane", 2), ("space", 3)):
        data |= {f"world.{kind}.path": 6000 * rng.normal(size=(2, 32, dim))}
    return data | changed


def lines_of(figure):
    """Return the curves of a figure and the crosses of what was given up, as (k, 2) arrays."""
    lines = [line for line in figure.axes[0].lines if np.size(line.get_xdata()) > 0]
    crosses = [line.get_xydata() for line in lines if line.get_marker() == "X"]
    legend = figure.axes[0].get_legend_handles_labels()
    return {name: line.get_xydata() for line, name in zip(*legend, strict=True)}, crosses


def test_a_curve_ends_where_it_is_flat_and_a_simplex_that_gave_up_in_a_cross(job):
    data = pictured()
    curves, crosses = lines_of(job.module.plot(data, job.config)["descent"])
    (cross,) = crosses
    np.testing.assert_allclose(cross, [[101, 0.3]])
    np.testing.assert_allclose(curves["Nelder-Mead, adaptive"][-1], [101, 0.3])
    np.testing.assert_allclose(curves["Nelder-Mead, wide simplex"][-1], [1001, 1e-6])
    # A gradient is three evaluations' operations.
    np.testing.assert_allclose(curves["gradient descent"], [[30, 0.1], [300, 1e-6]])


def test_where_one_simplex_gave_up_no_line_goes_but_a_cross_stands_at_the_budget(job):
    lost = measured()["cloud_8_2.evaluations"]
    lost[2, 1] = np.nan
    data = pictured(**{"cloud_8_2.evaluations": lost})
    curves, crosses = lines_of(job.module.plot(data, job.config)["growth"])
    (cross,) = crosses
    np.testing.assert_allclose(cross, [[16, job.config.budget]])
    np.testing.assert_allclose(curves["Nelder-Mead, classic"][:, 1], [200, np.nan], rtol=1e-3)
    np.testing.assert_allclose(curves["finite differences"][:, 1], [1600, 3200])


def test_titles_assert_what_holds_and_ask_otherwise(job):
    data = pictured()
    verdicts = job.module.verdicts(data, job.config)
    figures = job.module.plot(data, job.config, verdicts=verdicts)
    asked = job.module.plot(data, job.config)
    for name in ("descent", "growth", "price", "world", "closed_form"):
        assert not figures[name].get_suptitle().endswith("?"), name
        assert asked[name].get_suptitle().endswith("?"), name
