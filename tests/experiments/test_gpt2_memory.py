"""Every verdict of `gpt2_memory` holds on data that bear it out, and fails on others."""

import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from adlab import models
from adlab.lab import config as configs

ROOT = Path(__file__).parents[2]
STATE = 32 * 1024 * 1600 * 2  # bytes of a state between layers, in bfloat16


@pytest.fixture(scope="module")
def job():
    changes = {"dtypes": ["bfloat16"], "slots": 5, "measured": ["small"]}
    return configs.load(ROOT / "configs" / "gpt2_memory.toml", changes=changes)


FORMULA = 12 * 4 * 256 * 288 * 8 * 4.0  # bytes, of the model of 10 M parameters in float32


def counted():
    """Data as they are: 48 layers; the square root keeps 7 + 5 states, binomial(5) 5; and two."""
    head = 15e9
    saved = [[0, 200e9, 240e9, head]]
    saved += [[STATE * kept, 0, 0, head] for kept in (48, 9 * 48, 14, 7)]
    account = np.array([[580e6, 680e6, 590e6, 42e6], [100e6, 200e6, 115e6, 42e6]])
    return {
        "saved": np.array([saved]),
        "flops": 3 * np.array([[1, 1.2220, 1.03, 1.64, 1.9]]),
        "forward": np.array([1.0]),
        "account_small": account,
        "width_small": np.array(4),
        "peaks_small": np.array([[660e6, 640e6], [190e6, 170e6]]),
    }


def agreeing():
    """Data that would bear the lecture out, too: 60 GB, 8 GB, a third more work."""
    data = counted()
    data["saved"][0, 0] = [0, 40e9, 20e9, 0]
    data["saved"][0, 1, 0] = 7e9
    data["flops"][0, 1] = 4.0
    data["account_small"][:, 2:] = [[FORMULA, 42e6], [40e6, 42e6]]
    data["account_small"][:, 0] = FORMULA, 40e6
    data["peaks_small"] = 42e6 + np.array([[FORMULA, FORMULA], [40e6, 40e6]])
    return data


def judged(job, data):
    """Return claim -> verdict, a claim about a schedule being called after it."""
    found = job.module.verdicts(data, job.config)
    return {v.claim.params.get("policy", v.claim.key.rpartition(".")[2]): v for v in found}


def outcomes(job, data):
    return {name: verdict.outcome for name, verdict in judged(job, data).items()}


REFUTED = {"lecture_none", "lecture_layer", "lecture_work", "measured_formula"}
BAD = {
    "again": ("forward", 0, 1.1),
    "closed_form": ("flops", (0, 1), 1.02),
    "layer_states": ("saved", (0, 1, 0), 1.02),
    "sqrt()": ("saved", (0, 3, 0), 12 / 13),
    "binomial(5)": ("saved", (0, 4, 0), 7 / 6),
    "measured_peak": ("peaks_small", 0, 1.2),
    "measured_spared": ("peaks_small", 1, 0.5),
}


def test_the_lectures_claims_fail_on_what_the_model_keeps_and_all_others_hold(job):
    found = outcomes(job, counted())
    assert {name for name, outcome in found.items() if outcome == "fails"} == REFUTED
    assert {name for name, outcome in found.items() if outcome == "holds"} == {
        *BAD, "formula_none", "formula_layer",
    }  # fmt: skip


def test_the_lectures_claims_say_by_how_much_they_miss_and_what_is_left_out(job):
    found = judged(job, counted())["lecture_none"]
    assert found.expected == 60.0
    assert found.measured == pytest.approx(455.0)
    words = found.claim.render()
    for told in ("60 GB", "7.6 times", "240 GB of attention", "140 GB inside", "15 GB of logits"):
        assert told in words


def test_the_lectures_claims_would_hold_on_a_model_that_bears_them_out(job):
    data = agreeing()
    found = outcomes(job, data)
    assert {found[name] for name in REFUTED} == {"holds"}
    titles = [
        job.module.plot(each, job.config, verdicts=job.module.verdicts(each, job.config))["bytes"]
        .get_suptitle()
        for each in (data, counted())
    ]  # fmt: skip
    assert titles == [
        "Activations take 60 GB, with checkpoints 8",
        "Activations: 60 GB, with checkpoints 8? We count 455 and 14.2",
    ]


@pytest.mark.parametrize("claim", BAD)
def test_each_fails_on_data_that_refute_it(job, claim):
    data = counted()
    name, place, factor = BAD[claim]
    data[name][place] *= factor
    assert outcomes(job, data)[claim] == "fails"


