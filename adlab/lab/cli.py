"""The command `adlab`: list, run, plot, show and export experiments; trace a function.

Only what a command needs is imported, when it needs it: `adlab --help` and `adlab list` answer
without jax.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

try:
    import tyro

    import adlab
    from adlab.lab import boundary, catalogue, experiment, tracing
    from adlab.lab.errors import LabError
    from adlab.lab.overrides import parse_flags
except KeyboardInterrupt:  # before there is a boundary to tell it
    print("interrupted", file=sys.stderr)
    raise SystemExit(130) from None

if TYPE_CHECKING:
    from adlab.lab.config import Job

Lang = Literal["en", "ru"]
Langs = Annotated[str, tyro.conf.arg(metavar="en|ru|en,ru")]
Animate = Literal["gif", "mp4"] | None
Flag = tyro.conf.FlagCreatePairsOff[bool]
Many = tyro.conf.UseAppendAction[tuple[str, ...]]
Result = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RESULT")]
Out = Annotated[Path, tyro.conf.arg(metavar="DIR")]
Experiments = Annotated[Path | None, tyro.conf.arg(metavar="DIR")]
Modules = Annotated[Many, tyro.conf.arg(metavar="MODULE")]

_ABOUT = """Derivative estimators, measured: run experiments, read their verdicts, trace a function.

For example, in a checkout:

  adlab list
  adlab run configs/rates.toml --profile smoke
  adlab run configs/rates.toml --num-seeds 4 --help
  adlab show rates
  adlab plot rates --lang ru
  adlab export rates --out rates.csv
  adlab trace "w2*log(w1) + sqrt(w2*log(w1))" --at w1=2,w2=3

`adlab COMMAND --help` tells the rest; `adlab --version` prints the version.
"""


@dataclass(frozen=True)
class List:
    """Show the experiments of a checkout and the commands that run them."""

    where: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")] = Path()
    """Where to look for configs/ beside experiments/; upward from there."""
    results: Out = Path("results")
    """Folder of the results, whose last runs are told."""


@dataclass(frozen=True)
class Run:
    """Run the experiment that a config names, or find its finished run, and print its verdicts.

    Every field of the config is a flag too: --num-seeds 4, --estimators.0.kind one_sided,
    --estimators.0.num-probes 4. A new kind starts from its own defaults. `adlab run CONFIG --help`
    lists the flags with the config's values.
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
    lang: Langs = "en"
    """Languages of the figures; the first one is the table's."""
    animate: Animate = None
    """Draw the experiment's movies, too, which takes time; mp4 needs ffmpeg."""


@dataclass(frozen=True)
class Plot:
    """Make the verdicts and figures of a result again from its stored data, computing nothing."""

    result: Result
    """A folder, or the beginning of the name of one among the results."""
    latest: Flag = False
    """Of several results take the newest."""
    lang: Langs = "en"
    """Languages of the figures."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Write the figures there; the result's folder isn't touched."""
    format: Annotated[str | None, tyro.conf.arg(metavar="svg,pdf,png")] = None
    """Kinds of files to write with --out; all of them without."""
    theme: Literal["light", "dark"] = "light"
    """With --out: for a white or a dark slide."""
    scale: float = 1.0
    """With --out: factor of type, lines and markers, 0.5 to 2."""
    no_title: Flag = False
    """With --out: leave the figures' titles to the slide."""
    animate: Animate = None
    """Draw the experiment's movies, too, which takes time; mp4 needs ffmpeg."""
    plugin: Modules = ()
    """Allow the modules that the run used (repeatable)."""
    experiments: Experiments = None
    """Folder of the experiments, whose code will be run; without it that of adlab's checkout."""
    results: Out = Path("results")
    """Folder of the results."""


@dataclass(frozen=True)
class Show:
    """Print the verdicts of a result and where it comes from."""

    result: Result
    """A folder, or the beginning of the name of one among the results."""
    latest: Flag = False
    """Of several results take the newest."""
    lang: Lang = "en"
    """Language of the table."""
    experiments: Experiments = None
    """Folder of the experiments (labels, state); without it that of adlab's checkout."""
    results: Out = Path("results")
    """Folder of the results."""


