"""Running an experiment: from a config to a finished folder, or to the one already there."""

from __future__ import annotations

import contextlib
import datetime
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adlab.lab import config as configs
from adlab.lab import experiment, provenance, store, toml
from adlab.lab.errors import LabError
from adlab.lab.progress import Progress
from adlab.lab.verdict import Verdict

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
    verdicts: list[Verdict]
    problems: list[str] = field(default_factory=list)

    @property
    def figures(self) -> list[Path]:
        """The files of its figures."""
        return sorted((self.folder / "figures").glob("*.*"))


def run(
    path: Path | str,
    *,
    profile: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    out: Path | str = "results",
    force: bool = False,
    plugins: Sequence[str] = (),
    lang: str = "en",
) -> Path:
    """Run the experiment that a config names, as `adlab run` does, and return its folder.

    A finished run of the same config by the same sources is returned as it is.

    Args:
      path: the config.
      profile: name of one of its profiles.
      overrides: dotted path -> value: {"num_steps": 10, "problem.kind": "huber"}.
      out: folder of the results.
      force: run even if it is done.
      plugins: modules that `kind = "module:function"` may import.
      lang: language of the figures.

    Raises:
      ConfigError: every problem of the config at once.
      LabError: the experiment failed; the message says where.
    """
    job = configs.load(path, profile=profile, changes=overrides, plugins=plugins)
    result = execute(job, Path(out), force=force, lang=lang)
    if result.problems:
        raise LabError("; ".join(result.problems))
    return result.folder


def execute(
    job: configs.Job,
    out: Path,
    *,
    force: bool = False,
    lang: str = "en",
    console: Console | None = None,
    say: Say = _silence,
) -> Result:
    """Run `job`, or find its finished run; see `run`."""
    stamp = provenance.stamp(job.sources)
    place = store.Place(out, job.key)
    found = store.state(place.final, stamp)
    if found == "done" and not force:
        return _found(job, place, lang)
    with store.hold(place):
        if not force and store.state(place.final, stamp) == "done":  # by another process, just now
            return _found(job, place, lang)
        notes = store.prepare(place, stamp, anew=force)
        if found == "stale" and not force:
            notes.append(
                f"{place.final} is stale: sources or versions changed since; running again"
            )
        for note in notes:
            say(note)
        log = _Log(place.partial / "log.txt")
        _compute(job, place, Progress(place.partial / "stages", console, log), log, lang)
        problems = derive(job, place.partial, lang, log)
        for note in store.publish(place, stamp):
            say(note)
    return Result(place.final, True, read_verdicts(place.final), problems)


def _found(job: configs.Job, place: store.Place, lang: str) -> Result:
    """Return the finished run, making again what of it is missing or in another language."""
    folder, problems = place.final, []
    complete = (folder / "figures").is_dir() and (folder / "verdicts.json").exists()
    about = store.read_json(folder / "run.json") or {}
    if not complete or about.get("lang") != lang:
        problems = derive(job, folder, lang, _Log(folder / "log.txt"))
    return Result(folder, False, read_verdicts(folder), problems)


def _compute(
    job: configs.Job, place: store.Place, progress: Progress, log: _Log, lang: str
) -> None:
    folder = place.partial
    store.write_text(folder / "config.toml", toml.write(job.resolved))
    started, clock = _now(), time.perf_counter()
    log(f"started {job.key}")
    try:
        with _precision(job.config.x64):
            data = store.as_arrays(job.module.run(job.config, progress))
        about = _about(job, started, time.perf_counter() - clock, progress.spent, lang)
    except KeyboardInterrupt:
        log("interrupted")
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


def _about(
    job: configs.Job, started: str, total: float, seconds: Mapping[str, Any], lang: str
) -> dict[str, Any]:
    file = job.sources[0]
    return {
        "experiment": job.name,
        "seed": job.config.seed,
        "x64": job.config.x64,
        "lang": lang,
        "versions": provenance.versions(),
        "git": provenance.commit(file.parent),
        "device": provenance.device(),
        "started": started,
        "finished": _now(),
        "seconds": {
            "compile": sum(entry["compile"] for entry in seconds.values()),
            "run": sum(entry["run"] for entry in seconds.values()),
            "total": total,
            "parts": dict(seconds),
        },
        "plugins": list(job.plugins),
        "files": {
            "experiment": str(file),
            "config": str(job.config_file),
            "sources": [str(source) for source in job.sources],
        },
    }


