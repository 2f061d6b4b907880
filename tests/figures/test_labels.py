"""Every text in both languages; every key used exists, and none is left over."""

import ast
import re
import string
import unicodedata
from pathlib import Path

import pytest

from adlab.figures import labels

ROOT = Path(__file__).parents[2]
SOURCES = [*(ROOT / "adlab").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")]
# Keys that code puts together from a name: by labels.name and by the verdict table.
COMPOSED = re.compile(r"(method|law|verdict|outcome)\.\w+")


def fields(template):
    return {field for _, field, _, _ in string.Formatter().parse(template) if field}


@pytest.mark.parametrize("key", labels.table())
def test_every_label_has_both_languages_with_the_same_fields(key):
    english, russian = labels.table()[key]["en"], labels.table()[key]["ru"]
    assert english.strip()
    assert russian.strip()
    assert fields(english) == fields(russian)


@pytest.mark.parametrize("key", labels.table())
def test_russian_labels_are_russian_unless_they_are_mathematics(key):
    russian = labels.table()[key]["ru"]
    words = re.sub(r"\$.*?\$|\{.*?\}", "", russian)
    if re.search(r"\w{3,}", words):
        assert "CYRILLIC" in {unicodedata.name(c, "").split()[0] for c in words if c.isalpha()}


def used_keys():
    """Yield (key pattern, place) for each call of `text` or `Text` with a literal key."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and node.args):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name not in ("text", "Text"):
                continue
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield re.escape(first.value), f"{path.name}:{node.lineno}"
            elif isinstance(first, ast.JoinedStr):
                parts = (
                    re.escape(p.value) if isinstance(p, ast.Constant) else r"\w+"
                    for p in first.values
                )
                yield "".join(parts), f"{path.name}:{node.lineno}"


def test_every_key_that_the_code_names_is_in_the_table():
    missing = [
        (key, place)
        for key, place in used_keys()
        if not any(re.fullmatch(key, known) for known in labels.table())
    ]
    assert missing == []


def test_no_label_is_left_over():
    patterns = [key for key, _ in used_keys()]
    unused = [
        key
        for key in labels.table()
        if not COMPOSED.fullmatch(key) and not any(re.fullmatch(p, key) for p in patterns)
    ]
    assert unused == []


def test_an_unknown_label_names_the_nearest():
    with pytest.raises(KeyError, match=r"axis\.iteration"):
        labels.text("axis.iterations")


def test_an_unknown_language_is_refused():
    with pytest.raises(ValueError, match="en"):
        labels.text("axis.iteration", "de")


def test_a_missing_field_is_named():
    with pytest.raises(KeyError, match="n"):
        labels.text("panel.dimension_is")


def test_the_language_is_that_of_the_surroundings():
    with labels.speak("ru"):
        assert labels.text("outcome.holds") == labels.text("outcome.holds", "ru")
    assert labels.text("outcome.holds") == "holds"


def test_an_estimator_is_called_by_its_method_law_and_probes():
    params = {"law": "sphere", "num_probes": 4, "smoothing": "auto"}
    assert labels.estimator("two_point", params) == "two-point estimate, sphere, $m = 4$"
    assert labels.estimator("mine:my_own", {}) == "my own"
