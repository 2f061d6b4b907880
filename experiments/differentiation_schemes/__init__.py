"""A gradient by automatic differentiation costs at most 5 values and is exact to rounding.

Four ways of differentiating, where the lecture sketches them on the axes slow - fast and unstable -
stable, measured: by hand, symbolically (sympy), numerically (central differences), automatically.
Three programs: the logistic map l_{n+1} = 4 l_n (1 - l_n), Speelpenning's product x_1 ... x_n, and
a network of tanh layers.

    automatic, reverse    operations <= 5 of the value (Baur & Strassen 1983, doi:10.1016/
                          0304-3975(83)90110-X), the same number for each that the value gains
    symbolic, naive       n^2 2^n on the logistic map, n (n - 2) on the product: every occurrence of
                          an expression is differentiated and written out again
    symbolic, shared      common subexpressions once: a factor n more than automatic; sympy flattens
                          products, and what was common before is no more
    symbolic, kept        every intermediate of the program a symbol, and the chain rule over them:
                          that is automatic differentiation, in its cost also (Laue 2019,
                          arXiv:1904.02990)
    symbolic, expanded    error u |l_n'(-x) / l_n'(x)|, for the coefficients alternate in sign: no
                          digit is left from n = 6
    numerical             2d values; error at best u^(2/3), u = 2^-53

The logistic map doubles an error of its state at each step, so that the derivative loses a bit per
step however it is computed. Automatic differentiation is exact for the orbit that floating-point
numbers follow: against the derivative of that orbit its error is what its own roundings can do.

Errors are against central differences in an arithmetic of hundreds of digits (mpmath), by their
median over points. Operations are counted in the programs as written, times taken of programs for
many points at once, over that of the value in the same runtime: XLA or NumPy. Times are the
processor's, where JAX computes on it.
"""

from __future__ import annotations

from .config import Config
from .measure import run
from .needs import needs
from .plot import plot
from .verdicts import verdicts

__all__ = ["Config", "needs", "plot", "run", "verdicts"]
