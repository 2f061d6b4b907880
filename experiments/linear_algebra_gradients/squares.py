"""Least squares of every rank, along curves of constant rank."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from adlab import rules

from .config import Config

KINDS = ("full_rank", "rank_three", "rank_one", "orthonormal", "equal_values", "identity", "zero")
DISTINCT = KINDS[:3]
"""Those whose non-zero singular values differ."""
STEP = 2.0**-9  # near eps^(1/5), where Richardson's h^4 meets the noise eps / h
Factors = tuple[np.ndarray, np.ndarray]


def errors(config: Config) -> dict[str, np.ndarray]:
    """Return relative errors of gradients of <c, x>, x the solution of least norm.

    `squares` has shape (methods, shapes, kinds, systems): jnp and rules against the closed form,
    differences against the closed form along the curve, rules against the differences.
    """
    rng = np.random.default_rng(config.seed + 1)
    found = np.full((4, len(config.shapes), len(KINDS), config.num_systems), np.nan)
    for row, shape in enumerate(config.shapes):
        factors = [system(rng, kind, *shape) for kind in KINDS for _ in range(config.num_systems)]
        a = np.stack([left @ right for left, right in factors])
        b, c = rng.normal(size=(len(a), shape[0])), rng.normal(size=(len(a), shape[1]))
        ours = [np.asarray(_gradients(solve, a, b, c)) for solve in (_lstsq, rules.lstsq)]
        for place, pair in enumerate(factors):
            exact = closed_form(pair, b[place], c[place])
            size = float(np.linalg.norm(exact)) or 1.0
            along = [rng.normal(size=factor.shape) for factor in pair]
            tangent = along[0] @ pair[1] + pair[0] @ along[1]
            slope = difference(pair, along, b[place], c[place])
            reach = size * (float(np.linalg.norm(tangent)) or 1.0)
            found[:, row, *divmod(place, config.num_systems)] = (
                *(np.linalg.norm(gradient[place] - exact) / size for gradient in ours),
                abs(np.sum(exact * tangent) - slope) / reach,
                abs(np.sum(ours[1][place] * tangent) - slope) / reach,
            )
    return {"squares": found}


def _lstsq(a: Any, b: Any) -> Any:
    return jnp.linalg.lstsq(a, b)[0]


@functools.partial(jax.jit, static_argnums=0)
def _gradients(solve: Callable, a: Any, b: Any, c: Any) -> Any:
    return jax.vmap(jax.grad(lambda a, b, c: jnp.dot(c, solve(a, b))))(a, b, c)


def system(rng: np.random.Generator, kind: str, rows: int, columns: int) -> Factors:
    """Return a matrix as factors (rows, r) and (r, columns), of condition numbers up to 3."""
    most = min(rows, columns)
    rank = {"rank_three": 3, "rank_one": 1, "equal_values": 3, "zero": 0}.get(kind, most)
    if kind == "identity":
        return np.eye(rows, rank), np.eye(rank, columns)
    left, right = (np.linalg.qr(rng.normal(size=(n, rank)))[0] for n in (rows, columns))
    if kind in DISTINCT:
        left = left * rng.uniform(0.5, 1.5, rank)
        right = right * rng.uniform(0.5, 1.5, rank)
    return left, right.T


def pseudoinverse(factors: Factors) -> np.ndarray:
    """Return the pseudoinverse of left @ right by normal equations of each factor."""
    left, right = factors
    inner = np.linalg.solve(left.T @ left, left.T)
    return right.T @ np.linalg.solve(right @ right.T, inner)


def closed_form(factors: Factors, b: np.ndarray, cotangent: np.ndarray) -> np.ndarray:
    """Return the cotangent of a: -bbar x^T + r w^T + y z^T. See the package's docstring."""
    a, p = factors[0] @ factors[1], pseudoinverse(factors)
    x = p @ b
    bbar, residual = p.T @ cotangent, b - a @ x
    w, y, z = p @ bbar, p.T @ x, cotangent - p @ (a @ cotangent)
    return -np.outer(bbar, x) + np.outer(residual, w) + np.outer(y, z)


def difference(
    factors: Factors, along: list[np.ndarray], b: np.ndarray, cotangent: np.ndarray
) -> float:
    """Return the derivative of <cotangent, x> as both factors move, by Richardson's central one."""

    def at(t: float) -> float:
        left, right = (factor + t * move for factor, move in zip(factors, along, strict=True))
        return float(cotangent @ (pseudoinverse((left, right)) @ b))

    def central(h: float) -> float:
        return (at(h) - at(-h)) / (2 * h)

    return (4 * central(STEP / 2) - central(STEP)) / 3
