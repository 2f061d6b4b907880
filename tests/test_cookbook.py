"""The cookbook's blocks run in order and print what the page shows."""

import pages
import pytest

NAME = "cookbook.md"


def test_every_result_that_the_page_shows_is_what_it_prints():
    assert pages.run(NAME) == []


def test_its_blocks_are_formatted(tmp_path):
    assert pages.unformatted(NAME, tmp_path) == ""


def test_a_wrong_result_on_a_page_is_found(tmp_path, monkeypatch):
    page = "```python\nprint(1 + 1)  # 3\n```\n\n```python\nprint(2)\nprint(4)  # 4\n```\n"
    (tmp_path / "page.md").write_text(page)
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    assert pages.run("page.md") == [(2, ["3"], ["2"]), (6, None, ["2"])]


def test_a_failing_block_fails(tmp_path, monkeypatch):
    (tmp_path / "page.md").write_text("```python\nassert 1 + 1 == 3\n```\n")
    monkeypatch.setattr(pages, "DOCS", tmp_path)
    with pytest.raises(AssertionError):
        pages.run("page.md")
