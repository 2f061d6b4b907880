"""Every verdict of `hvp_cost` holds on data that bear it out, and fails on data that refute it."""

from pathlib import Path

import numpy as np
import pytest

from adlab.figures import style
from adlab.figures.labels import text
from adlab.lab import config as configs

ROOT = Path(__file__).parents[2]
CHANGES = {"mlp_depth": 4, "mlp_widths": [50, 100], "resnet_widths": [4, 8], "repeats": 3}
# Multiplications by hand, at width 100: 3 * 100^2 + 100 * 10 per example, of them 100^2 first.
SHARE = 10_000 / 31_000
MLP = [1, 3 - SHARE, 8 - 5 * SHARE, 8 - 5 * SHARE, 8 - 5 * SHARE, 6 - 4 * SHARE]
RESNET = [1, 3, 7.8, 7.8, 7.8, 5.8]
PRODUCTS = ["forward_over_reverse", "reverse_over_forward", "reverse_over_reverse", "linearized"]


@pytest.fixture(scope="module")
def job():
    return configs.load(ROOT / "configs" / "hvp_cost.toml", changes=CHANGES)


def measured():
    """Data as they are expected: programs cost the same share of the loss at both sizes."""
    loss = np.array([1e6, 4e6, 2e6, 8e6])
    memory = np.tile([0.2, 1, 2, 2, 3, 1.5], (4, 1))
    work = loss[:, None] * np.array([MLP, MLP, RESNET, RESNET])
    return {
        "family": np.array(["mlp", "mlp", "resnet", "resnet"]),
        "width": np.array([50, 100, 4, 8]),
        "parameters": np.array([8_000, 31_000, 5_000, 19_000]),
        "flops": work,
        "written": 1.3 * work,
        "bytes": 1e6 * memory,
        "dense": np.array(4e4),
    }


def outcomes(job, **changed):
    """Return claim -> outcomes, a claim about a composition being called after it."""
    found = {}
    for verdict in job.module.verdicts(measured() | changed, job.config):
        key = verdict.claim.key.rpartition(".")[2]
        if "program" in verdict.claim.params:
            key = verdict.claim.params["program"].key.rpartition(".")[2]
        found.setdefault(key, set()).add(verdict.outcome)
    return found


def scaled(name, place, factor):
    """The array `name` with the program at `place` multiplied, on one network or on all."""
    array = measured()[name]
    array[place] = array[place] * factor
    return {name: array}


RESNET_ROW = 3
BAD = {
    # 7.8 * 1.3 > 10 evaluations on the largest ResNet alone; 5.8 * 1.8 > 10
    "forward_over_reverse": scaled("flops", (RESNET_ROW, 2), 1.3),
    "reverse_over_forward": scaled("flops", (RESNET_ROW, 3), 1.3),
    "reverse_over_reverse": scaled("flops", (RESNET_ROW, 4), 1.3),
    "linearized": scaled("flops", (RESNET_ROW, 5), 1.8),
    "gradients": scaled("flops", (RESNET_ROW, 2), 1.2),  # 3.12 gradients, 9.4 evaluations
    "closed_form": scaled("flops", (slice(None), slice(1, None)), 1.1),
    "growth": scaled("flops", (np.array([0, 2]), slice(2, None)), 0.8),
    "memory": scaled("bytes", (RESNET_ROW, 4), 1.5),
    "control_dense": {"dense": np.array(9.0)},
}


def test_all_hold_on_data_that_bear_them_out(job):
    found = outcomes(job)
    assert set().union(*found.values()) == {"holds"}
    assert set(found) == set(BAD)


@pytest.mark.parametrize("claim", BAD)
def test_each_fails_on_data_that_refute_it(job, claim):
    assert outcomes(job, **BAD[claim])[claim] == {"fails"}


def test_one_dear_composition_spoils_no_verdict_on_the_others(job):
    found = outcomes(job, **BAD["reverse_over_reverse"])
    assert [found[name] for name in PRODUCTS] == [{"holds"}, {"holds"}, {"fails"}, {"holds"}]


def test_what_the_compiler_does_not_tell_is_undecided(job):
    array = measured()["bytes"]
    array[1] = np.nan
    found = outcomes(job, bytes=array)
    assert found.pop("memory") == {"undecided"}
    assert set().union(*found.values()) == {"holds"}


def test_one_size_of_network_says_nothing_of_growth(job):
    single = {
        name: array[[1]] if array.ndim else array
        for name, array in measured().items()
    }  # fmt: skip
    found = {v.claim.key for v in job.module.verdicts(single, job.config)}
    assert "hvp_cost.claim.growth" not in found
    assert "hvp_cost.claim.closed_form" in found


def test_times_are_drawn_where_they_are_given_as_ratios_of_medians(job):
    data = measured()
    with style.context():
        assert set(job.module.plot(data, job.config)) == {"work", "memory"}
        for family, width in zip(data["family"], data["width"], strict=True):
            seconds = np.outer([1, 3, 7, 7, 7, 5], [1e-3, 9e-3, 2e-3]) * width
            data[f"seconds_{family}_{width}"] = seconds
        figures = job.module.plot(data, job.config)
    for ax in figures["seconds"].axes:
        drawn = [line.get_xdata() for line in ax.lines if line.get_marker() == "o"]
        np.testing.assert_allclose(drawn, np.tile([[3], [7], [7], [7], [5]], 2))


def test_times_have_intervals_and_two_repeats_are_too_few_for_them(job):
    data = measured()
    times = {
        f"seconds_{family}_{width}": np.outer([1, 3, 7, 7, 7, 5], [1.0, 1.0, 1.2])
        for family, width in zip(data["family"], data["width"], strict=True)
    }
    next(iter(times.values()))[2] = [6.0, 7.0, 9.0]
    with style.context():
        figure = job.module.plot(data | times, job.config)["seconds"]
        few = {name: array[:, :2] for name, array in times.items()}
        assert "seconds" not in job.module.plot(data | few, job.config)
    bars = [line for c in figure.axes[0].collections for line in c.get_segments()]
    lengths = [bar[1, 0] - bar[0, 0] for bar in bars if len(bar) == 2]
    assert max(lengths) > 1  # one program's times scatter apart from the loss's


def test_the_title_asks_where_a_product_is_too_dear(job):
    found = {}
    for name, bad in {"good": {}, "dear": BAD["linearized"], "large": BAD["memory"]}.items():
        data = measured() | bad
        with style.context():
            verdicts = job.module.verdicts(data, job.config)
            figures = job.module.plot(data, job.config, verdicts=verdicts)
            asked = [text(f"hvp_cost.figure.{k}_asked") for k in ("evaluations_title", "memory")]
        found[name] = [f.get_suptitle() in asked for f in figures.values()]
    assert found == {"good": [False, False], "dear": [True, False], "large": [False, True]}
