"""What the lecture says of the model, what formulas say of themselves, and what was measured."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from adlab.lab import Text, Verdict
from adlab.lab.verdict import Basis

from . import peaks
from .config import LECTURE, PARTS, POLICIES, Config, Run
from .formulas import formula, layers_alive, repeated, states

Arrays = dict[str, np.ndarray]
GIGA = 1e9
SAID = {"none": 60.0, "layer": 8.0}  # gigabytes, in the lecture's setting
MORE = 1 / 3  # of the work, says the lecture
CLOSE = 0.1  # within which the lecture's figures count as right, relative


class Lecture(NamedTuple):
    """The lecture's gigabytes or share of work, and those of the model."""

    said: float
    counted: float


def lecture(data: Arrays, config: Config) -> dict[str, Lecture]:
    """Return what the lecture says beside the count, the first dtype of the config's.

    In another setting than the lecture's its formulas speak for it.
    """
    mine = (config.size, config.sequence, config.batch_size) == LECTURE
    found = {}
    for name, parts in formula(config).items():
        if name in SAID:
            said = SAID[name] if mine else parts.sum() / GIGA
            found[name] = Lecture(said, layers_alive(data, config, 0, name).sum() / GIGA)
    work = data["flops"][0, POLICIES.index("layer")] / data["flops"][0, 0] - 1
    return found | {"work": Lecture(MORE, float(work))}


def verdicts(data: Arrays, config: Config) -> list[Verdict]:
    """Judge the lecture's claims by the count, formulas by formulas, and the runs."""
    found = [*_lecture(data, config), *_formulas(data, config)]
    for name in config.measured:
        found += _measured(data, name)
    return found


def _lecture(data: Arrays, config: Config) -> list[Verdict]:
    """Judge what the lecture says of this model; the claims name what its formula leaves out."""
    saved = dict(zip(PARTS, data["saved"][0, 0] / GIGA, strict=True))
    by_formula = formula(config)["none"].sum() / GIGA
    words = {
        "attention": f"{saved['attention']:.3g}", "head": f"{saved['head']:.3g}",
        "inside": f"{saved['layers'] - by_formula:.3g}", "dtype": config.dtypes[0],
    }  # fmt: skip
    found = []
    for name, (said, counted) in lecture(data, config).items():
        params = {} if name == "work" else {**words, "said": f"{said:.3g}"}
        params |= {"times": f"{counted / said:.2g}"}
        claim = Text(f"gpt2_memory.claim.lecture_{name}", **params)
        ends = (counted, counted, counted)
        found.append(Verdict(claim, *ends, said, CLOSE * said, basis="arithmetic"))
    return found


def _formulas(data: Arrays, config: Config) -> list[Verdict]:
    """Judge how the lecture's figures come about, and counts by closed forms."""
    by_formula, found = formula(config), []
    if (config.size, config.sequence, config.batch_size) == LECTURE:
        for name, gigabytes in SAID.items():
            claim = Text(f"gpt2_memory.claim.formula_{name}")
            total = by_formula[name].sum() / GIGA
            found.append(_near(claim, [total], gigabytes, gigabytes / 60))
    again = 1 + data["forward"] / data["flops"][:, 0]
    found.append(_near(Text("gpt2_memory.claim.again"), again, 4 / 3, 4 / 3 * 0.02))
    layer = data["flops"][:, 1] / data["flops"][:, 0]
    claim = Text("gpt2_memory.claim.closed_form")
    found.append(_near(claim, layer / repeated(config), 1.0, 0.01))
    kept = data["saved"][:, 1:, 0] / states(config)
    found.append(_near(Text("gpt2_memory.claim.layer_states"), kept[:, 0], 1.0, 0.01))
    for column, policy in enumerate(("sqrt()", f"binomial({config.slots})"), 2):
        claim = Text("gpt2_memory.claim.schedule", policy=policy)
        found.append(_near(claim, kept[:, column], 1.0, 0.01))
    return found


def _measured(data: Arrays, name: Run) -> list[Verdict]:
    """Judge peaks over processes: by the compiler's account, the count, and the formula."""
    none, layer = peaks.known(data, name)
    compiled, saved = peaks.compiled(data, name), data[f"account_{name}"][:, 0]
    output = data[f"account_{name}"][0, 3]
    ratios = {
        "peak": none / compiled[0],
        "spared": (none - layer) / (saved[0] - saved[1]),
        "formula": (none - output) / peaks.formula(data, name),
    }
    words = {"model": Text(f"gpt2_memory.run.{name.replace('-', '_')}")}
    return [
        _near(Text(f"gpt2_memory.claim.measured_{kind}", **words), values, 1.0, CLOSE, "measured")
        for kind, values in ratios.items()
    ]


def _near(
    claim: Text, values: Any, expected: float, tolerance: float, basis: Basis = "arithmetic"
) -> Verdict:
    return Verdict.worst(claim, values, expected, tolerance, kind="range", basis=basis)
