"""Objectives with known constants: Lipschitz constants, convexity, infimum and minimiser."""

from adlab.problems.classics import norm, rosenbrock
from adlab.problems.logistic import logistic_regression
from adlab.problems.problem import Problem, Radial, effective_dimension
from adlab.problems.quadratics import lecture_quadratic, quadratic, tridiagonal
from adlab.problems.tails import huber, logistic_tail, nonconvex_tail, power_tail, rank_one

__all__ = [
    "Problem",
    "Radial",
    "effective_dimension",
    "huber",
    "lecture_quadratic",
    "logistic_regression",
    "logistic_tail",
    "nonconvex_tail",
    "norm",
    "power_tail",
    "quadratic",
    "rank_one",
    "rosenbrock",
    "tridiagonal",
]
