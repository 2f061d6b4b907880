"""Readable mathematics for the primitives of JAX: what a step computes, and its derivatives.

Every entry gives the formula and one partial per operand, as templates: {0}, {1} are the operands,
{out} is the result. A formula is written in plain Unicode and in LaTeX.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from adlab.core.types import ArrayLike
from adlab.graphs.graph import Graph, LiteralOperand, Step

__all__ = [
    "SHOWN",
    "Style",
    "formula",
    "name_of",
    "number",
    "partial",
    "product",
    "relation",
    "shape",
]

SHOWN = 4  # entries up to which an array is written out

Style = Literal["text", "latex"]


class _Rule(NamedTuple):
    text: str
    latex: str
    partials: tuple[tuple[str, str], ...]


def _same(*partials: str) -> tuple[tuple[str, str], ...]:
    return tuple((partial, partial) for partial in partials)


def _function(name: str, latex: str, *partials: tuple[str, str]) -> _Rule:
    return _Rule(f"{name} {{0}}", f"{latex} {{0}}", partials)


_RULES: dict[str, _Rule] = {
    "add": _Rule("{0} + {1}", "{0} + {1}", _same("1", "1")),
    "add_any": _Rule("{0} + {1}", "{0} + {1}", _same("1", "1")),
    "sub": _Rule("{0} − {1}", "{0} - {1}", (("1", "1"), ("−1", "-1"))),
    "mul": _Rule("{0}·{1}", r"{0}\,{1}", _same("{1}", "{0}")),
    "div": _Rule(
        "{0}/{1}", r"\frac{{{0}}}{{{1}}}",
        (("1/{1}", r"\frac{{1}}{{{1}}}"), ("−{0}/{1}²", r"-\frac{{{0}}}{{{1}^2}}")),
    ),
    "neg": _Rule("−{0}", "-{0}", (("−1", "-1"),)),
    "log": _function("log", r"\log", ("1/{0}", r"\frac{{1}}{{{0}}}")),
    "log1p": _Rule(
        "log(1 + {0})", r"\log(1 + {0})", (("1/(1 + {0})", r"\frac{{1}}{{1 + {0}}}"),)
    ),
    "exp": _Rule("exp {0}", "e^{{{0}}}", (("exp {0}", "e^{{{0}}}"),)),
    "exp2": _Rule("2^{0}", "2^{{{0}}}", (("{out}·log 2", r"{out} \log 2"),)),
    "expm1": _Rule("exp {0} − 1", "e^{{{0}}} - 1", (("exp {0}", "e^{{{0}}}"),)),
    "sqrt": _Rule("√{0}", r"\sqrt{{{0}}}", (("1/(2·√{0})", r"\frac{{1}}{{2\sqrt{{{0}}}}}"),)),
    "rsqrt": _Rule(
        "1/√{0}", r"\frac{{1}}{{\sqrt{{{0}}}}}", (("−{out}/(2·{0})", r"-\frac{{{out}}}{{2 {0}}}"),)
    ),
    "cbrt": _Rule("∛{0}", r"\sqrt[3]{{{0}}}", (("1/(3·{out}²)", r"\frac{{1}}{{3 {out}^2}}"),)),
    "square": _Rule("{0}²", "{0}^2", (("2·{0}", "2 {0}"),)),
    "sin": _function("sin", r"\sin", ("cos {0}", r"\cos {0}")),
    "cos": _function("cos", r"\cos", ("−sin {0}", r"-\sin {0}")),
    "tan": _function("tan", r"\tan", ("1 + {out}²", "1 + {out}^2")),
    "asin": _function("arcsin", r"\arcsin", ("1/√(1 − {0}²)", r"\frac{{1}}{{\sqrt{{1 - {0}^2}}}}")),
    "acos": _function(
        "arccos", r"\arccos", ("−1/√(1 − {0}²)", r"-\frac{{1}}{{\sqrt{{1 - {0}^2}}}}")
    ),
    "atan": _function("arctan", r"\arctan", ("1/(1 + {0}²)", r"\frac{{1}}{{1 + {0}^2}}")),
    "sinh": _function("sinh", r"\sinh", ("cosh {0}", r"\cosh {0}")),
    "cosh": _function("cosh", r"\cosh", ("sinh {0}", r"\sinh {0}")),
    "tanh": _function("tanh", r"\tanh", ("1 − {out}²", "1 - {out}^2")),
    "logistic": _Rule(
        "σ({0})", r"\sigma({0})", (("{out}·(1 − {out})", "{out} (1 - {out})"),)
    ),
    "abs": _Rule("|{0}|", "|{0}|", (("sign {0}", r"\operatorname{{sign}} {0}"),)),
    "max": _Rule(
        "max({0}, {1})", r"\max({0}, {1})",
        (("[{0} > {1}]", "[{0} > {1}]"), ("[{1} > {0}]", "[{1} > {0}]")),
    ),
    "min": _Rule(
        "min({0}, {1})", r"\min({0}, {1})",
        (("[{0} < {1}]", "[{0} < {1}]"), ("[{1} < {0}]", "[{1} < {0}]")),
    ),
    "pow": _Rule(
        "{0}^{1}", "{0}^{{{1}}}",
        (
            ("{1}·{0}^({1} − 1)", "{1}\\, {0}^{{{1} - 1}}"),
            ("{out}·log {0}", r"{out} \log {0}"),
        ),
    ),
    "erf": _Rule(
        "erf {0}", r"\operatorname{{erf}} {0}",
        (("2·exp(−{0}²)/√π", r"\frac{{2}}{{\sqrt{{\pi}}}} e^{{-{0}^2}}"),),
    ),
    "atan2": _Rule(
        "atan2({0}, {1})", r"\operatorname{{atan2}}({0}, {1})",
        (
            ("{1}/({0}² + {1}²)", r"\frac{{{1}}}{{{0}^2 + {1}^2}}"),
            ("−{0}/({0}² + {1}²)", r"-\frac{{{0}}}{{{0}^2 + {1}^2}}"),
        ),
    ),
    "copy": _Rule("{0}", "{0}", _same("1")),
    "convert_element_type": _Rule("{0}", "{0}", _same("1")),
    "stop_gradient": _Rule("stop({0})", r"\operatorname{{stop}}({0})", _same("0")),
    "reduce_sum": _Rule("Σ {0}", r"\textstyle\sum {0}", _same("1")),
    "transpose": _Rule("{0}ᵀ", "{0}^T", ()),
    "dot_general": _Rule("{0} @ {1}", r"{0} \cdot {1}", ()),
}  # fmt: skip
# whose partials hold for complex numbers as they stand
_HOLOMORPHIC = frozenset(
    [
        *("acos", "add", "add_any", "asin", "atan", "copy", "cos", "cosh", "div", "exp", "exp2"),
        *("expm1", "integer_pow", "log", "log1p", "logistic", "mul", "neg", "pow", "reduce_sum"),
        *("rsqrt", "sin", "sinh", "sqrt", "square", "sub", "tan", "tanh"),
    ]
)
_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def name_of(graph: Graph, operand: int | LiteralOperand, style: Style = "text") -> str:
    """Return how an operand is written: its node's name, or the number itself."""
    if isinstance(operand, LiteralOperand):
        return _number(operand.value)
    return _name(graph.nodes[operand].name, style)


