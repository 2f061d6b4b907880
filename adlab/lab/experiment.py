"""Experiments: files beside the configs, found by name and imported by path.

`configs/rates.toml` names the experiment `rates` (its stem, or its top-level key `experiment`),
which is the package `experiments/rates/`, or the file `experiments/rates.py`, beside the folder of
configs. The `labels.toml` beside its head are its texts. Listing reads docstrings without importing
anything.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

from adlab.lab import errors, regular
from adlab.lab.boundary import foreign
from adlab.lab.errors import ConfigError, LabError, brief, nearest

PARTS = ("Config", "run", "verdicts", "plot")
"""What an experiment must define; `movies`, `table` and `needs` it may."""
TAKES = {
    "run": ("config", "progress"),
    "verdicts": ("data", "config"),
    "plot": ("data", "config"),
    "movies": ("data", "config"),
    "table": ("data", "config"),
    "needs": ("config",),
}
"""What the lab calls the parts with, by position."""
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")  # becomes part of the names of files

failure, shown = errors.located, errors.shown


def locate(config: Path, name: str) -> Path:
    """Return the file of the experiment `name` that the config at `config` runs.

    It lies beside the folder of the config, or in the checkout around the config (a result's own
    config.toml, say), or in the one that adlab is imported from.

    Raises:
      ConfigError: there is none; the nearest name is given. Or the name is no name.
    """
    check_name(config, name)
    folder = config.absolute().parent.parent / "experiments"
    checkouts = (find_checkout(config.absolute().parent), installed())
    others = [checkout / "experiments" for checkout in checkouts if checkout]
    places = list(dict.fromkeys((folder, *others)))
    for place in places:
        if file := file_of(place, name):
            return file
    known = sorted({each for place in places for each in _names(place)})
    listed = f"there: {', '.join(known)}" if known else "there are none"
    where = " or ".join(shown(place) for place in places)
    raise ConfigError(
        config, [f"no experiment '{name}' in {where}{nearest(name, known)} ({listed})"]
    )


def _names(folder: Path) -> list[str]:
    """Return the names of the experiments in a folder."""
    heads = [p for p in folder.glob("[!_]*") if p.suffix == ".py" or (p / "__init__.py").is_file()]
    return [path.stem for path in heads]


def check_name(config: Path, name: str) -> None:
    """Raise ConfigError unless an experiment may be called so: letters, digits and underscores."""
    if not NAME.fullmatch(name):
        raise ConfigError(
            config,
            [
                "`experiment` must be a name of at most 200 letters, digits and underscores, got "
                f"'{brief(name, 60)}'; without that key it is the name of the file"
            ],
        )


def installed() -> Path | None:
    """Return the checkout that adlab itself is imported from; None where it was installed alone."""
    folder = Path(__file__).absolute().parents[2]
    whole = (folder / "configs").is_dir() and (folder / "experiments").is_dir()
    return folder if whole else None


def file_of(folder: Path, name: str) -> Path | None:
    """Return the module `name` in `folder`, or the head of the package of that name."""
    files = (folder / f"{name}.py", folder / name / "__init__.py")
    return next((file for file in files if regular.is_regular(file)), None)


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
    with foreign(f"cannot import {shown(path)}", sources(path)):
        spec.loader.exec_module(module)
    with foreign(f"cannot tell what {shown(path)} defines", sources(path)):
        missing = [part for part in PARTS if not hasattr(module, part)]
        if missing:
            raise LabError(f"{shown(path)} must define {', '.join(PARTS)}; missing: {missing[0]}")
        for part, takes in TAKES.items():
            _check_call(path, module, part, takes)
    return module


def _check_call(path: Path, module: ModuleType, part: str, takes: tuple[str, ...]) -> None:
    """Raise LabError where a part can't be called as the lab will, before anything is computed."""
    if not hasattr(module, part):
        return
    function = getattr(module, part)
    form = f"{part}({', '.join(takes)})"
    if not callable(function):
        raise LabError(f"{shown(path)}: {form} must be a function, got {brief(function, 60)}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a builtin that doesn't tell
        return
    try:
        more = {"verdicts"} & set(signature.parameters) if part == "plot" else ()
        signature.bind(*takes, **dict.fromkeys(more))
    except TypeError as error:
        raise LabError(
            f"{shown(path)}: the lab calls {form}, but it is {part}{brief(signature, 100)}: {error}"
        ) from None


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
    except (ValueError, OSError, RecursionError) as error:
        raise LabError(f"{shown(path.with_name('labels.toml'))}: {brief(error)}") from error


def claim(path: Path) -> str:
    """Return the first line of the docstring of a Python file, without importing it."""
    try:
        doc = ast.get_docstring(ast.parse(regular.read(path)))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return f"(unreadable: {type(error).__name__})"
    return (doc or "(no docstring)").splitlines()[0]


def find_checkout(start: Path) -> Path | None:
    """Return the nearest folder from `start` upward that holds `configs/` and `experiments/`."""
    for folder in (start.absolute(), *start.absolute().parents):
        if (folder / "configs").is_dir() and (folder / "experiments").is_dir():
            return folder
    return None
