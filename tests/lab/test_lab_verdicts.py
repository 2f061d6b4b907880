import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from rich.console import Console

from adlab.lab import Text, Verdict
from adlab.lab.report import Verdicts, by_basis, print_verdicts, rounded, summary
from adlab.lab.runner import Result

INF, NAN = math.inf, math.nan
reals = st.floats(-1e6, 1e6)
widths = st.floats(0, 1e6)


@pytest.mark.parametrize(
    ("low", "high", "outcome", "control"),
    [
        (0.95, 1.05, "holds", "fails"),
        (0.875, 1.125, "holds", "fails"),  # the band's edges belong to it
        (1.05, 1.2, "undecided", "undecided"),
        (0.5, 1.5, "undecided", "undecided"),
        (1.2, 1.5, "fails", "holds"),
        (0.1, 0.2, "fails", "holds"),
        (-INF, 1.0, "undecided", "undecided"),
        (NAN, 1.0, "undecided", "undecided"),
        (1.0, NAN, "undecided", "undecided"),
    ],
)
def test_the_outcome_compares_the_interval_with_the_band(low, high, outcome, control):
    assert Verdict("c", 1.0, low, high, 1, 0.125).outcome == outcome
    assert Verdict("c", 1.0, low, high, 1, 0.125, control=True).outcome == control


@given(measured=reals, below=widths, above=widths, expected=reals, tolerance=widths)
def test_a_control_turns_the_outcome_round_and_leaves_doubt_alone(
    measured, below, above, expected, tolerance
):
    numbers = (measured, measured - below, measured + above, expected, tolerance)
    turned = {"holds": "fails", "fails": "holds", "undecided": "undecided"}
    plain = Verdict("c", *numbers).outcome
    assert Verdict("c", *numbers, control=True).outcome == turned[plain]


@given(measured=reals, half=widths, expected=reals, tolerance=widths)
def test_holds_only_if_no_point_of_the_interval_is_outside(measured, half, expected, tolerance):
    verdict = Verdict("c", measured, measured - half, measured + half, expected, tolerance)
    below, above = verdict.band
    inside = [below <= x <= above for x in (verdict.low, verdict.measured, verdict.high)]
    assert (verdict.outcome == "holds") == all(inside)
    if verdict.outcome == "fails":
        assert not any(inside)


@pytest.mark.parametrize("measured", [INF, -INF])
def test_a_diverged_measurement_is_a_violation_and_never_a_success(measured):
    assert Verdict("c", measured, NAN, NAN, 1, 0.1, control=True).outcome == "holds"
    assert Verdict("c", measured, measured, measured, 1, 0.1).outcome == "fails"
    assert Verdict.at_least("c", INF, INF, INF, bound=1).outcome == "undecided"
    assert Verdict.at_least("c", INF, INF, INF, bound=1, control=True).outcome == "holds"


def test_nan_never_holds():
    for control in (False, True):
        assert Verdict("c", NAN, 1, 1, 1, 0.1, control).outcome == "undecided"
        assert Verdict.at_most("c", NAN, NAN, NAN, 1, control=control).outcome == "undecided"


def test_one_sided_claims():
    assert Verdict.at_most("c", 0.5, -INF, 0.9, bound=1).outcome == "holds"
    assert Verdict.at_most("c", 0.5, 0.4, 1.1, bound=1).outcome == "undecided"
    assert Verdict.at_most("c", 1.5, 1.4, 1.6, bound=1).outcome == "fails"
    assert Verdict.at_least("c", 1.5, 1.4, INF, bound=1).outcome == "holds"
    assert Verdict.at_least("c", 0.5, 0.4, 0.6, bound=1).outcome == "fails"
    assert Verdict.at_least("c", 0.5, 0.4, 0.6, bound=1, control=True).outcome == "holds"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"low": 2.0}, "low must be <= high, got low=2.0, high=1.5"),
        ({"tolerance": -1}, "tolerance must be >= 0, got -1.0"),
        ({"tolerance": NAN}, "tolerance must be >= 0, got nan"),
        ({"expected": INF}, "expected must be finite, got inf"),
    ],
)
def test_a_verdict_refuses_what_makes_no_sense(change, message):
    numbers = {"measured": 1, "low": 0.5, "high": 1.5, "expected": 1, "tolerance": 1}
    with pytest.raises(ValueError, match=message):
        Verdict("c", **(numbers | change))