def test_formulas_are_arithmetic_and_runs_are_measured(job):
    for name, verdict in judged(job, counted()).items():
        assert verdict.basis == ("measured" if name.startswith("measured_") else "arithmetic")


def test_peaks_that_are_missing_or_too_low_decide_nothing(job):
    data = counted()
    del data["peaks_small"]
    low = counted()
    low["account_small"] /= 100
    for each in (data, low):
        found = outcomes(job, each)
        assert {found[name] for name in found if name.startswith("measured_")} == {"undecided"}
        assert set(job.module.plot(each, job.config)) == {"bytes"}
    assert set(job.module.plot(counted(), job.config)) == {"bytes", "peaks_small"}


def test_the_formulas_are_those_of_the_lecture_and_of_korthikanti(job):
    found = {name: parts.sum() / 1e9 for name, parts in job.module.formula(job.config).items()}
    assert found["none"] == pytest.approx(60.3979776)  # 12 * 32 * 1024 * 1600 * 48 * 2
    assert found["layer"] == pytest.approx(5.0331648 + 1.2582912 + 1.6777216)
    # 34 + 5 * 25 * 1024 / 1600 = 114 bytes for each of the 32 * 1024 * 1600 numbers of 48 states
    assert found["korthikanti"] == pytest.approx(114 * 32 * 1024 * 1600 * 48 / 1e9)


def test_another_setting_is_held_to_the_formulas_not_to_the_figures_of_the_lecture():
    path = ROOT / "configs" / "gpt2_memory.toml"
    job = configs.load(path, changes={"dtypes": ["bfloat16"], "batch_size": 16})
    found = judged(job, counted())
    assert not {name for name in found if name.startswith("formula")}
    assert found["lecture_none"].expected == pytest.approx(60.3979776 / 2)


def test_the_measured_models_have_the_sizes_that_they_are_called_after(job):
    peaks, gradient = (sys.modules[f"{job.module.__name__}.{n}"] for n in ("peaks", "gradient"))
    for name, millions in (("tiny", 0.028), ("small", 10.4), ("gpt2", 124.4), ("gpt2-xl", 1557.6)):
        model, _ = gradient.loss(peaks.SPECS[name].model, "float32", checkpoints=True)
        sizes = jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0)))
        assert sum(x.size for x in sizes) / 1e6 == pytest.approx(millions, rel=0.01), name


def test_the_parts_of_a_small_model_are_all_that_it_saves(job, monkeypatch):
    small = {"layers": 3, "heads": 2, "width": 8}
    monkeypatch.setattr(models, "gpt2_size", lambda _: small)
    config = job.config.model_copy(update={"sequence": 6, "batch_size": 2})
    module = sys.modules[f"{job.module.__name__}.measure"]
    fun, args = module._loss(config, "bfloat16", "none")
    plain = module.checkpointing.memory_report(fun, *args, compile=False)
    parts = module._parts(plain, None, config)
    assert sum(parts) == plain.saved_bytes
    attention = 2 * 2 * 6 * 6 * 3 * (2 + 4)  # softmax in float32, and rounded for the product
    assert parts[2] == attention
    state = 2 * 6 * 8 * 2
    fun, args = module._loss(config, "bfloat16", "binomial")
    report = module.checkpointing.memory_report(fun, *args, baseline=plain, compile=False)
    kept = module._parts(report, plain, config)
    assert kept[0] == (2 + 2) * state  # 3 layers need two slots, the first state and the last
    assert kept[3] == parts[3] + 4 * 6 * 6  # the causal mask


def test_accounts_are_without_checkpoints_and_with_them(job):
    """A checkpoint per layer keeps the states between layers, and what lies outside of both."""
    peaks = sys.modules[f"{job.module.__name__}.peaks"]
    spec = peaks.SPECS["tiny"]._replace(gpu=True)  # accounted for by shapes alone
    plain, kept = np.array(peaks._accounts(spec, "float32"))
    _, layer, *_ = np.array(peaks._accounts(_deeper(spec), "float32")) - (plain, kept)
    state = 4 * spec.state / spec.model["layers"]
    assert layer[0] == state  # of one more layer
    assert kept[0] < plain[0]
    assert kept[1] < plain[1]


def _deeper(spec):
    return spec._replace(model=spec.model | {"layers": spec.model["layers"] + 1})
