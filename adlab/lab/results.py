"""Results: finding a finished run, opening it, and what is made from its stored data."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adlab.lab import config as configs
from adlab.lab import experiment, headings, provenance, start, store, toml
from adlab.lab.errors import LabError, UsageError, nearest
from adlab.lab.report import Verdicts
from adlab.lab.verdict import Verdict, render


def find(name: str, out: Path) -> Path:
    """Return the finished run that a path or the beginning of a folder's name means.

    Of several, the one that finished last.

    Raises:
      UsageError: there is none.
    """
    if (Path(name) / "DONE").is_file():
        return Path(name)
    runs = sorted(p.parent.name for p in out.glob("[!.]*/DONE")) if out.is_dir() else []
    matches = [run for run in runs if run.startswith(name)] if name else []
    if matches:
        return max(
            (out / run for run in matches), key=lambda run: (run / "DONE").stat().st_mtime_ns
        )
    if (Path(name) / "config.toml").is_file():
        raise UsageError(f"{name} is not finished (no DONE): run its config again")
    stems = {run.rpartition("-")[0]: run for run in runs}
    hint = nearest(name, [*runs, *stems]) or nearest(Path(name).name, runs)
    listed = f" (there: {', '.join(runs)})" if runs else " (there are none)"
    raise UsageError(f"no result '{name}' in {out}{hint}{listed}")


def currency(folder: Path) -> str:
    """Say whether a run is of the sources and versions as they are now."""
    files = (store.read_json(folder / "run.json") or {}).get("files", {})
    head, *plugins = map(Path, [files.get("experiment", ""), *files.get("plugins", [])])
    if not all(file.is_file() for file in (head, *plugins)):
        return "unknown: its experiment isn't here"
    match store.state(folder, provenance.stamp(head, plugins, toml.read(folder / "config.toml"))):
        case "done":
            return "current"
        case "underived":
            return "current, but verdicts and figures aren't: make them again with adlab plot"
    return "stale: sources or versions changed since"


def figures(folder: Path) -> list[Path]:
    """Return the files of a run's figures."""
    return sorted((folder / "figures").glob("*.*"))


def read_verdicts(folder: Path) -> Verdicts:
    """Return the verdicts stored in a run's folder; none where they couldn't be made.

    In the experiment's words as they are now, where it is here, else as they were stored.
    """
    if file := _experiment_file(folder, store.read_json(folder / "run.json") or {}):
        experiment.merge_labels(file)
    return Verdicts(_verdict(entry) for entry in store.read_json(folder / "verdicts.json") or [])


def _verdict(entry: Mapping[str, Any]) -> Verdict:
    verdict = Verdict.from_json(entry)
    try:
        render(verdict.claim, "en")
    except KeyError:  # a label of that time; the stored text serves
        return dataclasses.replace(verdict, claim=entry["claim"])
    return verdict


def reopen(folder: Path, plugins: Sequence[str] = ()) -> configs.Job:
    """Return the job of a finished run: its own config with the experiment as it is now.

    Raises:
      LabError: the experiment is nowhere to be found.
    """
    about = store.read_json(folder / "run.json") or {}
    file = _experiment_file(folder, about)
    if file is None:
        name = _experiment_name(folder, about)
        raise LabError(f"no experiment '{name}' here: run this in the checkout that it came from")
    if origin := about.get("files", {}).get("config"):
        configs.importable(Path(origin))
    return configs.load(folder / "config.toml", plugins=plugins, experiment_file=file)


def _experiment_name(folder: Path, about: Mapping[str, Any]) -> str:
    return str(about.get("experiment", folder.name.rpartition("-")[0]))


def _experiment_file(folder: Path, about: Mapping[str, Any]) -> Path | None:
    """Return the head of the experiment where it was, or in the checkout around."""
    checkouts = [experiment.find_checkout(place) for place in (Path.cwd(), folder)]
    name = _experiment_name(folder, about)
    found = [experiment.file_of(c / "experiments", name) for c in checkouts if c]
    stored = Path(about.get("files", {}).get("experiment", ""))
    return next((f for f in (stored, *found) if f and f.is_file()), None)


def derive(job: configs.Job, folder: Path, lang: str) -> list[str]:
    """Make verdicts and figures from the stored data, and return what failed; the data stay.

    They see what was timed beside what was computed.
    """
    data = _arrays(folder)
    log, problems = store.Log(folder / "log.txt"), []
    for make in (_make_verdicts, _make_figures):
        try:
            with start.precision(job.config.x64):
                make(job, data, folder, lang)
        except Exception as error:
            log(traceback.format_exc())
            problems.append(f"{job.name}: {experiment.failure(error, job.sources)}")
    about = store.read_json(folder / "run.json")
    if about and about.get("lang") != lang:
        store.write_json(folder / "run.json", {**about, "lang": lang})
    done = store.read_json(folder / "DONE")
    if isinstance(done, dict) and not problems:
        fresh = provenance.derived(job.head).digest()
        store.write_json(folder / "DONE", {**done, "derived": fresh})
    return problems


def require_movies(job: configs.Job, kind: str) -> None:
    """Raise UsageError unless the experiment has movies and one can be written as `kind`."""
    from adlab.figures import animation

    if not hasattr(job.module, "movies"):
        raise UsageError(
            f"{job.name} has no movies: leave --animate out, or define in "
            f"{experiment.shown(job.head)} movies(data, config) -> dict[str, Movie], with "
            "adlab.figures.animation.Movie"
        )
    try:
        animation.require_writer(f".{kind}")
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from None


def animate(job: configs.Job, folder: Path, lang: str, kind: str) -> list[str]:
    """Write the experiment's movies among the figures, and return what failed."""
    from adlab.figures import style

    require_movies(job, kind)
    log = store.Log(folder / "log.txt")
    try:
        with start.precision(job.config.x64), style.context(lang):
            for name, movie in job.module.movies(_arrays(folder), job.config).items():
                movie.save(folder / "figures" / f"{name}.{kind}")
    except Exception as error:
        log(traceback.format_exc())
        return [f"{job.name}: {experiment.failure(error, job.sources)}"]
    return []


def _arrays(folder: Path) -> dict[str, Any]:
    """Return what was computed, with what was timed beside it."""
    data: dict[str, Any] = store.read_arrays(folder / "data.npz")
    if (folder / "timings.npz").exists():
        data |= store.read_arrays(folder / "timings.npz")
    return data


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
            verdicts = read_verdicts(folder)
            for name, figure in headings.figures(job.module, data, job.config, verdicts).items():
                style.save(figure, fresh / name)
    except BaseException:
        store.remove(fresh)
        raise
    store.remove(folder / "figures")
    fresh.rename(folder / "figures")
