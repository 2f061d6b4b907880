"""Through rules written by hand, least squares and the SVD have exact gradients where they exist.

The derivatives of singular vectors hold 1/(s_i^2 - s_j^2). Where singular values s_i, s_j are a gap
g apart, any gradient through them is good to about eps s_1 / g: the vectors themselves are no
better known, and `adlab.rules` doesn't claim more than `jax.numpy.linalg`. Finite differences of a
loss that sees only the subspace of both don't notice the gap and keep their eps^(2/3). Where the
values coincide, `jax.numpy.linalg` answers NaN, or silently something else, even if the loss has a
derivative; the rules drop what no such loss can see and are exact. A loss that sees both alike can
be written without factors, as a function of the matrix: through `matrix_function` and `polar` its
gradient keeps all digits at any gap, that of a part of rank 3 at coinciding values, too, which the
factors don't hold. Least squares are exact, as well: with P the pseudoinverse, r the residual, xbar
the cotangent, bbar = P^T xbar, w = P bbar, y = P^T x and z = (1 - P a) xbar, the cotangent of a is
-bbar x^T + r w^T + y z^T at any constant rank.

The matrices of the gap sweep are products of reflections and singular values that are exact in
binary, so that their factors and all derivatives are known in closed form, whatever the gap.
"""

from __future__ import annotations

from .config import Config
from .measure import run
from .needs import needs
from .plot import plot
from .verdicts import verdicts

__all__ = ["Config", "needs", "plot", "run", "verdicts"]
