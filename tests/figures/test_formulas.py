"""The formulas that the tests keep are what matplotlib makes of them."""

import itertools

import formulas
import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.mathtext import MathTextParser


def test_a_kept_formula_is_that_of_its_text_size_and_resolution():
    kept, plain = formulas.ParsedOnce("path"), MathTextParser("path")
    for text, size, dpi in itertools.product(["$10^{3}$", r"$x_1$"], [12, 20], [72, 100]):
        prop = FontProperties(size=size)
        expected = plain.parse(text, dpi, prop)
        for found in (kept.parse(text, dpi, prop), kept.parse(text, dpi, prop)):
            np.testing.assert_array_equal(found[:3], expected[:3])
            assert [glyph[1:] for glyph in found[3]] == [glyph[1:] for glyph in expected[3]]
