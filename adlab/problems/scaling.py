"""Multidimensional scaling: points in d dimensions whose distances are given.

Two objectives for descent, and the closed form that needs neither when the distances are exact.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from adlab.core import checks
from adlab.core.types import ArrayLike

__all__ = ["Alignment", "classical_scaling", "procrustes", "raw_stress", "squared_stress"]


class Alignment(NamedTuple):
    """Points laid over others.

    Attributes:
      points: (N, d), moved, turned and reflected, but not stretched.
      error: root mean square distance to the others, over their root mean square distance from
        their own middle, the radius of the map.
    """

    points: np.ndarray
    error: float


def squared_stress(points: ArrayLike, distances: ArrayLike) -> jax.Array:
    """Return L(W) = sum_{i,j} (|W_i - W_j|^2 - D_ij^2)^2 over ordered pairs.

    A polynomial of degree four in W. With R_ij = |W_i - W_j|^2 - D_ij^2 its gradient at W_i is
    8 sum_j R_ij (W_i - W_j), and where R = 0 its Hessian has v^T H v = 8 sum_{i,j} ((W_i - W_j) .
    (V_i - V_j))^2: zero along shifts and rotations, d + d(d - 1)/2 in number.

    >>> corners = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    >>> float(squared_stress(corners, [[0, 3, 4], [3, 0, 5], [4, 5, 0]]))
    0.0
    >>> float(squared_stress(corners, [[0, 3, 4], [3, 0, 6], [4, 6, 0]]))  # 2 (25 - 36)^2
    242.0

    Args:
      points: (N, d), d <= N - 1, differentiable.
      distances: (N, N), symmetric, none negative, zero on the diagonal: plain, not squared.

    Raises:
      ValueError: shapes that don't agree; d > N - 1; distances that are no distances, told unless
        they are traced.
      TypeError: points that aren't real numbers.

    Source: Takane, Young & de Leeuw (1977), doi:10.1007/BF02293745.
    """
    points, table = _arrays(points, distances)
    return jnp.sum((_squares(points) - table**2) ** 2)


def raw_stress(points: ArrayLike, distances: ArrayLike) -> jax.Array:
    """Return sum_{i,j} (|W_i - W_j| - D_ij)^2 over ordered pairs.

    Not smooth where two points meet; there its derivative takes the zero direction. Arguments and
    errors are those of `squared_stress`.

    >>> corners = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    >>> float(raw_stress(corners, [[0, 3, 4], [3, 0, 6], [4, 6, 0]]))  # 2 (5 - 6)^2
    2.0

    Source: Kruskal (1964), doi:10.1007/BF02289565.
    """
    points, table = _arrays(points, distances)
    squares = _squares(points)
    apart = squares > 0
    lengths = jnp.where(apart, jnp.sqrt(jnp.where(apart, squares, 1)), 0)  # no NaN from sqrt at 0
    return jnp.sum((lengths - table) ** 2)


def _squares(points: jax.Array) -> jax.Array:
    """Return squared distances from differences: those of Gram matrices lose half the digits."""
    return jnp.sum((points[:, None] - points[None]) ** 2, axis=-1)


def classical_scaling(distances: ArrayLike, *, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Return points from the eigenvectors of B = -J D^2 J / 2, J the centring, and B's spectrum.

    Distances between points in at most `dim` dimensions are reproduced exactly. The points are
    then the principal component scores of the unknown ones, and the spectrum their squared
    singular values once centred: B is their Gram matrix. Otherwise B's negative eigenvalues tell
    how far the distances are from Euclidean, and no objective above is minimised.

    >>> points, spectrum = classical_scaling([[0, 3, 4], [3, 0, 5], [4, 5, 0]], dim=2)
    >>> points.shape, round(float(np.linalg.norm(points[1] - points[2])), 12)
    ((3, 2), 5.0)

    Args:
      distances: (N, N), symmetric, none negative, zero on the diagonal: plain, not squared.
      dim: dimensions of the points, 1 to N - 1.

    Returns:
      Points (N, dim), their middle at 0, and all N eigenvalues, largest first. Directions whose
      eigenvalue isn't positive are zero columns.

    Raises:
      ValueError: dim out of range; distances that are no distances.

    Source: Torgerson (1952), doi:10.1007/BF02288916.
    """
    table = check_distances(distances)
    checks.at_least("dim", dim, 1)
    _check_dim("dim", dim, len(table))
    centring = np.eye(len(table)) - 1 / len(table)
    gram = -centring @ table**2 @ centring / 2
    values, vectors = np.linalg.eigh((gram + gram.T) / 2)
    values, vectors = values[::-1], vectors[:, ::-1]
    return vectors[:, :dim] * np.sqrt(np.maximum(values[:dim], 0)), values


