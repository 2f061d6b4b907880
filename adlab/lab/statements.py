"""Modules as their statements: what each binds, what it uses, and what it says without docstrings.

Files are parsed, never run.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Chain", "Import", "Source", "Statement", "read"]

Chain = tuple[str, ...]
"""A name with the attributes taken of it: `gradients.two_point` is ("gradients", "two_point")."""

_INERT = {"cache", "contextmanager", "dataclass", "lru_cache", "overload", "runtime_checkable"}
"""Decorators that register nothing."""


@dataclass(frozen=True)
class Import:
    """`from module import name as bound`; without a name, `import module as bound`."""

    bound: str
    level: int
    module: str
    name: str | None


@dataclass(frozen=True, eq=False)
class Statement:
    """A statement at the top of a module: what it binds, uses and imports within."""

    node: ast.stmt
    binds: frozenset[str]
    uses: frozenset[Chain]
    imports: tuple[Import, ...]
    strings: frozenset[str]
    always: bool

    @property
    def lines(self) -> tuple[int, int]:
        """The lines from its first, decorators included, to behind its last."""
        decorators = getattr(self.node, "decorator_list", [])
        return min(n.lineno for n in (self.node, *decorators)), (self.node.end_lineno or 0) + 1

    @functools.cached_property
    def text(self) -> str:
        """The code without docstrings, comments and places."""
        return ast.dump(_bare(self.node))


@dataclass(frozen=True, eq=False)
class Source:
    """A parsed file: its statements, and its imports by the name that they bind."""

    file: Path
    statements: tuple[Statement, ...]
    imports: tuple[Import, ...]
    typing_imports: tuple[Import, ...]

    @functools.cached_property
    def places(self) -> dict[str, list[int]]:
        """Where among the statements those are that bind a name."""
        found: dict[str, list[int]] = {}
        for place, statement in enumerate(self.statements):
            for name in statement.binds:
                found.setdefault(name, []).append(place)
        return found

    @functools.cached_property
    def imported(self) -> dict[str, list[Import]]:
        """The imports that bind a name when the module runs."""
        found: dict[str, list[Import]] = {}
        for each in self.imports:
            found.setdefault(each.bound, []).append(each)
        return found

    @property
    def package(self) -> bool:
        """Whether it is the head of a package."""
        return self.file.name == "__init__.py"

    @functools.cached_property
    def tables(self) -> tuple[ast.Dict, ...]:
        """The dictionaries that are written in it."""
        nodes = (node for each in self.statements for node in ast.walk(each.node))
        return tuple(node for node in nodes if isinstance(node, ast.Dict))

    @functools.cached_property
    def lazy(self) -> bool:
        """Whether its names may be made when they are first used."""
        return any("__getattr__" in statement.binds for statement in self.statements)


def read(file: Path) -> Source:
    """Read a file, once as long as it doesn't change; of a folder without a head, nothing."""
    try:
        stat = file.stat()
    except OSError:
        return Source(file, (), (), ())
    return _parsed(file, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=1024)
def _parsed(file: Path, changed: int, size: int) -> Source:
    del changed, size
    code = file.read_bytes()
    try:
        body = list(_flat(ast.parse(code).body))
    except SyntaxError:  # importing it will raise; its text stands for it here
        body = [(ast.Expr(ast.Tuple([ast.Constant(code)], ast.Load())), False)]
    imports: dict[bool, list[Import]] = {True: [], False: []}
    statements = []
    for node, typing_only in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports[typing_only] += _imports(node)
        elif not typing_only and not _docstring(node):
            statements.append(_statement(node))
    return Source(file, tuple(statements), tuple(imports[False]), tuple(imports[True]))


def _flat(body: Iterable[ast.stmt]) -> Iterator[tuple[ast.stmt, bool]]:
    """Yield the statements of a module, and whether only a type checker sees them."""
    for node in body:
        test = ast.unparse(node.test) if isinstance(node, ast.If) else ""
        if isinstance(node, ast.If) and test.removeprefix("not ").endswith("TYPE_CHECKING"):
            turned = test.startswith("not ")
            yield from ((inner, not turned) for inner in node.body)
            yield from ((inner, turned) for inner in node.orelse)
        else:
            yield node, False


def _statement(node: ast.stmt) -> Statement:
    inner = list(ast.walk(node))
    strings = (n.value for n in inner if isinstance(n, ast.Constant))
    imports = [n for n in inner if isinstance(n, ast.Import | ast.ImportFrom)]
    binds = frozenset(_bound(node))
    registers = any(_name(d) not in _INERT for d in getattr(node, "decorator_list", []))
    return Statement(
        node,
        binds,
        frozenset(_chains(node)),
        tuple(each for n in imports for each in _imports(n)),
        frozenset(string for string in strings if isinstance(string, str)),
        always=registers or not binds or isinstance(node, ast.If | ast.For | ast.With | ast.Try),
    )


def _bound(node: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement binds in its module."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        return
    for inner in ast.walk(node):
        if isinstance(inner, ast.FunctionDef | ast.ClassDef):
            yield inner.name
        elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            yield inner.id
        elif isinstance(inner, ast.Import | ast.ImportFrom):
            yield from (each.bound for each in _imports(inner))


def _name(decorator: ast.expr) -> str:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")


def _chains(node: ast.AST) -> Iterator[Chain]:
    """Yield each name that is used, with the attributes that are taken of it."""
    if isinstance(node, ast.Name):
        yield (node.id,)
        return
    taken, base = [], node
    while isinstance(base, ast.Attribute):
        taken.append(base.attr)
        base = base.value
    if taken and isinstance(base, ast.Name):
        yield (base.id, *reversed(taken))
        return
    for child in ast.iter_child_nodes(node):
        yield from _chains(child)


def _imports(node: ast.Import | ast.ImportFrom) -> Iterator[Import]:
    for alias in node.names:
        if isinstance(node, ast.ImportFrom):
            yield Import(alias.asname or alias.name, node.level, node.module or "", alias.name)
        else:
            bound = alias.asname or alias.name.partition(".")[0]
            yield Import(bound, 0, alias.name, None)


def _docstring(node: ast.AST) -> bool:
    """Whether a statement is a string that nothing takes: a docstring, or one of a name."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _bare(node: ast.stmt) -> ast.stmt:
    """Remove docstrings."""
    for inner in ast.walk(node):
        for block in ("body", "orelse", "finalbody"):
            inside = getattr(inner, block, None)
            if isinstance(inside, list):
                setattr(inner, block, [each for each in inside if not _docstring(each)])
    return node
