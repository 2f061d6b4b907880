"""TOML in and out: reading, profiles merged over the base table, writing plain values."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from adlab.core.spelling import closest
from adlab.lab.errors import ConfigError, UsageError, brief, nearest


def read(path: Path) -> dict[str, Any]:
    """Return the tables of the TOML file `path`.

    Raises:
      UsageError: the file is missing; the nearest TOML beside it is named.
      ConfigError: it isn't valid TOML; the message gives line and column.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        json.dumps(tables, default=str)  # which can't be nested deeper than what follows takes
        return tables
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(f"no config {path}{_nearest_file(path)}") from None
    except OSError as error:
        raise UsageError(f"cannot read {brief(path)}: {error.strerror}{_inside(path)}") from None
    except RecursionError:
        raise ConfigError(path, ["not valid TOML: too deeply nested"]) from None
    except ValueError as error:  # not TOML, not UTF-8, a number with thousands of digits
        raise ConfigError(path, [f"not valid TOML: {brief(error)}"]) from None


def _nearest_file(path: Path) -> str:
    folders = dict.fromkeys(p for p in (Path("configs"), path.parent) if p.is_dir())
    by_stem = {file.stem: file for folder in folders for file in sorted(folder.glob("*.toml"))}
    match = closest(path.stem, by_stem)
    return "" if match is None else f"; did you mean {by_stem[match]}?"


def _inside(path: Path) -> str:
    try:
        files = sorted(path.glob("*.toml")) if path.is_dir() else []
    except OSError:
        return ""
    return f"; name a file in it, such as {files[0]}" if files else "; name a TOML file"


def with_profile(tables: Mapping[str, Any], profile: str | None, source: object) -> dict[str, Any]:
    """Return the base table with `[profiles.<profile>]` merged over it, without the profiles.

    Tables are merged key by key, lists replaced. A table whose `kind` the profile changes is
    replaced as a whole, since the parameters of one kind mean nothing to another.

    Raises:
      ConfigError: there is no such profile; or a profile isn't a table.
    """
    base = dict(tables)
    profiles = base.pop("profiles", {})
    if not isinstance(profiles, dict) or not all(isinstance(p, dict) for p in profiles.values()):
        raise ConfigError(source, ["`profiles` must hold tables: [profiles.NAME]"])
    if profile is None:
        return base
    if profile not in profiles:
        known = f"known: {', '.join(sorted(profiles))}" if profiles else "the file has none"
        hint = nearest(profile, profiles)
        raise ConfigError(source, [f"no profile '{profile}'{hint} ({known})"])
    return merge(base, profiles[profile])


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with the tables of `over` merged in; see `with_profile`."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        switched = isinstance(value, dict) and "kind" in value and isinstance(old, dict)
        if isinstance(value, dict) and isinstance(old, dict):
            keep = not switched or value["kind"] == old.get("kind")
            merged[key] = merge(old, value) if keep else value
        else:
            merged[key] = value
    return merged


def write(tables: Mapping[str, Any]) -> str:
    """Return TOML text for tables of plain values; None is left out.

    `tomllib` reads back exactly what was written.

    >>> print(write({"seed": 0, "problem": {"kind": "norm", "scale": 0.5}}), end="")
    seed = 0
    <BLANKLINE>
    [problem]
    kind = "norm"
    scale = 0.5
    """
    text: str = tomli_w.dumps(_given(tables), indent=2)
    return text


def _given(value: Any) -> Any:
    """Leave None out, for which TOML has no word."""
    if isinstance(value, Mapping):
        return {key: _given(item) for key, item in value.items() if item is not None}
    return [_given(item) for item in value] if isinstance(value, list | tuple) else value
