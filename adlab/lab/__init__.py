"""The lab: experiments run from TOML configs, with verdicts, figures and provenance.

An experiment takes `ExperimentConfig`, `Estimator`, `ProblemSpec`, `Verdict`, `Text`, `Progress`,
`Needs` and `LabError` from here; `run` runs one from Python as `adlab run` does from the shell.
Names are imported when first used, so that `adlab --help` needs neither jax nor pydantic.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from adlab.lab.config import ExperimentConfig
    from adlab.lab.errors import LabError
    from adlab.lab.headings import heading
    from adlab.lab.needs import Needs
    from adlab.lab.progress import Progress
    from adlab.lab.registries import estimators, problems
    from adlab.lab.registry import Spec as Estimator
    from adlab.lab.registry import Spec as ProblemSpec
    from adlab.lab.runner import run
    from adlab.lab.verdict import Text, Verdict

__all__ = [
    "Estimator",
    "ExperimentConfig",
    "LabError",
    "Needs",
    "ProblemSpec",
    "Progress",
    "Text",
    "Verdict",
    "estimators",
    "heading",
    "problems",
    "run",
]

if not TYPE_CHECKING:  # a type checker would take any name for one of the package's
    _HOMES = {
        "ExperimentConfig": "config",
        "LabError": "errors",
        "Needs": "needs",
        "Progress": "progress",
        "Text": "verdict",
        "Verdict": "verdict",
        "estimators": "registries",
        "heading": "headings",
        "problems": "registries",
        "run": "runner",
    }
    _UNIONS = {"Estimator": "estimators", "ProblemSpec": "problems"}

    def __getattr__(name):
        if name in _UNIONS:  # made again at each look, since plugins add kinds
            registries = importlib.import_module("adlab.lab.registries")
            return getattr(registries, _UNIONS[name]).union()
        if name in _HOMES:
            return getattr(importlib.import_module(f"adlab.lab.{_HOMES[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