@given(
    numbers=st.tuples(*[st.floats(allow_nan=True)] * 3),
    expected=reals,
    tolerance=widths,
    control=st.booleans(),
)
def test_json_is_strict_and_comes_back(numbers, expected, tolerance, control):
    measured, low, high = numbers
    assume(not low > high)
    verdict = Verdict(Text("outcome.holds"), measured, low, high, expected, tolerance, control)
    text = json.dumps(verdict.to_json(), allow_nan=False)
    back = Verdict.from_json(json.loads(text))
    assert repr(back) == repr(verdict)  # by repr, since nan differs from itself
    assert back.outcome == json.loads(text)["outcome"] == verdict.outcome


def test_json_has_what_readers_rely_on():
    verdict = Verdict("a claim", 1, 0.9, 1.1, 1, 0.2)
    assert verdict.to_json() == {
        "claim": "a claim",
        "measured": 1.0,
        "low": 0.9,
        "high": 1.1,
        "expected": 1.0,
        "tolerance": 0.2,
        "side": "both",
        "control": False,
        "outcome": "holds",
    }


def test_texts_are_rendered_in_both_languages_with_texts_inside():
    inner = Text("outcome.holds")
    assert (inner.render(), inner.render("ru")) == ("holds", "верно")
    text = Text("no.such.label", n=np.int64(3), inner=inner, x=np.float32(0.5))
    assert json.loads(json.dumps(text.to_json())) == {
        "key": "no.such.label",
        "params": {"n": 3, "inner": {"key": "outcome.holds", "params": {}}, "x": 0.5},
    }
    assert Text.from_json(text.to_json()) == text
    with pytest.raises(KeyError, match=r"no\.such\.label"):
        text.render()


@pytest.mark.parametrize(
    ("value", "half", "text"),
    [
        (1.00437, 0.017, "1.004"),
        (-0.98, 0.1, "-0.98"),
        (12345.6, 300, "12346"),
        (1.23456e-9, 3e-11, "1.235e-09"),
        (0.0, 0.01, "0.000"),
        (0.1 + 0.2, 0.0, "0.3"),
        (INF, 1.0, "inf"),
        (NAN, NAN, "nan"),
        (3.0, INF, "3"),
        (2.5e8, 1e6, "2.500e+08"),
    ],
)
def test_numbers_keep_the_digits_that_the_interval_supports(value, half, text):
    assert rounded(value, half) == text


def test_a_row_of_the_table_says_what_was_expected_of_a_control():
    text = io.StringIO()
    rows = [
        Verdict("claim", 1.0, 0.95, 1.05, 1, 0.1),
        Verdict("control", 3.0, 2.95, 3.05, 1, 0.1, control=True),
        Verdict.at_least("bound", 3.0, 2.95, 3.05, 4, control=True),
    ]
    print_verdicts(rows, "en", Console(file=text, width=100))
    shown = [" ".join(line.split()) for line in text.getvalue().splitlines()]
    assert shown[2:] == [
        "claim 1.000 [0.950, 1.050] 1 0.1 holds",
        "control 3.000 [2.950, 3.050] not 1 0.1 holds",
        "bound 3.000 [2.950, 3.050] not >= 4 holds",
        "3 of 3 hold",
    ]


