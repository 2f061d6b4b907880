"""Every text in both languages; every key used exists, and none is left over."""

import ast
import re
import string
import unicodedata
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from adlab.figures import labels, style

ROOT = Path(__file__).parents[2]
OWN = ROOT / "adlab" / "figures" / "labels.toml"
EXPERIMENTS = {p.parent.name: p for p in sorted((ROOT / "experiments").glob("*/labels.toml"))}
TABLES = {"": labels.read(OWN)} | {name: labels.read(p) for name, p in EXPERIMENTS.items()}
LABELS = [(key, entry) for table in TABLES.values() for key, entry in table.items()]
# Keys that code puts together from a name: by labels.name and by the verdict table.
COMPOSED = re.compile(r"(method|law|verdict|outcome)\.\w+")


def fields(template):
    return {field for _, field, _, _ in string.Formatter().parse(template) if field}


def test_every_label_has_both_languages_with_the_same_fields():
    assert len(LABELS) > 600
    for key, entry in LABELS:
        assert entry["en"].strip(), key
        assert entry["ru"].strip(), key
        assert fields(entry["en"]) == fields(entry["ru"]), key


def test_russian_labels_are_russian_unless_they_are_mathematics():
    for key, entry in LABELS:
        words = re.sub(r"\$.*?\$|\{.*?\}", "", entry["ru"])
        if re.search(r"\w{3,}", words):
            alphabets = {unicodedata.name(c, "").split()[0] for c in words if c.isalpha()}
            assert "CYRILLIC" in alphabets, key


@pytest.mark.parametrize("lang", labels.LANGUAGES)
def test_titles_fit_the_width_of_a_slide_whether_they_assert_or_ask(lang):
    """A smoke run shows one of the two; numbers of four digits stand for what titles are given."""
    texts = {key: entry[lang] for key, entry in LABELS}
    titles = [title for key in texts if key.endswith("_asked") for title in (key, key[:-6])]
    assert len(titles) > 20
    with style.context(lang):
        size, width = mpl.rcParams["figure.titlesize"], 72 * style.SLIDE[0]
        font = FontProperties(family=mpl.rcParams["font.family"])
    for key in titles:
        words = re.sub(r"(?<!\{)\{\w+\}", "1234", texts[key]).replace("{{", "{").replace("}}", "}")
        for line in words.split("\n"):
            path = TextPath((0, 0), line, size=size, prop=font)
            taken = np.ptp(path.vertices[:, 0])  # of the control points, which no curve leaves
            assert taken <= width, (key, taken)


def test_the_labels_of_an_experiment_begin_with_its_name():
    wrong = [
        (name, key)
        for name, table in TABLES.items()
        for key in table
        if name and not key.startswith(f"{name}.")
    ]
    assert wrong == []
    assert not {key.split(".")[0] for key in TABLES[""]} & EXPERIMENTS.keys()


def used_keys(owner):
    """Yield (key pattern, place) for each call of `text` or `Text` with a literal key."""
    folder = ROOT / "experiments" / owner if owner else ROOT / "adlab"
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and node.args):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name not in ("text", "Text", "heading"):
                continue
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                for end in ("", "_asked") if name == "heading" else ("",):
                    yield re.escape(first.value + end), f"{path.name}:{node.lineno}"
            elif isinstance(first, ast.JoinedStr):
                parts = (
                    re.escape(p.value) if isinstance(p, ast.Constant) else r"\w+"
                    for p in first.values
                )
                yield "".join(parts), f"{path.name}:{node.lineno}"


@pytest.fixture(scope="module")
def used():
    folders = (path.name for path in (ROOT / "experiments").iterdir() if path.is_dir())
    return {owner: list(used_keys(owner)) for owner in ("", *folders)}


def test_every_key_that_the_code_names_is_the_librarys_or_its_own(used):
    missing = [
        (key, place)
        for owner, keys in used.items()
        for key, place in keys
        if not any(re.fullmatch(key, known) for known in (TABLES[""] | TABLES.get(owner, {})))
    ]
    assert missing == []


def test_no_label_is_left_over(used):
    everywhere = {key for keys in used.values() for key, _ in keys}
    unused = [
        key
        for owner, table in TABLES.items()
        for key in table
        if not any(re.fullmatch(p, key) for p in (dict(used[owner]) if owner else everywhere))
        and not COMPOSED.fullmatch(key)
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


@pytest.fixture
def merging():
    """Let a test merge labels; afterwards their owners have none."""
    owners = []

    def merge(owner, path):
        owners.append(owner)
        labels.merge(owner, path)

    yield merge
    for owner in owners:
        labels.merge(owner, Path("no such file"))


def write(folder, text):
    folder.mkdir(exist_ok=True)
    path = folder / "labels.toml"
    path.write_text(text, encoding="utf-8")
    return path


MINE = '[mine]\nword = { en = "a word", ru = "слово" }\n'


def test_merged_labels_are_found_and_a_later_merge_replaces_them(merging, tmp_path):
    merging("mine", write(tmp_path / "a", MINE))
    assert (labels.text("mine.word"), labels.text("mine.word", "ru")) == ("a word", "слово")
    merging("mine", write(tmp_path / "b", MINE.replace("word =", "other =")))  # a copy elsewhere
    assert labels.text("mine.other") == "a word"
    with pytest.raises(KeyError, match=r"no label 'mine\.word'; did you mean 'mine\.other'"):
        labels.text("mine.word")


def test_a_label_in_two_files_is_refused_with_both_and_changes_nothing(merging, tmp_path):
    first, second = write(tmp_path / "a", MINE), write(tmp_path / "b", MINE)
    merging("mine", first)
    merging("neighbour", first)  # two experiments of one file each, in one folder
    before = labels.table()
    with pytest.raises(ValueError, match=re.escape(f"got {first} and {second}")):
        merging("yours", second)
    law = write(tmp_path / "c", '[law]\nsphere = { en = "ball", ru = "шар" }\n')
    with pytest.raises(
        ValueError, match=re.escape(f"'law.sphere' must stand in one file, got {OWN}")
    ):
        merging("yours", law)
    assert labels.table() == before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[mine]\nword = { en = "a word" }\n', "label 'mine.word' must hold the texts"),
        ('[mine]\nword = { en = "a", ru = "да", de = "c" }\n', "label 'mine.word' must hold"),
        ('[mine]\nword = { en = "a word", ru = 1 }\n', "label 'mine.word' must hold the texts"),
        ('[mine]\nword = "a word"\n', "label 'mine' must hold the texts"),
        ("[mine\n", "labels.toml: "),
    ],
)
def test_a_faulty_file_of_labels_is_refused_by_name(text, said, tmp_path):
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        labels.read(path)
    assert str(path) in str(caught.value)
