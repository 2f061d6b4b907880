"""A title asserts what its verdicts bear out, and asks otherwise."""

import math
from types import SimpleNamespace

import pytest

from adlab import lab
from adlab.figures import labels
from adlab.lab import headings
from adlab.lab.verdict import Text, Verdict

LABELS = """
[invented]
title = { en = "Slope {n}", ru = "Наклон {n}" }
title_asked = { en = "Slope {n}?", ru = "Наклон {n}?" }
[invented.claim]
slope = { en = "the slope", ru = "наклон" }
slope_of = { en = "the slope of {n}", ru = "наклон {n}" }
other = { en = "another", ru = "другое" }
"""


@pytest.fixture(autouse=True)
def _texts(tmp_path):
    path = tmp_path / "labels.toml"
    path.write_text(LABELS, encoding="utf-8")
    labels.merge("invented", path)
    yield
    labels.merge("invented", tmp_path / "none.toml")


def verdict(key, measured):
    return Verdict(Text(f"invented.claim.{key}"), measured, measured, measured, 1.0, 0.1)


@pytest.mark.parametrize(
    ("verdicts", "title"),
    [
        ([("slope", 1.0)], "Slope 2"),
        ([("slope", 1.0), ("other", 5.0)], "Slope 2"),  # of no concern
        ([("slope", 1.0), ("slope_of", 1.0)], "Slope 2"),
        ([("slope", 1.0), ("slope_of", 2.0)], "Slope 2?"),
        ([("slope", math.nan)], "Slope 2?"),
        ([("other", 1.0)], "Slope 2?"),
        ([], "Slope 2?"),
    ],
)
def test_a_title_asserts_only_what_holds(verdicts, title):
    found = [verdict(*v) for v in verdicts]
    assert lab.heading("invented.title", found, "invented.claim.slope", n=2) == title


def test_every_claim_needs_a_verdict():
    found, claims = [verdict("slope", 1.0)], ("invented.claim.slope", "invented.claim.other")
    assert lab.heading("invented.title", found, *claims, n=2) == "Slope 2?"
    found.append(verdict("other", 1.0))
    assert lab.heading("invented.title", found, *claims, n=2) == "Slope 2"


def test_claims_in_words_count_for_no_title():
    found = [Verdict("the slope", 1.0, 1.0, 1.0, 1.0, 0.1)]
    assert lab.heading("invented.title", found, "invented.claim.slope", n=2) == "Slope 2?"


def test_misspelt_claims_and_labels_are_named():
    with pytest.raises(KeyError, match=r"no label begins with 'invented\.claim\.slop_'"):
        lab.heading("invented.title", [], "invented.claim.slop_", n=2)
    with pytest.raises(KeyError, match=r"no label 'invented\.tilte_asked'"):
        lab.heading("invented.tilte", [], "invented.claim.slope", n=2)
    with pytest.raises(ValueError, match="must name the claims"):
        lab.heading("invented.title", [])


def test_figures_get_the_verdicts_where_they_take_them():
    took = SimpleNamespace(plot=lambda _data, _config, *, verdicts=(): {"seen": verdicts})
    plain = SimpleNamespace(plot=lambda _data, _config: {"seen": None})
    assert headings.figures(took, {}, None, ["v"]) == {"seen": ["v"]}
    assert headings.figures(plain, {}, None, ["v"]) == {"seen": None}
