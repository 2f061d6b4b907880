"""Curvature of any JAX loss: products, operators, spectral density, trace, eigenpairs."""

from adlab.curvature._dense import DenseMatrix
from adlab.curvature.batches import Stacked, stacked
from adlab.curvature.density import SpectralDensity, lanczos_bytes, spectral_density
from adlab.curvature.eigenpairs import Eigenpairs, eigenpairs
from adlab.curvature.estimate import Estimate
from adlab.curvature.matrices import Linear, Matrix
from adlab.curvature.networks import Fisher, GaussNewton, Hessian
from adlab.curvature.operators import Operator
from adlab.curvature.products import hvp, linearize_hvp
from adlab.curvature.traces import diagonal, trace

__all__ = [
    "DenseMatrix",
    "Eigenpairs",
    "Estimate",
    "Fisher",
    "GaussNewton",
    "Hessian",
    "Linear",
    "Matrix",
    "Operator",
    "SpectralDensity",
    "Stacked",
    "diagonal",
    "eigenpairs",
    "hvp",
    "lanczos_bytes",
    "linearize_hvp",
    "spectral_density",
    "stacked",
    "trace",
]
