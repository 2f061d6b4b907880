"""All colours are the palette's: no module that draws names one of its own."""

import ast
import re
from pathlib import Path

import pytest
from matplotlib.colors import CSS4_COLORS

from adlab.figures.colors import TONES

ROOT = Path(__file__).parents[2]
# The palette itself, and what gives methods their tones.
PALETTE = {"adlab/figures/colors.py", "adlab/figures/style.py"}
LETTERS = frozenset("bgrcmykw")  # matplotlib's, which are names of data elsewhere
ALWAYS = re.compile(r"#[0-9A-Fa-f]{3,8}|[01]?\.\d+|C\d+|(?:tab|xkcd):.*")
NAMES = (frozenset(CSS4_COLORS) | frozenset(TONES)) - {"ink", "paper"}  # words of their own
LINE = re.compile(r"[-:.,ov^<>1-8sp*hH+xXdDP|_]*(?:[bgrcmykw]|C\d)[-:.,ov^<>1-8sp*hH+xXdDP|_]*")
DRAWS = {"plot", "loglog", "semilogx", "semilogy", "errorbar", "stem", "fill"}


def own_colors(code):
    """Return lines and texts of the colours that a module names without asking the palette."""
    tree = ast.parse(code)
    asked, found = palette_names(tree), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            known = node.value.lower() in NAMES and id(node) not in asked
            if ALWAYS.fullmatch(node.value) or known:
                found.add(node)
        elif isinstance(node, ast.JoinedStr):
            first = node.values[0]
            if isinstance(first, ast.Constant) and re.fullmatch(r"C|tab:|#|0\.", first.value):
                found.add(first)
        found |= {leaf for leaf in colored(node) if id(leaf) not in asked}
    return sorted({(node.lineno, ast.unparse(node)) for node in found})


def palette_names(tree):
    """Return the ids of texts that go to `tone`: given to it, mapped, or by a comprehension."""

    def is_tone(node):
        return getattr(node, "attr", getattr(node, "id", None)) == "tone"

    given = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and is_tone(node.func):
            given += node.args
        elif isinstance(node, ast.Call) and node.args and is_tone(node.args[0]):
            given += node.args[1:]
        elif isinstance(node, ast.GeneratorExp | ast.ListComp | ast.DictComp):
            made = node.value if isinstance(node, ast.DictComp) else node.elt
            if any(isinstance(part, ast.Call) and is_tone(part.func) for part in ast.walk(made)):
                given += [generator.iter for generator in node.generators]
    return {id(leaf) for node in given for leaf in ast.walk(node)}


def colored(node):
    """Return the constants that matplotlib, or a record of ours, would take for a colour here."""
    if isinstance(node, ast.keyword) and is_color(node.arg):
        yield from leaves(node.value, anything=True)
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and is_color(key.value):
                yield from leaves(value, anything=True)
    elif isinstance(node, ast.arguments):
        required = len(node.posonlyargs + node.args) - len(node.defaults)
        places = (node.posonlyargs + node.args)[required:] + node.kwonlyargs
        for place, value in zip(places, node.defaults + node.kw_defaults, strict=True):
            if is_color(place.arg):
                yield from leaves(value, anything=True)
    elif isinstance(node, ast.AnnAssign) and is_color(getattr(node.target, "id", None)):
        yield from leaves(node.value, anything=True)
    elif isinstance(node, ast.IfExp):
        yield from leaves(ast.Tuple([node.body, node.orelse]))
    elif isinstance(node, ast.Assign) and not isinstance(node.value, ast.Tuple | ast.List):
        yield from leaves(node.value)
    elif isinstance(node, ast.Call):
        named = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if named.lstrip("_")[:1].isupper() and named != "Symbol":
            yield from leaves(ast.Tuple(node.args))
        if named in DRAWS:
            texts = [arg for arg in node.args if isinstance(arg, ast.Constant)]
            yield from (t for t in texts if LINE.fullmatch(str(t.value)))


def is_color(name):
    return isinstance(name, str) and bool(re.search(r"colors?$|^(?:c|fc|ec|mfc|mec)$", name))


def leaves(node, *, anything=False):
    """Return the texts in an expression, unless they pick something: letters of colours, or all."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        if (node.value != "none") if anything else (node.value in LETTERS):
            yield node
    elif isinstance(node, ast.IfExp):
        yield from leaves(node.body, anything=anything)
        yield from leaves(node.orelse, anything=anything)
    elif isinstance(node, ast.Tuple | ast.List):
        numbers = [e for e in node.elts if isinstance(e, ast.Constant) and not is_text(e)]
        if anything and len(numbers) >= 3:
            yield from numbers[:1]
        for element in node.elts:
            yield from leaves(element, anything=anything)


def is_text(node):
    return isinstance(node.value, str)


MODULES = [
    path
    for folder in ("adlab/drawing", "adlab/figures", "experiments")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path.relative_to(ROOT).as_posix() not in PALETTE
]


def test_colours_are_those_of_the_palette():
    assert len(MODULES) > 60
    found = {str(path): own_colors(path.read_text(encoding="utf-8")) for path in MODULES}
    mistaken = {path: colors for path, colors in found.items() if colors}
    assert not mistaken, f"{mistaken}; take them from adlab.figures.style"


@pytest.mark.parametrize(
    "code",
    [
        'ax.plot(x, y, color="0.5")',
        'ax.plot(x, y, color="k")',
        'ax.plot(x, y, "k--")',
        'ax.plot(x, y, "C1")',
        "ax.plot(x, y, color=(0.5, 0.5, 0.5))",
        'ax.plot(x, y, color=f"C{i}")',
        'tone = style.tone("grey") if here else "0.55"',
        'tone = style.tone("grey") if here else "w"',
        'look = looks.get(pair, Look("0.55", 1.8))',
        'look = looks.get(pair, _Look("k", 1.8))',
        'tones = [style.color("two_point"), "white"]',
        'LOOKS = {"one": "tab:blue"}',
        'LOOKS = {"one": "olive"}',
        'LOOKS = {"color": "k"}',
        'LOOKS = {"one": "Gold"}',
        'TONE = "#00F"',
        'ax.fill_between(x, y, facecolors=["none", "r"])',
        "def draw(ax, color='k'): pass",
        "def draw(ax, *, edgecolor='0'): pass",
        "class Look:\n    color: str = 'k'",
        'ax.text(0, 0, "words", bbox={"facecolor": "white"})',
        'tones = [style.color(name) for name in ("blue", "sky")]',
    ],
)
def test_a_colour_of_ones_own_is_found(code):
    assert own_colors(code)


@pytest.mark.parametrize(
    "code",
    [
        'ax.plot(x, y, "o--", color=style.tone("grey"), markerfacecolor="none")',
        'tones = dict(zip(names, map(style.tone, ("blue", "sky")), strict=True))',
        'tones = {name: style.ink(style.tone(name)) for name in ("blue", "olive")}',
        'ax.set(xlabel="k", ylabel="y"); data["k"]; ax.grid(axis="y")',
        'ax.text(0, 0, "k", ha="center")',
        'tone = style.tone("grey" if here else "blue")',
        'k, curves = (data[f"{cell}_{field}"] for field in ("k", "curves"))',
        'ax.set_xticks([0, 1], ["0", "1"])',
    ],
)
def test_other_texts_are_no_colours(code):
    assert not own_colors(code)
