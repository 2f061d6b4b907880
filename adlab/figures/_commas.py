"""Numbers as Russian writes them: decimal commas, and semicolons between such numbers."""

import itertools
import re
from collections.abc import Iterator, Sequence

# A decimal number: no version of several points, and no part of a name, a path or a length of TeX.
_DECIMAL = re.compile(
    r"(?<![\w:/])(?<!\w\.)(?<!space{)(?!10\.\d{4,9}/)\d+(\.)\d+(?:e[+-]?\d+)?(?!\w|\.\w)"
)
# What is numbered with points: parts of a text, and versions.
_NUMBERED = re.compile(
    r"(?:\b(?:рис|рисун\w+|табл|табли\w+|разд|раздел\w*|гл|глав\w+|п|пп|пункт\w*|уравнени\w+"
    r"|теорем\w+|лемм\w+|верси\w+|fig|figs|figures?|tables?|sec|sections?|chapters?|eqs?"
    r"|equations?|theorems?|lemmas?|versions?|arxiv|python|jax|jaxlib|numpy|scipy|matplotlib"
    r"|optax|flax|equinox|sympy|scikit-learn|cuda|pytorch|tensorflow)\.?|§)[\s~(]*(?:[<>=]=?\s*)?$",
    re.IGNORECASE,
)
_AND = re.compile(r"\s*(?:[,;/\u2013\u2014-]|и|или|до|and|or|to)\s*")
_COMMA = re.compile(r"\$?,\s*\$?[-+−]?")
_ITEM = r"\s*\$?[-+−]?(?:\d+(?:\.\d+)?(?:e[+-]?\d+)?|∞|\\[a-zA-Z]+|[^\W\d_])\$?\s*"
_LIST = re.compile(rf"[\[({{]({_ITEM}(?:,{_ITEM})+)(?=[\])]|\\?}})")  # numbers, and names of them


def comma(words: str) -> str:
    """Return a text with decimal commas, and semicolons between the numbers of a list with any.

    What has several points, as a version, stays, and so does what is numbered: figures, tables,
    sections, versions of software after its name.

    >>> comma("a slope of -1.03, $0.5$, jax 0.10.2")
    'a slope of -1,03; $0{,}5$, jax 0.10.2'
    >>> comma("h in [0.5, 1], as in Python 3.12.")
    'h in [0,5; 1], as in Python 3.12.'
    """
    decimals = list(_decimals(words))
    marks = dict.fromkeys(_separators(words, decimals), ";")
    dollars = [m.start() for m in re.finditer(r"(?<!\\)\$", words)]
    for number in decimals:
        place = number.start(1)
        within = sum(dollar < place for dollar in dollars) % 2 and len(dollars) % 2 == 0
        marks[place] = "{,}" if within else ","  # a lone dollar is text
    return "".join(marks.get(place, letter) for place, letter in enumerate(words))


def _decimals(words: str) -> Iterator[re.Match[str]]:
    """Yield the decimal numbers, without those that number something, alone or several."""
    numbered, end = False, 0
    for number in _DECIMAL.finditer(words):
        before = words[: number.start()]
        continues = numbered and _AND.fullmatch(before[end:])
        numbered, end = bool(_NUMBERED.search(before) or continues), number.end()
        if not numbered:
            yield number


def _separators(words: str, decimals: Sequence[re.Match[str]]) -> Iterator[int]:
    """Yield the places of commas between numbers, of which one in the list has a decimal comma."""
    for one, other in itertools.pairwise(decimals):
        if _COMMA.fullmatch(words[one.end() : other.start()]):
            yield words.index(",", one.end())
    for numbers in _LIST.finditer(words):
        if any(numbers.start(1) <= number.start() < numbers.end(1) for number in decimals):
            yield from (i for i in range(*numbers.span(1)) if words[i] == ",")
