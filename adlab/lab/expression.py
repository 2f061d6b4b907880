"""Formulas typed by a user, such as w2*log(w1) + sqrt(w2*log(w1)), as functions: never `eval`.

Only what is listed here means anything: names of variables, numbers, + - * / **, a sign, and calls
of the functions in `FUNCTIONS`. Reading needs no jax.
"""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from adlab.lab.errors import UsageError, nearest

__all__ = ["CONSTANTS", "FUNCTIONS", "Expression", "parse", "point"]

FUNCTIONS: Mapping[str, int] = {
    **dict.fromkeys(
        ["abs", "arccos", "arcsin", "arctan", "cbrt", "cos", "cosh", "exp", "expm1", "log", "log1p",
         "relu", "sigmoid", "sin", "sinh", "softplus", "sqrt", "square", "tan", "tanh"], 1,
    ),
    **dict.fromkeys(["arctan2", "maximum", "minimum", "power"], 2),
}  # fmt: skip
"""What may be called, with the number of its arguments; as in jax.numpy and jax.nn."""

CONSTANTS: Mapping[str, float] = {"pi": math.pi, "e": math.e}
"""Names with a value of their own, unless a variable is called so."""


def _power(base: Any, exponent: Any) -> Any:
    """Return base ** exponent; of two numbers in floating point, which overflows at once."""
    if not (isinstance(base, int | float) and isinstance(exponent, int | float)):
        return base**exponent
    result = float(base) ** float(exponent)
    whole = isinstance(base, int) and isinstance(exponent, int) and not isinstance(result, complex)
    return int(result) if whole and result == int(result) else result


_OPERATORS: Mapping[type, Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.Pow: _power, ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}  # fmt: skip
_LONGEST = 2000  # characters
_DEEPEST = 150  # operations within operations
_NOT_MEANT = {
    ast.Attribute: "attribute access", ast.Subscript: "indexing", ast.Lambda: "a lambda",
    ast.Compare: "a comparison", ast.BoolOp: "a logical operator", ast.IfExp: "a condition",
    ast.BitXor: "^ (a power is written **)", ast.NamedExpr: "an assignment",
    ast.JoinedStr: "a string", ast.Mod: "%", ast.FloorDiv: "//", ast.MatMult: "@",
}  # fmt: skip


class Expression(NamedTuple):
    """A formula as a function of its variables.

    Attributes:
      source: as it was typed.
      variables: in the order in which they were bound.
      fun: takes their values in that order.
    """

    source: str
    variables: tuple[str, ...]
    fun: Callable[..., Any]


def parse(source: str, variables: Sequence[str]) -> Expression:
    """Read a formula in these variables.

    >>> parse("2*w + 1", ["w"]).fun(3)
    7

    Raises:
      UsageError: it isn't one, holds what isn't allowed or isn't finite, names something unknown,
        or leaves a variable unused; says what, and the nearest known name.
    """
    if len(source) > _LONGEST:
        raise UsageError(
            f"the expression must have at most {_LONGEST} characters, got {len(source)}; "
            "put it into a module and name it as module:function"
        )
    try:
        with warnings.catch_warnings():  # of 1and w, which is refused anyway
            warnings.simplefilter("ignore")
            tree = ast.parse(source.strip(), mode="eval").body
        build = _Reader(source, variables)
        value = build.read(tree)
    except SyntaxError as error:
        at = f" at character {error.offset}" if error.offset else ""
        raise UsageError(f"cannot read the expression {source!r}: {error.msg}{at}") from None
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes; brackets in brackets
        raise UsageError(f"cannot read the expression: {error or 'too deeply nested'}") from None
    unused = [name for name in variables if name not in build.used]
    if unused:
        known = ", ".join(sorted(build.used)) or "none"
        raise UsageError(
            f"--at binds {', '.join(unused)}, which the expression doesn't use (it uses: {known})"
        )
    if not callable(value):
        raise UsageError(f"the expression {source!r} must use at least one variable, got none")
    return Expression(source, tuple(variables), _positional(value, variables))


def _positional(value: Callable[..., Any], variables: Sequence[str]) -> Callable[..., Any]:
    def fun(*args: Any) -> Any:
        return value(dict(zip(variables, args, strict=True)))

    return fun