def test_a_list_of_verdicts_shows_itself_as_the_table():
    rows = Verdicts([Verdict("a <claim>", 1, 0.95, 1.05, 1, 0.1), Verdict("odd", 3, 3, 3, 1, 0.1)])
    shown = [" ".join(line.split()) for line in repr(rows).splitlines()]
    assert shown[2:] == [
        "a <claim> 1.000 [0.950, 1.050] 1 0.1 holds",
        "odd 3 - 1 0.1 fails",
        "1 of 2 hold (1 fails)",
    ]
    html = rows._repr_html_()
    assert html.startswith("<pre>")
    assert "a &lt;claim&gt;" in html
    assert rows == list(rows)
    assert repr(Verdicts()) == "no verdicts"
    result = Result(Path("results/toy-1"), True, rows, ["no paper"])
    assert repr(result) == "<Result results/toy-1: 1 of 2 hold (1 fails); failed: no paper>"
    assert "Result results/toy-1: 1 of 2 hold" in result._repr_html_()
    assert html in result._repr_html_()


def test_the_summary_counts_outcomes():
    holds, fails = Verdict("c", 1, 1, 1, 1, 0), Verdict("c", 2, 2, 2, 1, 0)
    doubt = Verdict("c", NAN, 1, 1, 1, 0)
    assert summary([holds, holds]) == "2 of 2 hold"
    assert summary([holds, fails, doubt]) == "1 of 3 hold (1 fails, 1 undecided)"


def test_a_range_is_stored_and_printed_as_such_and_exact_numbers_have_neither():
    rows = [
        Verdict("sizes", 1.0, 0.95, 1.05, 1, 0.1, kind="range"),
        Verdict.at_most("dtypes", 1.05, 0.95, 1.05, 2, kind="range"),
        Verdict("count", 3, 3, 3, 3, 0),
        Verdict.at_most("few", 0.5, -INF, INF, 1),
        Verdict("times", 1.0, NAN, NAN, 1, 0.1),
    ]
    stored = [row.to_json() for row in rows]
    assert [value.get("kind", "interval") for value in stored] == [
        "range", "range", "exact", "interval", "interval",
    ]  # fmt: skip
    assert [Verdict.from_json(value).kind for value in stored] == [row.kind for row in rows]
    text = io.StringIO()
    print_verdicts(rows, "en", Console(file=text, width=100))
    shown = [" ".join(line.split()) for line in text.getvalue().splitlines()]
    assert shown[2:-1] == [
        "sizes 1.000 range [0.950, 1.050] 1 0.1 holds",
        "dtypes 1.050 range [0.950, 1.050] <= 2 holds",
        "count 3 - 3 0 holds",
        "few 0.5 more seeds needed <= 1 undecided",
        "times 1 unknown 1 0.1 undecided",
    ]
    with pytest.raises(ValueError, match="kind must be one of"):
        Verdict("c", 1, 1, 1, 1, 1, kind="hull")


SIDES = ("at_most", "at_least", "both")


@given(cases=st.lists(reals, min_size=1, max_size=5), side=st.sampled_from(SIDES), expected=reals,
       tolerance=widths)  # fmt: skip
def test_the_worst_holds_where_all_cases_do_and_its_control_where_all_violate(
    cases, side, expected, tolerance
):
    tolerance = tolerance if side == "both" else 0.0
    alone = [Verdict("c", x, x, x, expected, tolerance, side=side).outcome for x in cases]
    found = {
        (control, kind): Verdict.worst(
            "c", cases, expected, tolerance, side=side, control=control, kind=kind
        ).outcome
        for control in (False, True)
        for kind in ("exact", "range")
    }
    held, violated = set(alone) == {"holds"}, set(alone) == {"fails"}
    assert found[False, "exact"] == ("holds" if held else "fails")
    assert found[True, "exact"] == ("holds" if violated else "fails")
    assert found[False, "range"] != ("fails" if held else "holds")
    assert (found[False, "range"] == "holds") == held
    if side != "both":  # cases on both sides of a band leave it undecided
        assert (found[False, "range"] == "fails") == violated


@pytest.mark.parametrize(
    ("side", "control", "exact", "middle"),
    [
        ("at_most", False, 9.0, 9.0), ("at_most", True, 1.0, 4.0), ("at_least", False, 1.0, 1.0),
        ("at_least", True, 9.0, 4.0), ("both", False, 9.0, 4.0), ("both", True, 4.0, 4.0),
    ],
)  # fmt: skip
def test_the_worst_case_is_the_one_that_speaks_most_against_it(side, control, exact, middle):
    cases = np.array([[4.0, 1.0], [9.0, 4.0]])
    found = Verdict.worst("c", cases, 4.5, side=side, control=control)
    assert (found.low, found.measured, found.high, found.kind) == (exact, exact, exact, "exact")
    found = Verdict.worst("c", cases, 4.5, side=side, control=control, kind="range")
    assert (found.low, found.measured, found.high, found.kind) == (1.0, middle, 9.0, "range")


