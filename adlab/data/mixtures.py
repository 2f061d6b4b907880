"""Classes whose law is known: normal clouds around the corners of a regular simplex."""

from __future__ import annotations

import numpy as np

from adlab.core import checks
from adlab.data.dataset import Dataset

__all__ = ["gaussian_mixture"]


def gaussian_mixture(
    *, classes: int, dim: int, num_examples: int, separation: float, seed: int = 0
) -> tuple[Dataset, np.ndarray]:
    """Draw examples x ~ N(m_c, I) of each class c, all means at the same distance of each other.

    |m_a - m_b| = separation for all a != b, and the means sum to 0: the corners of a regular
    simplex, turned at random. The classes have equal numbers of examples (up to one), in random
    order. No classifier errs less than the nearest mean, which errs with probability
    1 - E[Phi(z + separation/sqrt(2))^(classes - 1)] for z ~ N(0, 1); for two classes
    Phi(-separation/2).

    >>> data, means = gaussian_mixture(classes=3, dim=2, num_examples=6, separation=4.0)
    >>> data.inputs.shape, means.shape, np.bincount(data.labels)
    ((6, 2), (3, 2), array([2, 2, 2]))

    Args:
      classes: number of classes, >= 2.
      dim: dimension of an example, >= classes - 1, the least that holds the simplex.
      num_examples: number N of examples, >= 1.
      separation: distance between means, > 0, in deviations of a class.
      seed: of the means and the examples, >= 0.

    Returns:
      The data, `inputs` of shape (N, dim), and the means, float64 of shape (classes, dim).

    Raises:
      ValueError: an argument out of range.
    """
    checks.at_least("classes", classes, 2)
    checks.at_least("num_examples", num_examples, 1)
    checks.at_least("seed", seed, 0)
    checks.positive("separation", separation)
    if dim < classes - 1:
        raise ValueError(
            f"dim must be >= classes - 1 = {classes - 1}, got {dim}: fewer dimensions don't hold "
            f"{classes} points at equal distances"
        )
    rng = np.random.default_rng(seed)
    means = separation * _simplex(classes, dim, rng)
    labels = rng.permutation(np.arange(num_examples) % classes)
    inputs = means[labels] + rng.standard_normal((num_examples, dim))
    return Dataset(inputs.astype(np.float32), labels.astype(np.int32)), means


def _simplex(corners: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    """Return points of shape (corners, dim) around 0 at distance 1 of each other."""
    centred = (np.eye(corners) - 1 / corners) / np.sqrt(2)
    # The centred corners span corners - 1 dimensions; a random frame turns these into R^dim.
    axes = np.linalg.svd(centred)[0][:, : corners - 1]
    frame, triangle = np.linalg.qr(rng.standard_normal((dim, corners - 1)))
    frame *= np.sign(np.diag(triangle))  # makes the frame's law uniform, and the same everywhere
    return np.asarray(axes @ frame.T / np.sqrt(2))
