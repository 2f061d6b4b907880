"""Titles that follow the verdicts: a finding is asserted where it holds, and asked where not."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from adlab.figures import labels
from adlab.lab.verdict import Text, Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def heading(key: str, verdicts: Sequence[Verdict], *claims: str, **params: object) -> str:
    """Return the title `key` if the verdicts on `claims` hold, else the question `<key>_asked`.

    Both are labels of the experiment: "Reverse mode costs a few evaluations at any dimension", and
    "Does reverse mode cost a few evaluations at any dimension?". Where there is no verdict on one
    of the claims, or any of them fails or is undecided, the title asks.

    Args:
      key: the label of the assertion.
      verdicts: those of the run.
      *claims: labels of claims, or tables of them: "rates.claim" is all claims whose labels begin
        with "rates.claim.", while "rates.claim.slope" isn't "rates.claim.slope_of".
      **params: values of the labels' fields.

    Raises:
      KeyError: there is no such label, or one of the claims is neither a label nor a table of
        labels.
      ValueError: no claims are given.
    """
    if not claims:
        raise ValueError(f"{key}: a heading must name the claims that it asserts, got none")
    known = labels.table()
    for claim in claims:
        if not any(_belongs(label, claim) for label in known):
            match = difflib.get_close_matches(claim, known, n=1, cutoff=0.0)
            raise KeyError(
                f"no label is {claim!r} or in a table of that name, which the heading {key!r} "
                f"asserts; did you mean {match[0]!r}?"
            )
    judged = {(v.claim.key, v.outcome) for v in verdicts if isinstance(v.claim, Text)}
    about = [[outcome for label, outcome in judged if _belongs(label, claim)] for claim in claims]
    holds = all(set(found) == {"holds"} for found in about)
    return labels.text(key if holds else f"{key}_asked", None, **params)


def _belongs(label: str, claim: str) -> bool:
    return label == claim or label.startswith(claim.removesuffix(".") + ".")


def figures(
    experiment: ModuleType, data: Mapping[str, Any], config: Any, verdicts: Sequence[Verdict]
) -> Mapping[str, Figure]:
    """Return the figures of an experiment, whose `plot` gets the verdicts if it takes them.

    That is, if it has a parameter `verdicts`.
    """
    import inspect

    takes = "verdicts" in inspect.signature(experiment.plot).parameters
    drawn: Mapping[str, Figure] = experiment.plot(
        data, config, **({"verdicts": verdicts} if takes else {})
    )
    return drawn
