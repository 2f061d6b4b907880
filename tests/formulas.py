"""Formulas that are parsed once: matplotlib keeps fifty for each renderer, and makes one a file."""

import functools

import matplotlib as mpl
from matplotlib import textpath
from matplotlib.backends import backend_agg
from matplotlib.mathtext import MathTextParser

SETTINGS = ("text.antialiased", "text.hinting")


class ParsedOnce(MathTextParser):
    """One parser for each kind of output, which keeps all that it has parsed."""

    def __init__(self, output):
        super().__init__(output)
        self._kept = {}

    def parse(self, s, dpi=72, prop=None, **more):
        settings = tuple(mpl.rcParams[name] for name in SETTINGS)
        key = (s, dpi, prop and prop.copy(), settings, *more.items())
        if key not in self._kept:
            self._kept[key] = super().parse(s, dpi, prop, **more)
        return self._kept[key]


def keep():
    """Let every renderer from now on ask these parsers."""
    parser = functools.cache(ParsedOnce)
    textpath.MathTextParser = backend_agg.MathTextParser = parser
    textpath.text_to_path.mathtext_parser = parser("path")
