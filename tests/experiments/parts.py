"""The modules of an experiment, imported as the lab does."""

import importlib
from pathlib import Path

from adlab.lab import experiment

ROOT = Path(__file__).parents[2]


def part(name, module):
    """Return the module of that name in the folder of an experiment."""
    head = experiment.load(ROOT / "experiments" / name / "__init__.py")
    return importlib.import_module(f"{head.__name__}.{module}")


def outcomes(job, data):
    """Return, for the name of each claim, the outcomes of its verdicts."""
    found = {}
    for verdict in job.module.verdicts(data, job.config):
        found.setdefault(verdict.claim.key.rpartition(".")[2], set()).add(verdict.outcome)
    return found
