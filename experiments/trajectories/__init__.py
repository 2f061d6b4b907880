"""Descent along estimates goes, in the mean, where descent along what they estimate goes.

On f(x, y) = x^2 + 3 y^2 + 2 x y from (4, 4), all with the step s = 1/(n L), n = 2, H the Hessian:

    central differences             the path of gradient descent, to round-off, for every eps
    two-point, sphere               that path in the mean; about it the spread of an exact recursion
    forward differences             the path of descent to -eps/2 H^-1 diag H: a bias
    one-sided, random coordinates   that of forward differences in the mean
    one-sided, sphere               gradient descent's in the mean, but E |x|^2 stops at a floor

eps is the length of the displacement. Averages follow from E G = g + b and from the linearity of
the steps; the floor is that of the recursion, in proportion to eps^2. The control is the set-up of
the lecture's picture: one-sided, without the factor n, eps = 0.11, beside differences at 1.1.
"""

from __future__ import annotations

from .config import Config
from .measure import run
from .needs import needs
from .plot import plot
from .verdicts import verdicts

__all__ = ["Config", "needs", "plot", "run", "verdicts"]
