"""What the user reads: the verdict table, where a result comes from, and its numbers as CSV."""

from __future__ import annotations

import csv
import io
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from adlab.lab.verdict import Basis, Verdict, render

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_COLUMNS = ("claim", "basis", "measured", "interval", "expected", "tolerance", "outcome")
_WORDS = ("claim", "basis", "outcome")
BASES: tuple[Basis, ...] = get_args(Basis)
_STYLES = {"holds": "green", "fails": "bold red", "undecided": "yellow"}


def console() -> Console:
    """Return a console on standard output: as wide as the terminal, 120 columns elsewhere."""
    from rich.console import Console

    wished = os.environ.get("COLUMNS", "")
    width = None if sys.stdout.isatty() else int(wished) if wished.isdecimal() else 120

    class Screen(Console):
        """A console whose closed pipe is the caller's to meet."""

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

    return Screen(file=sys.stdout, width=width, highlight=False, markup=False, emoji=False)


def print_verdicts(
    verdicts: Sequence[Verdict], lang: str, screen: Console, *, profile: str | None = None
) -> None:
    """Print the table of verdicts, and a line that counts those that hold, of each class apart.

    Args:
      verdicts: of one run.
      lang: of the table.
      screen: to print on.
      profile: of the run, said above the table; None where it is the base.
    """
    from adlab.figures import labels

    if not verdicts:
        screen.print(labels.text("verdict.none", lang))
        return
    if profile:
        screen.print(labels.text("verdict.profile", lang, name=profile))
    screen.print(_table(verdicts, lang))
    screen.print(summary(verdicts, lang))


def _table(verdicts: Sequence[Verdict], lang: str) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text as Styled

    from adlab.figures import labels

    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), show_edge=False)
    classed = any(verdict.basis for verdict in verdicts)
    for name in _COLUMNS:
        if name == "basis" and not classed:
            continue
        justify: Any = "left" if name in _WORDS else "right"
        wide = name == "claim"
        header = labels.text(f"verdict.{name}", lang)
        table.add_column(header, justify=justify, no_wrap=not wide, ratio=1 if wide else None)
    for verdict in verdicts:
        outcome = Styled(labels.text(f"outcome.{verdict.outcome}", lang), _STYLES[verdict.outcome])
        claim = _numbered(str(render(verdict.claim, lang)), lang)
        said = [claim, *([_basis(verdict, lang)] if classed else [])]
        table.add_row(*said, *numbers(verdict, lang), outcome)
    return table


def _basis(verdict: Verdict, lang: str) -> str:
    from adlab.figures import labels

    return labels.text(f"basis.{verdict.basis}", lang) if verdict.basis else "-"


class Verdicts(list[Verdict]):
    """The verdicts of a run: a list that shows itself as the table of `adlab show`."""

    def __repr__(self) -> str:
        return self._shown().export_text().rstrip("\n")

    def _repr_html_(self) -> str:
        return self._shown().export_html(inline_styles=True, code_format="<pre>{code}</pre>")

    def _shown(self) -> Console:
        from rich.console import Console

        screen = Console(
            record=True, file=io.StringIO(), width=100, highlight=False, markup=False, emoji=False
        )
        print_verdicts(self, "en", screen)
        return screen


def summary(verdicts: Sequence[Verdict], lang: str = "en") -> str:
    """Return `21 of 22 hold (1 undecided): measured 18 of 19, identity 3 of 3`.

    Each class that occurs is counted apart; so are verdicts without a class, beside others.
    """
    from adlab.figures import labels

    counts = {o: sum(v.outcome == o for v in verdicts) for o in _STYLES}
    total = labels.text("verdict.summary", lang, holds=counts["holds"], number=len(verdicts))
    rest = ", ".join(
        f"{n} {labels.text(f'outcome.{o}', lang)}" for o, n in counts.items() if o != "holds" and n
    )
    shares = by_basis(verdicts)
    if set(shares) <= {None}:
        shares = {}
    told = ", ".join(
        labels.text(
            "verdict.share", lang, basis=labels.text(f"basis.{basis or 'unclassed'}", lang),
            holds=of["holds"], number=sum(of.values()),
        )
        for basis, of in shares.items()
    )  # fmt: skip
    return total + (f" ({rest})" if rest else "") + (f": {told}" if told else "")


def by_basis(verdicts: Sequence[Verdict]) -> dict[Basis | None, dict[str, int]]:
    """Return, for each class that occurs, how many hold, fail, are undecided; None comes last."""
    found: dict[Basis | None, dict[str, int]] = {}
    for basis in (*BASES, None):
        mine: list[str] = [v.outcome for v in verdicts if v.basis == basis]
        if mine:
            found[basis] = {outcome: mine.count(outcome) for outcome in _STYLES}
    return found