@pytest.mark.parametrize("cases", [[], [1.0, NAN, 2.0]])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", ["exact", "range"])
def test_the_worst_of_none_or_of_what_is_no_number_is_undecided(cases, side, kind):
    for control in (False, True):
        found = Verdict.worst("c", cases, 1.5, side=side, control=control, kind=kind)
        assert found.outcome == "undecided"


def test_a_verdict_is_shown_in_one_line_and_as_a_row():
    verdict = Verdict(Text("law.sphere"), 1.00437, 0.9, 1.2, 1, 0.25, control=True)
    assert repr(verdict) == (
        "<Verdict fails: 'sphere', measured 1.004 [0.9, 1.2], expected not 1 +- 0.25>"
    )
    assert repr(Verdict.at_most("a < b", 2, 2, 2, 1)) == (
        "<Verdict fails: 'a < b', measured 2, expected <= 1>"
    )
    assert "'no.such.label'" in repr(Verdict(Text("no.such.label"), 1, 1, 1, 1, 0))
    html = Verdict.at_most("a < b", 2, 2, 2, 1)._repr_html_()
    assert "<td>a &lt; b</td><td>2</td><td>&lt;= 1</td><td>fails</td>" in html


def classed():
    """Two measured verdicts, of which one fails, an identity and a formula in doubt."""
    return [
        Verdict("m", 1.0, 0.9, 1.1, 1, 0.2, basis="measured"),
        Verdict.at_most("n", 2.0, 2.0, 2.0, 1, basis="measured"),
        Verdict.worst("i", [0.0, 0.0], 0.0, basis="identity"),
        Verdict.at_least("a", NAN, NAN, NAN, 1, basis="arithmetic"),
    ]


def test_each_class_is_counted_apart_in_both_languages():
    rows = classed()
    assert summary(rows) == (
        "2 of 4 hold (1 fails, 1 undecided): measured 1 of 2, identity 1 of 1, arithmetic 0 of 1"
    )
    assert summary(rows, "ru") == (
        "верно 2 из 4 (1 неверно, 1 не решено): измерение 1 из 2, тождество 1 из 1, "
        "арифметика 0 из 1"
    )
    mixed = [rows[0], Verdict("c", 1, 1, 1, 1, 0)]
    assert summary(mixed) == "2 of 2 hold: measured 1 of 1, unclassed 1 of 1"
    assert by_basis(mixed)[None] == {"holds": 1, "fails": 0, "undecided": 0}


def test_the_class_is_a_column_is_stored_and_must_be_one_of_three():
    rows = classed()
    stored = [json.loads(json.dumps(row.to_json())) for row in rows]
    assert [value["basis"] for value in stored] == [row.basis for row in rows]
    assert [repr(Verdict.from_json(v).basis) for v in stored] == [repr(r.basis) for r in rows]
    old = {key: value for key, value in stored[0].items() if key != "basis"}
    assert Verdict.from_json(old).basis is None
    text = io.StringIO()
    print_verdicts([*rows[2:3], Verdict("old", 1, 1, 1, 1, 0)], "ru", Console(file=text, width=100))
    shown = [" ".join(line.split()) for line in text.getvalue().splitlines()]
    assert shown[2:4] == ["i тождество 0 - 0 0 верно", "old - 1 - 1 0 верно"]
    with pytest.raises(ValueError, match="basis must be one of"):
        Verdict("c", 1, 1, 1, 1, 1, basis="guess")
    ranged = Verdict.worst("i", [0.0, 1.0], 0.0, kind="range", basis="identity")
    assert (ranged.kind, ranged.basis) == ("range", "identity")
