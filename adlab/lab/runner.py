"""Running an experiment: from a config to a finished folder, or to the one already there."""

from __future__ import annotations

import html
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adlab.lab import config as configs
from adlab.lab import experiment, provenance, results, start, store, toml
from adlab.lab.errors import LabError
from adlab.lab.progress import Progress
from adlab.lab.report import Verdicts, summary

if TYPE_CHECKING:
    from rich.console import Console

Say = Callable[[str], None]


def _silence(line: str) -> None:
    del line


@dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
      folder: where it is.
      computed: False where it was already there.
      verdicts: its verdicts.
      problems: what failed after the data were stored.
    """

    folder: Path
    computed: bool
    verdicts: Verdicts
    problems: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        failed = f"; failed: {'; '.join(self.problems)}" if self.problems else ""
        return f"<Result {self.folder}: {summary(self.verdicts)}{failed}>"

    def _repr_html_(self) -> str:
        return f"{self.verdicts._repr_html_()}<p>{html.escape(repr(self)[1:-1])}</p>"


def run(
    path: Path | str,
    *,
    profile: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    out: Path | str = "results",
    force: bool = False,
    plugins: Sequence[str] = (),
    lang: str = "en",
    animate: str | None = None,
) -> Path:
    """Run the experiment that a config names, as `adlab run` does, and return its folder.

    A finished run of the same config by the same sources is returned as it is.

    Args:
      path: the config.
      profile: name of one of its profiles.
      overrides: dotted path -> value: {"num_steps": 10, "estimators.0.kind": "two_point"}.
      out: folder of the results.
      force: run even if it is done.
      plugins: modules that `kind = "module:function"` may import.
      lang: language of the figures.
      animate: "gif" or "mp4" to draw the experiment's movies, too, which takes time.

    Raises:
      ConfigError: every problem of the config at once.
      UsageError: there is no ffmpeg for an mp4.
      LabError: the experiment failed; the message says where.
    """
    job = configs.load(path, profile=profile, changes=overrides, plugins=plugins)
    result = execute(job, Path(out), force=force, lang=lang, animate=animate)
    if result.problems:
        raise LabError("; ".join(result.problems))
    return result.folder


def execute(
    job: configs.Job,
    out: Path,
    *,
    force: bool = False,
    lang: str = "en",
    animate: str | None = None,
    console: Console | None = None,
    say: Say = _silence,
) -> Result:
    """Run `job`, or find its finished run; see `run`."""
    if animate is not None and (note := results.nothing_moves(job)):
        say(note)
        animate = None
    if animate is None:
        return _executed(job, out, force, lang, console, say)
    results.require_writer(animate)
    result = _executed(job, out, force, lang, console, say)
    say("drawing movies ...")
    problems = results.animate(job, result.folder, lang, animate)
    return replace(result, problems=[*result.problems, *problems])


def _executed(
    job: configs.Job, out: Path, force: bool, lang: str, console: Console | None, say: Say
) -> Result:
    stamp = provenance.stamp(job.head, job.plugin_files, job.resolved)
    place = store.Place(out, job.key)
    found = store.state(place.final, stamp)
    if found in ("done", "underived") and not force:
        return _found(job, place, lang, found)
    if told := start.check(job):
        say(told)
    with store.hold(place):
        if not force and store.state(place.final, stamp) == "done":  # by another process, just now
            return _found(job, place, lang, "done")
        notes = store.prepare(place, stamp, anew=force)
        if found == "stale" and not force:
            notes.append(
                f"{place.final} is stale: sources or versions changed since; running again"
            )
        for note in notes:
            say(note)
        _compute(job, place.partial, console)
        problems = results.derive(job, place.partial, lang)
        for note in store.publish(place, stamp):
            say(note)
    return Result(place.final, True, results.read_verdicts(place.final), problems)


def _found(job: configs.Job, place: store.Place, lang: str, state: store.State) -> Result:
    """Return the finished run; make again what is missing, of older code or in another language."""
    folder, problems = place.final, []
    complete = (folder / "figures").is_dir() and (folder / "verdicts.json").exists()
    about = store.read_json(folder / "run.json") or {}
    if state == "underived" or not complete or about.get("lang") != lang:
        problems = results.derive(job, folder, lang)
    return Result(folder, False, results.read_verdicts(folder), problems)


def _compute(job: configs.Job, folder: Path, console: Console | None) -> None:
    """Run the experiment and store its data in `folder`."""
    log = store.Log(folder / "log.txt")
    progress = Progress(folder / "stages", console, log)
    store.write_text(folder / "config.toml", toml.write(job.resolved))
    started, clock = store.now(), time.perf_counter()
    log(f"started {job.key}")
    try:
        with start.precision(job.config.x64):
            data = store.as_arrays(job.module.run(job.config, progress))
        seconds = progress.spent, time.perf_counter() - clock
        about = {**provenance.about(job, *seconds), "started": started, "finished": store.now()}
    except KeyboardInterrupt:
        log("interrupted")
        raise
    except LabError as error:  # the experiment's own word to the user
        log(str(error))
        raise
    except Exception as error:
        log(traceback.format_exc())
        raise LabError(
            f"{job.name}: {experiment.failure(error, job.sources)}\n"
            f"  traceback in {experiment.shown(folder / 'log.txt')}"
        ) from error
    store.write_arrays(folder / "data.npz", data)
    if progress.timings:
        store.write_arrays(folder / "timings.npz", progress.timings)
    store.write_json(folder / "run.json", about)
    log("data stored")
