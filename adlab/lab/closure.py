"""What code depends on, found by reading it: names lead to statements, imports to other files.

A closure begins at names, such as `run` of an experiment. The statement at the top of its module
that binds a wanted name counts, and with it every name that it uses, in turn; an imported name is
wanted in the module that it comes from, through the `__init__` of a package and through the table
of one that imports lazily. So a result depends on the functions and classes that lead to it, not on
their neighbours. Nothing is imported: what is found doesn't depend on what a process ran before.

Where reading can't tell, more counts rather than less:

* a statement that binds nothing may register something, as may a decorator: they count wherever
  anything of their module does, as do loops, conditions and `try`;
* a module that is used as a value (passed on, looked into by `getattr`) counts whole;
* a name that is found nowhere in a package stands for all of the package.

Docstrings and comments don't count, nor do blocks of `if TYPE_CHECKING`. A file beside the code
counts where a string in that code names it; where none in its package does, with any of its code.

Only adlab, the folder of the experiment and that of a plugin are followed: what is installed is a
matter of versions.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import sys
import sysconfig
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adlab.lab import regular
from adlab.lab.statements import Chain, Import, Source, read

__all__ = ["Closure", "Disk", "Root", "binds"]

Root = tuple[Path, Chain]
"""A file and a name wanted in it; () wants all of them."""

_LIBRARY = Path(__file__).parents[1]
_INSTALLED = {Path(sysconfig.get_path(kind)) for kind in ("purelib", "platlib", "stdlib")}


class Disk:
    """Files and folders as they are while closures are found: each is looked for once."""

    def __init__(self) -> None:
        self.read = functools.cache(read)
        self.label = functools.cache(self._label)
        self.target = functools.cache(self._target)
        self._root = functools.cache(_root)

    def _label(self, file: Path) -> str:
        return file.relative_to(self._root(file.parent)).as_posix()

    def _target(self, file: Path, each: Import) -> tuple[Path | None, Path | None]:
        """Return where the path of an import begins and its module; None for what is installed."""
        folder = self._folder(file, each)
        parts = each.module.split(".") if each.module else []
        return folder, _module(folder, parts) if folder else None

    def _folder(self, file: Path, each: Import) -> Path | None:
        """Return where the path of an import begins; None where what it names is installed."""
        if each.level:
            return file.parents[each.level - 1]
        top = each.module.partition(".")[0]
        if top == _LIBRARY.name:
            return _LIBRARY.parent
        root = self._root(file.parent)
        own = file.relative_to(root).parts[0].removesuffix(".py")
        if root in _INSTALLED and top != own:
            return None
        return root.parent if root.name == "experiments" else root


@dataclass
class Closure:
    """What names depend on.

    Attributes:
      roots: the names.
      also: files that count besides.
      ignored: files beside the code that don't count.
      disk: what is known of files; several closures may have it in common.
      statements: which statements of a file count, by their places among its statements.
      installed: the modules of other distributions that what counts imports, by their first names.
    """

    roots: Collection[Root]
    also: Collection[Path] = ()
    ignored: Collection[Path] = ()
    disk: Disk = field(default_factory=Disk)
    statements: dict[Path, set[int]] = field(default_factory=dict, init=False)
    installed: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self._links: set[str] = set()  # which imported name means what
        self._seen: set[Root] = set()
        self._waiting: list[Root] = list(self.roots)
        while self._waiting:
            root = self._waiting.pop()
            if root not in self._seen:
                self._seen.add(root)
                self._reach(*root)

    @property
    def files(self) -> set[Path]:
        """The files of which something counts, data among them."""
        code = {file for file, places in self.statements.items() if places}
        return {*code, *self._data(), *self.also}

    def digest(self) -> str:
        """Return a hash of all that counts; it doesn't depend on where the folders lie."""
        parts = set(self._links)
        for file, places in self.statements.items():
            said = "\n".join(
                self.disk.read(file).statements[place].text for place in sorted(places)
            )
            parts.add(f"{self.disk.label(file)}\0{said}")
        total = hashlib.sha256("\n".join(sorted(parts)).encode())
        for path in sorted({*self._data(), *self.also}, key=self.disk.label):
            content = regular.read(path)
            total.update(f"{self.disk.label(path)}\0{len(content)}\0".encode() + content)
        return total.hexdigest()[:16]

    def _reach(self, file: Path, chain: Chain) -> None:
        source = self.disk.read(file)
        self._touch(source)
        if not chain:
            self._whole(source)
            return
        name, *rest = chain
        bound = source.places.get(name, [])
        for place in bound:
            self._take(source, place)
        imported = list(source.imported.get(name, []))
        if source.lazy and not bound:
            imported += [each for each in source.typing_imports if each.bound == name]
        for each in imported:
            self._follow(source, each, tuple(rest))
        if not bound and not imported:
            self._elsewhere(source, name, tuple(rest))

    def _elsewhere(self, source: Source, name: str, rest: Chain) -> None:
        """Want a name that no statement of a module binds: a submodule, or one made lazily."""
        below = _module(source.file.parent, [name]) if source.package else None
        if below:
            self._want(source, name, below, rest)
        targets = _tabled(source, name)
        for target in targets:
            self._want(source, name, *target)
        if not below and not targets and not name.startswith("__"):  # __doc__, __name__
            self._whole(source)
            if source.package:
                self._waiting += [(file, ()) for file in sorted(source.file.parent.glob("*.py"))]

    def _want(self, source: Source, name: str, file: Path, chain: Chain) -> None:
        self._links.add(
            f"{self.disk.label(source.file)}\0{name}\0{self.disk.label(file)}\0{'.'.join(chain)}"
        )
        self._waiting.append((file, chain))

    def _touch(self, source: Source) -> None:
        """Count what runs whenever a module is imported, in the packages around it too."""
        if source.file in self.statements:
            return
        self.statements[source.file] = set()
        for place, statement in enumerate(source.statements):
            if statement.always:
                self._take(source, place)
        around = source.file.parent.parent if source.package else source.file.parent
        if (around / "__init__.py").is_file():
            self._touch(self.disk.read(around / "__init__.py"))

    def _whole(self, source: Source) -> None:
        for place in range(len(source.statements)):
            self._take(source, place)
        used = {chain[0] for statement in source.statements for chain in statement.uses}
        for each in (*source.imports, *(source.typing_imports if source.lazy else ())):
            if each.bound not in used:  # exported again, or imported for what that does
                self._follow(source, each, None)

    def _take(self, source: Source, place: int) -> None:
        if place in self.statements[source.file]:
            return
        self.statements[source.file].add(place)
        statement = source.statements[place]
        for name, *rest in statement.uses:
            for other in source.places.get(name, []):
                self._take(source, other)
            inner = [each for each in statement.imports if each.bound == name]
            for each in (*inner, *source.imported.get(name, [])):
                self._follow(source, each, tuple(rest))
        used = {chain[0] for chain in statement.uses}
        for each in statement.imports:
            if each.bound not in used:
                self._follow(source, each, None)

    def _follow(self, source: Source, each: Import, taken: Chain | None) -> None:
        """Want what an import binds, where it is in one of the folders that are followed.

        Args:
          source: the module that imports.
          each: the import.
          taken: the attributes that are taken of the bound name; None where it isn't used.
        """
        folder, file = self.disk.target(source.file, each)
        if file is None or folder is None:
            top = each.module.partition(".")[0]
            if not each.level and top not in (_LIBRARY.name, *sys.stdlib_module_names):
                self.installed.add(top)
            return
        if each.name == "*":
            self._waiting.append((file, ()))
        elif each.name is not None and file == source.file:  # a head that imports its submodule
            self._elsewhere(source, each.name, taken or ())
        elif each.name is not None:
            self._want(source, each.bound, file, (each.name, *(taken or ())))
        elif taken is None or each.bound != (top := each.module.partition(".")[0]):
            self._want(source, each.bound, file, taken or ())
        else:  # `import a.b` binds a, of which b.c is taken
            self._touch(self.disk.read(file))
            self._want(source, each.bound, _module(folder, [top]) or file, taken)

    def _data(self) -> set[Path]:
        """Return the files beside the code that it names, and those that no code there names."""
        found = set()
        beside = {folder: _beside(folder) for folder in {file.parent for file in self.statements}}
        for file, places in self.statements.items():
            strings = {
                each for place in places for each in self.disk.read(file).statements[place].strings
            }
            found |= {
                path
                for path, named in beside[file.parent]
                if (places and not named) or any(path.name in string for string in strings)
            }
        return found - set(self.ignored)


