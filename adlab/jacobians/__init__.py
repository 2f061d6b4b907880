"""Jacobians: forward, reverse, by elimination, sparse, and whichever the costs favour."""

from adlab.jacobians.costs import JacobianCosts, ModeCost, jacobian_costs
from adlab.jacobians.hessian import sparse_hessian
from adlab.jacobians.patterns import sparsity
from adlab.jacobians.transform import jacobian

__all__ = [
    "JacobianCosts",
    "ModeCost",
    "jacobian",
    "jacobian_costs",
    "sparse_hessian",
    "sparsity",
]
