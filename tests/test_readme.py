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


def test_its_table_of_rates_is_that_of_the_stored_run():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    run = json.loads((ROOT / "docs" / "rates.json").read_text(encoding="utf-8"))
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    assert page == tables.updated(page, run), "run `python docs/tables.py`"
    assert page.count(tables.BEGIN) == page.count(tables.END) == 1
    for verdict in run["verdicts"]:
        assert tables.Verdict.from_json(verdict).outcome == verdict["outcome"]
