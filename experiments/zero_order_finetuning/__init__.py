"""Two-point fine-tuning of a GPT is slower by tr H / lambda_max, not by the number of weights.

A GPT learns a language whose entropy is known, and is then adapted to another near by. Along a
two-point estimate G = (u . g) u, E[u u^T] = I, a step s lowers the loss by s |g|^2 at the price of
s^2 (g^T H g + |g|^2 tr H / 2): the step that pays is 1/(tr H + 2 lambda_max), that of gradient
descent over c = (tr H + 2 lambda_max)/lambda_max. Descent then takes about c times as many
iterations, not n times (Malladi et al. 2023, arXiv:2305.17333; Nesterov & Spokoiny 2017,
doi:10.1007/s10208-015-9296-2).

So the curvature at the start, measured by Hessian-vector products alone, foretells the slowdown: of
all weights, of biases and scales, and of low-rank changes. The control is an isotropic quadratic of
as many unknowns as the GPT has weights, where c = n + 2, and so is the slowdown.
"""

from __future__ import annotations

from .config import Config
from .measure import run
from .needs import needs
from .plot import plot
from .verdicts import verdicts

__all__ = ["Config", "needs", "plot", "run", "verdicts"]