@dataclass(frozen=True)
class Export:
    """Write a result as CSV: the experiment's own table where it has one, else every array."""

    result: Result
    """A folder, or the beginning of the name of one among the results."""
    latest: Flag = False
    """Of several results take the newest."""
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """The file to write; standard output without."""
    plugin: Modules = ()
    """Allow the modules that the run used (repeatable)."""
    experiments: Experiments = None
    """Folder of the experiments, whose code will be run; without it that of adlab's checkout."""
    results: Out = Path("results")
    """Folder of the results."""


@dataclass(frozen=True)
class Results:
    """List the finished runs: date, profile, overrides, verdicts, size and state."""

    results: Out = Path("results")
    """Folder of the results."""


COMMANDS = List | Run | Results | Plot | Show | Export | tracing.Trace


def _parsed(*args: Any, **kwargs: Any) -> Any:
    """Return what tyro makes of the command line; nobody else's exit is taken for its own."""
    try:
        return tyro.cli(*args, **kwargs)
    except SystemExit as error:
        raise boundary.Ended(error.code if isinstance(error.code, int) else 2) from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 refused, 130 interrupted.

    Nothing is raised: an error is one line on standard error. ADLAB_TRACEBACK=1 shows more. As the
    command of a process (no `argv`) an interrupted one doesn't return: it ends the process.
    """
    typed = list(sys.argv[1:] if argv is None else argv)
    code = boundary.guarded(lambda: _dispatch(typed), typed)
    if argv is None and code == 130:
        boundary.leave(code)
    return code


def _dispatch(typed: list[str]) -> int:
    if typed == ["--version"]:
        print(f"adlab {adlab.__version__}")
        return 0
    if typed[:1] == ["run"]:
        return _dispatch_run(typed)
    command: COMMANDS = _parsed(
        COMMANDS, args=tracing.bracketed(typed), prog="adlab", description=_ABOUT
    )
    match command:
        case List():
            return _list(command)
        case Results():
            return _results(command)
        case Plot():
            return _plot(command)
        case Show():
            return _show(command)
        case Export():
            return _export(command)
        case tracing.Trace():
            return tracing.run_trace(command)
        case Run():
            return _run(command, {})


def _dispatch_run(typed: list[str]) -> int:
    """Run, or show the fields of the config where one is named beside --help.

    What isn't a flag of the command itself is an override.
    """
    rest = [token for token in typed if token not in ("--help", "-h")]
    command, others = _parsed(
        COMMANDS, args=rest if len(rest) > 1 else typed, prog="adlab", return_unknown_args=True
    )
    assert isinstance(command, Run)  # since "run" comes first
    overrides = parse_flags(others, within=rest)
    return (_fields if len(rest) < len(typed) else _run)(command, overrides)


def _job(command: Run, overrides: Mapping[str, Any]) -> Job:
    from adlab.lab import config

    changes = {**overrides, **({"x64": True} if command.x64 else {})}
    return config.load(
        command.config, profile=command.profile, changes=changes, plugins=command.plugin
    )


def _fields(command: Run, overrides: Mapping[str, Any]) -> int:
    """Print the fields of a config with the values that the file, profile and flags give them."""
    job = _job(command, overrides)
    print(f"The command's own flags: adlab run --help. The config's, for {command.config}:\n")
    _parsed(
        type(job.config),
        config=(tyro.conf.AvoidSubcommands,),
        default=job.config,
        args=["--help"],
        prog=f"adlab run {command.config}",
        description=experiment.claim(job.head),
    )
    return 0


def _run(command: Run, overrides: Mapping[str, Any]) -> int:
    job = _job(command, overrides)
    from adlab.figures import labels
    from adlab.lab import derived, listing, records, report, runner

    lang = derived.languages(command.lang)[0]
    screen = report.console()
    say = partial(screen.print, soft_wrap=True)
    say(f"{job.key}: {experiment.claim(job.head)}")
    result = runner.execute(
        job, command.out, force=command.force, lang=command.lang, animate=command.animate,
        console=screen, say=say,
    )  # fmt: skip
    if not result.computed:
        say(labels.text("run.done", lang, path=result.folder))
    profile = listing.about(result.folder).profile
    report.print_verdicts(result.verdicts, lang, screen, profile=profile)
    about = records.read_run(result.folder)
    spent = report.spent(about.get("seconds") or {}, lang)
    say(labels.text("run.seconds", lang, spent=spent))
    say(labels.text("run.result", lang, path=result.folder))
    _say_figures(result.folder, say, derived.languages(command.lang))
    if result.problems:
        advice = f"the data are stored; after mending: adlab plot {result.folder}"
        raise LabError("\n  ".join([*result.problems, advice]))
    if command.check and not result.verdicts:
        raise LabError(f"--check: {job.name} has no verdicts, so nothing was checked")
    holds = all(verdict.outcome == "holds" for verdict in result.verdicts)
    return 1 if command.check and not holds else 0


def _say_figures(
    folder: Path, say: Callable[[str], None], langs: Collection[str] | None = None
) -> None:
    from adlab.figures import labels
    from adlab.lab import results

    lang = next(iter(langs), "en") if langs else "en"
    for path in results.figures(folder, langs):
        say(labels.text("run.figure", lang, path=path))


def _list(command: List) -> int:
    checkout = experiment.find_checkout(command.where)
    if checkout is None:
        print(
            f"no configs/ beside experiments/ in {command.where.absolute()} or above.\n\n"
            "The experiments come with the source of adlab: go to the folder that it was\n"
            "installed from, and there run: adlab list"
        )
        return 0
    entries, last = catalogue.entries(checkout), catalogue.last_runs(command.results)
    if not entries:
        print(f"no configs in {checkout / 'configs'}")
    for entry in entries:
        print(f"{entry.config.stem}\n  {entry.claim}")
        run = f"adlab run {experiment.shown(entry.config)}"
        print("\n".join(f"  {run}{p}" for p in ["", *(f" --profile {p}" for p in entry.profiles)]))
        if entry.moves:
            print(f"  moves: {run} --animate gif")
        if found := last.get(entry.experiment):
            print(f"  last: {found}")
    return 0


def _results(command: Results) -> int:
    from adlab.lab import listing, report, results

    screen = report.console()
    runs = catalogue.finished(command.results)
    if not runs:
        print(f"no results in {command.results}")
        return 0
    states = {run: results.condition(run) for run in runs}
    report.print_results(listing.table(states), screen)
    return 0


def _plot(command: Plot) -> int:
    from adlab.lab import derived, results

    folder = results.whole(command.result, command.results, latest=command.latest)
    job = results.reopen(folder, command.plugin, command.experiments)
    movies = command.animate
    if movies and (note := derived.nothing_moves(job)):
        print(note)
        movies = None
    wanted = derived.requested(command.lang, command.format, movies, command.out, _look(command))
    if command.out:
        for path in derived.draw_elsewhere(job, folder, command.out, wanted):
            print(f"figure: {path}")
        return 0
    problems = derived.derive_held(job, folder, wanted)
    _say_figures(folder, print, wanted.languages)
    if problems:
        raise LabError("\n  ".join(problems))
    return 0


def _look(command: Plot) -> dict[str, Any]:
    """Return what of the look of figures isn't as usual."""
    asked = {"theme": command.theme, "scale": command.scale, "titles": not command.no_title}
    usual = {"theme": "light", "scale": 1.0, "titles": True}
    return {name: value for name, value in asked.items() if value != usual[name]}


