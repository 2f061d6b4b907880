"""The command `adlab`: list, run, plot, show and export experiments; trace a function.

Only what a command needs is imported, when it needs it: `adlab --help` and `adlab list` answer
without jax.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from adlab.lab import experiment, tracing
from adlab.lab.errors import LabError, UsageError
from adlab.lab.overrides import parse_flags

if TYPE_CHECKING:
    from adlab.lab.config import Job

Lang = Literal["en", "ru"]
Animate = Literal["gif", "mp4"] | None
Flag = tyro.conf.FlagCreatePairsOff[bool]
Many = tyro.conf.UseAppendAction[tuple[str, ...]]
Result = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RESULT")]
Out = Annotated[Path, tyro.conf.arg(metavar="DIR")]
Modules = Annotated[Many, tyro.conf.arg(metavar="MODULE")]

_VALUED = ("--profile", "--plugin", "--out", "--lang", "--animate")
_BARE = ("--x64", "--force", "--check", "--help", "-h")


@dataclass(frozen=True)
class List:
    """Show the experiments of a checkout and the commands that run them."""

    where: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")] = Path()
    """Where to look for configs/ beside experiments/; upward from there."""


@dataclass(frozen=True)
class Run:
    """Run the experiment that a config names, or find its finished run, and print its verdicts.

    Every field of the config is a flag too: --num-steps 5000, --problem.kind huber,
    --estimators.0.num-probes 4. `adlab run CONFIG --help` lists them with the config's values.
    """

    config: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CONFIG")]
    """The TOML file."""
    profile: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Merge the table [profiles.NAME] over the base."""
    x64: Flag = False
    """Compute in float64."""
    force: Flag = False
    """Run even if it is done."""
    check: Flag = False
    """Exit with 1 unless every verdict holds."""
    plugin: Modules = ()
    """Allow kind = "MODULE:function" (repeatable); imports that code."""
    out: Out = Path("results")
    """Folder of the results."""
    lang: Lang = "en"
    """Language of figures and table."""
    animate: Animate = None
    """Draw the experiment's movies, too, which takes time; mp4 needs ffmpeg."""


@dataclass(frozen=True)
class Plot:
    """Make the verdicts and figures of a result again from its stored data, computing nothing."""

    result: Result
    """A folder, or the beginning of the name of one among the results."""
    lang: Lang = "en"
    """Language of the figures."""
    animate: Animate = None
    """Draw the experiment's movies, too, which takes time; mp4 needs ffmpeg."""
    plugin: Modules = ()
    """Allow the modules that the run used (repeatable)."""
    results: Out = Path("results")
    """Folder of the results."""


@dataclass(frozen=True)
class Show:
    """Print the verdicts of a result and where it comes from."""

    result: Result
    """A folder, or the beginning of the name of one among the results."""
    lang: Lang = "en"
    """Language of the table."""
    results: Out = Path("results")
    """Folder of the results."""


