"""The README: its blocks print what it shows, and its table is that of a stored run."""

import importlib.util
import json

import pages

NAME = "../README.md"
ROOT = pages.DOCS.parent


def test_every_block_runs_and_every_result_shown_is_what_it_prints():
    wrong = [each for each in pages.run(NAME) if each[1] is not None]  # tables aren't shown
    assert wrong == []


def test_its_blocks_are_formatted(tmp_path):
    assert pages.unformatted(NAME, tmp_path) == ""


def tables():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_its_tables_are_those_of_the_stored_runs():
    made = tables()
    stored = json.loads(made.STORED.read_text(encoding="utf-8"))
    assert sorted(stored) == made.experiments(), "run `python docs/tables.py --run`"
    page = made.README.read_text(encoding="utf-8")
    assert page == made.updated(page, stored), "run `python docs/tables.py`"
    for begin, end in made.MARKS.values():
        assert page.count(begin) == page.count(end) == 1
    for entry in stored.values():
        for value, verdict in zip(entry["verdicts"], made.verdicts(entry), strict=True):
            assert verdict.outcome == value["outcome"]
            assert verdict.basis is not None


def test_what_fails_is_listed_and_counted_apart():
    made = tables()
    stored = json.loads(made.STORED.read_text(encoding="utf-8"))
    value = dict(stored["mds"]["verdicts"][0], claim="a * b", measured=2.0, low=2.0, high=2.0)
    value |= {"expected": 1.0, "tolerance": 0.0, "side": "both", "control": False}
    stored["mds"] = stored["mds"] | {"verdicts": [value | {"basis": "identity"}]}
    page = made.overview(stored)
    (row,) = [line for line in page.splitlines() if line.startswith("| `mds` |")]
    assert row.endswith("| - | 0 of 1 hold, 1 fails | - |")
    assert "\n- `mds`: a \\* b. Found 2, claimed 1.\n" in page
