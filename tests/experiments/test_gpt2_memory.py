"""Every verdict of `gpt2_memory` holds on data that bear it out, and fails on others."""

from pathlib import Path

import numpy as np
import pytest

from adlab import models
from adlab.lab import config as configs

ROOT = Path(__file__).parents[2]
STATE = 32 * 1024 * 1600 * 2  # bytes of a state between layers, in bfloat16


@pytest.fixture(scope="module")
def job():
    changes = {"dtypes": ["bfloat16"], "slots": 5}
    return configs.load(ROOT / "configs" / "gpt2_memory.toml", changes=changes)


def counted():
    """Data as they are expected: 48 layers; the square root keeps 7 + 5 states, binomial(5) 5."""
    head = 15e9
    saved = [[0, 200e9, 240e9, head]]
    saved += [[STATE * kept, 0, 0, head] for kept in (48, 9 * 48, 13, 6)]
    return {
        "saved": np.array([saved]),
        "flops": 3 * np.array([[1, 1.2220, 1.03, 1.64, 1.9]]),
        "forward": np.array([1.0]),
    }


def outcomes(job, data):
    """Return claim -> outcome, a claim about a schedule being called after it."""
    found = job.module.verdicts(data, job.config)
    return {v.claim.params.get("policy", v.claim.key.rpartition(".")[2]): v.outcome for v in found}


BAD = {
    "again": ("forward", 0, 1.1),
    "layer_work": ("flops", (0, 1), 1.1),
    "closed_form": ("flops", (0, 1), 1.02),
    "layer_states": ("saved", (0, 1, 0), 1.02),
    "sqrt()": ("saved", (0, 3, 0), 12 / 13),
    "binomial(5)": ("saved", (0, 4, 0), 7 / 6),
    "control_none": ("saved", (0, 0), 60.4 / 455),
    "control_layer": ("saved", (0, 0), 48 * (7.97 - 5.03) / 440),
}


def test_all_hold_on_data_that_bear_them_out(job):
    found = outcomes(job, counted())
    assert set(found.values()) == {"holds"}
    assert set(found) == {*BAD, "formula_none", "formula_layer"}


@pytest.mark.parametrize("claim", BAD)
def test_each_fails_on_data_that_refute_it(job, claim):
    data = counted()
    name, place, factor = BAD[claim]
    data[name][place] *= factor
    assert outcomes(job, data)[claim] == "fails"


def test_the_formulas_are_those_of_the_lecture_and_of_korthikanti(job):
    found = {name: parts.sum() / 1e9 for name, parts in job.module.formula(job.config).items()}
    assert found["none"] == pytest.approx(60.3979776)  # 12 * 32 * 1024 * 1600 * 48 * 2
    assert found["layer"] == pytest.approx(5.0331648 + 1.2582912 + 1.6777216)
    # 34 + 5 * 25 * 1024 / 1600 = 114 bytes for each of the 32 * 1024 * 1600 numbers of 48 states
    assert found["korthikanti"] == pytest.approx(114 * 32 * 1024 * 1600 * 48 / 1e9)


def test_another_setting_is_not_held_to_the_figures_of_the_lecture():
    path = ROOT / "configs" / "gpt2_memory.toml"
    job = configs.load(path, changes={"dtypes": ["bfloat16"], "batch_size": 16})
    assert not {name for name in outcomes(job, counted()) if name.startswith("formula")}


def test_the_parts_of_a_small_model_are_all_that_it_saves(job, monkeypatch):
    small = {"layers": 3, "heads": 2, "width": 8}
    monkeypatch.setattr(models, "gpt2_size", lambda _: small)
    config = job.config.model_copy(update={"sequence": 6, "batch_size": 2})
    module = job.module
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
    assert kept[0] == (2 + 1) * state  # 3 layers need the first two states, and have the last
    assert kept[3] == parts[3] + 4 * 6 * 6  # the causal mask
