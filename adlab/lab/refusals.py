"""Refusals: a config's validation errors, told as the file's author sees them.

pydantic reports errors by location in its own schema, one per member of a union; here they become
one line per key of the file, with what was expected, what was found and the nearest match.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pydantic

from adlab.lab.errors import brief, nearest

Path = tuple[str | int, ...]

_EXPECTED = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "string": "a string",
    "list": "a list",
    "tuple": "a list",
    "dict": "a table",
    "model": "a table",
    "finite_number": "finite",
}
_BOUNDS = {
    "greater_than_equal": ("ge", ">="),
    "greater_than": ("gt", ">"),
    "less_than_equal": ("le", "<="),
    "less_than": ("lt", "<"),
}
_LENGTHS = {"too_short": ("min_length", "at least"), "too_long": ("max_length", "at most")}


def explain(
    error: pydantic.ValidationError, config: type[pydantic.BaseModel], tables: Mapping[str, Any]
) -> list[str]:
    """Return one line per key at fault, in the order of the schema."""
    groups: dict[Path, list[Any]] = {}
    for detail in error.errors(include_url=False):
        path = _in_file(detail["loc"], tables, detail["type"])
        groups.setdefault(path, []).append(detail)
    return [_line(path, details, config, tables) for path, details in groups.items()]


def _in_file(loc: Path, tables: Any, error_type: str) -> Path:
    """Keep of a location in the schema what is a location in the file."""
    node, path = tables, []
    for part in loc:
        if isinstance(node, Mapping) and part in node:
            node = node[str(part)]
            path.append(part)
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            node = node[part]
            path.append(part)
    if error_type == "missing":
        path.append(loc[-1])
    return tuple(path)


def _line(
    path: Path,
    details: Sequence[Mapping[str, Any]],
    config: type[pydantic.BaseModel],
    tables: Mapping[str, Any],
) -> str:
    first = details[0]
    name, found = _dotted(path), told(first["input"])
    match first["type"]:
        case "extra_forbidden":
            known = _keys(config, path[:-1], tables)
            hint = nearest(str(path[-1]), known, quote="`")
            return f"unknown key `{name}`{hint} (known: {', '.join(known)})"
        case "missing":
            return f"missing key `{name}`"
        case "union_tag_not_found":
            kinds = _keys(config, (*path, "kind"), tables)
            return f"missing key `{name}.kind` (one of {', '.join(kinds)})"
        case "union_tag_invalid":
            kinds = _quoted(first["ctx"]["expected_tags"])
            line = _not_one_of(f"{name}.kind", first["ctx"]["tag"], kinds)
            own = ":" in first["ctx"]["tag"]
            return (
                f"{line}; your own must take the positional arguments that these take" * own or line
            )
        case "value_error":
            said = brief(first["ctx"]["error"], 300)
            return f"{name}: {said}" if name else said
        case "literal_error" if len(details) == 1:
            return _not_one_of(name, first["input"], _quoted(first["ctx"]["expected"]))
    wanted = list(dict.fromkeys(_wanted(detail) for detail in details))
    choices = [c for d in details if d["type"] == "literal_error" for c in _literals(d)]
    value = first["input"]
    hint = nearest(value, choices) if isinstance(value, str) else ""
    return f"`{name}` must be {' or '.join(wanted)}, got {found}{hint}"


def _wanted(detail: Mapping[str, Any]) -> str:
    kind, context = str(detail["type"]), detail.get("ctx", {})
    if kind in _BOUNDS:
        key, sign = _BOUNDS[kind]
        return f"{sign} {context[key]}"
    if kind in _LENGTHS:
        key, bound = _LENGTHS[kind]
        return f"a list of {bound} {context[key]}"
    if kind == "literal_error":
        return str(context["expected"])
    stem = re.sub(r"_(type|from_float|parsing|attributes_type)$", "", kind)
    return _EXPECTED.get(stem, f"valid ({detail['msg']})")


def _not_one_of(name: str, value: Any, choices: Sequence[str]) -> str:
    hint = nearest(str(value), choices)
    return f"`{name}` = {told(value)} is not one of {', '.join(choices)}{hint}"


def _literals(detail: Mapping[str, Any]) -> list[str]:
    return _quoted(str(detail["ctx"]["expected"]))


def _quoted(text: str) -> list[str]:
    return re.findall(r"'([^']*)'", text) or re.split(r", | or ", text)


def told(value: Any) -> str:
    """Return a value as its author wrote it, cut to one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _dotted(path: Path) -> str:
    return brief(".".join(map(str, path)), 80)


def _keys(config: type[pydantic.BaseModel], path: Path, tables: Mapping[str, Any]) -> list[str]:
    """Return the keys that may stand in the table at `path`; for a `kind`, its values."""
    models: list[Any] = [config]
    node: Any = tables
    for part in path:
        if isinstance(part, str):
            if part == "kind" and part not in (node or {}):
                return sorted(_kind(model) for model in models)
            fields = [m.model_fields[part] for m in models if part in m.model_fields]
            models = [m for field in fields for m in _models(field.annotation)]
        node = node[part]
        if isinstance(node, Mapping) and "kind" in node:
            models = [m for m in models if _kind(m) == node["kind"]] or models
    return sorted({key for model in models for key in model.model_fields})


def _kind(model: type[pydantic.BaseModel]) -> str:
    field = model.model_fields.get("kind")
    return str(typing.get_args(field.annotation)[0]) if field else ""


def _models(annotation: Any) -> Iterator[type[pydantic.BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models(argument)
