"""Experiments: files beside the configs, found by name and imported by path.

`configs/rates.toml` names the experiment `rates` (its stem, or its top-level key `experiment`),
which is `experiments/rates.py` beside the folder of configs. Listing reads docstrings without
importing anything.
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

PARTS = ("Config", "run", "verdicts", "plot")


@dataclass(frozen=True)
class Entry:
    """One line of `adlab list`: a config with the experiment it runs."""

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
    path = folder / f"{name}.py"
    if path.is_file():
        return path
    checkout = find_checkout(config.absolute().parent)  # the config.toml of a result, say
    if checkout and (stored := checkout / "experiments" / f"{name}.py").is_file():
        return stored
    known = sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_"))
    listed = f"there: {', '.join(known)}" if known else "there are none"
    raise ConfigError(
        config, [f"no experiment '{name}' in {shown(folder)}{nearest(name, known)} ({listed})"]
    )


def load(path: Path) -> ModuleType:
    """Import the experiment at `path` anew.

    Raises:
      LabError: it fails to import, or lacks one of its four parts.
    """
    name = f"adlab_experiment_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise LabError(f"cannot import {shown(path)}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # annotations are looked up there
    try:
        spec.loader.exec_module(module)
    except LabError:
        raise
    except Exception as error:
        raise LabError(failure(error, [path])) from error
    missing = [part for part in PARTS if not hasattr(module, part)]
    if missing:
        raise LabError(f"{shown(path)} must define {', '.join(PARTS)}; missing: {missing[0]}")
    return module


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
    file = checkout / "experiments" / f"{name}.py"
    what = claim(file) if file.is_file() else f"(no experiment {shown(file)})"
    profiles = tables.get("profiles", {})
    return Entry(path, name, what, tuple(profiles) if isinstance(profiles, dict) else ())
