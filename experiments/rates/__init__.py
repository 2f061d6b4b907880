"""Zero-order descent pays for the dimension: O(1/k) becomes O(n/k), O(q^k) becomes O(q^(k/n)).

The table of convergence rates, cell by cell, for gradient descent and for descent along two-point
estimates with the step 1/(c L) that theory prescribes, E|G|^2 = c |grad f|^2:

    smooth            min |grad f|^2 = O(1/k)                against O(n/k)
    smooth, convex    f - f* = O(1/k)                        against O(n/k)
    strongly convex   |x - x*|^2 = O((1 - mu/L)^k)           against O((1 - mu/(nL))^k)
    Lipschitz         error O(1/sqrt(k))                     against O(sqrt(n/k))

The first two are measured on f(x) = phi(x_1) + |x_perp|^2/2: the tail phi makes descent slow and
the quadratic block forces the step to be O(1/n). They are simulated exactly in two numbers, so that
long windows in high dimensions cost little. Controls are set-ups in which the table must not show:
if they passed, the measurement would prove nothing.
"""

from __future__ import annotations

from .config import Config
from .measure import run
from .needs import needs
from .plot import plot
from .table import table
from .verdicts import verdicts

__all__ = ["Config", "needs", "plot", "run", "table", "verdicts"]