@dataclass(frozen=True)
class Export:
    """Write a result as CSV: the experiment's own table where it has one, else every array."""

    result: Result
    """A folder, or the beginning of the name of one among the results."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """The file to write; standard output without."""
    plugin: Modules = ()
    """Allow the modules that the run used (repeatable)."""
    results: Out = Path("results")
    """Folder of the results."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 refused, 130 interrupted."""
    typed = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(typed)
    except SystemExit as error:  # how tyro ends after help and after its own errors
        return error.code if isinstance(error.code, int) else 2
    except LabError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        again = shlex.join(["adlab", *typed])
        print(f"interrupted; finished stages are kept, to resume: {again}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of a pipe, such as head, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _dispatch(typed: list[str]) -> int:
    own, overrides = split(typed) if typed[:1] == ["run"] else (tracing.bracketed(typed), [])
    rest = [token for token in own if token not in ("--help", "-h")]
    fields_wanted = own[:1] == ["run"] and len(own) > len(rest) and len(_bare_words(rest)) > 1
    command = tyro.cli(
        List | Run | Plot | Show | Export | tracing.Trace,
        args=rest if fields_wanted else own,
        prog="adlab",
        description="Derivative estimators, measured: run experiments, read their verdicts, "
        "trace a function.",
    )
    match command:
        case Run() if fields_wanted:
            return _fields(command, overrides)
        case Run():
            return _run(command, overrides)
        case List():
            return _list(command)
        case Plot():
            return _plot(command)
        case Show():
            return _show(command)
        case tracing.Trace():
            return tracing.run_trace(command)
        case _:
            return _export(command)


def _bare_words(own: Sequence[str]) -> list[str]:
    pairs = zip(["", *own], own, strict=False)
    return [t for before, t in pairs if not t.startswith("-") and before not in _VALUED]


def split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate the command's own flags from overrides, which take the values after them."""
    own: list[str] = []
    overrides: list[str] = []
    target = own
    tokens = iter(arguments)
    for token in tokens:
        name = token.partition("=")[0]
        if name in _VALUED or name in _BARE:
            target = own
            own.append(token)
            if name in _VALUED and "=" not in token:
                own.extend([value] if (value := next(tokens, None)) is not None else [])
        else:
            if token.startswith("--"):
                target = overrides
            target.append(token)
    return own, overrides


def _job(command: Run, overrides: Sequence[str]) -> Job:
    from adlab.lab import config

    changes = parse_flags(overrides) | ({"x64": True} if command.x64 else {})
    return config.load(
        command.config, profile=command.profile, changes=changes, plugins=command.plugin
    )


def _fields(command: Run, overrides: Sequence[str]) -> int:
    """Print the fields of a config with the values that the file, profile and flags give them."""
    job = _job(command, overrides)
    print(f"The command's own flags: adlab run --help. The config's, for {command.config}:\n")
    tyro.cli(
        type(job.config),
        config=(tyro.conf.AvoidSubcommands,),
        default=job.config,
        args=["--help"],
        prog=f"adlab run {command.config}",
        description=experiment.claim(job.sources[0]),
    )
    return 0


def _run(command: Run, overrides: Sequence[str]) -> int:
    job = _job(command, overrides)
    from adlab.lab import report, runner, store

    screen = report.console()
    say = partial(screen.print, soft_wrap=True)
    say(f"{job.key}: {experiment.claim(job.sources[0])}")
    result = runner.execute(
        job, command.out, force=command.force, lang=command.lang, animate=command.animate,
        console=screen, say=say,
    )  # fmt: skip
    if not result.computed:
        say(f"already done: {result.folder}, nothing computed (--force runs it again)")
    report.print_verdicts(result.verdicts, command.lang, screen)
    about = store.read_json(result.folder / "run.json") or {}
    say(f"seconds: {report.spent(about.get('seconds') or {})}")
    say(f"result: {result.folder}")
    _say_figures(result.folder, say)
    if result.problems:
        advice = f"the data are stored; after mending: adlab plot {result.folder}"
        raise LabError("\n  ".join([*result.problems, advice]))
    holds = all(verdict.outcome == "holds" for verdict in result.verdicts)
    return 1 if command.check and not holds else 0


def _say_figures(folder: Path, say: Callable[[str], None]) -> None:
    from adlab.lab import results

    for path in results.figures(folder):
        say(f"figure: {path}")


def _list(command: List) -> int:
    checkout = experiment.find_checkout(command.where)
    if checkout is None:
        print(
            f"no configs/ beside experiments/ in {command.where.absolute()} or above.\n\n"
            "The experiments come with the source of adlab: clone its repository (the\n"
            "package's page has the address), then in the clone run: adlab list"
        )
        return 0
    entries = experiment.entries(checkout)
    if not entries:
        print(f"no configs in {checkout / 'configs'}")
    for entry in entries:
        print(f"{entry.config.stem}\n  {entry.claim}")
        run = f"adlab run {experiment.shown(entry.config)}"
        print("\n".join(f"  {run}{p}" for p in ["", *(f" --profile {p}" for p in entry.profiles)]))
    return 0


def _plot(command: Plot) -> int:
    from adlab.lab import results

    folder = results.find(command.result, command.results)
    job = results.reopen(folder, command.plugin)
    if command.animate:
        results.require_movies(job, command.animate)
    problems = results.derive(job, folder, command.lang)
    if command.animate:
        problems += results.animate(job, folder, command.lang, command.animate)
    _say_figures(folder, print)
    if problems:
        raise LabError("\n  ".join(problems))
    return 0


def _show(command: Show) -> int:
    from adlab.lab import report, results, store

    folder = results.find(command.result, command.results)
    screen = report.console()
    report.print_verdicts(results.read_verdicts(folder), command.lang, screen)
    about = store.read_json(folder / "run.json") or {}
    report.print_provenance(folder, about, results.currency(folder), screen)
    _say_figures(folder, partial(screen.print, soft_wrap=True))
    return 0


def _export(command: Export) -> int:
    from adlab.lab import report, results, store

    folder = results.find(command.result, command.results)
    job = results.reopen(folder, command.plugin)
    data = store.read_arrays(folder / "data.npz")
    table = getattr(job.module, "table", None)
    text = report.to_csv(table(data, job.config) if table else report.long_rows(data))
    if command.out is None:
        sys.stdout.write(text)
        return 0
    try:
        store.write_text(command.out, text)
    except OSError as error:
        raise UsageError(f"cannot write {command.out}: {error.strerror}") from None
    print(f"written: {command.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