def _name(name: str, style: Style) -> str:
    if style == "text":
        return name
    match = re.fullmatch(r"([A-Za-z])(\d+)", name)
    if match:
        return f"{match[1]}_{{{match[2]}}}"
    escaped = name.replace("_", r"\_")
    return name if len(name) == 1 else rf"\mathrm{{{escaped}}}"


def _number(value: Any) -> str:
    if np.ndim(value):
        return f"array{np.shape(value)}"
    number = value.item() if hasattr(value, "item") else value
    if isinstance(number, bool):
        return str(number)
    if isinstance(number, complex):
        return f"({number:g})"
    text = f"{float(number):g}"
    return f"({text})" if text.startswith("-") else text


def formula(graph: Graph, step: Step, style: Style = "text") -> str:
    """Return what the step computes, in terms of its operands: `w2·v1`."""
    operands = [name_of(graph, operand, style) for operand in step.operands]
    rule = _rule(step)
    if rule is not None:
        template = rule.text if style == "text" else rule.latex
        return template.format(*operands, out=_out(graph, step, style))
    name = step.primitive if style == "text" else _name(step.primitive, style)
    return f"{name}({', '.join(operands)})"


def partial(graph: Graph, step: Step, place: int, style: Style = "text") -> str | None:
    """Return the partial derivative in the operand at `place`; None where there is no formula.

    Elementwise for arrays. Where a complex number goes in or out, it has to be holomorphic.
    """
    rule = _rule(step)
    if rule is None or len(rule.partials) <= place:
        return None
    operand = step.operands[place]
    ends = [step.results[0], *([operand] if isinstance(operand, int) else [])]
    are_complex = [np.issubdtype(graph.nodes[end].dtype, np.complexfloating) for end in ends]
    if any(are_complex) and not (all(are_complex) and step.primitive in _HOLOMORPHIC):
        return None
    operands = [name_of(graph, operand, style) for operand in step.operands]
    template = rule.partials[place][style == "latex"]
    return template.format(*operands, out=_out(graph, step, style))


