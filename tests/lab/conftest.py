"""A checkout to run in: toy experiments, their configs, and a count of what was computed."""

import sys
from pathlib import Path
from textwrap import dedent

import pytest

DECAY = '''
"""Powers of one half decay with ratio 1/2.

The rest of the docstring.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
from matplotlib.figure import Figure
from pydantic import Field

from adlab import lab


class Config(lab.ExperimentConfig):
    """A toy."""

    num_steps: Annotated[int, Field(ge=1)] = 8
    """How many terms."""
    ratio: float = 0.5
    widths: tuple[int, ...] = (1, 2)
    labels: list[str] = []


def compute(name, arrays):
    with Path("computed.txt").open("a") as file:
        file.write(f"{name}\\n")
    if Path(f"interrupt-{name}").exists():
        raise KeyboardInterrupt
    if Path(f"break-{name}").exists():
        raise ValueError("the simulator is out of order")
    return arrays


def run(config, progress):
    terms = config.ratio ** np.arange(config.num_steps)
    first = progress.stage("first", lambda: compute("first", {"terms": terms}))
    progress.seconds("first", compile=0.5, run=0.25)

    def second():
        progress.update(1, 2, "half")
        progress.timing("clock", np.array([1.0, 2.0]))
        return compute("second", {"ratios": terms[1:] / terms[:-1]})

    return {**first, **progress.stage("second", second)}


def verdicts(data, config):
    ratio = data["ratios"][0]
    return [
        lab.Verdict(lab.Text("method.two_point"), ratio, ratio - 0.01, ratio + 0.01, 0.5, 0.1),
        lab.Verdict.at_most("terms stay below 2", 1, 1, 1, bound=2),
    ]


def plot(data, config):
    if Path("break-plot").exists():
        raise ValueError("no paper")
    figure = Figure()
    figure.subplots().semilogy(data["terms"])
    return {"decay": figure}
'''

CONFIG = """
num_steps = 8

[profiles.smoke]
num_steps = 4
[profiles.wrong]
ratio = 0.9
"""


class Checkout:
    """Folders configs/ and experiments/ with files written by a test."""

    def __init__(self, path):
        self.path = path

    def experiment(self, name, text):
        self._write(f"experiments/{name}.py", text.lstrip())

    def config(self, name, text):
        return self._write(f"configs/{name}.toml", dedent(text))

    def _write(self, name, text):
        file = self.path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return Path(name)

    @property
    def computed(self):
        file = self.path / "computed.txt"
        return file.read_text().split() if file.exists() else []

    @property
    def results(self):
        return sorted(p for p in (self.path / "results").iterdir() if not p.name.startswith("."))

    @property
    def result(self):
        (only,) = self.results
        return only


@pytest.fixture
def quick_figures(monkeypatch):
    """Let figures be files of a line: for tests that don't look at their bytes."""

    def save(figure, stem, formats=("svg", "pdf", "png")):
        for kind in formats:
            stem.with_suffix(f".{kind}").write_text(f"{len(figure.axes)} axes")

    monkeypatch.setattr("adlab.figures.style.save", save)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("adlab.lab.experiment.installed", lambda: tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    made = Checkout(tmp_path)
    made.experiment("decay", DECAY)
    made.config("decay", CONFIG)
    return made
