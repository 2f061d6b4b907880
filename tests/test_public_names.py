"""What is public: a page made from the packages, and a list that changes by intent alone."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def api():
    spec = importlib.util.spec_from_file_location("api", ROOT / "docs" / "api.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def changed(frozen, public):
    """Return what a change of public names asks for, or nothing where there is none."""
    gone, new = sorted(set(frozen) - set(public)), sorted(set(public) - set(frozen))
    said = [f"{name} is gone: keep it as an alias, see docs/api.md, Stability" for name in gone]
    said += [f"{name} is new: run `python docs/api.py --freeze` to add it" for name in new]
    return "\n".join(said)


def test_public_names_are_those_of_the_list(api):
    frozen = (ROOT / "tests" / "public_names.txt").read_text(encoding="utf-8").splitlines()
    assert changed(frozen, api.names()) == ""
    assert frozen == sorted(set(frozen))


def test_a_name_that_went_and_one_that_came_are_told_apart():
    said = changed(["adlab.hvp", "adlab.old"], ["adlab.hvp", "adlab.new"])
    assert said == (
        "adlab.old is gone: keep it as an alias, see docs/api.md, Stability\n"
        "adlab.new is new: run `python docs/api.py --freeze` to add it"
    )


def test_the_page_of_public_names_is_current(api):
    written = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert written == api.page(), "run `python docs/api.py`"


def test_every_line_of_the_page_says_something(api):
    entries = [line for line in api.page().splitlines() if line.startswith("- `")]
    assert len(entries) > 150
    assert [line for line in entries if len(line.partition("`: ")[2]) < 4] == []
