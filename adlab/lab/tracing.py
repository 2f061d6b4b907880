"""The command `adlab trace`: a function's computational graph, and one mode through it in steps."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from adlab.lab.errors import UsageError, brief, nearest

if TYPE_CHECKING:
    from adlab.graphs import Graph, Record

SUFFIXES = (".pdf", ".gif", ".svg", ".png", ".tex", ".dot")
_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class Trace:
    """Take a function apart and show forward or reverse mode through it, step by step.

    For example: adlab trace "w2*log(w1) + sqrt(w2*log(w1))" --at w1=2,w2=3
    """

    function: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="EXPRESSION")]
    """A formula of + - * / **, functions such as log and variables; or MODULE:function, which
    imports that code."""
    at: Annotated[str, tyro.conf.arg(metavar="NAME=NUMBER,...")]
    """The value of every variable."""
    mode: Literal["forward", "reverse"] = "reverse"
    """Which way derivatives are carried."""
    wrt: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """The variable that forward mode differentiates in; not needed where there is one only."""
    zeros: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Keep the terms that are 0 because a variable doesn't enter, as one writes them by hand."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write .pdf (a page per step), .gif (a frame per step), .svg or .png (one picture), .tex (a
    derivation for amsmath) or .dot (Graphviz); a table in the terminal without."""
    lang: Literal["en", "ru"] = "en"
    """Language of pictures and table."""


def bracketed(arguments: Sequence[str]) -> list[str]:
    """Put brackets around a formula that begins with a sign, which would read as a flag.

    >>> bracketed(["trace", "-w", "--at", "w=1"])
    ['trace', '(-w)', '--at', 'w=1']
    """
    if arguments[:1] != ["trace"]:
        return list(arguments)
    flags = ("--at", "--mode", "--wrt", "--zeros", "--out", "--lang", "--help", "-h")
    return [
        f"({token})" if token.startswith("-") and token.partition("=")[0] not in flags else token
        for token in arguments
    ]


def run_trace(command: Trace) -> int:
    """Trace and show, or write the file; return the exit code.

    Raises:
      UsageError: the expression, the point, the mode or the file can't be; says why.
    """
    from adlab.lab import expression, start

    values = expression.point(command.at)
    if command.out is not None and command.out.suffix not in SUFFIXES:
        raise UsageError(
            f"--out must end in one of {', '.join(SUFFIXES)}, got {command.out.name!r}"
        )
    wrt = _wrt(command, list(values))
    if _FUNCTION.fullmatch(command.function):
        fun = _imported(command.function)
        values = _ordered(command.function, fun, values)
    else:
        fun = expression.parse(command.function, list(values)).fun
    with start.precision(True):
        graph, records = _traced(command, fun, values, wrt)
        if command.out is None:
            _print(graph, records, command.lang)
        else:
            _write(command.out, graph, records, command.lang)
    return 0


def _wrt(command: Trace, names: Sequence[str]) -> str | None:
    """Return the variable of forward mode, None for reverse mode."""
    if command.mode == "reverse":
        if command.wrt is not None:
            raise UsageError("--wrt belongs to --mode forward; reverse mode has every derivative")
        return None
    if command.wrt is None and len(names) > 1:
        raise UsageError(f"--mode forward needs --wrt, one of {', '.join(names)}")
    if command.wrt is not None and command.wrt not in names:
        raise UsageError(
            f"--wrt must be one of {', '.join(names)}, got {command.wrt}"
            f"{nearest(command.wrt, names)}"
        )
    return command.wrt or names[0]


def _imported(target: str) -> Callable[..., Any]:
    from adlab.lab import registry

    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    return registry.resolve(target)


def _ordered(target: str, fun: Callable[..., Any], values: Mapping[str, float]) -> dict[str, float]:
    """Return the values in the order of the function's parameters."""
    try:
        parameters = inspect.signature(fun).parameters.values()
    except (TypeError, ValueError):
        raise UsageError(f"{target} must have a signature that can be read") from None
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = [p.name for p in positional]
    unknown = [name for name in values if name not in names]
    if unknown:
        raise UsageError(
            f"{target} has no parameter {unknown[0]}{nearest(unknown[0], names)} "
            f"(it has: {', '.join(names) or 'none'})"
        )
    given = [p.name for p in positional if p.name in values]
    missing = [p.name for p in positional if p.default is p.empty and p.name not in values]
    if missing or given != names[: len(given)]:
        first = missing or [name for name in names if name not in values]
        raise UsageError(f"{target} needs a value for {first[0]}; add {first[0]}=NUMBER to --at")
    return {name: values[name] for name in given}


def _traced(
    command: Trace, fun: Callable[..., Any], values: Mapping[str, float], wrt: str | None
) -> tuple[Graph, tuple[Record, ...]]:
    from adlab import graphs

    try:
        graph = graphs.build(fun, *values.values(), names=list(values))
        if wrt is None:
            return graph, graphs.reverse_trace(graph, zeros=command.zeros)
        return graph, graphs.forward_trace(graph, wrt, zeros=command.zeros)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # of the user's function too, whatever that is
        lines = str(error).strip().splitlines() or [type(error).__name__]
        what = brief(command.function, 60)
        raise UsageError(f"cannot trace {what}: {brief(lines[0])}") from error


def _print(graph: Graph, records: Sequence[Record], lang: str) -> None:
    from rich import box
    from rich.table import Table

    from adlab import drawing
    from adlab.figures.labels import text
    from adlab.graphs.formulas import relation
    from adlab.lab import report

    screen = report.console()
    start, mode = graph.nodes[records[0].node].name, records[0].mode
    screen.print(text(f"trace.{mode}", lang, name=start))
    table = Table(box=box.SIMPLE, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(text("trace.node", lang), no_wrap=True)
    table.add_column(text("trace.value", lang), justify="right", no_wrap=True)
    table.add_column(text("trace.rule", lang))
    for row in drawing.to_rows(graph, records):
        table.add_row(*row)
    screen.print(table)
    ends = graph.outputs if mode == "forward" else graph.inputs
    for record in records:
        if record.node in ends:
            result = f"{record.chain['text'][0]} {relation(record.derivative, digits=10)}"
            screen.print(result, soft_wrap=True)


def _write(path: Path, graph: Graph, records: Sequence[Record], lang: str) -> None:
    from adlab.figures import style
    from adlab.lab import output

    def make(file: Path) -> None:
        with style.context(lang):
            _make(file, graph, records)

    if output.write(path, make, parents=True):
        print(f"written: {path}")


def _make(path: Path, graph: Graph, records: Sequence[Record]) -> None:
    from adlab import drawing

    match path.suffix:
        case ".tex":
            path.write_text(drawing.to_latex(graph, records), encoding="utf-8")
        case ".dot":
            path.write_text(drawing.to_dot(graph, records), encoding="utf-8")
        case ".gif":
            drawing.movie(graph, records).save(path)
        case ".pdf":
            _write_pages(path, drawing.pages(graph, records))
        case _:
            drawing.draw(graph, records).savefig(
                path, metadata={"Date" if path.suffix == ".svg" else "Software": None}
            )


def _write_pages(path: Path, pages: Iterator[Any]) -> None:
    from matplotlib.backends.backend_pdf import PdfPages

    with PdfPages(path, metadata={"CreationDate": None}) as document:
        for page in pages:
            document.savefig(page)
