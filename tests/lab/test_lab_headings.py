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
slopes.one = { en = "the first slope", ru = "первый наклон" }
slopes.two = { en = "the second slope", ru = "второй наклон" }
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
        ([("slope", 1.0), ("slope_of", 2.0)], "Slope 2"),  # another claim, with a longer key
        ([("slope_of", 1.0)], "Slope 2?"),
        ([("slope", 1.0), ("slope", 2.0)], "Slope 2?"),
        ([("slope", math.nan)], "Slope 2?"),
        ([("other", 1.0)], "Slope 2?"),
        ([], "Slope 2?"),
    ],
)
def test_a_title_asserts_only_what_holds(verdicts, title):
    found = [verdict(*v) for v in verdicts]
    assert lab.heading("invented.title", found, "invented.claim.slope", n=2) == title


@pytest.mark.parametrize("table", ["invented.claim.slopes", "invented.claim.slopes."])
def test_a_table_of_claims_is_all_that_stand_in_it(table):
    found = [verdict("slopes.one", 1.0), verdict("slope", 2.0)]
    assert lab.heading("invented.title", found, table, n=2) == "Slope 2"
    found.append(verdict("slopes.two", 2.0))
    assert lab.heading("invented.title", found, table, n=2) == "Slope 2?"
    assert lab.heading("invented.title", found[1:2], table, n=2) == "Slope 2?"


def test_every_claim_needs_a_verdict():
    found, claims = [verdict("slope", 1.0)], ("invented.claim.slope", "invented.claim.other")
    assert lab.heading("invented.title", found, *claims, n=2) == "Slope 2?"
    found.append(verdict("other", 1.0))
    assert lab.heading("invented.title", found, *claims, n=2) == "Slope 2"


def test_claims_in_words_count_for_no_title():
    found = [Verdict("the slope", 1.0, 1.0, 1.0, 1.0, 0.1)]
    assert lab.heading("invented.title", found, "invented.claim.slope", n=2) == "Slope 2?"


def test_misspelt_claims_and_labels_are_named():
    for begun in ("invented.claim.slop", "invented.claim.slope_"):
        with pytest.raises(
            KeyError, match=rf"no label is '{begun}' .*mean 'invented\.claim\.slope"
        ):
            lab.heading("invented.title", [], begun, n=2)
    with pytest.raises(KeyError, match=r"no label 'invented\.tilte_asked'"):
        lab.heading("invented.tilte", [], "invented.claim.slope", n=2)
    with pytest.raises(ValueError, match="must name the claims"):
        lab.heading("invented.title", [])


def test_figures_get_the_verdicts_where_they_take_them():
    took = SimpleNamespace(plot=lambda _data, _config, *, verdicts=(): {"seen": verdicts})
    plain = SimpleNamespace(plot=lambda _data, _config: {"seen": None})
    assert headings.figures(took, {}, None, ["v"]) == {"seen": ["v"]}
    assert headings.figures(plain, {}, None, ["v"]) == {"seen": None}
