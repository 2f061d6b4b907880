"""What files of a result must look like when they are read back: checked, never trusted.

A result may come from anywhere: from an older adlab, from a disk that lost a block, from somebody
else. Names in it are shown; nothing in it is imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pydantic

from adlab.lab import regular
from adlab.lab.errors import LabError, brief

__all__ = ["Name", "RunRecord", "read_as", "read_run"]

NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,199}$"
"""What an experiment may be called: it becomes part of the name of files and modules."""

Name = Annotated[str, pydantic.StringConstraints(pattern=NAME)]
Words = Annotated[str, pydantic.StringConstraints(max_length=10_000)]
Seconds = Annotated[float, pydantic.Field(allow_inf_nan=False)]

_LARGEST = 10_000_000  # bytes of a file that says where numbers come from
_SETTINGS = pydantic.ConfigDict(strict=True, frozen=True, extra="allow", protected_namespaces=())


class _Record(pydantic.BaseModel):
    model_config = _SETTINGS


class Git(_Record):
    """The commit of the experiment's folder."""

    commit: Words = "outside git"
    dirty: bool = False


class Device(_Record):
    """The device that computed."""

    platform: Words | None = None
    kind: Words | None = None
    count: int | None = None


class Spent(_Record):
    """Seconds of a run, and of its parts."""

    compile: Seconds | None = None
    run: Seconds | None = None
    total: Seconds | None = None
    attempts: Annotated[int, pydantic.Field(ge=1)] | None = None
    parts: dict[str, dict[str, Seconds]] = {}


class Files(_Record):
    """Where the code was; to be shown, never imported."""

    experiment: Words | None = None
    config: Words | None = None
    plugins: list[Words] = []


class RunRecord(_Record):
    """run.json. Keys that aren't known here are kept."""

    experiment: Name | None = None
    profile: Words | None = None
    overrides: dict[str, Any] = {}
    seed: int | None = None
    x64: bool | None = None
    lang: Words | None = None
    started: Words | None = None
    finished: Words | None = None
    versions: dict[str, Words] = {}
    git: Git | None = None
    device: Device | None = None
    seconds: Spent | None = None
    plugins: list[Words] = []
    files: Files | None = None


def read_as(shape: Any, path: Path, remedy: str) -> Any:
    """Return what the JSON file `path` holds, checked against the type `shape`; None without it.

    Raises:
      LabError: it can't be read, or has another shape; the first fault and `remedy` are named.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise LabError(f"{path} has over {_LARGEST} bytes, and isn't adlab's; {remedy}")
        text = regular.read(path).removeprefix(b"\xef\xbb\xbf")
        return pydantic.TypeAdapter(shape).validate_json(text)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LabError(f"cannot read {path}: {error.strerror or error}; {remedy}") from None
    except pydantic.ValidationError as error:
        fault = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(map(str, fault["loc"]))
        at = f" at `{brief(where, 60)}`" if where else ""
        raise LabError(f"{path} is damaged{at}: {brief(fault['msg'], 100)}; {remedy}") from None


def read_run(folder: Path) -> dict[str, Any]:
    """Return what run.json in a result's folder says, checked; nothing without that file.

    Raises:
      LabError: it is damaged.
    """
    remedy = f"run the config again: adlab run {folder / 'config.toml'} --force"
    record = read_as(RunRecord, folder / "run.json", remedy)
    return {} if record is None else record.model_dump(exclude_none=True, exclude_unset=True)
