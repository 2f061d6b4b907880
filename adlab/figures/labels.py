"""Every text that a figure or a verdict shows, in English and Russian.

The library's own labels are in the file `labels.toml` beside this module. An experiment brings
another such file in its folder; the lab merges it when it loads the experiment. The entry

    [rates.claim]
    a_slope = { en = "...", ru = "..." }

is the label `rates.claim.a_slope`: an experiment's keys begin with its name, so that no two files
hold the same. Texts are `str.format` templates: `{n}` is a parameter, and a brace of TeX is
doubled, as in `$x_{{k+1}}$`. Whatever a terminal shows (`verdict.*`, `outcome.*`, `*.claim.*`) is
plain text; figures may use TeX between dollars.
"""

import contextlib
import contextvars
import functools
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from adlab.core.spelling import nearest
from adlab.figures._commas import comma

__all__ = [
    "LANGUAGES",
    "Table",
    "comma",
    "current",
    "estimator",
    "merge",
    "name",
    "read",
    "speak",
    "table",
    "text",
]

LANGUAGES = ("en", "ru")
Table = Mapping[str, Mapping[str, str]]
"""Label -> language -> template."""

_LANGUAGE = contextvars.ContextVar("language", default="en")


def text(key: str, /, lang: str | None = None, **params: object) -> str:
    """Return the label `key` in the language `lang`, with its parameters filled in.

    >>> text("method.two_point")
    'two-point estimate'
    >>> text("axis.dimension", "ru")
    'размерность $n$'

    Args:
      key: the label's path in the table, such as "axis.iteration".
      lang: "en" or "ru"; None is the language of the surrounding `speak`, English outside any.
      **params: values of the template's fields, formatted as `str.format` does.

    Raises:
      KeyError: there is no such label (the nearest one is named), or a parameter is missing.
      ValueError: `lang` is not one of `LANGUAGES`.
    """
    chosen, known = _checked(current() if lang is None else lang), table()
    if key not in known:
        raise KeyError(f"no label {key!r}{nearest(key, table(), cutoff=0.0)}")
    try:
        return known[key][chosen].format(**params)
    except KeyError as missing:
        raise KeyError(f"label {key!r} needs the parameter {missing}") from None


def name(group: str, kind: str, /, lang: str | None = None) -> str:
    """Return the label of a named thing, or its own name if it has none (a plugin's estimator).

    >>> name("law", "gaussian"), name("law", "my_law")
    ('Gaussian', 'my law')
    """
    key = f"{group}.{kind}"
    return text(key, lang) if key in table() else kind.replace("_", " ")


def estimator(kind: str, params: Mapping[str, Any], /, lang: str | None = None) -> str:
    """Return what an estimator is called in a legend: its method, law and number of probes.

    >>> estimator("two_point", {"law": "gaussian", "num_probes": 4})
    'two-point estimate, Gaussian, $m = 4$'
    """
    words = [name("method", kind.rpartition(":")[2], lang)]
    if "law" in params:
        words.append(name("law", str(params["law"]), lang))
    if params.get("num_probes", 1) != 1:
        words.append(f"$m = {params['num_probes']}$")
    return ", ".join(words)


def current() -> str:
    """Return the language that `text` speaks where none is named."""
    return _LANGUAGE.get()


@contextlib.contextmanager
def speak(lang: str) -> Iterator[None]:
    """Make `lang` the language of `text` inside the `with` block, for this thread or task."""
    token = _LANGUAGE.set(_checked(lang))
    try:
        yield
    finally:
        _LANGUAGE.reset(token)


class _Source(NamedTuple):
    path: Path
    labels: Table


_MERGED: dict[str, _Source] = {}  # owner -> its labels


def table() -> Table:
    """Return all labels: the library's, and those that were merged."""
    found = dict(_library().labels)
    for source in _MERGED.values():
        found |= source.labels
    return found


def merge(owner: str, path: Path) -> None:
    """Make the labels in the file `path` known to `text`, in place of the owner's earlier ones.

    Where there is no such file, the owner has no labels.

    Args:
      owner: whose labels they are: the name of an experiment.
      path: a TOML file as this module describes it.

    Raises:
      ValueError: the file isn't readable as labels, see `read`; or one of its labels stands
        elsewhere, too: both files are named.
    """
    labels = read(path) if path.is_file() else {}
    for source in (_library(), *(_MERGED[other] for other in _MERGED if other != owner)):
        doubled = sorted(labels.keys() & source.labels.keys())
        if doubled and not _same_file(source.path, path):
            raise ValueError(
                f"label {doubled[0]!r} must stand in one file, got {source.path} and {path}; begin "
                "the labels of an experiment with its name"
            )
    _MERGED[owner] = _Source(path, labels)


def read(path: Path) -> Table:
    """Return the labels in a TOML file.

    Raises:
      ValueError: it isn't TOML, or an entry doesn't hold exactly the texts of `LANGUAGES`; the
        file is named.
    """
    try:
        return dict(_flatten(tomllib.loads(path.read_text(encoding="utf-8-sig")), ""))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


@functools.cache
def _library() -> _Source:
    path = Path(__file__).with_name("labels.toml")
    return _Source(path, read(path))


def _same_file(a: Path, b: Path) -> bool:
    return a.absolute() == b.absolute()  # shared by the experiments of a folder that are one file


def _flatten(node: Mapping[str, Any], path: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    for part, child in node.items():
        key = f"{path}.{part}" if path else part
        if not isinstance(child, dict):
            raise ValueError(f"label {path!r} must hold the texts {LANGUAGES}, got a text {part!r}")
        if any(isinstance(value, dict) for value in child.values()):
            yield from _flatten(child, key)
        elif set(child) == set(LANGUAGES) and all(isinstance(t, str) for t in child.values()):
            yield key, child
        else:
            raise ValueError(f"label {key!r} must hold the texts {LANGUAGES}, got {sorted(child)}")


def _checked(lang: str) -> str:
    if lang not in LANGUAGES:
        raise ValueError(f"lang must be one of {LANGUAGES}, got {lang!r}")
    return lang