def point(text: str) -> dict[str, float]:
    """Read the values of variables.

    >>> point("w1=2, w2=3")
    {'w1': 2.0, 'w2': 3.0}

    Raises:
      UsageError: a part isn't name=number, the number isn't finite, or a name stands there twice.
    """
    values: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        if not equals or not name.isidentifier():
            raise UsageError(f"--at must be NAME=NUMBER,NAME=NUMBER,..., got {part.strip()!r}")
        try:
            value = float(number)
        except ValueError:
            raise UsageError(f"--at: {name} must be a number, got {number!r}") from None
        if not math.isfinite(value):
            raise UsageError(f"--at: {name} must be finite, got {number}")
        if name in values:
            raise UsageError(f"--at binds {name} twice")
        values[name] = value
    return values


class _Reader:
    """Turns a syntax tree into a number, or into a function of the variables' values."""

    def __init__(self, source: str, variables: Sequence[str]) -> None:
        self.source, self.variables = source, variables
        self.used: set[str] = set()
        self.depth = 0

    def read(self, node: ast.AST) -> Any:
        """Return the value of a subtree: a number where it is constant, else a function."""
        match node:
            case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
                return self._finite(node, lambda: number)
            case ast.Name():
                return self._name(node)
            case ast.UnaryOp() | ast.BinOp() if type(node.op) in _OPERATORS:
                parts = [node.operand] if isinstance(node, ast.UnaryOp) else [node.left, node.right]
                return self._applied(node, _OPERATORS[type(node.op)], parts)
            case ast.Call():
                return self._call(node)
        what = getattr(node, "op", node)
        meant = _NOT_MEANT.get(type(what), _NOT_MEANT.get(type(node), "this"))
        raise UsageError(
            f"{meant} isn't allowed in an expression: {self._part(node)!r}; allowed are variables, "
            "numbers, + - * / **, and functions such as log(w)"
        )

    def _name(self, node: ast.Name) -> Any:
        name = node.id
        if name in self.variables:
            self.used.add(name)
            return operator.itemgetter(name)
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name in FUNCTIONS:
            raise UsageError(f"{name} is a function: write {name}(...), or bind it with --at")
        raise UsageError(
            f"the expression uses {name}, to which --at gives no value"
            f"{nearest(name, [*self.variables, *FUNCTIONS])}; add {name}=NUMBER to --at"
        )

    def _call(self, node: ast.Call) -> Any:
        if not isinstance(node.func, ast.Name):
            return self.read(node.func)  # refuses it by what it is
        name = node.func.id
        if name not in FUNCTIONS:
            raise UsageError(
                f"unknown function {name}{nearest(name, FUNCTIONS)} (there: {', '.join(FUNCTIONS)})"
            )
        count = FUNCTIONS[name]
        starred = any(isinstance(argument, ast.Starred) for argument in node.args)
        if node.keywords or starred or len(node.args) != count:
            raise UsageError(
                f"{name} must have {count} argument{'s' * (count > 1)}, got {self._part(node)!r}"
            )
        return self._applied(node, _function(name), node.args)

    def _applied(self, node: ast.AST, fun: Callable[..., Any], parts: Sequence[ast.AST]) -> Any:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise UsageError(
                f"the expression must be at most {_DEEPEST} operations deep; put it into a module "
                "and name it as module:function"
            )
        values = [self.read(part) for part in parts]
        self.depth -= 1
        if not any(callable(value) for value in values):
            return self._finite(node, lambda: fun(*values))
        return lambda bound: fun(*(v(bound) if callable(v) else v for v in values))

    def _finite(self, node: ast.AST, compute: Callable[[], Any]) -> float | int:
        """Return a constant as a number, whole ones up to 2^53 as integers."""
        try:
            value = compute()
            number = float(value)
        except (ArithmeticError, TypeError, ValueError):  # 1/0, huge powers, complex results
            number, value = math.nan, None
        if not math.isfinite(number):
            raise UsageError(f"{self._part(node)!r} must be a finite real number")
        return value if isinstance(value, int) and abs(value) < 2**53 else number

    def _part(self, node: ast.AST) -> str:
        return ast.get_source_segment(self.source.strip(), node) or self.source


def _function(name: str) -> Callable[..., Any]:
    """Return a function of jax by its name, imported when first called."""

    def call(*args: Any) -> Any:
        import jax
        import jax.numpy as jnp

        home = jnp if hasattr(jnp, name) else jax.nn
        return getattr(home, name)(*args)

    return call
