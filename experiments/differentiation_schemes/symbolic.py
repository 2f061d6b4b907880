"""The symbolic schemes: sympy differentiates, counts and writes NumPy code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from adlab import lab

from .programs import Problem

__all__ = ["Symbolic", "differentiate", "require"]

INTEGER_LIMIT = 2**53  # above it float64 skips integers, and NumPy makes objects of them


@dataclass(frozen=True)
class Symbolic:
    """A gradient that sympy has written.

    Attributes:
      operations: in its code.
      call: inputs, of shape (dim, count) -> list of partial derivatives.
    """

    operations: int
    call: Callable[..., Any]


def require() -> None:
    """Raise LabError unless sympy and mpmath are there."""
    try:
        import mpmath  # noqa: F401
        import sympy  # noqa: F401
    except ImportError as error:
        raise lab.LabError(
            "differentiation_schemes needs sympy and mpmath; "
            "install them by pip install -e '.[symbolic]' in adlab's folder"
        ) from error


def differentiate(problem: Problem, size: int, expanded: bool) -> dict[str, Symbolic]:
    """Return the gradient by each symbolic scheme.

    naive: the value as one expression, differentiated. expanded: the same with the value multiplied
    out. cse: the naive one, its common subexpressions computed once. kept: each intermediate of
    the program is a symbol of its own; its partial derivatives are taken symbolically and
    multiplied together from the end.
    """
    import sympy

    x = sympy.symbols(f"x:{problem.dim(size)}")
    value = problem.value(x, size, sympy.tanh)
    gradient = [sympy.diff(value, symbol) for symbol in x]
    found = {
        "naive": _written(x, [], gradient),
        "cse": _written(x, *sympy.cse(gradient)),
        "kept": _written(x, *_kept(problem, size, x)),
    }
    if expanded:
        terms = [sympy.diff(sympy.expand(value), symbol) for symbol in x]
        found["expanded"] = _written(x, [], terms)
    return found


def _kept(problem: Problem, size: int, x: Any) -> tuple[list[Any], list[Any]]:
    """Return lines (symbol, expression) and the gradient, by the chain rule over the program."""
    import sympy

    lines: list[Any] = []

    def keep(expression: Any) -> Any:
        lines.append((sympy.Symbol(f"v{len(lines)}"), expression))
        return lines[-1][0]

    result = problem.value(x, size, sympy.tanh, keep)
    bars: dict[Any, Any] = {}
    program, back = [*lines], list[Any]()
    for symbol, expression in [(None, result), *reversed(lines)]:
        bar = bars.get(symbol, 0 if symbol else 1)
        if symbol is not None and not bar.is_Atom:
            back.append((sympy.Symbol(f"b{len(back)}"), bar))
            bar = back[-1][0]
        for parent in sorted(expression.free_symbols, key=str):
            partial = sympy.diff(expression, parent).subs(expression, symbol or expression)
            bars[parent] = bars.get(parent, 0) + bar * partial
    return program + back, [sympy.sympify(bars.get(symbol, 0)) for symbol in x]


def _written(x: Any, lines: list[Any], results: list[Any]) -> Symbolic:
    import sympy

    results = [_floats(expression) for expression in results]
    operations = sum(int(sympy.count_ops(e)) for e in [*(e for _, e in lines), *results])
    call = sympy.lambdify(x, results, modules="numpy", cse=lambda _: (lines, results))
    return Symbolic(operations, lambda points: call(*points))


def _floats(expression: Any) -> Any:
    """Return the expression with integers that float64 can't hold as floats."""
    import sympy

    large = [n for n in expression.atoms(sympy.Integer) if abs(n) > INTEGER_LIMIT]
    return expression.xreplace({n: sympy.Float(n, 17) for n in large})
