"""Overrides: `--estimators.0.num-probes 4`, written into a config's tables.

They are written before validation and checked together with the file, so that all problems come
at once and in one style. Changing a `kind` replaces its table: the parameters of one kind mean
nothing to another.
"""

from __future__ import annotations

import datetime
import tomllib
import typing
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from adlab.lab.errors import UsageError, brief

if TYPE_CHECKING:
    import pydantic


def parse_flags(argv: Sequence[str], within: Sequence[str] | None = None) -> dict[str, Any]:
    """Turn `--a.b-c 1 --flag --no-other --list 1 2` into a mapping from dotted path to value.

    Args:
      argv: the flags.
      within: the command line that other flags were taken out of; what followed those is no value
        of the flag before them.

    Raises:
      UsageError: a token stands where a flag should, or a flag twice.

    >>> parse_flags(["--num-steps", "5", "--problem.kind=huber", "--no-x64"])
    {'num_steps': 5, 'problem.kind': 'huber', 'x64': False}
    """
    groups: list[list[str]] = []
    for token in argv:
        if token.startswith("--") and len(token) > 2:
            groups.append([token])
        elif not groups or not _follows([*groups[-1], token], argv if within is None else within):
            raise UsageError(f"unexpected argument '{token}'; overrides look like --num-steps 5")
        else:
            groups[-1].append(token)
    flags: dict[str, Any] = {}
    for flag, *tokens in groups:
        name, *value = flag[2:].split("=", 1)
        path, parsed = _flag(name, [*value, *tokens])
        if path in flags:
            raise UsageError(f"--{name} stands there twice")
        flags[path] = parsed
    return flags


def _follows(tokens: Sequence[str], line: Sequence[str]) -> bool:
    """Whether the tokens stand in the line one after the other."""
    size = len(tokens)
    return any(line[at : at + size] == tokens for at in range(len(line) - size + 1))


def _flag(name: str, tokens: Sequence[str]) -> tuple[str, Any]:
    path = name.replace("-", "_")
    if not tokens:
        head, _, last = path.rpartition(".")
        negated = last.startswith("no_")
        last = last.removeprefix("no_")
        return (f"{head}.{last}" if head else last), not negated
    values = [_value(token) for token in tokens]
    return path, values[0] if len(values) == 1 else values


def _value(token: str) -> Any:
    token = {"True": "true", "False": "false"}.get(token, token)
    try:
        read = tomllib.loads(f"value = {token}")
    except (ValueError, RecursionError):
        return token
    dated = isinstance(read["value"], datetime.date | datetime.time)
    return token if dated or len(read) > 1 else read["value"]  # a date is a word here


def shaped(changes: Mapping[str, Any], config: type[pydantic.BaseModel]) -> dict[str, Any]:
    """Give values for fields of `config` the shape that the flags of its help mean.

    A list is flat on a command line: for a field of pairs, `--cases 4 2 8 2` are two. A flag
    without a value is an empty list, and None is no value where that may be.
    """
    fields = config.model_fields
    return {
        path: _shaped(value, fields[path].annotation) if path in fields else value
        for path, value in changes.items()
    }


def _shaped(value: Any, annotation: Any) -> Any:
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _shaped(value, args[0])
    if value == "None" and type(None) in args:
        return None
    if origin not in (list, tuple) or not args:
        return value
    if value is True and args[0] is not bool:
        return []
    size = _size(args[0])
    flat = isinstance(value, list) and not any(isinstance(item, list) for item in value)
    if not flat or size is None or not value or len(value) % size:
        return value
    return [value[at : at + size] for at in range(0, len(value), size)]


def _size(annotation: Any) -> int | None:
    """Return how many entries a tuple has; None for what is no tuple, or one of any length."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _size(typing.get_args(annotation)[0])
    args = typing.get_args(annotation)
    fixed = typing.get_origin(annotation) is tuple and ... not in args
    return len(args) if fixed else None


def apply(
    tables: Mapping[str, Any], overrides: Mapping[str, Any], defaults: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Write `overrides` into `tables`, kinds first, and return them with the problems met.

    Args:
      tables: what the file says.
      overrides: dotted path -> value.
      defaults: what the experiment says for top-level keys that the file leaves out.
    """
    changed = _copy(dict(tables))
    problems = []
    for path in sorted(overrides, key=lambda p: not p.endswith(".kind")):
        parts = path.split(".")
        if parts[0] not in changed and parts[0] in defaults:
            changed[parts[0]] = _copy(defaults[parts[0]])
        problem = _write(changed, parts, overrides[path])
        if problem:
            problems.append(f"--{brief(path.replace('_', '-'), 80)}: {problem}")
    return changed, problems


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list | tuple) else value


def _write(tables: Any, parts: Sequence[str], value: Any) -> str | None:
    *path, last = parts
    node = tables
    for depth, part in enumerate(path):
        here = ".".join(path[:depth])
        if isinstance(node, list):
            if not part.isdecimal() or int(part) >= len(node):
                return f"`{here}` has entries 0 to {len(node) - 1}, got {part}"
            node = node[int(part)]
        elif isinstance(node, dict):
            node = node.setdefault(part, {})
        else:
            return f"`{here}` is a value, not a table"
    if isinstance(node, list):
        return _write_item(node, last, value)
    if not isinstance(node, dict):
        return f"`{'.'.join(path)}` is a value, not a table"
    if last == "kind" and node.get("kind") != value:
        node.clear()
    wrap = isinstance(node.get(last), list) and not isinstance(value, list)
    node[last] = [value] if wrap else value
    return None


def _write_item(items: list[Any], index: str, value: Any) -> str | None:
    if not index.isdecimal() or int(index) >= len(items):
        return f"the list has entries 0 to {len(items) - 1}, got {index}"
    items[int(index)] = value
    return None
