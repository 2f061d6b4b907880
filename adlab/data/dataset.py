"""What a data set is, and how its images are scaled."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Dataset", "standardised"]


class Dataset(NamedTuple):
    """Examples and their classes, as NumPy arrays: they reach a device when a function takes them.

    Attributes:
      inputs: float32, of shape (N, ...); images are (N, height, width, channels).
      labels: int32 from 0, of shape (N,).
    """

    inputs: np.ndarray
    labels: np.ndarray


def standardised(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two sets of images less the mean, over the deviation, of each channel of the first.

    Args:
      train: uint8, of shape (N, height, width, channels), no channel constant.
      test: uint8, of shape (M, height, width, channels).

    Returns:
      Both as float32; every channel of the first has mean 0 and variance 1.
    """
    values = np.arange(256.0)
    # Counts are exact, and need less memory than the images in float64.
    counts = np.stack([np.bincount(channel.ravel(), minlength=256) for channel in _channels(train)])
    mean = counts @ values / counts.sum(axis=1)
    deviation = np.sqrt(counts @ values**2 / counts.sum(axis=1) - mean**2)
    return _scaled(train, mean, deviation), _scaled(test, mean, deviation)


def _channels(images: np.ndarray) -> np.ndarray:
    return np.moveaxis(images, -1, 0)


def _scaled(images: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    scaled = images.astype(np.float32, order="C")
    scaled -= mean.astype(np.float32)
    scaled /= deviation.astype(np.float32)
    return scaled
