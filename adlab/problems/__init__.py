"""Objectives with known constants: Lipschitz constants, convexity, infimum and minimiser."""

from adlab.problems.classics import norm, rosenbrock
from adlab.problems.logistic import logistic_regression
from adlab.problems.problem import Problem, Radial, effective_dimension
from adlab.problems.quadratics import lecture_quadratic, quadratic, tridiagonal
from adlab.problems.scaling import (
    Alignment,
    classical_scaling,
    procrustes,
    raw_stress,
    squared_stress,
)
from adlab.problems.tails import huber, logistic_tail, nonconvex_tail, power_tail, rank_one

__all__ = [
    "Alignment",
    "Problem",
    "Radial",
    "classical_scaling",
    "effective_dimension",
    "huber",
    "lecture_quadratic",
    "logistic_regression",
    "logistic_tail",
    "nonconvex_tail",
    "norm",
    "power_tail",
    "procrustes",
    "quadratic",
    "rank_one",
    "raw_stress",
    "rosenbrock",
    "squared_stress",
    "tridiagonal",
]
