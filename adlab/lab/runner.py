"""Running an experiment: from a config to a finished folder, or to the one already there."""

from __future__ import annotations

import contextlib
import html
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adlab.lab import config as configs
from adlab.lab import derived, experiment, integrity, provenance, results, start, store, toml
from adlab.lab.attempts import Ledger
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
      lang: language of the figures, or several: "en,ru".
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
    langs = derived.languages(lang)
    if animate is not None and (note := derived.nothing_moves(job)):
        say(note)
        animate = None
    if animate is not None:
        derived.require_writer(animate)
    result = _executed(job, out, force, langs, console, say)
    if animate is None:
        return result
    say("drawing movies ...")
    films = derived.Wanted(langs, verdicts=False, figures=False, movies=animate)
    problems = derived.derive_held(job, result.folder, films)
    return replace(result, problems=[*result.problems, *problems])


def _executed(
    job: configs.Job, out: Path, force: bool, langs: tuple[str, ...], console: Console | None,
    say: Say,
) -> Result:  # fmt: skip
    stamp = provenance.stamp(job.head, job.plugin_files, job.resolved)
    place = store.place(out, job.name, job.identity)
    if not force and _usable(job, place, stamp, say):
        return _found(job, place, stamp, langs)
    if told := start.check(job):
        say(told)
    with store.hold(place):
        store.recover(place)
        found = store.state(place.final, stamp)
        computed = force or found != "done"  # by another process, just now, or one that was killed
        if computed:
            for note in store.prepare(place, stamp, anew=force):
                say(note)
            if found == "stale" and not force:
                say(f"{place.final} is stale: sources or versions changed since; running again")
            _compute(job, place.partial, stamp, console)
            problems = derived.derive(job, place.partial, derived.Wanted(langs))
            for note in store.publish(place):
                say(note)
    if not computed:
        return _found(job, place, stamp, langs)
    return Result(place.final, True, results.read_verdicts(place.final), problems)


def _usable(job: configs.Job, place: store.Place, stamp: Mapping[str, Any], say: Say) -> bool:
    """Whether the run is finished and whole; a config.toml that was changed is written again."""
    found = store.state(place.final, stamp)
    done = integrity.read_done(place.final)
    if found == "damaged" and done:
        broken = integrity.damaged(place.final, done.files)
        if broken == ["config.toml"]:
            with store.hold(place, "plot"):
                store.write_text(place.final / "config.toml", toml.write(job.resolved))
            say(f"{place.final / 'config.toml'} was changed or lost: written again")
            return store.state(place.final, stamp) == "done"
    return found == "done"


def _found(
    job: configs.Job, place: store.Place, stamp: Mapping[str, Any], langs: tuple[str, ...]
) -> Result:
    """Return the finished run; make again what is missing, damaged or of older code."""
    folder, problems = place.final, []
    store.tidy(place)
    if _needs(derived.lacking(folder, stamp["derived"], langs)):
        with store.hold(place, "plot"):
            wanted = derived.lacking(folder, stamp["derived"], langs)  # after waiting
            problems = derived.derive(job, folder, wanted) if _needs(wanted) else []
    return Result(folder, False, results.read_verdicts(folder), problems)


def _needs(wanted: derived.Wanted) -> bool:
    return bool(wanted.verdicts or wanted.languages)


def _compute(
    job: configs.Job, folder: Path, stamp: Mapping[str, Any], console: Console | None
) -> None:
    """Run the experiment, store its data in `folder`, and vouch for them."""
    log = store.Log(folder / "log.txt")
    progress = Progress(folder / "stages", console, log)
    ledger = Ledger(folder / "stages" / "attempts.json", progress)
    store.write_text(folder / "config.toml", toml.write(job.resolved))
    started = store.now()
    log(f"started {job.key}")
    try:
        with start.precision(job.config.x64):
            data = store.as_arrays(job.module.run(job.config, progress))
        about = provenance.about(job, stamp["versions"], *ledger.note())
    except KeyboardInterrupt:
        log("interrupted")
        raise
    except LabError as error:  # the experiment's own word to the user
        log(str(error))
        raise
    except BaseException as error:
        with contextlib.suppress(OSError):  # a full disk is reported all the same
            log(traceback.format_exc())
        raise LabError(
            f"{job.name}: {experiment.failure(error, job.sources)}\n"
            f"  traceback in {experiment.shown(folder / 'log.txt')}"
        ) from error
    finally:
        ledger.note()
    store.write_arrays(folder / "data.npz", data)
    if progress.timings:
        store.write_arrays(folder / "timings.npz", progress.timings)
    store.write_json(folder / "run.json", {**about, "started": started, "finished": store.now()})
    integrity.seal(folder, stamp)
    log("data stored")
