"""Writes the README's tables of verdicts from stored runs.

`python docs/tables.py --run` runs every config (or those named: `--run rates mds`) that isn't
finished or whose sources have changed, and takes its verdicts into `docs/verdicts.json`, with where
they come from; `--take` takes them from finished runs in `results`, running nothing. Each then
writes the tables; without an argument they are written from what is stored.
"""

from __future__ import annotations

import argparse
import ast
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from adlab import lab
from adlab.lab import Verdict, report, results
from adlab.lab import config as configs

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
STORED = ROOT / "docs" / "verdicts.json"
MARKS = {
    "all": ("<!-- all verdicts -->\n", "<!-- end of all verdicts -->\n"),
    "rates": ("<!-- verdicts -->\n", "<!-- end of verdicts -->\n"),
}
COLUMNS = ("claim", "class", "measured", "95 % interval", "expected", "tolerance", "outcome")
KEPT = (
    *("claim", "measured", "low", "high", "expected", "tolerance", "side", "control", "outcome"),
    *("kind", "basis"),
)

Stored = dict[str, dict[str, Any]]


def experiments() -> list[str]:
    """Return the names of all experiments, each with a config of its own."""
    return sorted(path.parent.name for path in (ROOT / "experiments").glob("*/__init__.py"))


def run(name: str) -> Path:
    """Run a config where its result is missing or stale; return the folder of the result."""
    return Path(lab.run(ROOT / "configs" / f"{name}.toml", out=ROOT / "results"))


def finished(name: str) -> Path | None:
    """Return the finished run of a config's base profile, if there is one."""
    folder = ROOT / "results" / configs.load(ROOT / "configs" / f"{name}.toml").key
    return folder if (folder / "DONE").exists() else None


def taken(folder: Path) -> dict[str, Any]:
    """Return what the tables need of a finished run, and where it comes from."""
    about = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    verdicts = [verdict.to_json() for verdict in results.read_verdicts(folder)]
    return {
        "commit": about["git"]["commit"][:12],
        "dirty": about["git"]["dirty"],
        "finished": about["finished"],
        "versions": {name: about["versions"][name] for name in ("python", "jax")},
        "device": about["device"],
        "verdicts": [{key: value[key] for key in KEPT if key in value} for value in verdicts],
    }


def claim(name: str) -> str:
    """Return the claim of an experiment: the first line of its text."""
    source = (ROOT / "experiments" / name / "__init__.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n\n")[0].replace("\n", " ")


def verdicts(entry: dict[str, Any]) -> list[Verdict]:
    """Return the verdicts of a stored run."""
    return [Verdict.from_json(value) for value in entry["verdicts"]]


def overview(stored: Stored) -> str:
    """Return a row per experiment, the verdicts of each class apart; then all that fail."""
    rows, totals = [], {basis: [0, 0] for basis in report.BASES}
    for name in experiments():
        found = report.by_basis(verdicts(stored[name]))
        for basis, counts in found.items():
            totals[basis][0] += counts["holds"]
            totals[basis][1] += sum(counts.values())
        cells = [_counted(found.get(basis)) for basis in report.BASES]
        rows.append(_line([f"`{name}`", _escaped(claim(name)), *cells]))
    last = ["**all**", "", *(f"**{held} of {number} hold**" for held, number in totals.values())]
    head = _head(("`configs/….toml`", "claim", *report.BASES))
    lines = [f"{_provenance(stored.values())}\n", *head, *rows, _line(last), "", *_refuted(stored)]
    return "\n".join(lines) + "\n"


def _counted(counts: dict[str, int] | None) -> str:
    """Return `5 of 7 hold, 1 fails, 1 undecided`; a dash for a class without verdicts."""
    if not counts:
        return "-"
    rest = "".join(f", {n} {o}" for o, n in counts.items() if o != "holds" and n)
    return f"{counts['holds']} of {sum(counts.values())} hold{rest}"


def _refuted(stored: Stored) -> Iterable[str]:
    """Yield a line for each verdict that fails, and one that counts the undecided ones."""
    failing = [
        f"- `{name}`: {_escaped(value['claim'])}. Found {measured}, claimed {expected}."
        for name in experiments()
        for value, verdict in zip(
            stored[name]["verdicts"], verdicts(stored[name]), strict=True
        )
        if verdict.outcome == "fails"
        for measured, _, expected, _ in [report.numbers(verdict, "en")]
    ]  # fmt: skip
    if failing:
        yield from ("**What fails**, the lecture's own claims among it:\n", *failing)


def table(stored: Stored) -> str:
    """Return the verdicts of `rates`, one by one, with a line that says where it ran."""
    entry = stored["rates"]
    rows = [_row(value, v) for value, v in zip(entry["verdicts"], verdicts(entry), strict=True)]
    return "\n".join([f"{_provenance([entry])}\n", *_head(COLUMNS), *rows, ""])


def _provenance(entries: Iterable[dict[str, Any]]) -> str:
    entries = list(entries)
    places = sorted({
        f"Python {e['versions']['python']}, jax {e['versions']['jax']}, "
        f"{e['device']['count']} x {e['device']['kind']}" for e in entries
    })  # fmt: skip
    commits = sorted({e["commit"] + (" with changes" if e["dirty"] else "") for e in entries})
    return f"As last run ({'; '.join(places)}; commit {', '.join(commits)}):"


def _head(names: tuple[str, ...]) -> list[str]:
    return [_line(names), "|---" * len(names) + "|"]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _row(value: dict[str, Any], verdict: Verdict) -> str:
    numbers = report.numbers(verdict, "en")
    cells = [value["claim"], verdict.basis or "-", *numbers, verdict.outcome]
    return _line(map(_escaped, cells))


def _escaped(cell: str) -> str:
    return cell.replace("|", r"\|").replace("*", r"\*")


def updated(page: str, stored: Stored) -> str:
    """Return the page with each table between its two marks."""
    for name, make in (("all", overview), ("rates", table)):
        begin, end = MARKS[name]
        before, _, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        page = before + begin + make(stored) + end + after
    return page


def main() -> None:
    """Run or take what was named, store it, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="experiments; all where none is named")
    parser.add_argument("--run", action="store_true", help="run what is missing or stale")
    parser.add_argument("--take", action="store_true", help="take what is finished")
    wished = parser.parse_args()
    stored = json.loads(STORED.read_text(encoding="utf-8")) if STORED.exists() else {}
    for name in wished.names or experiments() if wished.run or wished.take else ():
        folder = run(name) if wished.run else finished(name)
        if folder:
            stored[name] = taken(folder)
            text = json.dumps(stored, indent=1, ensure_ascii=False, sort_keys=True)
            STORED.write_text(text + "\n", encoding="utf-8")
    page = README.read_text(encoding="utf-8")
    README.write_text(updated(page, stored), encoding="utf-8")


if __name__ == "__main__":
    main()
