"""Writes what is public: `docs/api.md` for readers, `tests/public_names.txt` for the test.

`python docs/api.py` writes the page, after a docstring or an `__all__` changed; with `--freeze` the
list too, after names were added.
"""

from __future__ import annotations

import importlib
import inspect
import operator
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import adlab

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "api.md"
FROZEN = ROOT / "tests" / "public_names.txt"

_HEAD = """# What is public

Made by `python docs/api.py` from the packages' `__all__`: a line for each name, with the first
sentence of its docstring. `help(adlab.two_point)` shows the rest.

**Stability.** What stands here is public. A public name keeps its meaning: its arguments keep their
names, and keyword arguments may only be added. A name that must change stays for two minor releases
as an alias that raises a `DeprecationWarning` and names its successor; the changelog lists both.
While the version is 0.x, a minor release may change defaults, and says so. All else is private and
may change at any time: where in a package a name lives (but for the modules listed under
`adlab.figures`), names with an underscore, and `adlab.core`.
"""


def packages() -> Iterator[tuple[str, ModuleType]]:
    """Yield name and module of `adlab` and of its public packages."""
    yield "adlab", adlab
    for name in dir(adlab):
        if inspect.ismodule(getattr(adlab, name)):
            yield f"adlab.{name}", importlib.import_module(f"adlab.{name}")


def names() -> list[str]:
    """Return all public names, `package.name`, in order."""
    return sorted(f"{package}.{name}" for package, module in packages() for name in _all(module))


def page() -> str:
    """Return the page of public names."""
    return _HEAD + "".join(_section(*each) for each in packages())


def _all(module: ModuleType) -> list[str]:
    """Return what a package exports; without an `__all__`, what its public modules export."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__, key=str.casefold)
    inside = [each.name for each in pkgutil.iter_modules(module.__path__)]
    public = [name for name in inside if not name.startswith("_")]
    found = {name: importlib.import_module(f"{module.__name__}.{name}") for name in public}
    return [f"{name}.{each}" for name, part in found.items() for each in _all(part)]


def _section(package: str, module: ModuleType) -> str:
    lines = [f"\n## `{package}`\n\n{_first(module)}\n"]
    for name in _all(module):
        found = operator.attrgetter(name)(module)
        if not inspect.ismodule(found):
            lines.append(f"- `{name}`: {_first(found, package)}")
    return "\n".join(lines) + "\n"


def _first(found: object, package: str = "") -> str:
    """Return the first sentence of the docstring; of what has none of its own, what it is."""
    if isinstance(found, int | float | str | tuple):
        return f"`{found!r}`."
    if not (inspect.ismodule(found) or inspect.isclass(found) or inspect.isroutine(found)):
        return f"described in `help({package})`."
    paragraph = " ".join((inspect.getdoc(found) or "").partition("\n\n")[0].split())
    return paragraph if paragraph.endswith((".", ":")) else f"{paragraph}."


def main(arguments: list[str]) -> None:
    """Write the page, and with `--freeze` the list."""
    PAGE.write_text(page(), encoding="utf-8")
    if "--freeze" in arguments:
        FROZEN.write_text("\n".join(names()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
