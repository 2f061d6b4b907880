"""Experiments: files beside the configs, found by name and imported by path.

`configs/rates.toml` names the experiment `rates` (its stem, or its top-level key `experiment`),
which is the package `experiments/rates/`, or the file `experiments/rates.py`, beside the folder of
configs. The `labels.toml` beside its head are its texts. Listing reads docstrings without importing
anything.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
import tomllib
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from adlab.lab.errors import ConfigError, LabError, nearest

PARTS = ("Config", "run", "verdicts", "plot")  # and, if it likes, `movies` and `table`


@dataclass(frozen=True)
class Entry:
    """One line of `adlab list`: a config with the experiment it runs.

    Attributes:
      config: the file.
      experiment: its name.
      claim: the first line of its docstring.
      profiles: the names of the config's profiles.
    """

    config: Path
    experiment: str
    claim: str
    profiles: tuple[str, ...]


def locate(config: Path, name: str) -> Path:
    """Return the file of the experiment `name` that the config at `config` runs.

    Raises:
      ConfigError: there is none; the nearest name is given.
    """
    folder = config.absolute().parent.parent / "experiments"
    checkout = find_checkout(config.absolute().parent)  # for the config.toml of a result, say
    for place in (folder, checkout / "experiments" if checkout else folder):
        if file := file_of(place, name):
            return file
    known = sorted(
        p.stem for p in folder.glob("[!_]*") if p.suffix == ".py" or (p / "__init__.py").is_file()
    )
    listed = f"there: {', '.join(known)}" if known else "there are none"
    raise ConfigError(
        config, [f"no experiment '{name}' in {shown(folder)}{nearest(name, known)} ({listed})"]
    )


def file_of(folder: Path, name: str) -> Path | None:
    """Return the module `name` in `folder`, or the head of the package of that name."""
    files = (folder / f"{name}.py", folder / name / "__init__.py")
    return next((file for file in files if file.is_file()), None)


def sources(file: Path) -> tuple[Path, ...]:
    """Return the files that make up an experiment, its head first."""
    if file.name != "__init__.py":
        return (file,)
    return (file, *sorted(path for path in file.parent.rglob("*.py") if path != file))


def load(path: Path) -> ModuleType:
    """Import the experiment whose head is at `path` again, whatever was imported before.

    Raises:
      LabError: it fails to import, lacks one of its four parts, or has a faulty labels.toml.
    """
    package = path.parent if path.name == "__init__.py" else None
    name = f"adlab_experiment_{_name(path)}"
    for old in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
        del sys.modules[old]
    search = [str(package)] if package else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=search)
    if spec is None or spec.loader is None:
        raise LabError(f"cannot import {shown(path)}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # annotations are looked up there
    merge_labels(path)
    try:
        spec.loader.exec_module(module)
    except LabError:
        raise
    except Exception as error:
        raise LabError(failure(error, sources(path))) from error
    missing = [part for part in PARTS if not hasattr(module, part)]
    if missing:
        raise LabError(f"{shown(path)} must define {', '.join(PARTS)}; missing: {missing[0]}")
    return module


def _name(path: Path) -> str:
    return path.parent.name if path.name == "__init__.py" else path.stem


def merge_labels(path: Path) -> None:
    """Merge the texts of the experiment whose head is at `path`: the labels.toml beside it.

    Raises:
      LabError: they can't be read, or one of them stands elsewhere, too.
    """
    from adlab.figures import labels

    try:
        labels.merge(_name(path), path.with_name("labels.toml"))
    except ValueError as error:
        raise LabError(str(error)) from error


def failure(error: BaseException, own: Sequence[Path]) -> str:
    """Say in one line what failed and where, preferring the user's own files over the library's."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [f for f in frames if Path(f.filename).absolute() in [p.absolute() for p in own]]
    message = f"{type(error).__name__}: {error}"
    if not frames:
        return message
    frame = (inside or list(frames))[-1]
    return f"{message} ({shown(Path(frame.filename))}:{frame.lineno}, in {frame.name})"


def shown(path: Path) -> str:
    """Return `path` as a user would type it: relative where it lies below the current folder."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def claim(path: Path) -> str:
    """Return the first line of the docstring of a Python file, without importing it."""
    try:
        doc = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        return f"(unreadable: {type(error).__name__})"
    return (doc or "(no docstring)").splitlines()[0]


def find_checkout(start: Path) -> Path | None:
    """Return the nearest folder from `start` upward that holds `configs/` and `experiments/`."""
    for folder in (start.absolute(), *start.absolute().parents):
        if (folder / "configs").is_dir() and (folder / "experiments").is_dir():
            return folder
    return None


def entries(checkout: Path) -> list[Entry]:
    """Return what can be run in `checkout`, sorted by file name."""
    return [_entry(path, checkout) for path in sorted((checkout / "configs").glob("*.toml"))]


def _entry(path: Path, checkout: Path) -> Entry:
    try:
        tables: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return Entry(path, path.stem, f"(unreadable: {error})", ())
    name = str(tables.get("experiment", path.stem))
    file = file_of(checkout / "experiments", name)
    what = claim(file) if file else f"(no experiment '{name}' in {shown(checkout / 'experiments')})"
    profiles = tables.get("profiles", {})
    return Entry(path, name, what, tuple(profiles) if isinstance(profiles, dict) else ())
