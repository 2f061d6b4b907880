"""The handwritten digits that ship with scikit-learn."""

from __future__ import annotations

import numpy as np

from adlab.core import checks
from adlab.data.dataset import Dataset, standardised

__all__ = ["digits"]

_NUM_IMAGES = 1797


def digits(*, test_size: int = 297, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Return 1797 images of 8 x 8 pixels of the digits 0 to 9, split at random in two.

    Pixels are standardised by the mean and deviation of all pixels of the training set. The same
    seed gives the same split, in the same order.

    >>> train, test = digits()
    >>> train.inputs.shape, test.labels.shape
    ((1500, 8, 8, 1), (297,))

    Args:
      test_size: images of the second set, 1 to 1796.
      seed: which split, >= 0.

    Returns:
      (train, test); `inputs` of shape (N, 8, 8, 1), `labels` the digits.

    Raises:
      ImportError: scikit-learn isn't installed.
      ValueError: test_size or seed out of range.

    Source: Alpaydin & Kaynak (1998), doi:10.24432/C50P49; scikit-learn holds the test part of it.
    """
    checks.at_least("test_size", test_size, 1)
    checks.at_least("seed", seed, 0)
    if test_size >= _NUM_IMAGES:
        raise ValueError(
            f"test_size must be < {_NUM_IMAGES}, the number of images, got {test_size}"
        )
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(
            "digits needs scikit-learn's images; install them by pip install -e '.[data]' in "
            "adlab's folder"
        ) from error
    table = datasets.load_digits()
    order = np.random.default_rng(seed).permutation(_NUM_IMAGES)
    images = table.images[order].astype(np.uint8)[..., None]
    labels = table.target[order].astype(np.int32)
    train, test = standardised(images[test_size:], images[:test_size])
    return Dataset(train, labels[test_size:]), Dataset(test, labels[:test_size])
