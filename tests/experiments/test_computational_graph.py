"""The two experiments on the lecture's graphs judge what they should, and would notice errors."""

import copy
import functools
from pathlib import Path

import numpy as np
import pytest

from adlab.lab import config as configs
from adlab.lab import start

ROOT = Path(__file__).parents[2]


@functools.cache
def ran(name, **changes):
    """Return the job and the data of its run."""
    changes = {key: list(v) if isinstance(v, tuple) else v for key, v in changes.items()}
    job = configs.load(ROOT / "configs" / f"{name}.toml", profile="smoke", changes=changes)
    with start.precision(job.config.x64):
        return job, job.module.run(job.config, None)


def outcome(name, changes, spoil=None):
    """Return the data of a run and its verdicts by label, after `spoil` has changed the data."""
    job, data = ran(name, **changes)
    data = copy.deepcopy(data)
    if spoil:
        spoil(data)
    return data, job.module.verdicts(data, job.config)


def test_the_lectures_numbers():
    data, verdicts = outcome("computational_graph", {"w1": 2.0, "w2": 3.0})
    gradient = dict(zip(data["names"], data["reverse"], strict=True))
    assert gradient["w1"] == pytest.approx(2.02010, abs=5e-6)  # digits of the slides
    assert gradient["w2"] == pytest.approx(0.93348, abs=5e-6)
    (slide,) = [v for v in verdicts if v.control]
    assert slide.measured == pytest.approx(2.80045, abs=5e-6)
    assert {v.outcome for v in verdicts} == {"holds"}


@pytest.mark.parametrize("name", ["reverse", "forward_w1", "forward_w2"])
def test_a_trace_that_is_slightly_wrong_is_noticed(name):
    def spoil(data):
        data[name] = data[name] * (1 + 1e-7)

    _, verdicts = outcome("computational_graph", {}, spoil)
    assert "fails" in {v.outcome for v in verdicts}


def test_the_slides_step_would_fail_if_it_were_right():
    def spoil(data):  # then dL/dv1 has the place of dL/dv2
        at = list(data["names"])
        data["reverse"][at.index("v1")] = data["reverse"][at.index("v2")]

    _, verdicts = outcome("computational_graph", {}, spoil)
    assert [v.outcome for v in verdicts if v.control] == ["fails"]


def test_a_point_where_the_slide_is_right_is_refused():
    with pytest.raises(Exception, match="w2 must differ from 1"):
        configs.load(ROOT / "configs/computational_graph.toml", changes={"w2": 1.0})


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_the_backward_pass_is_that_derived_by_hand(activation):
    _, verdicts = outcome("feed_forward", {"activation": activation})
    assert len(verdicts) == 1 + 6 + 1  # the shapes; v1, v2, w1, w2, a1, x; the layers' Jacobians
    assert {v.outcome for v in verdicts} == {"holds"}


def test_a_transposed_or_wrong_derivative_is_noticed():
    def transpose(data):
        data["derivative_w1"] = data["derivative_w1"].T

    def change(data):
        data["derivative_w2"] = data["derivative_w2"] + 1e-9

    def weaken(data):
        data["jacobian_v1"] = data["jacobian_v1"] * (1 + 1e-9)

    _, weak = outcome("feed_forward", {}, weaken)
    assert [v.claim.key.rpartition(".")[2] for v in weak if v.outcome == "fails"] == ["chain"]
    _, transposed = outcome("feed_forward", {}, transpose)
    assert [v.outcome for v in transposed].count("fails") == 2  # its shape and its value
    _, changed = outcome("feed_forward", {}, change)
    assert [v.outcome for v in changed].count("fails") == 1


def test_a_derivative_of_another_shape_fails_even_where_its_value_has_it_too():
    """The widths of the network decide, not the trace itself."""

    def turn(data):
        for key in ("value_a1", "derivative_a1"):
            data[key] = data[key].T

    for spoil, expected in ((None, "holds"), (turn, "fails")):
        _, verdicts = outcome("feed_forward", {}, spoil)
        shapes = next(v for v in verdicts if v.claim.key.endswith("claim.shapes"))
        assert (shapes.outcome, shapes.basis) == (expected, "identity")


def test_shapes_are_the_lectures():
    data, _ = outcome("feed_forward", {"batch_size": 5, "inputs": 2, "hidden": (4,), "outputs": 3})
    shapes = {key: data[f"derivative_{key}"].shape for key in ("x", "w1", "v1", "w2", "v2", "L")}
    assert shapes == {"x": (5, 2), "w1": (2, 4), "v1": (5, 4), "w2": (4, 3), "v2": (5, 3), "L": ()}
    assert np.all(data["derivative_L"] == 1)