def binds(package: Path, name: str) -> bool:
    """Whether the head of a package binds a name, or says lazily where it is."""
    source = read(package)
    imports = (*source.imports, *source.typing_imports)
    return name in source.places or any(each.bound == name for each in imports)


def _tabled(source: Source, name: str) -> list[Root]:
    """Return where the tables of a lazy module say that a name is.

    A table maps the name to its module, "module:name" or (module, name), the module beside the
    table or by its whole path; or a module to its names.
    """
    roots = []
    if source.lazy:
        for table in source.tables:
            roots += [_home(source, *entry) for entry in _entries(table, name)]
    return [root for root in roots if root]


def _entries(table: ast.Dict, name: str) -> Iterator[tuple[str, str]]:
    """Yield the pairs (module, name there) of a table's entries for a name."""
    for key, value in zip(table.keys, table.values, strict=True):
        words = [str(n.value) for n in ast.walk(value) if isinstance(n, ast.Constant)]
        if isinstance(key, ast.Constant) and key.value == name and words:
            module, _, there = words[0].partition(":")
            yield module, there or (words[1] if len(words) > 1 else name)
        elif isinstance(key, ast.Constant) and name in words:
            yield str(key.value), name


def _home(source: Source, module: str, name: str) -> Root | None:
    parts = module.lstrip(".").split(".")
    file = _module(source.file.parent, parts) or _module(_LIBRARY.parent, parts)
    if file:
        return file, (name,)
    bound = {each for statement in source.statements for each in statement.binds}
    return (source.file, (module,)) if module in bound else None