def numbers(verdict: Verdict, lang: str) -> tuple[str, str, str, str]:
    """Return what was measured, its interval, what was expected, and the tolerance, in words."""
    from adlab.figures import labels

    half = (verdict.high - verdict.low) / 2
    measured, low, high = (rounded(x, half) for x in (verdict.measured, verdict.low, verdict.high))
    sign = {"both": "", "at_most": "<= ", "at_least": ">= "}[verdict.side]
    tolerance = f"{verdict.tolerance:.3g}" if verdict.side == "both" else ""
    expected = f"{sign}{verdict.expected:.4g}"
    if verdict.control:
        expected = labels.text("verdict.not", lang, expected=expected)
    between = _between(verdict, low, high, lang)
    cells = [_numbered(words, lang) for words in (measured, between, expected, tolerance)]
    return cells[0], cells[1], cells[2], cells[3]


def _numbered(words: str, lang: str) -> str:
    """Return a text with its numbers written as the language does."""
    from adlab.figures import labels

    return labels.comma(words) if lang == "ru" else words


def _between(verdict: Verdict, low: str, high: str, lang: str) -> str:
    """Return the confidence interval; of cases their range; of an exact number a dash."""
    from adlab.figures import labels

    if verdict.kind == "exact":
        return "-"
    if math.isnan(verdict.low) or math.isnan(verdict.high):
        return labels.text("verdict.unknown", lang)
    if verdict.kind == "interval" and verdict.low == -math.inf and verdict.high == math.inf:
        return labels.text("verdict.more", lang)
    ends = f"[{low}{'; ' if lang == 'ru' else ', '}{high}]"
    return labels.text("verdict.range", lang, ends=ends) if verdict.kind == "range" else ends


def rounded(value: float, half_width: float) -> str:
    """Write `value` as far as an interval of this half-width gives its digits a meaning.

    >>> rounded(1.00437, 0.017)
    '1.004'
    """
    if not math.isfinite(value):
        return str(value)
    if not (math.isfinite(half_width) and half_width > 0):
        return f"{value:.4g}"
    decimals = 1 - math.floor(math.log10(half_width))
    size = math.floor(math.log10(max(abs(value), half_width)))
    if -4 < size < 6:
        return f"{value:.{min(max(decimals, 0), 6)}f}"
    return f"{value:.{min(max(size + decimals, 1), 6)}e}"


def print_provenance(folder: Path, about: Mapping[str, Any], state: str, screen: Console) -> None:
    """Print where a result comes from."""
    git, device, seconds = (about.get(k) or {} for k in ("git", "device", "seconds"))
    versions = " ".join(f"{k} {v}" for k, v in (about.get("versions") or {}).items())
    commit = git.get("commit", "outside git")[:12] + (" with changes" if git.get("dirty") else "")
    lines = {
        "result": folder,
        "state": state,
        "config": folder / "config.toml",
        "seed": f"{about.get('seed')}, x64 {str(about.get('x64')).lower()}",
        "device": f"{device.get('count')} x {device.get('kind')} ({device.get('platform')})",
        "versions": versions,
        "commit": commit,
        "run": f"{about.get('started')} to {about.get('finished')}",
        "seconds": spent(seconds),
    }
    for key, value in lines.items():
        screen.print(f"{key:<9} {value}", soft_wrap=True)


def spent(seconds: Mapping[str, Any], lang: str = "en") -> str:
    """Return `compile 1.2 s, run 3.4 s, total 5.6 s (2 attempts)`, without what wasn't timed."""
    from adlab.figures import labels

    timed = sum(seconds.get(key, 0.0) for key in ("compile", "run")) > 0
    keys = ("compile", "run", "total") if timed else ("total",)
    told = [
        labels.text(f"run.{key}", lang, seconds=_numbered(f"{seconds[key]:.1f}", lang))
        for key in keys
        if key in seconds
    ]
    attempts, said = seconds.get("attempts", 1), ", ".join(told)
    return (
        f"{said} ({labels.text('run.attempts', lang, number=attempts)})" if attempts > 1 else said
    )


def print_results(rows: Iterable[Sequence[str]], screen: Console) -> None:
    """Print a table of runs; see `listing.table`."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), show_edge=False)
    for name in ("result", "finished (UTC)", "profile", "overrides", "verdicts", "size", "state"):
        table.add_column(name, overflow="fold", no_wrap=name == "result")
    for row in rows:
        table.add_row(*row)
    screen.print(table)


def to_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows as CSV; columns in order of first appearance, blank where a row has none."""
    rows = list(rows)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def long_rows(data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a row per number: array, index_0, index_1, ..., value."""
    depth = max((array.ndim for array in data.values()), default=0)
    for name, array in data.items():
        for index in _indices(array.shape):
            padded = [*index, *[""] * (depth - len(index))]
            places = {f"index_{axis}": at for axis, at in enumerate(padded)}
            yield {"array": name, **places, "value": array[index].item()}


def _indices(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    import numpy as np

    return np.ndindex(*shape)
