#!/usr/bin/env bash
# matplotlib 3.11.2: giving a patch the edge colour that it says it has changes its picture.
#
# One would guess that patch.set_edgecolor(patch.get_edgecolor()) does nothing. It does something
# where the patch has an opacity and no edge: get_edgecolor() says (0, 0, 0, 0), and set_edgecolor()
# of that draws a black edge with the patch's opacity. The frame of a legend is such a patch.
#
# Why: Patch._set_edgecolor (matplotlib.patches) calls colors.to_rgba(color, patch alpha). For the
# word "none" to_rgba answers transparent black whatever the alpha; for a tuple the alpha given
# replaces the tuple's own, also where that is 0. The getter returns the tuple, not the word.
# The same holds for set_facecolor. So a recolouring of finished figures has to leave out colours
# whose opacity is 0.
#
# Output seen (Python 3.11):
#   before (0.0, 0.0, 0.0, 0.0)
#   after (0.0, 0.0, 0.0, 0.5)
#   pixels that changed: more than 100
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet --disable-pip-version-check matplotlib==3.11.2 numpy
"$work/venv/bin/python" - <<'PYTHON'
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle


def picture(again):
    figure = Figure(figsize=(2, 2), dpi=100)
    patch = Rectangle((0.2, 0.2), 0.6, 0.6, facecolor="white", edgecolor="none", alpha=0.5)
    figure.add_artist(patch)
    before = patch.get_edgecolor()
    if again:
        patch.set_edgecolor(before)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).astype(int), before, patch.get_edgecolor()


plain, _, _ = picture(again=False)
changed, before, after = picture(again=True)
print("before", before)
print("after", after)
number = int(np.sum(np.any(plain != changed, axis=-1)))
print("pixels that changed:", "more than 100" if number > 100 else number)
assert before == (0.0, 0.0, 0.0, 0.0)
assert after == (0.0, 0.0, 0.0, 0.5)
assert number > 100
PYTHON