def _root(folder: Path) -> Path:
    """Return the folder that the outermost package around a folder's files lies in."""
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def _module(folder: Path, parts: Sequence[str]) -> Path | None:
    """Return the file of a module or of the head of a package, which a plain folder may lack."""
    path = folder.joinpath(*parts)
    if (path / "__init__.py").is_file():
        return path / "__init__.py"
    if parts and path.with_name(f"{path.name}.py").is_file():
        return path.with_name(f"{path.name}.py")
    return path / "__init__.py" if path.is_dir() else None


def _beside(folder: Path) -> list[tuple[Path, bool]]:
    """Return a folder's files that aren't code, and whether a string of its code names them.

    Folders within count to it where they are no packages. Outside of a package all count as named,
    since a plain folder holds other things too.
    """
    if not (folder / "__init__.py").is_file():
        beside = folder.iterdir() if folder.is_dir() else ()
        return [(path, True) for path in beside if _is_data(path)]
    data = list(_data_of(folder))
    code = [read(path) for path in folder.glob("*.py")] if data else []
    strings = {string for source in code for s in source.statements for string in s.strings}
    return [(path, any(path.name in string for string in strings)) for path in data]


def _data_of(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if _is_data(path):
            yield path
        elif path.is_dir() and path.name[0] not in "._" and not (path / "__init__.py").is_file():
            yield from _data_of(path)


def _is_data(path: Path) -> bool:
    return path.is_file() and path.suffix not in (".py", ".pyc", ".typed") and path.name[0] != "."
