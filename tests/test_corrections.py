"""The checks on the page of corrections run and print what it shows."""

import pages

NAME = "corrections.md"


def test_every_result_that_the_page_shows_is_what_it_prints():
    assert pages.run(NAME) == []


def test_its_blocks_are_formatted(tmp_path):
    assert pages.unformatted(NAME, tmp_path) == ""
