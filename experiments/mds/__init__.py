"""Maps of cities from their distances: descent without gradients costs 2 d_eff times as much.

Multidimensional scaling finds points W_i in R^d, n = N d numbers, from the distances of N objects:

    L(W) = sum_{i,j} (|W_i - W_j|^2 - D_ij^2)^2.

Near a solution a two-point estimate on the sphere needs steps d_eff n/(n + 2) times shorter than
the gradient's, with d_eff = (tr H + 2 lambda_max)/lambda_max of the Hessian H, and so as many times
more of them, at 2 evaluations each: much fewer than the 2n of finite differences, since d_eff is
far below n. What Nelder & Mead's simplex takes depends on its first size, 5 % of each coordinate in
SciPy; even one as wide as the start is wrong takes more than in proportion to n as N grows.

Distances that are exact need no descent: the top eigenvectors of -J D^2 J / 2 are the principal
component scores of the unknown points. Those of cities lie on a round Earth. A country still fits a
plane; the world does not, and fits space once its distances are chords of the globe.
"""

from __future__ import annotations

from .config import Config
from .measure import run
from .movies import movies
from .needs import needs
from .plot import plot
from .table import table
from .verdicts import verdicts

__all__ = ["Config", "movies", "needs", "plot", "run", "table", "verdicts"]