def derive(job: configs.Job, folder: Path, lang: str, log: Say) -> list[str]:
    """Make verdicts and figures from the stored data, and return what failed; the data stay."""
    data = store.read_arrays(folder / "data.npz")
    problems = []
    for make in (_make_verdicts, _make_figures):
        try:
            with _precision(job.config.x64):
                make(job, data, folder, lang)
        except Exception as error:
            log(traceback.format_exc())
            problems.append(f"{job.name}: {experiment.failure(error, job.sources)}")
    about = store.read_json(folder / "run.json")
    if about and about.get("lang") != lang:
        store.write_json(folder / "run.json", {**about, "lang": lang})
    return problems


def _make_verdicts(job: configs.Job, data: Mapping[str, Any], folder: Path, lang: str) -> None:
    del lang
    verdicts = job.module.verdicts(data, job.config)
    store.write_json(folder / "verdicts.json", [verdict.to_json() for verdict in verdicts])


def _make_figures(job: configs.Job, data: Mapping[str, Any], folder: Path, lang: str) -> None:
    from adlab.figures import style

    fresh = folder / ".figures"
    store.remove(fresh)
    fresh.mkdir()
    try:
        with style.context(lang):
            for name, figure in job.module.plot(data, job.config).items():
                style.save(figure, fresh / name)
    except BaseException:
        store.remove(fresh)
        raise
    store.remove(folder / "figures")
    fresh.rename(folder / "figures")


def redraw(job: configs.Job, folder: Path, lang: str) -> list[str]:
    """Make verdicts and figures of a finished run again, and return what failed."""
    return derive(job, folder, lang, _Log(folder / "log.txt"))


def currency(folder: Path) -> str:
    """Say whether a run is of the sources and versions as they are now."""
    about = store.read_json(folder / "run.json") or {}
    sources = [Path(source) for source in about.get("files", {}).get("sources", [])]
    if not sources or not all(source.is_file() for source in sources):
        return "unknown: its experiment isn't here"
    if store.state(folder, provenance.stamp(sources)) == "done":
        return "current"
    return "stale: sources or versions changed since"


def read_verdicts(folder: Path) -> list[Verdict]:
    """Return the verdicts stored in a run's folder; none where they couldn't be made."""
    return [Verdict.from_json(entry) for entry in store.read_json(folder / "verdicts.json") or []]


def reopen(folder: Path, plugins: Sequence[str] = ()) -> configs.Job:
    """Return the job of a finished run: its own config with the experiment as it is now.

    Raises:
      LabError: the experiment is nowhere to be found.
    """
    about = store.read_json(folder / "run.json") or {}
    name = about.get("experiment", folder.name.rpartition("-")[0])
    checkouts = [experiment.find_checkout(start) for start in (Path.cwd(), folder)]
    files = [c / "experiments" / f"{name}.py" for c in checkouts if c]
    stored = about.get("files", {}).get("experiment")
    file = next((f for f in [*([Path(stored)] if stored else []), *files] if f.is_file()), None)
    if file is None:
        raise LabError(f"no experiment '{name}' here: run this in the checkout that it came from")
    if origin := about.get("files", {}).get("config"):
        configs.importable(Path(origin))
    return configs.load(folder / "config.toml", plugins=plugins, experiment_file=file)


@contextlib.contextmanager
def _precision(x64: bool) -> Iterator[None]:
    """Compute in the config's precision; for all threads, so that callbacks see it too."""
    import jax

    before = bool(jax.config.jax_enable_x64)  # type: ignore[attr-defined]
    jax.config.update("jax_enable_x64", x64)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


class _Log:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, line: str) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{_now()} {line}\n")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
