"""Figures for lectures: arrays in, `matplotlib.figure.Figure` out.

* `labels`: the texts of figures and verdicts, in English and Russian (imports no matplotlib);
* `style`: type, colours and sizes of a slide, and deterministic files;
* `colors`: the palette, tints of it, and the contrast of text;
* `finish`: what a dark slide, a larger type or Russian makes of any finished figure;
* `panels`: the pictures that experiments share;
* `animation`: movies, as GIF or MP4.
"""
