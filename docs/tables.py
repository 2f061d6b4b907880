"""Writes the README's table of rates from a stored run.

`python docs/tables.py results/rates-…` takes the verdicts of that run into `docs/rates.json`, and
writes the table; without an argument it writes the table of the run that is stored there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from adlab.lab import Verdict, report

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
STORED = ROOT / "docs" / "rates.json"
BEGIN, END = "<!-- verdicts -->\n", "<!-- end of verdicts -->\n"
COLUMNS = ("claim", "measured", "95 % interval", "expected", "tolerance", "outcome")


def take(folder: Path) -> None:
    """Keep what the table needs of a finished run."""
    about = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    kept = {
        "versions": {name: about["versions"][name] for name in ("python", "jax")},
        "platform": about["device"]["platform"],
        "verdicts": json.loads((folder / "verdicts.json").read_text(encoding="utf-8")),
    }
    STORED.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def table(run: dict[str, Any]) -> str:
    """Return the verdicts of a run as Markdown, with a line that says where it ran."""
    versions = run["versions"]
    where = f"Python {versions['python']}, jax {versions['jax']}, {run['platform']}"
    rows = [_row(value) for value in run["verdicts"]]
    return "\n".join([f"As `make demo` last measured it ({where}):\n", *_lines(COLUMNS), *rows, ""])


def _lines(names: tuple[str, ...]) -> list[str]:
    return ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]


def _row(value: dict[str, Any]) -> str:
    verdict = Verdict.from_json(value)
    cells = [value["claim"], *report._numbers(verdict, "en"), verdict.outcome]
    escaped = (cell.replace("|", r"\|").replace("*", r"\*") for cell in cells)
    return "| " + " | ".join(escaped) + " |"


def updated(page: str, run: dict[str, Any]) -> str:
    """Return the page with the run's table between its two marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + table(run) + END + after


def main(arguments: list[str]) -> None:
    """Store the run named, if any, and write its table."""
    for folder in arguments:
        take(Path(folder))
    run = json.loads(STORED.read_text(encoding="utf-8"))
    page = README.read_text(encoding="utf-8")
    README.write_text(updated(page, run), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
