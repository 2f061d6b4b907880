"""Titles that follow the verdicts: a finding is asserted where it holds, and asked where not."""

from __future__ import annotations

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
      *claims: labels of claims, or beginnings of them: "rates.claim.slope" is all claims whose
        labels begin so.
      **params: values of the labels' fields.

    Raises:
      KeyError: there is no such label, or no label that begins as one of the claims does.
      ValueError: no claims are given.
    """
    if not claims:
        raise ValueError(f"{key}: a heading must name the claims that it asserts, got none")
    known = labels.table()
    for claim in claims:
        if not any(label.startswith(claim) for label in known):
            raise KeyError(f"no label begins with {claim!r}, which the heading {key!r} asserts")
    about = [v for v in verdicts if isinstance(v.claim, Text) and v.claim.key.startswith(claims)]
    judged = [v.claim.key for v in about if isinstance(v.claim, Text)]
    complete = all(any(key.startswith(claim) for key in judged) for claim in claims)
    holds = complete and all(v.outcome == "holds" for v in about)
    return labels.text(key if holds else f"{key}_asked", None, **params)


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
