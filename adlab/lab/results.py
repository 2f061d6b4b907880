"""Results: finding a finished run, and opening it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from adlab.lab import config as configs
from adlab.lab import derived, experiment, integrity, listing, provenance, store, toml
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
    if (Path(name) / "DONE").is_file():
        return Path(name)
    runs = sorted(p.parent.name for p in out.glob("[!.]*/DONE")) if out.is_dir() else []
    if name in runs:
        return out / name
    matches = [run for run in runs if run.startswith(name)] if name else []
    matches = [run for run in matches if run.rpartition("-")[0] == name] or matches
    if matches:
        return _only([out / run for run in matches], name, latest)
    if (Path(name) / "config.toml").is_file():
        raise UsageError(f"{name} is not finished (no DONE): run its config again")
    stems = {run.rpartition("-")[0]: run for run in runs}
    hint = nearest(name, [*runs, *stems]) or nearest(Path(name).name, runs)
    listed = f" (there: {', '.join(runs)})" if runs else " (there are none)"
    raise UsageError(f"no result '{name}' in {out}{hint}{listed}")


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


def currency(folder: Path) -> str:
    """Say whether a run is of the sources and versions as they are now."""
    about = listing.about(folder)
    head, *plugins = map(Path, [about.files.experiment, *about.files.plugins])
    if not all(file.is_file() for file in (head, *plugins)):
        return "unknown: its experiment isn't here"
    stamp = provenance.stamp(head, plugins, toml.read(folder / "config.toml"))
    match store.state(folder, stamp):
        case "done" if derived.is_whole(folder, stamp["derived"]):
            return "current"
        case "done":
            return "current, but verdicts and figures aren't: make them again with adlab plot"
        case "damaged" | "wreck":
            return f"damaged; compute it again with {listing.command(folder)}"
    return "stale: sources or versions changed since"


def brief(folder: Path) -> str:
    """Return the state of a run in a word or two."""
    said = currency(folder)
    return "to be drawn again" if said.startswith("current,") else re.split("[;:]", said)[0]


def figures(folder: Path, langs: Collection[str] | None = None) -> list[Path]:
    """Return the files of a run's figures, of those in some languages where these are given."""
    return [
        path
        for lang in derived.LANGUAGES
        if langs is None or lang in langs
        for path in sorted(derived.place(folder / "figures", lang).glob("*.*"))
    ]


def read_verdicts(folder: Path) -> Verdicts:
    """Return the verdicts stored in a run's folder; none where they couldn't be made.

    In the experiment's words as they are now, where it is here, else as they were stored.
    """
    if file := _experiment_file(folder, store.read_json(folder / "run.json") or {}):
        experiment.merge_labels(file)
    return Verdicts(_verdict(entry) for entry in listing.stored_verdicts(folder) or [])


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
