"""Derivatives of matrix factorisations, matrix functions and least squares, written by hand.

`jax.numpy.linalg` differentiates these through factors that have no derivative where singular or
eigenvalues coincide, or vanish, and answers NaN there, or silently a wrong number. The rules here
are exact wherever the loss has a derivative that the factors determine. Elsewhere they answer NaN
where they can see it; `eigh_diagnostics` and `svd_diagnostics` see the rest. What the factors don't
hold, `matrix_function` and `polar` do: functions of the matrix itself, exact at any multiplicity.
All work under jit, vmap, in forward and reverse mode, and at higher orders; `matrix_function` has
two.
"""

from adlab.rules.diagnostics import Diagnostics, eigh_diagnostics, svd_diagnostics
from adlab.rules.eigenvalues import eigh
from adlab.rules.least_squares import LeastSquares, lstsq, pinv
from adlab.rules.matrix_functions import matrix_function
from adlab.rules.polar_decomposition import polar
from adlab.rules.singular_values import svd

__all__ = [
    "Diagnostics",
    "LeastSquares",
    "eigh",
    "eigh_diagnostics",
    "lstsq",
    "matrix_function",
    "pinv",
    "polar",
    "svd",
    "svd_diagnostics",
]
