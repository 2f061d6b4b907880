"""Configs: resolved from file, profile and overrides, checked, and hashed."""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import pydantic

from adlab.lab import experiment, integrity, overrides, refusals, registries, toml
from adlab.lab.boundary import foreign
from adlab.lab.errors import ConfigError, LabError, UsageError


class ExperimentConfig(pydantic.BaseModel):
    """What every config has. Frozen; unknown keys and values of another type are refused."""

    model_config = pydantic.ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        use_attribute_docstrings=True,
    )

    seed: Annotated[int, pydantic.Field(ge=0, lt=2**63)] = 0
    """Seed of all randomness."""
    x64: bool = False
    """Compute in float64."""
    memory_limit: Annotated[
        float | None, pydantic.Field(gt=0, allow_inf_nan=False, exclude=True)
    ] = None
    """GB of memory that the run's largest arrays may take; without it 80 % of what is free.
    Results don't depend on it."""


@dataclass(frozen=True)
class Job:
    """A resolved config with the experiment that takes it.

    Attributes:
      name: of the experiment.
      config: validated.
      module: the experiment, imported.
      head: the experiment's file, or the head of its package.
      plugin_files: the files of the modules that the config's own kinds come from.
      config_file: where the config was read.
      plugins: modules that were allowed.
      profile: that was merged over the base.
      changes: overrides, dotted path -> value.
    """

    name: str
    config: Any
    module: ModuleType
    head: Path
    plugin_files: tuple[Path, ...]
    config_file: Path
    plugins: tuple[str, ...]
    profile: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sources(self) -> tuple[Path, ...]:
        """The user's own files: the experiment's, its head first, then plugins'."""
        return (*experiment.sources(self.head), *self.plugin_files)

    @property
    def resolved(self) -> dict[str, Any]:
        """All that the result depends on, as plain values that load back to the same."""
        return {"experiment": self.name, **plain(self.config)}

    @property
    def identity(self) -> str:
        """The hash of the resolved config, in full."""
        return integrity.identity(self.resolved)

    @property
    def key(self) -> str:
        """`<experiment>-<8 digits of that hash>`, the name of the run's folder."""
        return f"{self.name}-{self.identity[:8]}"


def plain(config: pydantic.BaseModel) -> dict[str, Any]:
    """Return a config's fields as tables, lists and scalars."""
    dumped: dict[str, Any] = config.model_dump(mode="json", exclude_none=True)
    return dumped


def load(
    path: Path | str,
    *,
    profile: str | None = None,
    changes: Mapping[str, Any] | None = None,
    plugins: Sequence[str] = (),
    experiment_file: Path | None = None,
    search: Sequence[Path] | None = None,
) -> Job:
    """Read a config, resolve it (file, profile, overrides) and check it, by its factories too.

    Args:
      path: the TOML file.
      profile: name of a table `[profiles.<profile>]` to merge over the base.
      changes: overrides, dotted path -> value.
      plugins: modules whose factories `kind = "module:function"` may import.
      experiment_file: the experiment, where it doesn't lie beside the configs.
      search: folders, besides those that Python knows, in which plugins may lie; without it the
        config's and the current one.

    Raises:
      ConfigError: every problem of the config at once.
      UsageError: the file is missing.
      LabError: the experiment can't be imported.
    """
    path, changes = Path(path), dict(changes or {})
    tables = toml.with_profile(toml.read(path), profile, path)
    name = tables.pop("experiment", path.stem)
    if not isinstance(name, str):
        raise ConfigError(path, [f"`experiment` must be a string, got {refusals.told(name)}"])
    experiment.check_name(path, name)
    file = experiment_file or experiment.locate(path, name)
    if plugins:
        importable((path.absolute().parent, Path.cwd()) if search is None else search)
    own = _registered(path, [tables, _as_tables(changes)], plugins)
    module = experiment.load(file)
    if not (isinstance(module.Config, type) and issubclass(module.Config, ExperimentConfig)):
        raise LabError(f"{experiment.shown(file)}: Config must derive from lab.ExperimentConfig")
    files = tuple(sorted({plugin.absolute() for plugin in own}))
    with foreign(
        f"cannot make a Config of {path}", (*experiment.sources(file), *files), usage=True
    ):
        changes = overrides.shaped(changes, module.Config)
        tables, problems = overrides.apply(tables, changes, _defaults(module.Config))
        config = _validate(module.Config, tables, path, problems)
    return Job(
        name, config, module, file.absolute(), files, path.absolute(), tuple(plugins),
        profile, changes,
    )  # fmt: skip


def importable(folders: Sequence[Path]) -> None:
    """Let plugins be imported from these folders, too, where no other module has their name."""
    for folder in map(str, folders):
        if folder not in sys.path:
            sys.path.append(folder)


def _as_tables(changes: Mapping[str, Any]) -> list[Any]:
    return [{"kind": v} for path, v in changes.items() if path.rpartition(".")[2] == "kind"] + [
        v for v in changes.values() if isinstance(v, dict | list)
    ]


def _registered(path: Path, tables: Any, plugins: Sequence[str]) -> list[Path]:
    registries.forget_plugins()
    problems, files = [], []
    for kind in dict.fromkeys(kind for kind in registries.kinds_in(tables) if ":" in kind):
        try:
            files.append(registries.register_plugin(kind, plugins))
        except UsageError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(path, problems)
    return [file for file in files if file]


def _defaults(config: type[pydantic.BaseModel]) -> dict[str, Any]:
    """Return defaults as plain values, for overrides of what the file leaves out."""
    fields = {n: f for n, f in config.model_fields.items() if not f.is_required()}
    values = {n: f.get_default(call_default_factory=True) for n, f in fields.items()}
    return plain(config.model_construct(**values)) if fields else {}


def _validate(
    config: type[pydantic.BaseModel], tables: Mapping[str, Any], path: Path, problems: list[str]
) -> Any:
    problems = [*problems, *_dates(tables)]
    try:
        # As JSON: there a list may fill a tuple field, while "500" is still no integer.
        validated = config.model_validate_json(json.dumps(tables, default=str))
    except pydantic.ValidationError as error:
        raise ConfigError(path, problems + refusals.explain(error, config, tables)) from None
    if problems:
        raise ConfigError(path, problems)
    return validated


def _dates(value: Any, path: str = "") -> Iterator[str]:
    """Yield a problem for every date of the file, since no field of a config is one."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _dates(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _dates(item, f"{path}.{index}")
    elif isinstance(value, datetime.date | datetime.time):
        yield f"`{path}` must not be a date or time, got {value}; a string stands in quotes"