def product(factors: Sequence[str], style: Style = "text") -> str:
    """Return a product, with brackets around sums."""
    wrapped = [f"({f})" if _is_sum(f) else f for f in factors]
    return ("·" if style == "text" else r"\,").join(wrapped)


def number(value: ArrayLike, style: Style = "text", digits: int = 6) -> str:
    """Return a number with so many significant digits; of an array, its entries or its shape.

    >>> number(0.5), number(np.zeros((8, 3)))
    ('0.5', '(8, 3)')
    """
    array = np.asarray(value)
    if array.size > SHOWN:
        return shape(array.shape, style)
    if array.ndim:
        return f"[{', '.join(number(entry, style, digits) for entry in array)}]"
    if array.dtype.kind == "c":
        sign = "-" if np.signbit(array.imag) else "+"
        parts = [number(part, style, digits) for part in (array.real, np.abs(array.imag))]
        return sign.join(parts) + ("j" if style == "text" else r"\,i")
    if array.dtype.kind != "f":
        return str(array)
    text = f"{array.item():.{digits}g}"
    mantissa, _, exponent = text.partition("e")
    if not exponent or style == "text":
        return text
    return rf"{mantissa} \cdot 10^{{{int(exponent)}}}"


def shape(sizes: Sequence[int], style: Style = "text") -> str:
    """Return a shape, (8, 3)."""
    if style == "text":
        return str(tuple(sizes))
    return r" \times ".join(map(str, sizes)) or "1"


def relation(value: ArrayLike, style: Style = "text", digits: int = 6) -> str:
    """Return `= 0.5` for what `number` writes out, `in R^(8, 3)` or in C^... for larger arrays."""
    array = np.asarray(value)
    if array.size <= SHOWN:
        return f"= {number(value, style, digits)}"
    sizes = shape(array.shape, style)
    field = "C" if array.dtype.kind == "c" else "R"
    return f"in {field}^{sizes}" if style == "text" else rf"\in \mathbb{{{field}}}^{{{sizes}}}"


def _is_sum(text: str) -> bool:
    depth = 0
    for place, letter in enumerate(text):
        depth += (letter in "([{") - (letter in ")]}")
        if depth == 0 and place and letter in "+−-" and text[place - 1] == " ":
            return True
    return text.startswith(("−", "-"))


def _out(graph: Graph, step: Step, style: Style) -> str:
    return _name(graph.nodes[step.results[0]].name, style)


def _rule(step: Step) -> _Rule | None:
    if step.primitive == "integer_pow":
        n = int(step.params["y"])
        power = f"{{0}}{str(n).translate(_SUPERSCRIPTS)}"
        below = {2: "{0}", 1: "1"}.get(n, f"{{0}}{str(n - 1).translate(_SUPERSCRIPTS)}")
        latex = {2: "{0}", 1: "1"}.get(n, f"{{0}}^{{{{{n - 1}}}}}")
        factor = f"{n}" if n >= 0 else f"({n})"
        return _Rule(power, f"{{0}}^{{{{{n}}}}}", ((f"{factor}·{below}", f"{factor} {latex}"),))
    return None if step.has_own_rule else _RULES.get(step.primitive)
