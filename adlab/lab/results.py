"""Results: finding a finished run, and opening it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from adlab.figures.labels import LANGUAGES
from adlab.lab import (
    catalogue,
    derived,
    errors,
    experiment,
    integrity,
    listing,
    provenance,
    records,
    regular,
    store,
    toml,
)
from adlab.lab import config as configs
from adlab.lab.errors import LabError, UsageError, nearest
from adlab.lab.report import Verdicts
from adlab.lab.verdict import Verdict, render


def find(name: str, out: Path, *, latest: bool = False) -> Path:
    """Return the finished run that a path, a folder's name or the beginning of one means.

    Args:
      name: what the user typed.
      out: folder of the results.
      latest: whether to take of several the one that finished last.

    Raises:
      UsageError: there is none, or there are several, which are listed.
    """
    if regular.is_regular(Path(name) / "DONE"):
        return Path(name)
    runs = sorted(run.name for run in catalogue.finished(out))
    if name in runs:
        return out / name
    matches = [run for run in runs if run.startswith(name)] if name else []
    matches = [run for run in matches if run.rpartition("-")[0] == name] or matches
    if matches:
        return _only([out / run for run in matches], name, latest)
    if regular.is_regular(Path(name) / "config.toml"):
        raise UsageError(f"{name} is not finished (no DONE): run its config again")
    stems = {run.rpartition("-")[0]: run for run in runs}
    hint = nearest(name, [*runs, *stems]) or nearest(Path(name).name, runs)
    listed = f" (there: {', '.join(runs)})" if runs else " (there are none)"
    raise UsageError(f"no result '{errors.brief(name)}' in {errors.brief(out)}{hint}{listed}")


def _only(runs: list[Path], name: str, latest: bool) -> Path:
    newest = listing.newest_first(runs)
    if len(newest) == 1 or latest:
        return newest[0].folder
    raise UsageError(
        "\n  ".join(
            [
                f"'{name}' means {len(newest)} results; name one, or take the newest with --latest",
                *listing.lines(newest),
            ]
        )
    )


def whole(name: str, out: Path, *, latest: bool = False) -> Path:
    """Return what `find` does, where the files of its data are those that it vouches for.

    Raises:
      UsageError: as `find`.
      LabError: they aren't; with the command that computes them again.
    """
    folder = find(name, out, latest=latest)
    integrity.require_whole(folder, listing.command(folder))
    return folder


def currency(folder: Path, experiments: Path | None = None) -> str:
    """Say whether a run is of the sources and versions as they are now."""
    about = records.read_run(folder)
    head = _experiment_file(folder, about, experiments)
    plugins = [Path(file) for file in about.get("files", {}).get("plugins", [])]
    if head is None:
        return "unknown: its experiment isn't here; --experiments DIR says where"
    if not all(regular.is_regular(file) for file in plugins):
        return "unknown: its plugins aren't here"
    if not regular.is_regular(folder / "config.toml"):
        return f"damaged; compute it again with {listing.command(folder)}"
    tables = toml.read(folder / "config.toml")
    try:
        stamp = provenance.stamp(head, plugins, tables)
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        return f"unknown: its sources can't be read ({errors.located(error)})"
    match store.state(folder, stamp):
        case "done":
            older = derived.outdated(folder, stamp["derived"])
            return f"current, but {'; '.join(older)}" if older else "current"
        case "damaged" | "wreck":
            return f"damaged; compute it again with {listing.command(folder)}"
    return "stale: sources or versions changed since"


def condition(folder: Path) -> str:
    """Return the state of a run in a word or two."""
    try:
        said = currency(folder)
    except LabError:  # of its run.json or config.toml; one such run doesn't hide the others
        return "damaged"
    return "to be drawn again" if said.startswith("current,") else re.split("[;:]", said)[0]


def figures(folder: Path, langs: Collection[str] | None = None) -> list[Path]:
    """Return the files of a run's figures, of those in some languages where these are given."""
    return [
        path
        for lang in LANGUAGES
        if langs is None or lang in langs
        for path in sorted(derived.place(folder / "figures", lang).glob("*.*"))
    ]


def read_verdicts(folder: Path, experiments: Path | None = None) -> Verdicts:
    """Return the verdicts stored in a run's folder; none where they couldn't be made.

    In the experiment's words as they are now, where it is here, else as they were stored.
    """
    if file := _experiment_file(folder, records.read_run(folder), experiments):
        experiment.merge_labels(file)
    return Verdicts(_verdict(entry) for entry in listing.stored_verdicts(folder) or [])


def _verdict(entry: Mapping[str, Any]) -> Verdict:
    verdict = Verdict.from_json(entry)
    try:
        render(verdict.claim, "en")
    except (LookupError, ValueError, TypeError):  # a label of that time; the stored text serves
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
        checkout = experiment.installed()
        where = experiments or (checkout / "experiments" if checkout else "what is installed")
        raise LabError(
            f"no experiment '{errors.brief(name, 60)}' in {errors.brief(where)}: name the folder "
            "that has it, "
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