def _show(command: Show) -> int:
    from adlab.lab import listing, records, report, results

    folder = results.whole(command.result, command.results, latest=command.latest)
    screen = report.console()
    about = records.read_run(folder)
    verdicts = results.read_verdicts(folder, command.experiments)
    profile = listing.about(folder).profile
    report.print_verdicts(verdicts, command.lang, screen, profile=profile)
    if listing.stored_verdicts(folder) is None:
        screen.print(f"make them again with: adlab plot {folder}", soft_wrap=True)
    state = results.currency(folder, command.experiments)
    report.print_provenance(folder, about, state, screen)
    _say_figures(folder, partial(screen.print, soft_wrap=True))
    return 0


def _export(command: Export) -> int:
    from adlab.lab import output, report, results, store

    if command.out is not None:
        output.require_csv(command.out)
    folder = results.whole(command.result, command.results, latest=command.latest)
    job = results.reopen(folder, command.plugin, command.experiments)
    data = store.read_arrays(folder / "data.npz")
    table = getattr(job.module, "table", None)
    with boundary.foreign(f"table of {job.name}", job.sources):
        text = report.to_csv(table(data, job.config) if table else report.long_rows(data))
    if command.out is None:
        sys.stdout.write(text)
        return 0
    if output.write(command.out, lambda file: file.write_text(text, encoding="utf-8")):
        print(f"written: {command.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
