"""Results: finding a finished run, opening it, and what is made from its stored data."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from adlab.lab import config as configs
from adlab.lab import experiment, provenance, records, start, store, toml
from adlab.lab.errors import LabError, UsageError, brief, nearest
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


def currency(folder: Path, experiments: Path | None = None) -> str:
    """Say whether a run is of the sources and versions as they are now."""
    about = records.read_run(folder)
    head = _experiment_file(folder, about, experiments)
    plugins = [Path(file) for file in about.get("files", {}).get("plugins", [])]
    if head is None:
        return "unknown: its experiment isn't here; --experiments DIR says where"
    if not all(file.is_file() for file in plugins):
        return "unknown: its plugins aren't here"
    match store.state(folder, provenance.stamp(head, plugins, toml.read(folder / "config.toml"))):
        case "done":
            return "current"
        case "underived":
            return "current, but verdicts and figures aren't: make them again with adlab plot"
    return "stale: sources or versions changed since"


def figures(folder: Path) -> list[Path]:
    """Return the files of a run's figures."""
    return sorted((folder / "figures").glob("*.*"))


def read_verdicts(folder: Path, experiments: Path | None = None) -> Verdicts:
    """Return the verdicts stored in a run's folder; none where they couldn't be made.

    In the experiment's words as they are now, where it is here, else as they were stored.
    """
    if file := _experiment_file(folder, records.read_run(folder), experiments):
        experiment.merge_labels(file)
    return Verdicts(_verdict(entry) for entry in store.read_json(folder / "verdicts.json") or [])


def _verdict(entry: Mapping[str, Any]) -> Verdict:
    verdict = Verdict.from_json(entry)
    try:
        render(verdict.claim, "en")
    except KeyError:  # a label of that time; the stored text serves
        return dataclasses.replace(verdict, claim=entry["claim"])
    return verdict


def reopen(
    folder: Path, plugins: Sequence[str] = (), experiments: Path | None = None
) -> configs.Job:
    """Return the job of a finished run: its own config with the experiment as it is now.

    No code is looked for in the current folder, in that of the result, or where the result says
    that it was: a result may come from anywhere.

    Args:
      folder: of the result.
      plugins: modules that may be imported.
      experiments: the folder of experiments, with plugins beside it or beside its configs; without
        it that of the checkout which adlab is imported from.

    Raises:
      LabError: the experiment is nowhere to be found.
    """
    about = records.read_run(folder)
    file = _experiment_file(folder, about, experiments)
    if file is None:
        name = _experiment_name(folder, about)
        where = experiments or "what is installed"
        raise LabError(
            f"no experiment '{brief(name, 60)}' in {brief(where)}: name the folder that has it, "
            "--experiments DIR; its code will be run"
        )
    beside = [] if experiments is None else [experiments.absolute().parent]
    search = [*beside, *(folder / "configs" for folder in beside)]
    return configs.load(
        folder / "config.toml", plugins=plugins, experiment_file=file, search=search
    )


def _experiment_name(folder: Path, about: Mapping[str, Any]) -> str:
    return str(about.get("experiment", folder.name.rpartition("-")[0]))


def _experiment_file(
    folder: Path, about: Mapping[str, Any], experiments: Path | None = None
) -> Path | None:
    """Return the head of the experiment in `experiments`, or in the checkout of adlab itself."""
    name, checkout = _experiment_name(folder, about), experiment.installed()
    place = experiments or (checkout / "experiments" if checkout else None)
    known = experiment.NAME.fullmatch(name)
    return experiment.file_of(place, name) if place and known else None


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


def nothing_moves(job: configs.Job) -> str | None:
    """Say that an experiment has no movies to draw; None where it has."""
    if hasattr(job.module, "movies"):
        return None
    return (
        f"nothing moves in {job.name}: --animate draws nothing; {experiment.shown(job.head)} may "
        "define movies(data, config) -> dict[str, adlab.figures.animation.Movie]"
    )


def require_writer(kind: str) -> None:
    """Raise UsageError unless a movie can be written as `kind`, "gif" or "mp4"."""
    from adlab.figures import animation

    try:
        animation.require_writer(f".{kind}")
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from None


def animate(job: configs.Job, folder: Path, lang: str, kind: str) -> list[str]:
    """Write the experiment's movies among the figures, and return what failed."""
    from adlab.figures import style

    require_writer(kind)
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
            for name, figure in job.module.plot(data, job.config).items():
                style.save(figure, fresh / name)
    except BaseException:
        store.remove(fresh)
        raise
    store.remove(folder / "figures")
    fresh.rename(folder / "figures")
