"""Ten step sizes learned through gradient descent are the inverse nodes of a Gauss quadrature.

Descent with steps s_1, ..., s_k on a quadratic of spectrum lambda multiplies the error along an
eigenvector by p(lambda) = prod_j (1 - s_j lambda). Over starts with E x_i^2 = c_i the loss is

    E f(x_k) = sum_i c_i lambda_i p(lambda_i)^2 / 2,

and among polynomials with p(0) = 1 it is least for the one orthogonal to all of lower degree under
the weights c_i lambda_i^2: its roots are the k Gauss nodes of that measure, real and distinct, and
their inverses are the best steps. Reverse mode through the scan must find them. Equal steps have
equal derivatives, but the best of them are a saddle, with k - 1 ways down, and learning from equal
steps leaves it by round-off alone.

Against the worst start the best steps are the inverse roots of a Chebyshev polynomial, with the
contraction 1/T_k((L + mu)/(L - mu)) (Young 1953, doi:10.1002/sapm1953321243). The order of the
steps leaves the end as it is on a quadratic, not what comes before it; on logistic regressions,
where steps are learned on some and tried on others, it decides. Steps learned one at a time, each
for the loss right after it, are the control (short-horizon bias: Wu et al. 2018,
arXiv:1803.02021).
"""

from __future__ import annotations

from .config import Config
from .measure import run
from .needs import needs
from .plot import plot
from .verdicts import verdicts

__all__ = ["Config", "needs", "plot", "run", "verdicts"]