def procrustes(points: ArrayLike, target: npt.ArrayLike) -> Alignment:
    """Lay points over others by the shift and the rotation or reflection that bring them nearest.

    >>> triangle = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
    >>> turned = np.array([[1.0, 1.0], [1.0, 4.0], [-3.0, 1.0]])
    >>> round(procrustes(triangle, turned).error, 12)
    0.0

    Args:
      points: (N, d).
      target: (N, d), not all in one place.

    Raises:
      ValueError: shapes that don't agree; numbers that aren't finite; a target in one place.

    Source: Schönemann (1966), doi:10.1007/BF02289451.
    """
    points, target = np.asarray(points, np.float64), np.asarray(target, np.float64)
    if points.ndim != 2 or points.shape != target.shape:
        raise ValueError(
            f"points and target must be of one shape (N, d), got {points.shape} and {target.shape}"
        )
    if not (np.all(np.isfinite(points)) and np.all(np.isfinite(target))):
        raise ValueError("points and target must be finite, got NaN or infinity")
    middle = target.mean(axis=0)
    radius = np.sqrt(np.mean(np.sum((target - middle) ** 2, axis=1)))
    if radius == 0:
        raise ValueError("target must not have all its points in one place")
    centred = points - points.mean(axis=0)
    left, _, right = np.linalg.svd(centred.T @ (target - middle))
    laid = centred @ left @ right + middle
    distance = np.sqrt(np.mean(np.sum((laid - target) ** 2, axis=1)))
    return Alignment(laid, float(distance / radius))


def check_distances(distances: ArrayLike) -> np.ndarray:
    """Return a table of distances as float64.

    Raises:
      ValueError: it isn't square, finite, without negative entries, zero on the diagonal and
        symmetric; the message names the first entry that is wrong.
    """
    _check_square(np.shape(distances))
    table = np.asarray(distances, np.float64)
    known = np.where(np.isfinite(table), table, 0.0)
    loose = 1e-6 * np.max(np.abs(known))  # float32 tables are symmetric to round-off only
    for what, wrong in (
        ("finite", ~np.isfinite(table)),
        (">= 0", table < 0),
        ("zero on the diagonal", np.eye(len(table), dtype=bool) & (np.abs(table) > loose)),
        ("symmetric", np.abs(known - known.T) > loose),
    ):
        if np.any(wrong):
            i, j = (int(k) for k in np.argwhere(wrong)[0])
            other = f" and {table[j, i]:g} at [{j}, {i}]" if what == "symmetric" else ""
            remedy = "; take the mean of both halves" if what == "symmetric" else ""
            raise ValueError(
                f"distances must be {what}, got {table[i, j]:g} at [{i}, {j}]{other}{remedy}"
            )
    return table


def _arrays(points: ArrayLike, distances: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Return both as arrays of one floating-point dtype, checked as far as they can be read."""
    points = jnp.asarray(points)
    if not jnp.issubdtype(points.dtype, jnp.floating):
        if not jnp.issubdtype(points.dtype, jnp.integer):
            raise TypeError(f"points must hold real numbers, got {points.dtype}")
        points = points.astype(jnp.result_type(float))
    _check_square(np.shape(distances))
    if np.ndim(points) != 2 or np.shape(points)[0] != np.shape(distances)[0]:
        raise ValueError(
            f"points must be of shape ({np.shape(distances)[0]}, d) for distances of shape "
            f"{np.shape(distances)}, got {np.shape(points)}"
        )
    _check_dim("the second axis of points", np.shape(points)[1], np.shape(points)[0])
    if checks.concrete(distances):
        check_distances(distances)
    return points, jnp.asarray(distances, points.dtype)


def _check_square(shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] < 2:
        raise ValueError(f"distances must be a square table of at least 2 x 2, got shape {shape}")


def _check_dim(name: str, dim: int, count: int) -> None:
    if dim > count - 1:
        raise ValueError(
            f"{name} must be <= N - 1 = {count - 1}, the most that {count} points span, got {dim}"
        )
