"""One thing has one name in both languages: docs/terms.md, held over all labels."""

import re
from pathlib import Path

import pytest

from adlab.figures import labels

ROOT = Path(__file__).parents[2]


def terms():
    """Return the rows of the table: English, Russian, stems, where, what isn't said."""
    lines = (ROOT / "docs" / "terms.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    return rows[2:]  # below the head


def texts():
    """Return every label of the library and of the experiments."""
    found = {}
    files = [ROOT / "adlab" / "figures" / "labels.toml"]
    for file in [*files, *sorted(ROOT.glob("experiments/*/labels.toml"))]:
        found |= labels.read(file)
    return found


def spoken(template):
    """Return a template without its fields, whose names are nobody's to read."""
    return re.sub(r"(?<!{){[^{}]*}(?!})", "", template)


TEXTS = texts()


@pytest.mark.parametrize(
    ("english", "russian", "stems", "unsaid"),
    [(row[0], row[1], row[2], row[4]) for row in terms()],
    ids=[row[0] for row in terms()],
)
def test_a_term_has_its_russian_name_and_no_other(english, russian, stems, unsaid):
    starts = [stem.strip() for stem in stems.split(",")]
    assert any(start.lower() in russian.lower() for start in starts)
    for key, words in TEXTS.items():
        if re.search(rf"\b{english}", spoken(words["en"]), re.IGNORECASE):
            said = any(start.lower() in words["ru"].lower() for start in starts)
            assert said, f"{key}: {words['en']!r} needs '{russian}', got {words['ru']!r}"
        for wrong in filter(None, (part.strip() for part in unsaid.split(","))):
            assert not re.search(wrong, words["ru"], re.IGNORECASE), f"{key}: {words['ru']!r}"


def test_the_table_has_every_column_filled_and_terms_that_occur():
    rows = terms()
    assert all(len(row) == 5 and all(row[:4]) for row in rows)
    assert len({row[0] for row in rows}) == len(rows)
    used = [
        r[0] for r in rows if any(re.search(r[0], t["en"], re.IGNORECASE) for t in TEXTS.values())
    ]
    assert len(used) >= 0.8 * len(rows)
