"""The large negative eigenvalues of a network's Hessian vanish in training.

A residual network is trained by stochastic gradient descent; at several steps the spectrum of the
Hessian of its loss on fixed examples is taken by Lanczos runs: its density, its extreme values, the
energy of its negative part N int |lambda| over lambda < 0, and the number of outliers. Measured
with batch normalisation, in its training mode, and without. Claimed of the absolute lambda_min and
of |lambda_min|/lambda_max both: in the end the whole spectrum shrinks, so that either alone would
say too little. The share of negative eigenvalues says nothing: most lie at zero, on either side.

Source of the claim: Ghorbani, Krishnan & Xiao (2019), proceedings.mlr.press/v97/ghorbani19b.
"""

from __future__ import annotations

from .config import Config
from .measure import run
from .needs import needs
from .plot import plot
from .table import table
from .verdicts import verdicts

__all__ = ["Config", "needs", "plot", "run", "table", "verdicts"]
