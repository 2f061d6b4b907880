"""Hutchinson's trace error falls as m^-1/2; Hutch++ and XTrace win if the spectrum decays.

The trace of a matrix from m of its products with random probes: Tr A = E[v^T A v], E[v v^T] = I
(Hutchinson). Over m probes the variance is 1/m of

    Rademacher   2 (|A|_F^2 - sum a_ii^2)
    Gaussian     2 |A|_F^2
    sphere       2n/(n + 2) (|A|_F^2 - tr^2/n)

Hutch++ and XTrace spend some of the products on the range of A, whose trace they take exactly. That
pays where the eigenvalues decay (i^-2, exp(-i/20), a network's Hessian) and costs where they are
flat, between 1 and 3: the control. Bases are random, except for a diagonal matrix, on which one
Rademacher probe is exact. Are the estimators' own standard errors honest? Those of XTrace come from
dependent samples, and the control is that they aren't.
"""

from __future__ import annotations

from .config import Config
from .measure import run
from .needs import needs
from .plot import plot
from .verdicts import verdicts

__all__ = ["Config", "needs", "plot", "run", "verdicts"]
